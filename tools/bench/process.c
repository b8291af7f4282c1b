/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/bench/bench.h"

enum { SPINNERS_MAX = 64, REAP_STEP_MS = 1 };

static volatile sig_atomic_t caught;
static pid_t spinners[SPINNERS_MAX];
static int spinner_count;

static void on_signal(int number)
{
	caught = number;
}

void process_catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int process_signal_caught(void)
{
	return caught;
}

void process_pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

int process_cpu_count(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return CPU_COUNT(&set);
}

int process_nth_cpu(int n)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 0;
	n %= CPU_COUNT(&set);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((size_t)cpu, &set) && n-- == 0)
			return cpu;
	return 0;
}

static _Noreturn void become(int out_fd, char *const argv[], char *const environment[], int cpu)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	process_pin(cpu);
	dup2(out_fd, STDOUT_FILENO);
	execve("/proc/self/exe", argv, environment);
	_exit(127);
}

int process_start(struct process *process, char *const argv[], char *const environment[], int cpu)
{
	int fds[2];
	pid_t pid;

	*process = (struct process){ .out_fd = -1 };
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		become(fds[1], argv, environment, cpu);
	close(fds[1]);
	if (pid < 0) {
		int error = -errno;

		close(fds[0]);
		return error;
	}
	process->pid = pid;
	process->out_fd = fds[0];
	return 0;
}

static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = bench_now_ns();

	return now >= deadline_ns ? 0 : (int)((deadline_ns - now) / 1000000 + 1);
}

/* One more piece of output; 0: it ended. */
static ssize_t read_more(struct process *process)
{
	size_t space = PROCESS_OUTPUT_BYTES - 1 - process->output_bytes;
	ssize_t n = space ? read(process->out_fd, process->output + process->output_bytes, space)
			  : 0;

	if (n > 0)
		process->output_bytes += (size_t)n;
	return n;
}

bool process_read(struct process *process, const char *until, uint64_t deadline_ns)
{
	struct pollfd wait = { .fd = process->out_fd, .events = POLLIN };

	while (!until || !strstr(process->output, until)) {
		int ms = left_ms(deadline_ns);
		ssize_t n;

		if (ms == 0 || caught)
			return false;
		if (poll(&wait, 1, ms) <= 0)
			continue;
		n = read_more(process);
		if (n == 0)
			return !until;
		if (n < 0 && errno != EINTR)
			return false;
	}
	return true;
}

void process_kill(struct process *process)
{
	if (process->pid > 0) {
		kill(process->pid, SIGKILL);
		while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
	if (process->out_fd >= 0)
		close(process->out_fd);
	process->pid = 0;
	process->out_fd = -1;
}

int process_end(struct process *process, uint64_t deadline_ns)
{
	int status = 0;
	pid_t done;

	if (process->pid <= 0)
		return -1;
	while ((done = waitpid(process->pid, &status, WNOHANG)) == 0) {
		if (left_ms(deadline_ns) == 0 || caught) {
			process_kill(process);
			return -1;
		}
		poll(NULL, 0, REAP_STEP_MS);
	}
	process->pid = 0;
	process_kill(process);
	if (done < 0)
		return -1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static _Noreturn void spin(int cpu)
{
	struct sched_param none = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	process_pin(cpu);
	if (sched_setscheduler(0, SCHED_IDLE, &none) < 0)
		_exit(1);
	for (;;)
		__asm__ volatile("" ::: "memory");
}

int process_start_spinners(void)
{
	int count = process_cpu_count();

	if (count > SPINNERS_MAX)
		count = SPINNERS_MAX;
	for (int i = 0; i < count; i++) {
		int cpu = process_nth_cpu(i);
		pid_t pid = fork();

		if (pid == 0)
			spin(cpu);
		if (pid < 0)
			return -errno;
		spinners[spinner_count++] = pid;
	}
	return 0;
}

void process_stop_spinners(void)
{
	while (spinner_count > 0) {
		pid_t pid = spinners[--spinner_count];

		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
}
