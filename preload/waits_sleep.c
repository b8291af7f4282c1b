/* SPDX-License-Identifier: Apache-2.0 */
/* Sleeping in a poll of which some descriptors are accelerated. */
#include "core/postpone.h"
#include "core/relaxing.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "preload/session.h"
#include "preload/shrink.h"
#include "preload/waits_parts.h"

enum { SILENT_NAP_NS = 50 * 1000 * 1000 };

static void arm_all(struct shim_poll_wait *wait)
{
	wait->armed_count = 0;
	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = shim_poll_receiver(wait, i);

		if (!conn || !conn->rx.ready)
			continue;
		if (wait->armed_count == SHIM_POLL_ARMED_MAX) {
			shmipc_receiver_strict(&conn->rx, true);
			continue;
		}
		/* the application waits here, in our own call */
		if (!conn->rx.foreign && atomic_load(&conn->rx.watchers) == 0)
			shmipc_receiver_relax(&conn->rx);
		shmipc_receiver_arm(&conn->rx);
		wait->armed[wait->armed_count++] = conn;
	}
}

static void disarm_all(const struct shim_poll_wait *wait)
{
	for (int i = 0; i < wait->armed_count; i++)
		shmipc_receiver_disarm(&wait->armed[i]->rx);
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

	for (nfds_t i = 0; i < wait->count && i < SHIM_POLL_ARMED_MAX; i++) {
		struct pollfd *entry = &wait->fds[i];
		struct shim_conn *conn = shim_poll_conn(wait, i);
		struct pollfd real = { .fd = entry->fd, .events = entry->events };

		wait->silent[i] = wait->vain && conn && shim_conn_is_attached(conn) &&
				  !(entry->events & SHIM_POLL_IN) && sys_poll(&real, 1, 0) > 0 &&
				  shim_poll_hangup(conn, &real) == 0;
		if (wait->silent[i])
			entry->fd = ~entry->fd;
		any |= wait->silent[i];
	}
	wait->vain = any;
	return any ? shim_wait_nap(deadline_ns, SILENT_NAP_NS) : deadline_ns;
}

static void take_in_silent(const struct shim_poll_wait *wait)
{
	for (nfds_t i = 0; i < wait->count && i < SHIM_POLL_ARMED_MAX; i++)
		if (wait->silent[i])
			wait->fds[i].fd = ~wait->fds[i].fd;
}

/* When to wake up if nothing comes. */
static uint64_t shrink(const struct shim_poll_wait *wait, uint64_t deadline_ns)
{
	/* what is not pinned may end meanwhile, and its stream be another connection's */
	const nfds_t count = wait->pins && wait->count > SHIM_POLL_ARMED_MAX ? SHIM_POLL_ARMED_MAX
									     : wait->count;
	bool left = false;

	deadline_ns = shim_session_cool(deadline_ns);
	if (!shim_shrink_is_recent())
		return deadline_ns;
	for (nfds_t i = 0; i < count; i++) {
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
