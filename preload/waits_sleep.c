/* SPDX-License-Identifier: Apache-2.0 */
/* Sleeping in a poll of which some descriptors are accelerated. */
#include "core/postpone.h"
#include "core/relaxing.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/session.h"
#include "preload/shrink.h"
#include "preload/waits_parts.h"

enum { SILENT_NAP_NS = 50 * 1000 * 1000 };

static bool is_on_ring(const struct shim_conn *conn)
{
	return shim_conn_is_attached(conn) && atomic_load(&conn->rx.ready);
}

/* It may get a ring while we sleep.  True: it has none yet, and knows of us. */
static bool is_early(struct shim_conn *conn)
{
	if (shmipc_single_threaded())
		return false;
	shmipc_receiver_wait_early(&conn->rx, true);
	if (!is_on_ring(conn))
		return true;
	shmipc_receiver_wait_early(&conn->rx, false);
	return false;
}

static void arm_all(struct shim_poll_wait *wait)
{
	wait->armed_count = 0;
	wait->process = shmipc_process_generation();
	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = shim_poll_conn(wait, i);
		struct shim_poll_place *place = &wait->places[wait->armed_count];

		if (!conn || !(wait->fds[i].events & SHIM_POLL_IN))
			continue;
		place->early = !is_on_ring(conn) && is_early(conn);
		if (!place->early && !is_on_ring(conn))
			continue;
		place->armed = conn;
		wait->armed_count++;
		if (place->early)
			continue;
		/* the application waits here, in our own call */
		if (!conn->rx.foreign && atomic_load(&conn->rx.watchers) == 0)
			shmipc_receiver_relax(&conn->rx);
		shmipc_receiver_arm(&conn->rx);
	}
}

static void disarm_all(const struct shim_poll_wait *wait)
{
	if (wait->process != shmipc_process_generation())
		return; /* a handler has forked: it is the parent that sleeps there */
	for (nfds_t i = 0; i < wait->armed_count; i++) {
		struct shmipc_receiver *r = &wait->places[i].armed->rx;

		if (wait->places[i].early)
			shmipc_receiver_wait_early(r, false);
		else
			shmipc_receiver_disarm(r);
	}
}

/* Tokens that were sent for bytes read meanwhile would end the sleep at once.  True: the sleep must
 * be short. */
static bool drop_stale_tokens(const struct shim_poll_wait *wait)
{
	bool owing = false;

	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = shim_poll_receiver(wait, i);

		if (!conn || !conn->rx.ready)
			continue;
		shmipc_sender_serve(&conn->tx, wait->fds[i].fd, shim_conn_private(conn));
		if (shmipc_receiver_has_tokens(&conn->rx))
			shmipc_receiver_readable(&conn->rx, wait->fds[i].fd,
						 shim_conn_private(conn));
		owing |= shmipc_sender_owes(&conn->tx);
	}
	return owing;
}

/* A reset that is none to the application ends every sleep at once.  Such a number is left out; not
 * for long, because another thread may end our own direction, which is news. */
static uint64_t leave_out_silent(struct shim_poll_wait *wait, uint64_t deadline_ns)
{
	bool any = false;

	for (nfds_t i = 0; i < wait->count; i++) {
		struct pollfd *entry = &wait->fds[i];
		struct shim_conn *conn = shim_poll_conn(wait, i);
		bool *silent = &wait->places[i].silent;
		struct pollfd real = { .fd = entry->fd, .events = entry->events };

		*silent = wait->vain && conn && shim_conn_is_attached(conn) &&
			  !(entry->events & SHIM_POLL_IN) && sys_poll(&real, 1, 0) > 0 &&
			  shim_poll_hangup(conn, &real) == 0;
		if (*silent)
			entry->fd = ~entry->fd;
		any |= *silent;
	}
	wait->vain = any;
	return any ? shim_wait_nap(deadline_ns, SILENT_NAP_NS) : deadline_ns;
}

static void take_in_silent(const struct shim_poll_wait *wait)
{
	for (nfds_t i = 0; i < wait->count; i++)
		if (wait->places[i].silent)
			wait->fds[i].fd = ~wait->fds[i].fd;
}

/* When to wake up if nothing comes. */
static uint64_t shrink(const struct shim_poll_wait *wait, uint64_t deadline_ns)
{
	bool left = false;

	deadline_ns = shim_session_cool(deadline_ns);
	if (!shim_shrink_is_recent())
		return deadline_ns;
	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = shim_poll_conn(wait, i);

		if (conn && shim_conn_is_attached(conn))
			left |= !shmipc_sender_shrink(&conn->tx);
	}
	return left ? shim_shrink_deadline(deadline_ns) : deadline_ns;
}

/* Cancelled. */
static void undo_sleep(void *argument)
{
	const struct shim_poll_wait *wait = argument;

	take_in_silent(wait);
	disarm_all(wait);
	if (wait->pins)
		shim_poll_unpin(wait);
}

int shim_poll_sleep(struct shim_poll_wait *wait, uint64_t deadline_ns, const sigset_t *mask)
{
	struct timespec left;
	int n = 0;

	if (shim_poll_first(wait))
		shmipc_relaxing_settle();
	shmipc_postpone_begin();
	arm_all(wait);
	if (!shim_poll_hint(wait)) {
		if (drop_stale_tokens(wait))
			deadline_ns = shim_wait_soon(deadline_ns);
		if (!shim_poll_hint(wait)) {
			struct shim_conn *conn = shim_poll_first(wait);

			if (conn)
				shmipc_count(&conn->rx.count->waits, 1);
			deadline_ns = leave_out_silent(wait, shrink(wait, deadline_ns));
			left = shim_wait_left(deadline_ns);
			n = (int)SHMIPC_SLEEP(undo_sleep, wait, SYS_ppoll, wait->fds, wait->count,
					      deadline_ns == SHIM_WAIT_FOR_EVER ? NULL : &left,
					      mask, 8, 0);
			take_in_silent(wait);
		}
	}
	disarm_all(wait);
	shmipc_postpone_end();
	return n;
}
