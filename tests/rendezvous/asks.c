/* SPDX-License-Identifier: Apache-2.0 */
/* asks WAITS [poll]: a server that waits by epoll for one connection, so often, and sleeps each
 * time, for its client thinks first; with `poll` by poll, and has a second thread.  Prints the
 * number of such calls that the kernel saw of those waits. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ptrace.h>

#include "tests/rendezvous/program.h"

enum { THINKS_US = 3000 };

static _Noreturn void client(const struct sockaddr_in *address, int waits)
{
	int fd = dial(address);
	char byte = 'x';

	for (int i = 0; i < waits; i++) {
		usleep(THINKS_US);
		check((int)write(fd, &byte, 1), "write");
		check((int)read(fd, &byte, 1) - 1, "read");
	}
	_exit(0);
}

static bool polls;

static void *nothing(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void wait_for(int set, int fd)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };
	struct epoll_event event;

	if (polls)
		check(poll(&one, 1, -1) - 1, "poll");
	else
		check(epoll_wait(set, &event, 1, -1) - 1, "epoll_wait");
}

static void serve(int fd, int waits)
{
	int set = check(epoll_create1(0), "epoll_create1");
	struct epoll_event event = { .events = EPOLLIN };
	pthread_t thread;
	char byte;

	if (polls)
		check(-pthread_create(&thread, NULL, nothing, NULL), "pthread_create");
	check(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
	raise(SIGSTOP); /* from here on it counts */
	for (int i = 0; i < waits; i++) {
		wait_for(set, fd);
		check((int)read(fd, &byte, 1) - 1, "read");
		check((int)write(fd, &byte, 1), "write");
	}
	raise(SIGSTOP);
}

static _Noreturn void server(int waits)
{
	struct sockaddr_in address;
	int listener = listen_here(&address, 0, 1), status = 0;
	pid_t pid = check(fork(), "fork");

	if (pid == 0)
		client(&address, waits);
	serve(check(accept(listener, NULL, NULL), "accept"), waits);
	check(waitpid(pid, &status, 0), "waitpid");
	_exit(status != 0);
}

static bool is_wait(const struct ptrace_syscall_info *info)
{
	if (info->op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	switch (info->entry.nr) {
#ifdef SYS_poll
	case SYS_poll:
#endif
	case SYS_ppoll:
		return polls;
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
#endif
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
#endif
	case SYS_epoll_pwait:
		return !polls;
	}
	return false;
}

/* Until it stops itself once more. */
static int count_waits(pid_t pid)
{
	struct ptrace_syscall_info info;
	int status, count = 0;

	for (;;) {
		check(ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0 ? 0 : -1, "ptrace");
		check(waitpid(pid, &status, 0), "waitpid");
		if (!WIFSTOPPED(status))
			_exit(1);
		if (WSTOPSIG(status) == SIGSTOP)
			return count;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) &&
		    ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0)
			count += is_wait(&info);
	}
}

int main(int count, char **arguments)
{
	int waits = count >= 2 ? atoi(arguments[1]) : 0, status;
	pid_t pid;

	polls = count == 3 && strcmp(arguments[2], "poll") == 0;
	if (waits <= 0)
		return 2;
	pid = check(fork(), "fork");
	if (pid == 0)
		server(waits);
	check(waitpid(pid, &status, WUNTRACED), "waitpid");
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) != 0) {
		kill(pid, SIGKILL);
		perror("ptrace");
		return 77;
	}
	kill(pid, SIGCONT);
	printf("%d\n", count_waits(pid));
	check(ptrace(PTRACE_DETACH, pid, 0, 0) == 0 ? 0 : -1, "detach");
	kill(pid, SIGCONT);
	check(waitpid(pid, &status, 0), "waitpid");
	return status != 0;
}
