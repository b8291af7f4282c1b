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
	ALL_TRIALS = 400,
	SIGNAL_US = 25,
	BEGUN_US = 5,	    /* the call is under way by then */
	RESCUE_US = 200000, /* for one that the first signal has not ended */
	LATE_US = 100000
};

static volatile int64_t first_signal_us; /* 0: none yet */

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void note_time(int signo)
{
	(void)signo;
	if (first_signal_us == 0)
		first_signal_us = now_us();
}

static void set_timer(long first_us, long next_us)
{
	const struct itimerval timer = { { 0, next_us }, { 0, first_us } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

/* 1: ended by the signal in time; 0: late; -1: the signal came before the call. */
static int try_once(int fd, int (*wait)(int fd))
{
	int64_t begun, ended;
	bool interrupted;

	first_signal_us = 0;
	set_timer(SIGNAL_US, RESCUE_US);
	begun = now_us();
	interrupted = wait(fd) == -1 && errno == EINTR;
	ended = now_us();
	set_timer(0, 0);
	if (first_signal_us < begun + BEGUN_US)
		return -1;
	return interrupted && ended - begun < LATE_US;
}

static void interrupt(int fd, int (*wait)(int fd))
{
	const struct sigaction action = { .sa_handler = note_time };
	int tried = 0, in_time = 0;

	sigaction(SIGALRM, &action, NULL);
	both();
	for (int i = 0; i < ALL_TRIALS && tried < TRIALS; i++) {
		int result = try_once(fd, wait);

		tried += result >= 0;
		in_time += result > 0;
	}
	obs_val("ended in time", tried < TRIALS || in_time >= MOST_OF_THEM);
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
