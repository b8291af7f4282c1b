/* SPDX-License-Identifier: Apache-2.0 */
/* A signal ends a wait that has just begun, when nobody sleeps yet, as it ends any other. */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

#include "tests/conformance/lib/conf.h"

enum { ANY = 0 }; /* both families, warmed up */

enum {
	TRIALS = 40,
	MOST_OF_THEM = 36,
	SIGNAL_US = 25,
	RESCUE_US = 300000, /* for one that the first signal has not ended */
	LATE_MS = 150
};

static void set_timer(long first_us, long next_us)
{
	const struct itimerval timer = { { 0, next_us }, { 0, first_us } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

/* The signal may come before the call, on a busy machine: so not all of them. */
static void interrupt(int fd, int (*wait)(int fd))
{
	int in_time = 0;

	on_signal(SIGALRM, 0);
	both();
	for (int i = 0; i < TRIALS; i++) {
		long start = now_ms();
		int n;

		set_timer(SIGNAL_US, RESCUE_US);
		n = wait(fd);
		in_time += n == -1 && errno == EINTR && now_ms() - start < LATE_MS;
		set_timer(0, 0);
	}
	obs_val("ended in time", in_time >= MOST_OF_THEM);
	both();
}

static void silent_client(int fd)
{
	(void)fd;
	both();
	both();
}

static int by_recv(int fd)
{
	char byte;

	return (int)recv(fd, &byte, 1, 0);
}

static void recv_server(int fd)
{
	interrupt(fd, by_recv);
}
CASE("interrupts.recv", recv_server, silent_client, ANY);

static int by_poll(int fd)
{
	struct pollfd entry = { .fd = fd, .events = POLLIN };

	return poll(&entry, 1, -1);
}

static void poll_server(int fd)
{
	interrupt(fd, by_poll);
}
CASE("interrupts.poll", poll_server, silent_client, ANY);

static int by_select(int fd)
{
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	return select(fd + 1, &in, NULL, NULL, NULL);
}

static void select_server(int fd)
{
	interrupt(fd, by_select);
}
CASE("interrupts.select", select_server, silent_client, ANY);

static int set;

static int by_epoll(int fd)
{
	struct epoll_event event;

	(void)fd;
	return epoll_wait(set, &event, 1, -1);
}

static void epoll_server(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	set = epoll_create1(EPOLL_CLOEXEC);
	obs("add", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	interrupt(fd, by_epoll);
}
CASE("interrupts.epoll", epoll_server, silent_client, ANY);
