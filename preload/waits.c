/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/waits_parts.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "core/cpu.h"
#include "core/ending.h"
#include "core/postpone.h"
#include "core/relaxing.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/pins.h"
#include "preload/room.h"
#include "preload/sets.h"
#include "preload/upgrade.h"

enum { LOOKS_PER_KERNEL = 128 }; /* while spinning: every few us */

/* ---- which of them are ours ---- */

/* One that gets its ring while another thread sleeps in here: that one has to be counted. */
static bool may_be_attached_meanwhile(const struct shim_conn *conn)
{
	return !shmipc_single_threaded() && atomic_load(&conn->state) == SHMIPC_STATE_CANDIDATE;
}

bool shim_wait_concerns_us(const struct pollfd *fds, nfds_t count, bool may_sleep)
{
	bool ours = false;

	for (nfds_t i = 0; i < count; i++) {
		uint32_t word = fds[i].fd >= 0 ? shim_fd_word(fds[i].fd) : 0;

		if (__builtin_expect(word == 0, 1))
			continue;
		if (shim_fd_kind(word) == SHIM_FD_SET) {
			/* a set inside a wait: the kernel must tell the truth */
			shim_set_is_foreign(fds[i].fd);
			ours |= shim_set_is_doubtful(fds[i].fd);
		} else if (shim_fd_kind(word) == SHIM_FD_CONN) {
			const struct shim_conn *conn = shim_conn_at(shim_fd_index(word));

			ours |= shim_conn_is_attached(conn) ||
				(may_sleep && may_be_attached_meanwhile(conn));
		}
	}
	return ours;
}

bool shim_wait_is_true(struct shim_conn *conn, int fd)
{
	shmipc_sender_serve(&conn->tx, fd, shim_conn_private(conn));
	return shmipc_receiver_readable(&conn->rx, fd, shim_conn_private(conn));
}

__attribute__((hot)) uint32_t shim_wait_ask(struct shim_conn *conn, int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };
	bool alone = shim_conn_private(conn);

	shmipc_ending_look_behind_shutdown(&conn->tx, fd);
	if (conn->is_unix || shmipc_sender_unread(&conn->tx) == 0)
		return 0;
	if (shmipc_sender_must_ask(&conn->tx) && shmipc_sender_lock(&conn->tx, fd, alone)) {
		shmipc_sender_ask(&conn->tx, fd);
		shmipc_lock_drop(&conn->tx.lock, alone);
	}
	return sys_poll(&real, 1, 0) > 0 ? (uint32_t)real.revents : 0;
}

__attribute__((hot)) uint32_t shim_wait_hangup(struct shim_conn *conn, uint32_t asked,
					       uint32_t told)
{
	struct shmipc_receiver *r = &conn->rx;
	uint32_t signs = told & SHIM_POLL_HANGUP;

	if (signs == 0 && !r->eof && !r->pending_error)
		return told;
	atomic_store_explicit(&r->doubtful, true, memory_order_relaxed);
	if (r->eof)
		signs |= POLLRDHUP;
	if (r->pending_error && !shmipc_receiver_reset_told(r))
		signs |= POLLERR;
	switch (shmipc_ending_of(&conn->tx, (int)signs)) {
	case SHMIPC_ENDING_ORDERLY:
		if (shmipc_ending_refuses_bytes(&conn->tx)) {
			/* it is of the peer's bytes, which came too late */
			told |= signs & POLLERR;
			break;
		}
		if (conn->tx.answered)
			break;
		if (conn->tx.swallowed) { /* its answer: a reset, which breaks the pipe */
			told |= POLLHUP | (conn->tx.pipe_told ? 0 : POLLERR);
			break;
		}
		/* a wait for nothing else would end in vain, again and again */
		if (asked & SHIM_POLL_ANSWERED)
			told &= ~(uint32_t)POLLERR;
		if (asked & SHIM_POLL_ANSWERED && !conn->is_unix && !conn->tx.shut)
			told &= ~(uint32_t)POLLHUP;
		break;
	case SHMIPC_ENDING_LEFT_BYTES:
		told |= POLLHUP;
		if (shmipc_ending_is_late(&conn->tx) ? !conn->tx.pipe_told
						     : !shmipc_receiver_reset_told(r))
			told |= POLLERR;
		break;
	case SHMIPC_ENDING_KERNEL:
		if (signs & POLLERR)
			told |= POLLERR;
	}
	return told;
}

static void pin_all(struct shim_poll_wait *wait)
{
	wait->pins = true;
	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = wait->fds[i].fd >= 0 ? shim_conn_of(wait->fds[i].fd)
							      : NULL;

		wait->places[i].pinned = conn && shim_pin_for_use(conn, wait->fds[i].fd) ? conn
											 : NULL;
	}
}

/* While spinning: the other descriptors of the call have their turn with the kernel. */
static bool anything(void *argument)
{
	struct shim_poll_wait *wait = argument;

	if (shim_poll_hint(wait))
		return true;
	return !wait->by_memory && wait->count > 1 && ++wait->looks % LOOKS_PER_KERNEL == 0 &&
	       sys_poll(wait->fds, wait->count, 0) > 0;
}

/* ---- one look ---- */

/* A wait for bytes is told of an end as of bytes; one for neither is not told. */
short shim_poll_hangup(struct shim_conn *conn, const struct pollfd *entry)
{
	uint32_t told = (uint16_t)entry->revents;

	if ((told & SHIM_POLL_IN) || !(entry->events & SHIM_POLL_IN))
		told |= shim_wait_ask(conn, entry->fd);
	told = shim_wait_hangup(conn, SHIM_POLL_ANSWERED, told);
	return (short)(told & ((uint16_t)entry->events | (SHIM_POLL_HANGUP & ~POLLRDHUP)));
}

/* An epoll set: what the kernel tells of it may be a token, or of our own making. */
static void correct_set(struct pollfd *entry)
{
	if ((entry->revents & SHIM_POLL_IN) && shim_set_clear(entry->fd))
		sys_poll(entry, 1, 0);
}

/* The kernel's answer, corrected by what the rings hold. */
static int correct(const struct shim_poll_wait *wait)
{
	int ready = 0;

	for (nfds_t i = 0; i < wait->count; i++) {
		struct pollfd *entry = &wait->fds[i];
		struct shim_conn *conn = shim_poll_receiver(wait, i);

		/* bytes it will be told of again, as long as they are there */
		if (conn && (entry->revents & SHIM_POLL_IN) &&
		    (entry->revents & ~(SHIM_POLL_IN | SHIM_POLL_OUT)))
			shmipc_receiver_was_reported(&conn->rx);
		if (conn && !(entry->revents & SHIM_POLL_HANGUP)) {
			if (shmipc_receiver_hint(&conn->rx))
				entry->revents |= (short)(entry->events & SHIM_POLL_IN);
			else if ((entry->revents & SHIM_POLL_IN) &&
				 !shim_wait_is_true(conn, entry->fd))
				entry->revents &= (short)~SHIM_POLL_IN;
		} else if (conn && shmipc_receiver_hint(&conn->rx)) {
			entry->revents |= (short)(entry->events & SHIM_POLL_IN);
		}
		conn = shim_poll_conn(wait, i);
		if (conn && shim_conn_is_attached(conn))
			entry->revents = shim_poll_hangup(conn, entry);
		else if (!conn)
			correct_set(entry);
		ready += entry->revents != 0;
	}
	return ready;
}

/* This wait looks at them itself, before it sleeps and after: no tokens are needed while it is
 * awake. */
static void note_waiting(const struct shim_poll_wait *wait)
{
	bool asked = shmipc_relaxing_is_allowed();

	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = shim_poll_receiver(wait, i);

		if (!conn || !conn->rx.ready || conn->rx.foreign ||
		    atomic_load(&conn->rx.watchers) != 0)
			continue;
		atomic_store_explicit(&conn->rx.polled, true, memory_order_relaxed);
		if (!asked)
			shmipc_relaxing_settle();
		asked = true;
		shmipc_receiver_relax(&conn->rx);
	}
}

/*
 * The whole answer from memory: how many are ready, or -EAGAIN where the kernel must be asked.
 *
 * Only if every descriptor of the call is one of whose bytes, room and ends memory knows all; ends
 * of a peer that was killed it has seen a moment ago, if `recently` (receiver_look.c).  "Nothing is
 * ready" is the kernel's to say.
 */
static int ask_memory(const struct shim_poll_wait *wait, bool recently)
{
	int ready = 0;

	for (nfds_t i = 0; i < wait->count; i++) {
		struct pollfd *entry = &wait->fds[i];
		struct shim_conn *conn = shim_poll_conn(wait, i);
		int told = 0;

		if (entry->fd >= 0) {
			if (!conn || !shim_conn_is_attached(conn) ||
			    (entry->events &
			     ~(SHIM_POLL_ANSWERED | SHIM_POLL_URGENT | POLLWRBAND)) ||
			    !shmipc_receiver_is_memorys(&conn->rx) ||
			    (recently && !shmipc_receiver_was_seen(&conn->rx)) ||
			    !shmipc_sender_has_room(&conn->tx))
				return -EAGAIN;
			told = (shmipc_receiver_hint(&conn->rx) ? SHIM_POLL_IN : 0) |
			       SHIM_POLL_OUT | (conn->is_unix ? POLLWRBAND : 0);
		}
		entry->revents = (short)(entry->events & told);
		ready += entry->revents != 0;
	}
	return ready;
}

/* The kernel has been asked of all of them. */
static void note_look(const struct shim_poll_wait *wait, uint64_t ticks)
{
	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = shim_poll_receiver(wait, i);

		if (conn && conn->rx.ready)
			shmipc_receiver_was_looked_at(&conn->rx, ticks);
	}
}

static void undo_look(void *argument)
{
	const struct shim_poll_wait *wait = argument;

	if (wait->pins)
		shim_poll_unpin(wait);
}

/* Under another mask a handler may run in the call, and must run before it returns. */
static __attribute__((hot)) int look(struct shim_poll_wait *wait, const sigset_t *mask)
{
	struct timespec now = { 0, 0 };
	int n = mask ? -EAGAIN : ask_memory(wait, true);
	uint64_t began;

	if (n > 0)
		return n;
	began = shmipc_ticks();
	n = mask ? (int)SHMIPC_SLEEP(undo_look, wait, SYS_ppoll, wait->fds, wait->count, &now, mask,
				     8, 0)
		 : sys_poll(wait->fds, wait->count, 0);
	if (n < 0)
		return n;
	note_look(wait, began); /* before what it reports */
	return correct(wait);
}

/* ---- spinning: the budget and the credit of the first connection stand for all ---- */

static bool may_spin(const struct shim_conn *conn)
{
	return conn && (atomic_load_explicit(&conn->rx.phase, memory_order_relaxed) & 1);
}

/* Of several peers one may answer while the kernel is asked, or at a glance. */
static bool has_several(const struct shim_poll_wait *wait)
{
	int ours = 0;

	for (nfds_t i = 0; i < wait->count && ours < 2; i++)
		ours += shim_poll_receiver(wait, i) != NULL;
	return ours > 1;
}

/* One connection, for its bytes.  Room to write is there most often, and another descriptor may
 * always be ready. */
static const struct shim_conn *only_one(const struct shim_poll_wait *wait)
{
	const struct shim_conn *only = NULL;

	for (nfds_t i = 0; i < wait->count; i++) {
		const struct shim_conn *conn = shim_poll_receiver(wait, i);

		if (wait->fds[i].fd < 0)
			continue;
		if (only || !conn || (wait->fds[i].events & SHIM_POLL_OUT))
			return NULL;
		only = conn;
	}
	return only;
}

/* Memory has nothing, and no look at it comes before the sleep, which asks the kernel itself. */
static bool sleeps_at_once(const struct shim_poll_wait *wait)
{
	const struct shim_conn *conn = only_one(wait);

	return conn && conn->rx.ready &&
	       (!may_spin(conn) ||
		shmipc_spin_is_skipped(&conn->rx.spin, atomic_load(&conn->rx.tx->cpu))) &&
	       !shim_poll_hint(wait);
}

/* None has a ring yet: a wait that is only counted, and takes one call as without us. */
static bool is_the_kernels(const struct shim_poll_wait *wait)
{
	for (nfds_t i = 0; i < wait->count; i++) {
		const struct shim_conn *conn = shim_poll_conn(wait, i);

		if (conn && shim_conn_is_attached(conn))
			return false;
	}
	return true;
}

/* A spin needs no more than memory, and a sleep asks the kernel. */
static bool needs_no_question(const struct shim_poll_wait *wait, const sigset_t *mask)
{
	return sleeps_at_once(wait) || is_the_kernels(wait) ||
	       (!mask && ask_memory(wait, false) == 0);
}

/* Behind a sleep in which nothing came. */
static int look_again(struct shim_poll_wait *wait, const sigset_t *mask)
{
	return is_the_kernels(wait) ? 0 : look(wait, mask);
}

static bool spin(struct shim_poll_wait *wait)
{
	struct shim_conn *conn = shim_poll_first(wait);
	enum shmipc_spin_result result;

	if (!may_spin(conn))
		return shim_poll_hint(wait);
	wait->by_memory = ask_memory(wait, false) >= 0;
	result = shmipc_spin_until(&conn->rx.spin, anything, wait, atomic_load(&conn->rx.tx->cpu));
	if (result == SHMIPC_SPIN_WON)
		shmipc_count(&conn->rx.count->spins_won, 1);
	else if (result == SHMIPC_SPIN_LOST)
		shmipc_count(&conn->rx.count->spins_lost, 1);
	else if (has_several(wait))
		result = shmipc_spin_glance(&conn->rx.glance, anything, wait);
	return result == SHMIPC_SPIN_WON;
}

/* ---- waiting ---- */

/* A signal has ended the wait before anybody was asked. */
static int look_after_all(struct shim_poll_wait *wait, const sigset_t *mask)
{
	int n = look(wait, mask);

	return n ? n : -EINTR;
}

static int wait_for(struct shim_poll_wait *wait, uint64_t deadline_ns, const sigset_t *mask)
{
	bool asked;
	int n = 0;

	note_waiting(wait);
	asked = shim_wait_is_over(deadline_ns) || !needs_no_question(wait, mask);
	if (asked)
		n = look(wait, mask);
	if (n != 0)
		return n;
	/* once in any case, however late it is by now */
	for (; !asked || !shim_wait_is_over(deadline_ns); asked = true) {
		if (!wait->vain && spin(wait)) {
			n = look(wait, mask);
			wait->vain = n == 0;
		} else {
			n = shim_poll_sleep(wait, deadline_ns, mask);
			if (n == -EINTR && shmipc_sleep_was_no_call())
				return look_after_all(wait, mask);
			if (n < 0)
				return n;
			wait->vain = n > 0;
			n = n > 0 ? correct(wait) : look_again(wait, mask);
		}
		if (n != 0)
			return n;
	}
	return 0;
}

static int wait_with_places(struct shim_poll_wait *wait, uint64_t deadline_ns, const sigset_t *mask)
{
	const bool pins = shim_pins_wanted();
	int n;

	if (pins)
		pthread_testcancel();
	shmipc_postpone_begin();
	if (pins)
		pin_all(wait);
	n = wait_for(wait, deadline_ns, mask);
	if (pins)
		shim_poll_unpin(wait);
	shmipc_postpone_end();
	return n;
}

/* The places go also if the wait is left by a jump or a cancellation, after what is in them. */
static int wait_for_many(struct shim_poll_wait *wait, uint64_t deadline_ns, const sigset_t *mask)
{
	struct _pthread_cleanup_buffer buffer;
	int n;

	shmipc_postpone_begin(); /* none jumps away in between */
	wait->places = shim_room_take(wait->count * sizeof(*wait->places));
	_pthread_cleanup_push(&buffer, shim_room_give, wait->places);
	shmipc_postpone_end();
	if (!wait->places) {
		_pthread_cleanup_pop(&buffer, 0);
		return -ENOMEM;
	}
	n = wait_with_places(wait, deadline_ns, mask);
	_pthread_cleanup_pop(&buffer, 1);
	return n;
}

int shim_wait_poll(struct pollfd *fds, nfds_t count, uint64_t deadline_ns, const sigset_t *mask)
{
	struct shim_poll_wait wait;

	wait.fds = fds;
	wait.count = count;
	wait.looks = 0;
	wait.armed_count = 0;
	wait.vain = wait.pins = wait.by_memory = false;
	wait.places = wait.few;
	return count <= SHIM_POLL_FEW ? wait_with_places(&wait, deadline_ns, mask)
				      : wait_for_many(&wait, deadline_ns, mask);
}
