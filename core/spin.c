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
	YIELD_AFTER_US = 4,	  /* a peer that is at it answers sooner */
	SOMEBODY_RAN_US = 5,	  /* a yield that took so long */
	GIVEN_US = 1000,	  /* to all that we give way to in one wait: a time-out may run */
	KEEP_TIMES = 100,	  /* what is lost to one that computes is a hundredth */
};

/* A spin, in ticks. */
struct turn {
	uint64_t last; /* the clock, when it was read last */
	uint64_t own;  /* so long we have looked, without those that we gave way to */
	uint64_t next; /* own, when the core is offered again: ever later while nobody takes it */
};

static uint32_t budget_us = 50;
static _Atomic uint64_t keep_until; /* ticks: this process offers its core to nobody before */

void shmipc_spin_set_budget(uint32_t us)
{
	budget_us = us;
}

uint32_t shmipc_spin_budget(void)
{
	return budget_us;
}

__attribute__((hot)) void shmipc_spin_init(struct shmipc_spin *spin)
{
	*spin = (struct shmipc_spin){ .credit = SHMIPC_SPIN_CREDIT_START };
}

__attribute__((hot)) uint32_t shmipc_spin_cpu(void)
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

static bool has_credit(const struct shmipc_spin *spin)
{
	return atomic_load_explicit(&spin->credit, memory_order_relaxed) > 0;
}

/* A wait without credit: is it not one of those that try? */
static bool is_no_probe(uint32_t skipped)
{
	return skipped % PROBE_EVERY != 0;
}

static bool is_skipped(struct shmipc_spin *spin)
{
	uint32_t skipped = atomic_load_explicit(&spin->skipped, memory_order_relaxed) + 1;

	if (has_credit(spin))
		return false;
	atomic_store_explicit(&spin->skipped, skipped, memory_order_relaxed);
	return is_no_probe(skipped);
}

__attribute__((hot)) bool shmipc_spin_is_skipped(const struct shmipc_spin *spin, uint32_t peer_cpu)
{
	if (budget_us == 0)
		return true;
	if (!has_credit(spin))
		return is_no_probe(atomic_load_explicit(&spin->skipped, memory_order_relaxed) + 1);
	return !shmipc_crowd_may_yield(&shmipc_crowd) && peer_cpu != 0 &&
	       peer_cpu == shmipc_spin_cpu();
}

/* The peer, too, is on this core. */
static enum shmipc_spin_result yield_until(struct shmipc_spin *spin, bool (*ready)(void *),
					   void *argument, uint64_t budget)
{
	uint64_t start = shmipc_ticks(), now = start;

	for (int i = 0; i < SAME_CPU_YIELDS_MAX && now - start < budget; i++) {
		uint64_t before = now;

		if (!shmipc_crowd_may_yield(&shmipc_crowd))
			return SHMIPC_SPIN_SKIPPED;
		sys_sched_yield();
		now = shmipc_ticks();
		shmipc_crowd_yielded(&shmipc_crowd, now, now - before);
		if (ready(argument))
			return won(spin);
		if (shmipc_postpone.waiting)
			return SHMIPC_SPIN_SKIPPED;
	}
	return lost(spin);
}

__attribute__((hot)) enum shmipc_spin_result shmipc_spin_until(struct shmipc_spin *spin,
							       bool (*ready)(void *),
							       void *argument, uint32_t peer_cpu)
{
	return shmipc_spin_for(spin, ready, argument, peer_cpu, budget_us);
}

/* Somebody else may want this core, or the peer not be running for want of one: to whoever is
 * there the core is given after a moment, and what he takes of it is none of our waiting.  Who
 * takes a whole time slice is no peer of anybody's and computes: for long he is not asked again. */
static void give_way(struct turn *turn)
{
	uint64_t rate = shmipc_ticks_per_us(), ticks;

	if (turn->own < turn->next ||
	    turn->last < atomic_load_explicit(&keep_until, memory_order_relaxed))
		return;
	sys_sched_yield();
	ticks = shmipc_ticks() - turn->last;
	turn->last += ticks;
	if (ticks >= SHMIPC_CROWD_LONG_US * rate)
		atomic_store_explicit(&keep_until, turn->last + KEEP_TIMES * ticks,
				      memory_order_relaxed);
	if (ticks >= SOMEBODY_RAN_US * rate)
		return; /* he may be there still: again after a look */
	turn->own += ticks;
	turn->next = 2 * turn->own;
}

static enum shmipc_spin_result look_until(struct shmipc_spin *spin, bool (*ready)(void *),
					  void *argument, uint64_t budget)
{
	struct turn turn = {
		.last = shmipc_ticks(),
		.next = YIELD_AFTER_US * shmipc_ticks_per_us(),
	};
	const uint64_t start = turn.last;

	for (;;) {
		uint64_t ticks;

		for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
			if (ready(argument))
				return won(spin);
			shmipc_cpu_pause();
		}
		if (shmipc_postpone.waiting)
			return SHMIPC_SPIN_SKIPPED;
		ticks = shmipc_ticks() - turn.last;
		turn.last += ticks;
		turn.own += ticks;
		if (turn.own >= budget ||
		    turn.last - start >= budget + GIVEN_US * shmipc_ticks_per_us() ||
		    ticks >= PREEMPTED_US * shmipc_ticks_per_us())
			return lost(spin);
		give_way(&turn);
	}
}

__attribute__((hot)) enum shmipc_spin_result shmipc_spin_for(struct shmipc_spin *spin,
							     bool (*ready)(void *), void *argument,
							     uint32_t peer_cpu, uint32_t wait_us)
{
	uint64_t budget = wait_us * shmipc_ticks_per_us();

	if (budget == 0)
		return SHMIPC_SPIN_SKIPPED;
	shmipc_crowd_begin_wait(&shmipc_crowd, shmipc_ticks());
	if (is_skipped(spin))
		return SHMIPC_SPIN_SKIPPED;
	if (peer_cpu != 0 && peer_cpu == shmipc_spin_cpu())
		return yield_until(spin, ready, argument, budget);
	return look_until(spin, ready, argument, budget);
}

enum shmipc_spin_result shmipc_spin_glance(struct shmipc_spin *glance, bool (*ready)(void *),
					   void *argument)
{
	uint64_t end;

	if (is_skipped(glance))
		return SHMIPC_SPIN_SKIPPED;
	end = shmipc_ticks() + SHMIPC_SPIN_GLANCE_US * shmipc_ticks_per_us();
	do { /* a look may take long, where there are many to look at */
		if (ready(argument))
			return won(glance);
		shmipc_cpu_pause();
	} while (shmipc_ticks() < end && !shmipc_postpone.waiting);
	return lost(glance);
}
