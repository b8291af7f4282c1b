/* SPDX-License-Identifier: Apache-2.0 */
/* pollers HOW: one thread sleeps in poll() or select(), and another one uses the same connections.
 *
 *   many        it waits for 70 of them; the other one looks at the last
 *   closed      the connection, far behind in its array, is closed, and another one made
 *   early       the connection gets its ring meanwhile; the other one looks at it by poll()
 *   early-set   ... by an epoll set
 *   jump        a handler jumps out of a select() of many, again and again
 *
 * Whoever sleeps beyond PATIENCE_MS, and by the kernel would not, has missed something. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/rendezvous/program.h"

enum {
	MANY = 70,
	PATIENCE_MS = 20000,
	TRIPS = 30,
	NOTHING_COUNT = 400,
	LATER_US = 200000,
	JUMPS = 500
};

/* What the other end does with a byte. */
enum { ECHO = 'e', NOTHING = 'n', LATER = 'l', LONG_AFTER = 'a' };

static struct sockaddr_in address;
static int connections[MANY], ends[2];

static void require(bool is_true, const char *what)
{
	if (is_true)
		return;
	fprintf(stderr, "pollers %s: %s\n", which, what);
	_exit(1);
}

/* ---- the other end: a process, with a thread for each connection ---- */

static void *answer(void *number)
{
	int fd = (int)(long)number;
	char byte;

	while (read(fd, &byte, 1) == 1) {
		if (byte == LATER)
			usleep(LATER_US);
		if (byte == LONG_AFTER) /* no sleep is short any more */
			usleep(7 * LATER_US);
		if (byte != NOTHING && write(fd, &byte, 1) != 1)
			break;
	}
	close(fd);
	return NULL;
}

static void start_server(void)
{
	int listener = listen_here(&address, 0, MANY);
	pthread_t thread;

	if (check(fork(), "fork") > 0) {
		close(listener);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		long fd = check(accept(listener, NULL, NULL), "accept");

		pthread_create(&thread, NULL, answer, (void *)fd);
		pthread_detach(thread);
	}
}

static void say(int fd, char what)
{
	require(write(fd, &what, 1) == 1, "write");
}

static void trips(int fd)
{
	char byte;

	for (int i = 0; i < TRIPS; i++) {
		say(fd, ECHO);
		require(read(fd, &byte, 1) == 1, "a round trip");
	}
}

static int look(int fd)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };

	return check(poll(&one, 1, 0), "poll");
}

/* ---- those who sleep ---- */

static void *sleep_for_many(void *argument)
{
	struct timespec began, now;
	struct pollfd all[MANY];

	(void)argument;
	for (int i = 0; i < MANY; i++)
		all[i] = (struct pollfd){ .fd = connections[i], .events = POLLIN };
	clock_gettime(CLOCK_MONOTONIC, &began);
	require(poll(all, MANY, PATIENCE_MS) == 1 && all[MANY - 1].revents == POLLIN,
		"the sleeper has heard nothing");
	clock_gettime(CLOCK_MONOTONIC, &now); /* at its end a wait looks once more */
	require(now.tv_sec - began.tv_sec < PATIENCE_MS / 2000, "the sleeper has heard too late");
	return NULL;
}

static void *sleep_far_behind(void *argument)
{
	struct pollfd all[MANY];

	(void)argument;
	for (int i = 0; i < MANY; i++)
		all[i] = (struct pollfd){ .fd = -1 };
	all[MANY - 2] = (struct pollfd){ .fd = connections[0], .events = POLLIN };
	all[MANY - 1] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	require(poll(all, MANY, PATIENCE_MS) >= 1 && all[MANY - 1].revents == POLLIN, "the pipe");
	return NULL;
}

static void *sleep_for_one(void *argument)
{
	struct pollfd one = { .fd = connections[0], .events = POLLIN };

	(void)argument;
	require(poll(&one, 1, PATIENCE_MS) == 1, "the sleeper has heard nothing");
	return NULL;
}

static pthread_t begin(void *(*sleeper)(void *))
{
	pthread_t thread;

	check(-pthread_create(&thread, NULL, sleeper, NULL), "pthread_create");
	usleep(LATER_US / 2);
	return thread;
}

/* ---- what happens meanwhile ---- */

static void many(void)
{
	pthread_t thread;

	for (int i = 0; i < MANY; i++)
		connections[i] = dial(&address);
	for (int i = 0; i < 3 * MANY; i++)
		trips(connections[i % MANY]);
	thread = begin(sleep_for_many);
	say(connections[MANY - 1], LONG_AFTER);
	usleep(LATER_US / 4);
	look(connections[MANY - 1]);
	pthread_join(thread, NULL);
}

static void closed(void)
{
	pthread_t thread;
	int next;

	check(pipe(ends), "pipe");
	connections[0] = dial(&address);
	trips(connections[0]);
	thread = begin(sleep_far_behind);
	close(connections[0]);
	next = dial(&address);
	say(next, ECHO);
	usleep(LATER_US / 4);
	require(write(ends[1], "x", 1) == 1, "pipe");
	pthread_join(thread, NULL);
	trips(next);
	for (int i = 0; i < 3; i++) {
		struct pollfd one = { .fd = next, .events = POLLIN };
		char byte;

		say(next, LATER);
		require(poll(&one, 1, PATIENCE_MS) == 1 && read(next, &byte, 1) == 1,
			"the next connection");
	}
}

static void early(bool by_set)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd = connections[0] = dial(&address), set = check(epoll_create1(0), "epoll_create1");
	pthread_t thread;
	char byte;

	say(fd, ECHO);
	require(read(fd, &byte, 1) == 1, "the first answer");
	thread = begin(sleep_for_one);
	for (int i = 0; i < NOTHING_COUNT; i++) {
		say(fd, NOTHING);
		if (i % 20 == 0)
			usleep(1000);
	}
	require(recv(fd, &byte, 1, MSG_DONTWAIT) < 0, "a byte that nobody has sent");
	if (by_set) {
		check(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
		check(epoll_wait(set, &event, 1, 50), "epoll_wait");
	} else {
		look(fd);
	}
	say(fd, LATER);
	pthread_join(thread, NULL);
}

static sigjmp_buf back;

static void jump_away(int number)
{
	(void)number;
	siglongjmp(back, 1);
}

static long address_space_kib(void)
{
	char line[256];
	FILE *file = fopen("/proc/self/status", "r");
	long kib = -1;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmSize: %ld", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib;
}

static void jump(void)
{
	const struct itimerval soon = { .it_value.tv_usec = 1000 };
	volatile int jumps = 0;
	volatile long before = 0;
	fd_set all;

	for (int i = 0; i < MANY; i++)
		connections[i] = dial(&address);
	trips(connections[0]);
	signal(SIGALRM, jump_away);
	while (jumps < JUMPS) {
		if (jumps == 10 && before == 0)
			before = address_space_kib();
		if (sigsetjmp(back, 1) == 0) {
			FD_ZERO(&all);
			for (int i = 0; i < MANY; i++)
				FD_SET(connections[i], &all);
			setitimer(ITIMER_REAL, &soon, NULL);
			select(connections[MANY - 1] + 1, &all, NULL, NULL, NULL);
		} else {
			jumps++;
		}
	}
	require(address_space_kib() - before < JUMPS, "memory is left behind");
}

int main(int argc, char **arguments)
{
	which = argc == 2 ? arguments[1] : "";
	start_server();
	if (strcmp(which, "many") == 0)
		many();
	else if (strcmp(which, "closed") == 0)
		closed();
	else if (strcmp(which, "early") == 0 || strcmp(which, "early-set") == 0)
		early(strcmp(which, "early-set") == 0);
	else if (strcmp(which, "jump") == 0)
		jump();
	else
		return 2;
	return 0;
}
