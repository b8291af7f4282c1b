/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/worth.h"

#include "core/cpu.h"
#include "preload/config.h"

enum {
	SCORES_PER_DOUBLING = 2,
	SCORE_MAX = 5 * SCORES_PER_DOUBLING,
	SCORES_PER_SUCCESS = 4,
	/* then it has earned its ring: by bytes, or by messages, most of which spare both ends a
	 * sleep */
	EARNED_BYTES = 512 * 1024,
	EARNED_PER_MESSAGE = 16 * 1024,
	/* one that would have for sure: behind the threshold */
	MISSED_TRIPS = 32,
	MISSED_BYTES = 8 * 1024 * 1024,
	/* both ends ask, and what a round trip by the ring spares both together is about this */
	ASKING_CHEAP_US = 50,
	ASKING_US_PER_TRIP = 4,
	ASKING_US_PER_64_KIB = 8,
	/* fewer round trips than those for which the other end waits (upgrade.c) */
	ASKING_MAX_US = 4000,
};

/* Of Unix sockets, as of late; a thread that was put aside in the middle is not believed at once.
 * A lost update is a longer memory. */
static _Atomic uint32_t asking_us;

void shim_worth_asking_took(uint64_t ticks)
{
	uint64_t us = ticks / shmipc_ticks_per_us();
	uint32_t before = atomic_load_explicit(&asking_us, memory_order_relaxed);
	uint32_t most = 4 * before + ASKING_CHEAP_US;

	us = us > most ? most : us;
	us = us > ASKING_MAX_US ? ASKING_MAX_US : us;
	atomic_store_explicit(&asking_us, (before + (uint32_t)us) / 2, memory_order_relaxed);
}

/* Has it carried what pays for the asking? */
static bool pays_for_asking(const struct shim_conn *conn)
{
	uint32_t us = atomic_load_explicit(&asking_us, memory_order_relaxed);

	if (!conn->is_unix || us <= ASKING_CHEAP_US || !shim_config.upgrade_learns)
		return true;
	return atomic_load_explicit(&conn->trips, memory_order_relaxed) >=
		       us / ASKING_US_PER_TRIP ||
	       atomic_load_explicit(&conn->traffic, memory_order_relaxed) >=
		       ((uint64_t)us << 16) / ASKING_US_PER_64_KIB;
}

/* By role and family.  A lost update between threads is one experience less. */
static _Atomic int scores[4];

static _Atomic int *score_of(const struct shim_conn *conn)
{
	return &scores[(conn->is_server ? 2 : 0) + (conn->is_unix ? 1 : 0)];
}

static void note(const struct shim_conn *conn, int by)
{
	_Atomic int *score = score_of(conn);
	int now;

	if (!shim_config.upgrade_learns)
		return;
	now = atomic_load_explicit(score, memory_order_relaxed) + by;
	now = now < 0 ? 0 : now > SCORE_MAX ? SCORE_MAX : now;
	atomic_store_explicit(score, now, memory_order_relaxed);
}

__attribute__((hot)) bool shim_worth_it(const struct shim_conn *conn)
{
	int score = atomic_load_explicit(score_of(conn), memory_order_relaxed);
	unsigned int doublings = (unsigned int)score / SCORES_PER_DOUBLING;

	return (atomic_load_explicit(&conn->trips, memory_order_relaxed) >=
			shim_config.upgrade_trips << doublings ||
		atomic_load_explicit(&conn->traffic, memory_order_relaxed) >=
			shim_config.upgrade_bytes << doublings) &&
	       pays_for_asking(conn);
}

__attribute__((hot)) void shim_worth_missed(const struct shim_conn *conn)
{
	if (atomic_load_explicit(score_of(conn), memory_order_relaxed) == 0)
		return;
	if (atomic_load_explicit(&conn->trips, memory_order_relaxed) >=
		    shim_config.upgrade_trips + MISSED_TRIPS ||
	    atomic_load_explicit(&conn->traffic, memory_order_relaxed) >=
		    shim_config.upgrade_bytes + MISSED_BYTES)
		note(conn, -1);
}

void shim_worth_failed(const struct shim_conn *conn)
{
	note(conn, 1);
}

void shim_worth_ended(const struct shim_conn *conn)
{
	uint64_t bytes = conn->tx.tail + atomic_load(&conn->rx.head);
	uint64_t messages = atomic_load(&conn->tx.count->ring_messages) +
			    atomic_load(&conn->rx.count->ring_messages);

	bytes += messages * EARNED_PER_MESSAGE;
	note(conn, bytes >= EARNED_BYTES ? -SCORES_PER_SUCCESS : 1);
}
