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

__attribute__((hot)) void shmipc_spin_init(struct shmipc_spin *spin)
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

bool shmipc_spin_is_skipped(const struct shmipc_spin *spin, uint32_t peer_cpu)
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

enum shmipc_spin_result shmipc_spin_until(struct shmipc_spin *spin, bool (*ready)(void *),
					  void *argument, uint32_t peer_cpu)
{
	return shmipc_spin_for(spin, ready, argument, peer_cpu, budget_us);
}

enum shmipc_spin_result shmipc_spin_for(struct shmipc_spin *spin, bool (*ready)(void *),
					void *argument, uint32_t peer_cpu, uint32_t wait_us)
{
	uint64_t rate = shmipc_ticks_per_us();
	uint64_t budget = wait_us * rate;
	uint64_t start, last;

	if (budget == 0)
		return SHMIPC_SPIN_SKIPPED;
	start = last = shmipc_ticks();
	shmipc_crowd_begin_wait(&shmipc_crowd, start);
	if (is_skipped(spin))
		return SHMIPC_SPIN_SKIPPED;
	if (peer_cpu != 0 && peer_cpu == shmipc_spin_cpu())
		return yield_until(spin, ready, argument, budget);
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
		if (now - start >= budget || now - last >= PREEMPTED_US * rate)
			return lost(spin);
		last = now;
	}
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
