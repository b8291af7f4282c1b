/* SPDX-License-Identifier: Apache-2.0 */
/* poll, ppoll, select, pselect. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "core/postpone.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "preload/config.h"
#include "preload/pointers.h"
#include "preload/real.h"
#include "preload/room.h"
#include "preload/session.h"
#include "preload/transfer.h"
#include "preload/waits.h"

/* glibc declares the entries write-only, which is true of revents alone. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

/* ---- poll ---- */

/* A wait in which nothing is ours may be the only call in which this process ever looks. */
static bool is_ours(const struct pollfd *fds, nfds_t count, bool may_sleep)
{
	return shim_config.enabled && count <= SHIM_FD_MAX &&
	       !shim_pointer_is_bad_result(fds, count * sizeof(*fds)) &&
	       (shim_wait_concerns_us(fds, count, may_sleep) ||
		(may_sleep && shim_session_may_be_warm()));
}

static bool is_usable_time(const void *timeout)
{
	return !timeout || !shim_pointer_is_bad(timeout, sizeof(struct timespec));
}

static int poll_ms(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	struct timespec timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };

	return (int)shim_edge(shim_wait_poll(
		fds, count, shim_wait_deadline(timeout_ms < 0 ? NULL : &timeout), NULL));
}

SHIM_EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	return is_ours(fds, count, timeout_ms != 0) ? poll_ms(fds, count, timeout_ms)
						    : real.poll(fds, count, timeout_ms);
}

SHIM_EXPORT int __poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	return is_ours(fds, count, timeout_ms != 0) ? poll_ms(fds, count, timeout_ms)
						    : real.__poll(fds, count, timeout_ms);
}

SHIM_EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout_ms, size_t room)
{
	if (room / sizeof(*fds) < count)
		__chk_fail();
	return poll(fds, count, timeout_ms);
}

SHIM_EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		      const sigset_t *mask)
{
	if (!is_ours(fds, count, true) || !is_usable_time(timeout))
		return real.ppoll(fds, count, timeout, mask);
	if (timeout && (timeout->tv_sec < 0 || (uint64_t)timeout->tv_nsec >= 1000000000u)) {
		errno = EINVAL;
		return -1;
	}
	return (int)shim_edge(shim_wait_poll(fds, count, shim_wait_deadline(timeout), mask));
}

SHIM_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
			    const sigset_t *mask, size_t room)
{
	if (room / sizeof(*fds) < count)
		__chk_fail();
	return ppoll(fds, count, timeout, mask);
}

/* ---- select: translated to poll and back, with the kernel's own sets of events ---- */

enum {
	SELECT_IN = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR,
	SELECT_OUT = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR,
	SELECT_EXCEPT = POLLPRI,
	WORD_BITS = 64,
	ENTRIES_ON_STACK = 64,
};

struct sets {
	uint64_t *in, *out, *except; /* NULL where not given; may be larger than an fd_set */
};

static uint64_t word_of(const uint64_t *set, int index)
{
	return set ? set[index] : 0;
}

static bool has(const uint64_t *set, int fd)
{
	return set && (set[fd / WORD_BITS] >> (fd % WORD_BITS) & 1);
}

/* How many descriptors are asked for, and is one of them accelerated and waited on for reading? */
static int survey(const struct sets *sets, int count, bool may_sleep, bool *ours)
{
	int total = 0;

	*ours = false;
	for (int i = 0; i * WORD_BITS < count; i++) {
		uint64_t bits = word_of(sets->in, i) | word_of(sets->out, i) |
				word_of(sets->except, i);

		if (count - i * WORD_BITS < WORD_BITS)
			bits &= (1ULL << (count - i * WORD_BITS)) - 1;
		total += __builtin_popcountll(bits);
		for (; bits; bits &= bits - 1) {
			struct pollfd one = { .fd = i * WORD_BITS + __builtin_ctzll(bits),
					      .events = POLLIN };

			if (shim_fd_word(one.fd))
				*ours |= shim_wait_concerns_us(&one, 1, may_sleep);
		}
	}
	return total;
}

static void to_poll(const struct sets *sets, int count, struct pollfd *entries)
{
	int n = 0;

	for (int i = 0; i * WORD_BITS < count; i++) {
		uint64_t bits = word_of(sets->in, i) | word_of(sets->out, i) |
				word_of(sets->except, i);

		if (count - i * WORD_BITS < WORD_BITS)
			bits &= (1ULL << (count - i * WORD_BITS)) - 1;
		for (; bits; bits &= bits - 1) {
			int fd = i * WORD_BITS + __builtin_ctzll(bits);
			int events = (has(sets->in, fd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) |
				     (has(sets->out, fd) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) |
				     (has(sets->except, fd) ? POLLPRI : 0);

			entries[n++] = (struct pollfd){ .fd = fd, .events = (short)events };
		}
	}
}

static void clear(uint64_t *set, int count)
{
	if (set)
		memset(set, 0, (size_t)((count + WORD_BITS - 1) / WORD_BITS) * sizeof(*set));
}

static int mark(uint64_t *set, int fd, bool wanted, short revents, int events)
{
	if (!set || !wanted || !(revents & events))
		return 0;
	set[fd / WORD_BITS] |= 1ULL << (fd % WORD_BITS);
	return 1;
}

static int from_poll(const struct sets *sets, int count, const struct pollfd *entries, int n)
{
	int ready = 0;

	for (int i = 0; i < n; i++)
		if (entries[i].revents & POLLNVAL)
			return -EBADF;
	clear(sets->in, count);
	clear(sets->out, count);
	clear(sets->except, count);
	for (int i = 0; i < n; i++) {
		const struct pollfd *e = &entries[i];

		ready += mark(sets->in, e->fd, e->events & POLLIN, e->revents, SELECT_IN);
		ready += mark(sets->out, e->fd, e->events & POLLOUT, e->revents, SELECT_OUT);
		ready += mark(sets->except, e->fd, e->events & POLLPRI, e->revents, SELECT_EXCEPT);
	}
	return ready;
}

/* select() sleeps for what it asks, poll() also returns for ERR and HUP of a descriptor that is
 * asked for other things: such an entry must not end the wait. */
static bool counts_for_select(const struct pollfd *entries, int n)
{
	for (int i = 0; i < n; i++) {
		const struct pollfd *e = &entries[i];

		if ((e->revents & POLLNVAL) || ((e->events & POLLIN) && (e->revents & SELECT_IN)) ||
		    ((e->events & POLLOUT) && (e->revents & SELECT_OUT)) ||
		    ((e->events & POLLPRI) && (e->revents & SELECT_EXCEPT)))
			return true;
	}
	return false;
}

static int select_by_poll(const struct sets *sets, int count, struct pollfd *entries, int n,
			  uint64_t deadline_ns, const sigset_t *mask)
{
	int result;

	to_poll(sets, count, entries);
	result = shim_wait_poll(entries, (nfds_t)n, deadline_ns, mask);
	for (int i = 0; result > 0 && !counts_for_select(entries, n) && i < n; i++) {
		/* a hang-up that select does not report: leave that entry out and go on waiting */
		for (int k = 0; k < n; k++)
			if (entries[k].revents)
				entries[k].fd = -1 - entries[k].fd;
		result = shim_wait_poll(entries, (nfds_t)n, deadline_ns, mask);
	}
	for (int k = 0; k < n; k++)
		if (entries[k].fd < 0)
			entries[k] = (struct pollfd){ .fd = -1 - entries[k].fd,
						      .events = entries[k].events };
	return result < 0 ? result : from_poll(sets, count, entries, n);
}

static int select_ours(const struct sets *sets, int count, int n, uint64_t deadline_ns,
		       const sigset_t *mask)
{
	struct pollfd few[ENTRIES_ON_STACK];
	struct _pthread_cleanup_buffer buffer;
	struct pollfd *many;
	int result;

	if (n <= ENTRIES_ON_STACK)
		return select_by_poll(sets, count, few, n, deadline_ns, mask);
	shmipc_postpone_begin(); /* jumps leave nothing behind */
	many = shim_room_take((size_t)n * sizeof(*many));
	_pthread_cleanup_push(&buffer, shim_room_give, many);
	shmipc_postpone_end();
	result = many ? select_by_poll(sets, count, many, n, deadline_ns, mask) : -ENOMEM;
	_pthread_cleanup_pop(&buffer, 1);
	return result;
}

static bool is_usable_set(const uint64_t *set, int count)
{
	return !set || !shim_pointer_is_bad_result(
			       set, (size_t)((count + WORD_BITS - 1) / WORD_BITS) * sizeof(*set));
}

/* *wanted: of so many the kernel would look at these. */
static bool select_is_ours(int *wanted, const struct sets *sets, const void *timeout, int *n)
{
	int count = *wanted;
	bool ours;

	if (!shim_config.enabled || count <= 0 || !is_usable_time(timeout))
		return false;
	if (__builtin_expect(count > FD_SETSIZE, 0))
		*wanted = count = shim_fd_places(count);
	if (count > SHIM_FD_MAX)
		return false;
	if (!is_usable_set(sets->in, count) || !is_usable_set(sets->out, count) ||
	    !is_usable_set(sets->except, count))
		return false;
	*n = survey(sets, count, true, &ours);
	return ours || shim_session_may_be_warm();
}

static int select_common(int count, const struct sets *sets, int n, struct timeval *timeout)
{
	struct timespec span;
	uint64_t deadline;
	int result;

	if (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0)) {
		errno = EINVAL;
		return -1;
	}
	if (timeout)
		span = (struct timespec){ timeout->tv_sec + timeout->tv_usec / 1000000,
					  timeout->tv_usec % 1000000 * 1000 };
	deadline = shim_wait_deadline(timeout ? &span : NULL);
	result = select_ours(sets, count, n, deadline, NULL);
	if (timeout && deadline != SHIM_WAIT_FOR_EVER) { /* Linux writes the rest back */
		span = shim_wait_left(deadline);
		*timeout = (struct timeval){ span.tv_sec, span.tv_nsec / 1000 };
	}
	return (int)shim_edge(result);
}

static struct sets sets_of(fd_set *in, fd_set *out, fd_set *except)
{
	return (struct sets){ (uint64_t *)(void *)in, (uint64_t *)(void *)out,
			      (uint64_t *)(void *)except };
}

SHIM_EXPORT int select(int count, fd_set *restrict in, fd_set *restrict out,
		       fd_set *restrict except, struct timeval *restrict timeout)
{
	struct sets sets = sets_of(in, out, except);
	int n;

	return select_is_ours(&count, &sets, timeout, &n)
		       ? select_common(count, &sets, n, timeout)
		       : real.select(count, in, out, except, timeout);
}

SHIM_EXPORT int __select(int count, fd_set *in, fd_set *out, fd_set *except,
			 struct timeval *timeout)
{
	struct sets sets = sets_of(in, out, except);
	int n;

	return select_is_ours(&count, &sets, timeout, &n)
		       ? select_common(count, &sets, n, timeout)
		       : real.__select(count, in, out, except, timeout);
}

SHIM_EXPORT int pselect(int count, fd_set *restrict in, fd_set *restrict out,
			fd_set *restrict except, const struct timespec *restrict timeout,
			const sigset_t *restrict mask)
{
	struct sets sets = sets_of(in, out, except);
	int n;

	if (!select_is_ours(&count, &sets, timeout, &n))
		return real.pselect(count, in, out, except, timeout, mask);
	if (timeout && (timeout->tv_sec < 0 || (uint64_t)timeout->tv_nsec >= 1000000000u)) {
		errno = EINVAL;
		return -1;
	}
	return (int)shim_edge(select_ours(&sets, count, n, shim_wait_deadline(timeout), mask));
}
