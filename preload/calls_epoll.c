/* SPDX-License-Identifier: Apache-2.0 */
/* epoll: the set is the kernel's; sets.c knows what it may answer from memory. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>

#include "core/thread.h"
#include "preload/config.h"
#include "preload/pointers.h"
#include "preload/real.h"
#include "preload/sets.h"
#include "preload/transfer.h"
#include "preload/waits.h"

enum { ROOM_MAX = INT_MAX / (int)sizeof(struct epoll_event) /* the kernel's */ };

static int opened(int epfd)
{
	if (epfd >= 0) {
		shim_conn_flush(epfd);
		if (shim_config.enabled)
			shim_set_opened(epfd);
	}
	return epfd;
}

SHIM_EXPORT int epoll_create(int size)
{
	return opened(real.epoll_create(size));
}

SHIM_EXPORT int epoll_create1(int flags)
{
	return opened(real.epoll_create1(flags));
}

SHIM_EXPORT __attribute__((hot)) int epoll_ctl(int epfd, int operation, int fd,
					       struct epoll_event *event)
{
	return shim_config.enabled ? (int)shim_edge(shim_set_control(epfd, operation, fd, event))
				   : real.epoll_ctl(epfd, operation, fd, event);
}

/* The kernel finds out where the array ends only if so many events come. */
static int reachable(struct epoll_event *events, int room)
{
	while (room > 0 && shim_pointer_is_bad_result(events, (size_t)room * sizeof(*events)))
		room /= 2;
	return room;
}

/* Held, for shim_set_wait(); NULL: the kernel's own call is right, also for a number that another
 * thread closes meanwhile.  *room: at most so many events. */
static __attribute__((hot)) struct shim_set *set_to_wait_on(int epfd, struct epoll_event *events,
							    int *room, bool may_sleep)
{
	int there = *room > 0 && *room <= ROOM_MAX && shim_set_concerns_us(epfd, may_sleep)
			    ? reachable(events, *room)
			    : 0;

	if (there <= 0) {
		shim_set_show(epfd); /* a wrong call may wait all the same */
		return NULL;
	}
	*room = there;
	if (!shmipc_single_threaded())
		pthread_testcancel();
	return shim_set_hold(epfd);
}

static int wait_ms(struct shim_set *set, int epfd, struct epoll_event *events, int room,
		   int timeout_ms, const sigset_t *mask)
{
	struct timespec timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };

	return (int)shim_edge(
		shim_set_wait(set, epfd, events, room, timeout_ms < 0 ? NULL : &timeout, mask));
}

SHIM_EXPORT __attribute__((hot)) int epoll_wait(int epfd, struct epoll_event *events, int room,
						int timeout_ms)
{
	struct shim_set *set = set_to_wait_on(epfd, events, &room, timeout_ms != 0);

	return set ? wait_ms(set, epfd, events, room, timeout_ms, NULL)
		   : real.epoll_wait(epfd, events, room, timeout_ms);
}

SHIM_EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int room, int timeout_ms,
			    const sigset_t *mask)
{
	struct shim_set *set = set_to_wait_on(epfd, events, &room, timeout_ms != 0);

	return set ? wait_ms(set, epfd, events, room, timeout_ms, mask)
		   : real.epoll_pwait(epfd, events, room, timeout_ms, mask);
}

static bool is_refused(const struct timespec *timeout)
{
	return timeout && (shim_pointer_is_bad(timeout, sizeof(*timeout)) || timeout->tv_sec < 0 ||
			   (uint64_t)timeout->tv_nsec >= 1000000000u);
}

SHIM_EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int room,
			     const struct timespec *timeout, const sigset_t *mask)
{
	struct shim_set *set = is_refused(timeout) ? NULL
						   : set_to_wait_on(epfd, events, &room, true);

	if (!set)
		return real.epoll_pwait2(epfd, events, room, timeout, mask);
	return (int)shim_edge(shim_set_wait(set, epfd, events, room, timeout, mask));
}
