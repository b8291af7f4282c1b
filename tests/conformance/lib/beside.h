/* SPDX-License-Identifier: Apache-2.0 */
/* A connection in the hands of two threads, or processes: one waits in some way, the other one
 * disturbs it in some way; each pair meets on a connection of its own.  For CONF_RAW cases;
 * included once. */
#ifndef CONFORMANCE_LIB_BESIDE_H
#define CONFORMANCE_LIB_BESIDE_H

#include <stdatomic.h>
#include <sys/mman.h>

#include "tests/conformance/lib/epoll_set.h"

enum { BESIDE_WARM_ROUNDS = 20, BESIDE_PAUSE_US = 40 };

static int fd, waited_set, other_set; /* waited_set: only where the waiter has one */
static uint32_t waited_events;
static bool is_forked; /* the other one is a process */

static struct progress {
	_Atomic long done;
	_Atomic bool is_over;
} * shared;

struct disturbance {
	const char *name;
	void (*act)(void); /* again and again; NULL: nobody disturbs */
	uint32_t events;   /* with which the connection is in the other set; 0: it is not */
};

/* Waits with wait() until all is done, and says so to the other one.  True: it was not told. */
typedef bool beside_waiter(void (*wait)(void));

static inline void ask_again(void)
{
	change(waited_set, EPOLL_CTL_MOD, fd, waited_events, 1);
}

static inline void *disturb(void *argument)
{
	const struct disturbance *d = argument;

	other_set = epoll_create1(EPOLL_CLOEXEC);
	if (d->events)
		change(other_set, EPOLL_CTL_ADD, fd, d->events, 1);
	for (int i = 0; !atomic_load(&shared->is_over); i++) {
		d->act();
		if (i % 4 == 0)
			usleep((useconds_t)(i * 7 % BESIDE_PAUSE_US));
	}
	close(other_set);
	return argument;
}

static inline bool beside_thread(struct disturbance d, beside_waiter *waiter, void (*wait)(void))
{
	pthread_t thread = spawn(disturb, &d);
	bool late = waiter(wait);

	pthread_join(thread, NULL);
	return late;
}

static inline bool beside_process(struct disturbance d, beside_waiter *waiter, void (*wait)(void))
{
	pid_t child = fork();
	int status = 0;
	bool late;

	if (child == 0) {
		disturb(&d);
		_exit(0);
	}
	late = waiter(wait);
	waitpid(child, &status, 0);
	return late || status != 0;
}

static inline void beside_meet(const struct disturbance *d, beside_waiter *waiter,
			       void (*wait)(void))
{
	bool late;

	atomic_store(&shared->done, 0);
	atomic_store(&shared->is_over, false);
	if (!d->act)
		late = waiter(wait);
	else
		late = (is_forked ? beside_process : beside_thread)(*d, waiter, wait);
	obs_val(d->name, late);
}

/* How the waiter waits: with which events its set holds the connection (0: it has none), and what
 * is limited to CONF_WAIT_MS, SO_RCVTIMEO or SO_SNDTIMEO. */
struct beside_way {
	uint32_t events;
	void (*wait)(void);
	beside_waiter *waiter;
	int limited;
	void (*finish)(void); /* behind each; or NULL */
};

static inline void beside_all(int listener, struct beside_way way, const struct disturbance *list,
			      int count)
{
	const struct timeval limit = { .tv_sec = CONF_WAIT_MS / 1000 };

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	for (int i = 0; i < count; i++) {
		fd = conf_accept(listener);
		warm_up(fd, BESIDE_WARM_ROUNDS);
		setsockopt(fd, SOL_SOCKET, way.limited, &limit, sizeof(limit));
		waited_set = way.events ? epoll_create1(EPOLL_CLOEXEC) : -1;
		waited_events = way.events;
		if (way.events)
			change(waited_set, EPOLL_CTL_ADD, fd, way.events, 1);
		beside_meet(&list[i], way.waiter, way.wait);
		if (way.finish)
			way.finish();
		close(fd);
		if (way.events)
			close(waited_set);
	}
	munmap(shared, sizeof(*shared));
}

static inline void beside_client(int count, void (*answer)(int sock))
{
	for (int i = 0; i < count; i++) {
		int sock = conf_connect();

		warm_up(sock, BESIDE_WARM_ROUNDS);
		answer(sock);
		close(sock);
	}
}

#endif
