/* SPDX-License-Identifier: Apache-2.0 */
/* amid KIND STRIDE: a client that gets a signal behind one of its system calls, in each run STRIDE
 * calls later, until one run ends before.  So a handler runs at every point of a rendezvous that a
 * signal can meet.
 *
 *   async   the handler asks for SIGIO, which must come from then on
 *   send    it sends some more on the connection: nothing is lost
 *   close   it closes the number: the next connection works
 *
 * Prints the number of runs. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/rendezvous/program.h"

enum { ROUNDS = 12, BYTES = 8, PATIENCE_S = 5, NOT_TRACED = 77 };

static struct sockaddr_in address;
static volatile int connection;
static volatile sig_atomic_t handled;

/* ---- the server ---- */

static void echo(int fd)
{
	char bytes[64];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		if (write(fd, bytes, (size_t)n) != n)
			break;
	close(fd);
}

static pid_t start_server(void)
{
	int fd = listen_here(&address, 0, 8);
	pid_t pid = check(fork(), "fork");

	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (pid == 0) {
		signal(SIGPIPE, SIG_IGN);
		echo(check(accept(fd, NULL, NULL), "accept"));
	}
	close(fd);
	return pid;
}

/* ---- the client, which is traced ---- */

static void handler(int number)
{
	static const char more[BYTES] = "more";
	int saved = errno;

	(void)number;
	handled = 1;
	if (strcmp(which, "async") == 0) {
		check(fcntl(connection, F_SETOWN, getpid()), "F_SETOWN");
		check(fcntl(connection, F_SETFL, O_RDWR | O_ASYNC), "F_SETFL");
	} else if (strcmp(which, "send") == 0) {
		check(send(connection, more, BYTES, 0) == BYTES ? 0 : -1, "send in a handler");
	} else {
		check(close(connection), "close");
	}
	errno = saved;
}

/* False: the handler has closed it. */
static bool round_trips(int fd)
{
	char bytes[BYTES];

	for (int i = 0; i < ROUNDS; i++) {
		if (write(fd, "12345678", BYTES) != BYTES)
			return false;
		for (size_t got = 0; got < BYTES;) {
			ssize_t n = read(fd, bytes, BYTES - got);

			if (n <= 0)
				return false;
			got += (size_t)n;
		}
	}
	return true;
}

static void expect_signal(int fd)
{
	const struct timespec none = { 0 }, patience = { .tv_sec = PATIENCE_S };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	while (sigtimedwait(&set, NULL, &none) > 0)
		;
	check((int)write(fd, "12345678", BYTES), "write");
	check(sigtimedwait(&set, NULL, &patience), "SIGIO");
}

/* What the handler has sent comes back too, then the end. */
static void expect_rest(int fd, size_t rest)
{
	char byte;

	check(shutdown(fd, SHUT_WR), "shutdown");
	while (read(fd, &byte, 1) == 1)
		rest--;
	if (rest != 0) {
		fprintf(stderr, "amid %s: %zu bytes lack\n", which, rest);
		_exit(1);
	}
}

static _Noreturn void client(void)
{
	bool closes = strcmp(which, "close") == 0;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = handler, .sa_flags = SA_RESTART },
		  NULL);
	connection = dial(&address);
	raise(SIGSTOP); /* signals from here on */
	if (!round_trips(connection) && !(closes && handled))
		check(-1, "round trips");
	raise(SIGSTOP);
	if (!handled)
		_exit(0);
	if (closes)
		check(round_trips(dial(&address)) ? 0 : -1, "the next connection");
	if (strcmp(which, "async") == 0)
		expect_signal(connection);
	if (strcmp(which, "send") == 0)
		expect_rest(connection, BYTES);
	_exit(0);
}

/* ---- the tracer ---- */

/* True: it came to that call, and got its signal. */
static bool signal_behind(pid_t pid, int call)
{
	int status, give = 0, stops = 0;
	bool sent = false;

	for (;;) {
		check(ptrace(PTRACE_SYSCALL, pid, 0, give) == 0 ? 0 : -1, "ptrace");
		check(waitpid(pid, &status, 0), "waitpid");
		if (!WIFSTOPPED(status))
			check(-1, "the client has ended");
		give = 0;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			if (stops++ == 2 * call + 1) {
				syscall(SYS_tgkill, pid, pid, SIGUSR1);
				sent = true;
			}
		} else if (WSTOPSIG(status) == SIGSTOP) {
			return sent;
		} else if (status >> 16 == 0) {
			give = WSTOPSIG(status);
		}
	}
}

static bool run(int call)
{
	pid_t pid = check(fork(), "fork");
	int status;
	bool sent;

	if (pid == 0)
		client();
	check(waitpid(pid, &status, WUNTRACED), "waitpid");
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) != 0) {
		perror("ptrace");
		kill(pid, SIGKILL);
		_exit(NOT_TRACED);
	}
	kill(pid, SIGCONT);
	sent = signal_behind(pid, call);
	check(ptrace(PTRACE_DETACH, pid, 0, 0) == 0 ? 0 : -1, "detach");
	kill(pid, SIGCONT);
	check(waitpid(pid, &status, 0), "waitpid");
	if (status != 0) {
		fprintf(stderr, "amid %s: behind call %d\n", which, call);
		exit(1);
	}
	return sent;
}

int main(int count, char **arguments)
{
	int runs = 0, stride = count == 3 ? atoi(arguments[2]) : 0;
	pid_t server;

	which = count == 3 ? arguments[1] : "";
	if (stride <= 0)
		return 2;
	if (strcmp(which, "async") != 0 && strcmp(which, "send") != 0 &&
	    strcmp(which, "close") != 0)
		return 2;
	server = start_server();
	while (run(runs * stride))
		runs++;
	kill(server, SIGKILL);
	printf("%d\n", runs);
	return 0;
}
