/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which memory of the ring a sender uses: the lead as long as messages are small and are read as
 * they come, the loop where that does not do; and when the loop's memory goes back to the kernel.
 *
 * All that moves `base` is here, and moves it only when the consumer has taken every byte: it
 * cannot use the new base early, because it reads base only after a tail beyond what it has taken,
 * and the next tail is published after base.
 */
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/crowd.h"
#include "core/pages.h"
#include "core/sender_parts.h"
#include "core/sys.h"

enum {
	RESTART_BYTES = 2 * 1024,      /* how far a conversation in the loop strays */
	RESTART_MAX_BYTES = 16 * 1024, /* while the consumer is always behind, it is looked at more
					  rarely */
	CROWDED_MAX = 64,	       /* a look costs a cache line of the consumer's */
	MUCH_OF_LEAD = 8,	       /* an eighth of it */
	FRESH_BYTES = 128 * 1024,      /* of memory for which nothing need have been carried */
	FRESH_PART = 64,	       /* so much of what has been carried may be fresh memory */
	AHEAD_MAX_BYTES = 128 * 1024,  /* the most that is asked for ahead */
	BACKLOG_BYTES = 256 * 1024,    /* more is not read in time */
	DRAIN_US = 500,		       /* for a consumer that reads */
	STALL_US = 60,		       /* one that does not */
};

static _Atomic uint64_t grown_at;

__attribute__((hot)) uint64_t shmipc_sender_grown_at(void)
{
	return atomic_load_explicit(&grown_at, memory_order_relaxed);
}

void shmipc_sender_begin(struct shmipc_sender *s)
{
	s->restart_step = RESTART_BYTES;
	s->restart_at = s->tail + s->ring.lead_bytes;
	s->crowded = 0;
	s->spread = 0;
	s->warm_to = (uint32_t)s->ring.lead_bytes;
}

/* The loop is entered at its first byte, so what is warm is its beginning.  A stream is given some
 * pages more than it needs now, by what it has carried. */
void shmipc_sender_ask_for_pages(struct shmipc_sender *s, uint64_t end_offset)
{
	const uint64_t carried = s->tail / FRESH_PART;
	uint64_t from = s->warm_to - s->ring.lead_bytes, to = end_offset - s->ring.lead_bytes;

	if (s->warm_to == UINT32_MAX)
		return;
	to += carried < AHEAD_MAX_BYTES ? carried : AHEAD_MAX_BYTES;
	to = (to + SHMIPC_PAGE_BYTES - 1) & ~(uint64_t)(SHMIPC_PAGE_BYTES - 1);
	if (to >= s->ring.ring_bytes) {
		to = s->ring.ring_bytes;
		s->warm_to = UINT32_MAX; /* also what comes behind the end */
	} else {
		s->warm_to = (uint32_t)(to + s->ring.lead_bytes);
	}
	shmipc_pages_for_writing(s->ring.loop + from, (size_t)(to - from));
}

static void move_base(struct shmipc_sender *s, uint64_t base)
{
	s->base = base;
	/* published by the next store of tail */
	atomic_store_explicit(&s->tx->base, base, memory_order_relaxed);
}

static uint64_t quiet_ticks(void)
{
	return SHMIPC_SENDER_QUIET_MS * 1000 * shmipc_ticks_per_us();
}

/* The word that all senders share is written seldom: it would be pulled from core to core. */
static void note_growth(struct shmipc_sender *s)
{
	uint64_t now = shmipc_ticks();

	if (!s->grown) {
		s->grown = true;
		atomic_fetch_or(&s->tx->flags, SHMIPC_TX_GROWN);
	}
	s->grown_ticks = now;
	if (now - shmipc_sender_grown_at() > quiet_ticks() / 8)
		atomic_store_explicit(&grown_at, now, memory_order_relaxed);
}

/* A conversation that has to look for every few messages pays more for it than a page is worth. */
static bool suits_lead(struct shmipc_sender *s, size_t bytes)
{
	if (bytes > s->ring.lead_bytes)
		return false;
	if (bytes <= s->ring.lead_bytes / MUCH_OF_LEAD)
		s->crowded = 0;
	else if (s->crowded < CROWDED_MAX)
		s->crowded++;
	return s->crowded < CROWDED_MAX;
}

static bool is_quiet(const struct shmipc_sender *s)
{
	return shmipc_ticks() - s->grown_ticks > quiet_ticks();
}

/* The ring is empty and base at the tail: nobody reads what lies in the loop, and only we write. */
static __attribute__((hot)) void give_back(struct shmipc_sender *s)
{
	sys_madvise(s->ring.loop, s->ring.ring_bytes, MADV_REMOVE);
	s->warm_to = (uint32_t)s->ring.lead_bytes;
	/* seen with the next tail */
	atomic_fetch_add(&s->tx->flags, SHMIPC_TX_GIVEN_BACK);
	atomic_fetch_and(&s->tx->flags, ~(uint32_t)SHMIPC_TX_GROWN);
	s->grown = false;
}

/*
 * A page that nobody has touched yet costs both ends a fault, which is more than its bytes cost,
 * several times so on some virtual machines.  A stream that runs a little ahead of its consumer
 * would take all of the loop for a few MiB that 100 KiB could carry.  So it may spread with what it
 * has carried, and where it would go further than that it lets a consumer that reads catch up: then
 * the ring is empty, and begins again at its beginning.  One that does not read is not waited for.
 */
static bool is_spread_too_far(const struct shmipc_sender *s)
{
	const uint64_t spread = s->tail - s->base;

	return spread >= FRESH_BYTES + s->tail / FRESH_PART && spread < s->ring.ring_bytes &&
	       s->tail - s->head <= BACKLOG_BYTES &&
	       (uint16_t)(s->tail / FRESH_BYTES) != s->spread && shmipc_spin_budget() > 0;
}

static bool is_drained(struct shmipc_sender *s)
{
	const uint64_t rate = shmipc_ticks_per_us(), start = shmipc_ticks();
	uint64_t head = shmipc_sender_load_head(s), moved = start, now = start;

	if (atomic_load_explicit(&s->rx->cpu, memory_order_relaxed) == s->cpu) {
		/* it cannot read as long as we look */
		if (shmipc_crowd_may_yield(&shmipc_crowd))
			sys_sched_yield();
		return shmipc_sender_load_head(s) == s->tail;
	}
	while (head != s->tail && now - moved < STALL_US * rate && now - start < DRAIN_US * rate) {
		uint64_t before = head;

		shmipc_cpu_pause();
		head = shmipc_sender_load_head(s);
		now = shmipc_ticks();
		if (head != before)
			moved = now;
	}
	return head == s->tail;
}

static bool is_empty(struct shmipc_sender *s)
{
	if (shmipc_sender_load_head(s) == s->tail)
		return true;
	if (!is_spread_too_far(s))
		return false;
	s->spread = (uint16_t)(s->tail / FRESH_BYTES);
	return is_drained(s);
}

void shmipc_sender_restart(struct shmipc_sender *s, size_t bytes)
{
	if (!is_empty(s)) {
		if (s->restart_step < RESTART_MAX_BYTES)
			s->restart_step *= 2;
		s->restart_at = s->tail + s->restart_step;
	} else if (suits_lead(s, bytes)) {
		s->restart_step = RESTART_BYTES;
		s->restart_at = s->tail + s->ring.lead_bytes;
		move_base(s, s->tail);
		if (s->grown && is_quiet(s))
			give_back(s);
		return;
	} else {
		s->restart_step = RESTART_BYTES;
		s->restart_at = s->tail + RESTART_BYTES;
		/* the next byte is the first of the loop */
		move_base(s, s->tail > s->ring.lead_bytes ? s->tail - s->ring.lead_bytes : s->tail);
	}
	note_growth(s);
}

bool shmipc_sender_shrink(struct shmipc_sender *s)
{
	bool done;

	if (!s->grown)
		return true;
	if (!shmipc_lock_try(&s->lock))
		return false;
	done = !s->grown || !s->attached || s->broken;
	if (!done && is_quiet(s) && shmipc_sender_load_head(s) == s->tail) {
		move_base(s, s->tail);
		shmipc_sender_begin(s);
		give_back(s);
		done = true;
	}
	shmipc_lock_drop(&s->lock, false);
	return done;
}
