/* SPDX-License-Identifier: Apache-2.0 */
#include "core/spin.h"

#include <sched.h>

#include "core/cpu.h"
#include "core/crowd.h"
#include "core/postpone.h"
#include "core/sys.h"

enum {
	LOOKS_PER_CLOCK = 8,	  /* pauses between two readings of the clock */
	PREEMPTED_US = 15,	  /* a gap this long between two readings: we did not run */
	PROBE_EVERY = 32,	  /* without credit, spin only in each 32nd wait */
	SAME_CPU_YIELDS_MAX = 64, /* a yield that finds nobody else to run returns at once */
	OFFER_AFTER_US = 4,	  /* a peer that runs has answered by then, or has more to do */
	OFFER_AGAIN_US = 8,
	OFFERS_TAKEN_MAX = 16,
	HOGGED_BUDGET_US = 10, /* beside a hog: what a peer needs that runs at this moment */
};

static uint32_t budget_us = 50;

void shmipc_spin_set_budget(uint32_t us)
{
	budget_us = us;
}

uint32_t shmipc_spin_budget(void)
{
	return budget_us;
}

void shmipc_spin_init(struct shmipc_spin *spin)
{
	*spin = (struct shmipc_spin){ .credit = SHMIPC_SPIN_CREDIT_START };
}

uint32_t shmipc_spin_cpu(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 ? 0 : (uint32_t)cpu + 1;
}

static enum shmipc_spin_result won(struct shmipc_spin *spin)
{
	int32_t credit = atomic_load_explicit(&spin->credit, memory_order_relaxed);

	if (credit < SHMIPC_SPIN_CREDIT_MAX - 1)
		atomic_store_explicit(&spin->credit, credit + 2, memory_order_relaxed);
	return SHMIPC_SPIN_WON;
}

static enum shmipc_spin_result lost(struct shmipc_spin *spin)
{
	int32_t credit = atomic_load_explicit(&spin->credit, memory_order_relaxed);

	if (credit > 0)
		atomic_store_explicit(&spin->credit, credit - 1, memory_order_relaxed);
	return SHMIPC_SPIN_LOST;
}

static bool is_skipped(struct shmipc_spin *spin)
{
	uint32_t skipped = atomic_load_explicit(&spin->skipped, memory_order_relaxed) + 1;

	if (atomic_load_explicit(&spin->credit, memory_order_relaxed) > 0)
		return false;
	atomic_store_explicit(&spin->skipped, skipped, memory_order_relaxed);
	return skipped % PROBE_EVERY != 0;
}

/* The peer, too, runs on this core.  Beside a hog we sleep at once, as it does. */
static enum shmipc_spin_result yield_until(struct shmipc_spin *spin, bool (*ready)(void *),
					   void *argument, uint64_t budget)
{
	uint64_t start = shmipc_ticks(), now = start;

	if (shmipc_crowd_is_hogging(now))
		return SHMIPC_SPIN_SKIPPED;
	for (int i = 0; i < SAME_CPU_YIELDS_MAX && now - start < budget; i++) {
		enum shmipc_crowd crowd = shmipc_crowd_give_core(&now);

		if (ready(argument))
			return won(spin);
		if (crowd == SHMIPC_CROWD_HOGGING)
			break;
		if (shmipc_postpone.waiting)
			return SHMIPC_SPIN_SKIPPED;
	}
	return lost(spin);
}

/* One wait.  Its core is offered to others while it looks in vain: see core/crowd.h. */
struct look {
	uint64_t start;	     /* ticks */
	uint64_t last;	     /* the reading before this one */
	uint64_t budget;     /* ticks of its own */
	uint64_t away;	     /* ticks that others have had; they are not the waiter's */
	uint64_t next_offer; /* ticks */
	int taken;
};

static void begin_look(struct look *look, uint32_t wait_us)
{
	uint64_t rate = shmipc_ticks_per_us(), now = shmipc_ticks();

	*look = (struct look){ .start = now, .last = now, .budget = wait_us * rate };
	look->next_offer = now + OFFER_AFTER_US * rate;
	if (!shmipc_crowd_is_hogging(now))
		return;
	look->next_offer = UINT64_MAX;
	if (wait_us > HOGGED_BUDGET_US)
		look->budget = HOGGED_BUDGET_US * rate;
}

/* false: the waiter had better sleep. */
static bool offer_core(struct look *look)
{
	uint64_t before = look->last;
	enum shmipc_crowd crowd = shmipc_crowd_give_core(&look->last);

	look->next_offer = look->last;
	if (crowd == SHMIPC_CROWD_NONE) {
		look->next_offer += OFFER_AGAIN_US * shmipc_ticks_per_us();
		return true;
	}
	look->away += look->last - before;
	return crowd == SHMIPC_CROWD_PASSING && ++look->taken < OFFERS_TAKEN_MAX;
}

enum shmipc_spin_result shmipc_spin_until(struct shmipc_spin *spin, bool (*ready)(void *),
					  void *argument, uint32_t peer_cpu)
{
	return shmipc_spin_for(spin, ready, argument, peer_cpu, budget_us);
}

enum shmipc_spin_result shmipc_spin_for(struct shmipc_spin *spin, bool (*ready)(void *),
					void *argument, uint32_t peer_cpu, uint32_t wait_us)
{
	struct look look;

	if (wait_us == 0 || is_skipped(spin))
		return SHMIPC_SPIN_SKIPPED;
	if (peer_cpu != 0 && peer_cpu == shmipc_spin_cpu())
		return yield_until(spin, ready, argument, wait_us * shmipc_ticks_per_us());
	begin_look(&look, wait_us);
	for (;;) {
		uint64_t now;

		for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
			if (ready(argument))
				return won(spin);
			shmipc_cpu_pause();
		}
		if (shmipc_postpone.waiting)
			return SHMIPC_SPIN_SKIPPED;
		now = shmipc_ticks();
		if (now - look.start - look.away >= look.budget ||
		    now - look.last >= PREEMPTED_US * shmipc_ticks_per_us())
			return lost(spin);
		look.last = now;
		if (now >= look.next_offer && !offer_core(&look))
			return ready(argument) ? won(spin) : lost(spin);
	}
}
