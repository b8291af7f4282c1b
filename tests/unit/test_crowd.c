/* SPDX-License-Identifier: Apache-2.0 */
/* Yield or sleep, where others want the core: by a clock that the test winds. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/cpu.h"
#include "core/crowd.h"

enum {
	PERIOD = SHMIPC_CROWD_PERIOD_SLOTS,
	START = 100 * PERIOD * SHMIPC_CROWD_PERIODS_MAX, /* a slot of phase 0, with any period */
	KEPT = SHMIPC_CROWD_SLEEP_KEPT * PERIOD,	 /* slots to the next trial */
	TRIAL = SHMIPC_CROWD_SLEPT, /* slots of a trial: this many are not NONE */
	FEW = 10,
};

static uint64_t ticks_of(uint64_t us)
{
	return us * shmipc_ticks_per_us();
}

static void wait_in(struct shmipc_crowd *crowd, uint64_t slot)
{
	const uint64_t slot_ns = SHMIPC_CROWD_SLOT_MS * UINT64_C(1000000);

	if (atomic_load(&crowd->met))
		shmipc_crowd_look_at_clock(crowd, 0, slot * slot_ns + slot_ns / 2);
	shmipc_crowd_begin_wait(crowd, 0); /* which does not look at the clock */
}

static void yield_long(struct shmipc_crowd *crowd, uint64_t slot)
{
	if (!atomic_load(&crowd->met))
		shmipc_crowd_meet(crowd, 0, slot * SHMIPC_CROWD_SLOT_MS * UINT64_C(1000000));
	shmipc_crowd_yielded(crowd, 0, ticks_of(SHMIPC_CROWD_LONG_US + 1));
}

/* So many waits in this slot.  Where it may, it yields, which takes long. */
static void pass_slot(struct shmipc_crowd *crowd, uint64_t slot, int waits)
{
	for (int i = 0; i < waits; i++)
		wait_in(crowd, slot);
	if (shmipc_crowd_may_yield(crowd))
		yield_long(crowd, slot);
}

/* `sleeping` waits in slots of sleep, FEW in others.  How many of the slots were slept. */
static int pass_slots(struct shmipc_crowd *crowd, uint64_t from, uint64_t to, int sleeping)
{
	int slept = 0;

	for (uint64_t slot = from; slot < to; slot++) {
		wait_in(crowd, slot);
		slept += !shmipc_crowd_may_yield(crowd);
		pass_slot(crowd, slot, shmipc_crowd_may_yield(crowd) ? FEW : sleeping);
	}
	return slept;
}

static void short_yields_change_nothing(void **state)
{
	struct shmipc_crowd crowd = { 0 };

	(void)state;
	for (uint64_t slot = START; slot < START + 3 * PERIOD; slot++) {
		wait_in(&crowd, slot);
		shmipc_crowd_yielded(&crowd, 0, ticks_of(SHMIPC_CROWD_LONG_US));
		assert_true(shmipc_crowd_may_yield(&crowd));
	}
}

static void sleep_is_kept_where_it_wins(void **state)
{
	struct shmipc_crowd crowd = { 0 };
	const uint64_t next = START + KEPT;

	(void)state;
	yield_long(&crowd, START - 3);
	/* from the first long yield on, but for the slot in which yielding is tried */
	assert_int_equal(pass_slots(&crowd, START - 2, START, 100 * FEW), 2);
	assert_int_equal(pass_slots(&crowd, START, START + 1, 100 * FEW), 0);
	/* tried and kept: every slot up to the next trial, which begins by yielding */
	assert_int_equal(pass_slots(&crowd, START + 1, next, 100 * FEW), next - START - 1);
	assert_int_equal(pass_slots(&crowd, next, next + 1, 100 * FEW), 0);
	/* found again */
	assert_int_equal(pass_slots(&crowd, next + 1, next + PERIOD, 100 * FEW), PERIOD - 1);
}

static void an_answer_found_again_is_kept_longer(void **state)
{
	struct shmipc_crowd crowd = { 0 };
	int periods = 64, slept;

	(void)state;
	yield_long(&crowd, START - 3);
	slept = pass_slots(&crowd, START, START + (uint64_t)(periods * PERIOD), 100 * FEW);
	/* the rest is what yielding was tried: in less than half of the periods */
	assert_in_range(periods * PERIOD - slept, 2, periods / 2);
}

static void yielding_is_kept_where_it_is_no_worse(void **state)
{
	struct shmipc_crowd crowd = { 0 };
	int slept;

	(void)state;
	yield_long(&crowd, START - 3);
	slept = pass_slots(&crowd, START, START + PERIOD, FEW);
	assert_int_equal(slept, TRIAL - SHMIPC_CROWD_YIELDING);
	assert_true(shmipc_crowd_may_yield(&crowd));
}

static void a_drop_is_looked_into_soon(void **state)
{
	struct shmipc_crowd crowd = { 0 };
	uint64_t slot = START;

	(void)state;
	yield_long(&crowd, START - 3);
	for (; slot < START + 64 * PERIOD + 2; slot++) /* the answer is old */
		pass_slot(&crowd, slot, 100 * FEW);
	assert_in_range(pass_slots(&crowd, slot, slot + 2 * PERIOD, 100 * FEW), PERIOD, 2 * PERIOD);
}

static void a_trial_that_was_not_seen_whole_says_nothing(void **state)
{
	struct shmipc_crowd crowd = { 0 };
	const uint64_t next = START + PERIOD;

	(void)state;
	yield_long(&crowd, START - 3);
	pass_slots(&crowd, START, next, FEW); /* yielding is no worse */
	pass_slots(&crowd, next, next + 2, 100 * FEW);
	/* the process was away meanwhile */
	assert_int_equal(pass_slots(&crowd, next + PERIOD - 2, next + PERIOD, 100 * FEW), 0);
}

/* The peer was on another core while yielding was to be tried. */
static void a_trial_without_a_yield_says_nothing(void **state)
{
	struct shmipc_crowd crowd = { 0 };

	(void)state;
	yield_long(&crowd, START - 3);
	pass_slots(&crowd, START, START + PERIOD, 100 * FEW);
	assert_false(shmipc_crowd_may_yield(&crowd));
	for (uint64_t slot = START + PERIOD; slot < START + 3 * KEPT; slot++) {
		wait_in(&crowd, slot);
		assert_int_equal(shmipc_crowd_may_yield(&crowd), slot % KEPT == 0);
	}
}

static void when_the_others_are_gone_it_yields_again(void **state)
{
	struct shmipc_crowd crowd = { 0 };

	(void)state;
	yield_long(&crowd, START - 3);
	pass_slots(&crowd, START, START + KEPT, 100 * FEW);
	assert_false(shmipc_crowd_may_yield(&crowd));
	/* the slot of yielding, in which no yield takes long */
	wait_in(&crowd, START + KEPT);
	assert_true(shmipc_crowd_may_yield(&crowd));
	shmipc_crowd_yielded(&crowd, 0, 1);
	for (uint64_t slot = START + KEPT + 1; slot < START + 9 * KEPT; slot++) {
		wait_in(&crowd, slot);
		assert_true(shmipc_crowd_may_yield(&crowd));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_yields_change_nothing),
		cmocka_unit_test(sleep_is_kept_where_it_wins),
		cmocka_unit_test(an_answer_found_again_is_kept_longer),
		cmocka_unit_test(yielding_is_kept_where_it_is_no_worse),
		cmocka_unit_test(a_drop_is_looked_into_soon),
		cmocka_unit_test(a_trial_that_was_not_seen_whole_says_nothing),
		cmocka_unit_test(a_trial_without_a_yield_says_nothing),
		cmocka_unit_test(when_the_others_are_gone_it_yields_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
