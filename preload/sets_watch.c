/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever asks the kernel of a set asks of all its sockets.
 *
 * A peer that is killed says nothing in shared memory, so each direction looks at its socket now
 * and then (core/sender.c, core/receiver_socket.c).  With many connections, each used once in a
 * while, that would be a system call for each send.  But an event loop asks the kernel of all of
 * them all the time, and an end that is there is an event of its registration: level-triggered, in
 * each answer, as long as it is there; edge-triggered, in one.  So the set writes down when the
 * kernel last had room to tell all that it knew, and a connection of which it told nothing was
 * alive then (shmipc_sender_watch()).
 *
 * Only for a registration that the kernel must report: for bytes or RDHUP, which an end of either
 * kind is; not exclusive, not a one-shot, which may be spent; in a set that waits of ours alone
 * look at; of a connection that this process alone holds, whose record no other one reads.  The
 * kernel knows it by the time it is asked, because what was put off is told first, under the same
 * lock under which the time is taken.
 */
#include "core/cpu.h"
#include "preload/sets_parts.h"

static bool must_be_told(const struct shim_set *set, const struct shim_registration *r)
{
	return !set->strict && !r->conn->rx.foreign && !r->stray && !r->ghost && !r->disabled &&
	       (r->event.events & (SHIM_SET_IN_EVENTS | EPOLLRDHUP)) &&
	       !(r->event.events & (EPOLLONESHOT | EPOLLEXCLUSIVE));
}

static bool is_watched(const struct shim_set *set, const struct shim_registration *r)
{
	return atomic_load(&r->conn->tx.watch) == &set->told_ticks;
}

__attribute__((hot)) void shim_set_watch(struct shim_set *set, const struct shim_registration *r)
{
	/* one that never grows up costs nothing here; attaching begins with no watch */
	if (!shim_conn_is_attached(r->conn))
		return;
	if (!must_be_told(set, r))
		shim_set_unwatch(set, r);
	else if (!is_watched(set, r) || (r->event.events & (uint32_t)EPOLLET))
		shmipc_sender_watch(&r->conn->tx, &set->told_ticks, shmipc_ticks());
}

__attribute__((hot)) void shim_set_watch_late(struct shim_set *set,
					      const struct shim_registration *r)
{
	if (!shim_conn_is_attached(r->conn) || atomic_load(&r->conn->tx.watch) ||
	    !must_be_told(set, r))
		return;
	shmipc_sender_watch(&r->conn->tx, &set->told_ticks, shmipc_ticks());
	/* its edge may have been told long ago */
	if (r->event.events & (uint32_t)EPOLLET)
		shmipc_sender_watch_from(&r->conn->tx, shmipc_ticks(), true);
}

__attribute__((hot)) void shim_set_unwatch(const struct shim_set *set,
					   const struct shim_registration *r)
{
	if (shim_conn_is_attached(r->conn) && is_watched(set, r))
		shmipc_sender_watch(&r->conn->tx, NULL, 0);
}

__attribute__((hot)) void shim_set_watch_told(const struct shim_set *set,
					      const struct shim_registration *r)
{
	if (shim_conn_is_attached(r->conn) && is_watched(set, r))
		shmipc_sender_watch_from(&r->conn->tx, shmipc_ticks(),
					 r->event.events & (uint32_t)EPOLLET);
}
