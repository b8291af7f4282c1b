/* SPDX-License-Identifier: Apache-2.0 */
#include "core/crowd.h"

#include "core/cpu.h"

struct shmipc_crowd shmipc_crowd;

static uint32_t get(const _Atomic uint32_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void set(_Atomic uint32_t *word, uint32_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

/* The clock's slot, which lasts until crowd->until. */
static uint64_t slot_at(struct shmipc_crowd *crowd, uint64_t now, uint64_t ns)
{
	const uint64_t slot_ns = SHMIPC_CROWD_SLOT_MS * UINT64_C(1000000);
	uint64_t left_us = (slot_ns - ns % slot_ns) / 1000 + 1;

	atomic_store_explicit(&crowd->until, now + left_us * shmipc_ticks_per_us(),
			      memory_order_relaxed);
	return ns / slot_ns;
}

/* Yielding is tried in the slots of phase 0.  With more periods there are fewer of these, not
 * others: so processes that differ in that still meet. */
static uint64_t phase_of(const struct shmipc_crowd *crowd, uint64_t slot)
{
	uint32_t periods = get(&crowd->periods);

	return slot % (SHMIPC_CROWD_PERIOD_SLOTS * (periods ? periods : 1));
}

/* Both ways have been tried.  An answer that is found again is asked for more seldom. */
static void judge(struct shmipc_crowd *crowd, uint32_t yielding, uint32_t sleeping)
{
	uint32_t answer = sleeping > yielding ? SHMIPC_CROWD_SLEEP : SHMIPC_CROWD_YIELD;
	uint32_t periods = get(&crowd->periods);

	if (answer != get(&crowd->answer) || periods == 0) /* 0: begun by another thread just now */
		periods = 1;
	else if (periods < SHMIPC_CROWD_PERIODS_MAX)
		periods *= answer == SHMIPC_CROWD_SLEEP && periods == 1 ? SHMIPC_CROWD_SLEEP_KEPT
									: 2;
	set(&crowd->periods, periods);
	set(&crowd->answer, answer);
}

/* As the kernel's own sockets do, until it is known better. */
static void begin(struct shmipc_crowd *crowd, bool met, uint64_t slot)
{
	set(&crowd->answer, met ? SHMIPC_CROWD_SLEEP : SHMIPC_CROWD_YIELD);
	set(&crowd->way, met ? SHMIPC_CROWD_SLEEP : SHMIPC_CROWD_YIELD);
	set(&crowd->trial, SHMIPC_CROWD_NONE);
	set(&crowd->periods, 1);
	set(&crowd->waits, 0);
	atomic_store_explicit(&crowd->slot, slot, memory_order_relaxed);
	atomic_store_explicit(&crowd->met_in_slot, met, memory_order_relaxed);
	atomic_store_explicit(&crowd->met, met, memory_order_relaxed);
}

static void enter_slot(struct shmipc_crowd *crowd, uint64_t slot)
{
	bool is_next = slot == atomic_load_explicit(&crowd->slot, memory_order_relaxed) + 1;
	bool met = atomic_load_explicit(&crowd->met_in_slot, memory_order_relaxed);
	bool asked = atomic_exchange_explicit(&crowd->asked, false, memory_order_relaxed);
	uint32_t ended = get(&crowd->trial), waits = get(&crowd->waits);

	/* the peer was on another core: nothing is found out this time */
	if (ended == SHMIPC_CROWD_YIELDING && !asked)
		ended = SHMIPC_CROWD_NONE;
	if (ended == SHMIPC_CROWD_YIELDING && !met) {
		begin(crowd, false, slot); /* and no yield has taken long: the others are gone */
		return;
	}
	atomic_store_explicit(&crowd->slot, slot, memory_order_relaxed);
	set(&crowd->waits, 0);
	set(&crowd->trial, SHMIPC_CROWD_NONE);
	if (ended == SHMIPC_CROWD_YIELDING)
		set(&crowd->yielding, waits);
	if (ended == SHMIPC_CROWD_NONE && shmipc_crowd_may_yield(crowd) &&
	    waits < get(&crowd->yielding) / SHMIPC_CROWD_DROP)
		set(&crowd->periods, 1);
	if (ended == SHMIPC_CROWD_SLEPT && is_next)
		judge(crowd, get(&crowd->yielding), waits);
	if (ended != SHMIPC_CROWD_NONE && ended != SHMIPC_CROWD_SLEPT && is_next) {
		set(&crowd->trial, ended + 1);
		set(&crowd->way, SHMIPC_CROWD_SLEEP);
	} else if (phase_of(crowd, slot) == 0) {
		atomic_store_explicit(&crowd->met_in_slot, false, memory_order_relaxed);
		set(&crowd->trial, SHMIPC_CROWD_YIELDING);
		set(&crowd->way, SHMIPC_CROWD_YIELD);
	} else {
		set(&crowd->way, get(&crowd->answer));
	}
}

__attribute__((hot)) void shmipc_crowd_look_at_clock(struct shmipc_crowd *crowd, uint64_t now,
						     uint64_t ns)
{
	uint64_t slot = slot_at(crowd, now, ns);

	if (slot != atomic_load_explicit(&crowd->slot, memory_order_relaxed))
		enter_slot(crowd, slot);
}

void shmipc_crowd_meet(struct shmipc_crowd *crowd, uint64_t now, uint64_t ns)
{
	begin(crowd, true, slot_at(crowd, now, ns));
}

__attribute__((hot)) void shmipc_crowd_count(struct shmipc_crowd *crowd, uint64_t now)
{
	if (now >= atomic_load_explicit(&crowd->until, memory_order_relaxed))
		shmipc_crowd_look_at_clock(crowd, now, shmipc_clock_ns());
	set(&crowd->waits, get(&crowd->waits) + 1);
}

__attribute__((hot)) void shmipc_crowd_yielded(struct shmipc_crowd *crowd, uint64_t now,
					       uint64_t ticks)
{
	atomic_store_explicit(&crowd->asked, true, memory_order_relaxed);
	if (ticks <= SHMIPC_CROWD_LONG_US * shmipc_ticks_per_us())
		return;
	if (!atomic_load_explicit(&crowd->met, memory_order_relaxed))
		shmipc_crowd_meet(crowd, now, shmipc_clock_ns());
	atomic_store_explicit(&crowd->met_in_slot, true, memory_order_relaxed);
}
