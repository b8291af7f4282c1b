/* SPDX-License-Identifier: Apache-2.0 */
/* One thread waits on a set again and again, another one closes it. */
#include <sched.h>
#include <stdatomic.h>

#include "tests/conformance/lib/epoll_set.h"

enum { ROUNDS = 50000, ROUNDS_MS = 1500, NO_SET = -1, NO_MORE_SETS = -2 };

struct waiter {
	_Atomic int set;
	int timeout_ms;
	long strange;
};

static void *wait_until_closed(void *arg)
{
	struct waiter *w = arg;
	struct epoll_event events[4];
	int set;

	while ((set = atomic_load(&w->set)) != NO_MORE_SETS) {
		if (set == NO_SET) {
			sched_yield();
			continue;
		}
		while (epoll_wait(set, events, 4, w->timeout_ms) >= 0)
			;
		w->strange += errno != EBADF;
		atomic_store(&w->set, NO_SET);
	}
	return NULL;
}

/* The close comes now in one of the calls, now between two. */
static void close_sets(int member, int timeout_ms)
{
	struct waiter w = { NO_SET, timeout_ms, 0 };
	pthread_t thread = spawn(wait_until_closed, &w);
	long end_ms = now_ms() + ROUNDS_MS;

	for (int i = 0; i < ROUNDS && now_ms() < end_ms; i++) {
		int set = epoll_create1(0);

		change(set, EPOLL_CTL_ADD, member, EPOLLIN, 1);
		atomic_store(&w.set, set);
		for (volatile int k = 0; k < 500 + i * 37 % 3000; k++)
			;
		close(set);
		while (atomic_load(&w.set) != NO_SET)
			sched_yield();
	}
	atomic_store(&w.set, NO_MORE_SETS);
	pthread_join(thread, NULL);
	obs_val("strange", w.strange);
}

static void member_server(int fd)
{
	close_sets(fd, 0);
	goes_on_server(fd);
}
CASE("epoll_closed.member", member_server, goes_on_client, CONF_COLD);

/* Also a set that holds nothing of a connection. */
static void pipe_server(int fd)
{
	int ends[2];

	if (pipe(ends) < 0 || write(ends[1], "x", 1) != 1)
		obs_text("no pipe");
	close_sets(ends[0], 1);
	close(ends[0]);
	close(ends[1]);
	goes_on_server(fd);
}
CASE("epoll_closed.pipe", pipe_server, goes_on_client, CONF_COLD);
