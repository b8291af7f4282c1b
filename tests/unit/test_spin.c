/* SPDX-License-Identifier: Apache-2.0 */
/* Who looks before it sleeps, and who does not. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/crowd.h"
#include "core/cpu.h"
#include "core/spin.h"

enum {
	PROBE_EVERY = 32,
	BUDGET_US = 3,
	NO_CPU = 0,
	LOSSES = 4 * SHMIPC_SPIN_CREDIT_MAX,
	LATE = 20, /* looks */
	LONG_US = 200,
	ELSEWHERE = 1 << 20, /* no CPU of ours */
};

struct looks {
	int count;
	int until; /* the one that finds something; 0: none does */
};

static bool look(void *argument)
{
	struct looks *looks = argument;

	return ++looks->count == looks->until;
}

typedef enum shmipc_spin_result way(struct shmipc_spin *spin, bool (*ready)(void *),
				    void *argument);

static enum shmipc_spin_result spin(struct shmipc_spin *spin, bool (*ready)(void *), void *argument)
{
	return shmipc_spin_until(spin, ready, argument, NO_CPU);
}

static way *const ways[] = { spin, shmipc_spin_glance };

static void lose_all_credit(struct shmipc_spin *state, way *look_before)
{
	for (int i = 0; i < LOSSES && atomic_load(&state->credit) > 0; i++)
		assert_int_equal(look_before(state, look, &(struct looks){ 0 }), SHMIPC_SPIN_LOST);
	assert_int_equal(atomic_load(&state->credit), 0);
}

static void test_what_comes_in_time_wins(void **none)
{
	(void)none;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct shmipc_spin state;
		struct looks looks = { .until = LATE };

		shmipc_spin_init(&state);
		/* an interruption ends a spin, and may come at any time */
		for (int tries = 0; tries < LOSSES && looks.count < LATE; tries++) {
			looks.count = 0;
			shmipc_spin_init(&state);
			if (ways[i](&state, look, &looks) == SHMIPC_SPIN_WON)
				break;
		}
		assert_int_equal(looks.count, LATE);
		assert_true(atomic_load(&state.credit) > SHMIPC_SPIN_CREDIT_START);
	}
}

static void test_without_credit_one_in_many_is_tried(void **none)
{
	(void)none;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct shmipc_spin state;
		int skipped = 0;

		shmipc_spin_init(&state);
		lose_all_credit(&state, ways[i]);
		for (int n = 0; n < 2 * PROBE_EVERY; n++) {
			struct looks looks = { 0 };
			bool is_skipped = ways[i](&state, look, &looks) == SHMIPC_SPIN_SKIPPED;

			skipped += is_skipped;
			assert_int_equal(is_skipped, looks.count == 0);
		}
		assert_int_equal(skipped, 2 * PROBE_EVERY - 2);
	}
}

static void test_a_win_brings_credit_back(void **none)
{
	struct shmipc_spin state;
	enum shmipc_spin_result result = SHMIPC_SPIN_SKIPPED;

	(void)none;
	shmipc_spin_init(&state);
	lose_all_credit(&state, shmipc_spin_glance);
	for (int n = 0; n < PROBE_EVERY && result == SHMIPC_SPIN_SKIPPED; n++)
		result = shmipc_spin_glance(&state, look, &(struct looks){ .until = 1 });
	assert_int_equal(result, SHMIPC_SPIN_WON);
	assert_int_equal(shmipc_spin_glance(&state, look, &(struct looks){ .until = 1 }),
			 SHMIPC_SPIN_WON);
}

static void test_what_is_skipped_is_known_before(void **none)
{
	struct shmipc_spin state;

	(void)none;
	shmipc_spin_init(&state);
	assert_false(shmipc_spin_is_skipped(&state, NO_CPU));
	lose_all_credit(&state, spin);
	for (int n = 0; n < 3 * PROBE_EVERY; n++) {
		bool expected = shmipc_spin_is_skipped(&state, NO_CPU);

		assert_int_equal(spin(&state, look, &(struct looks){ 0 }) == SHMIPC_SPIN_SKIPPED,
				 expected);
	}
}

static void test_no_budget_no_spin(void **none)
{
	struct shmipc_spin state;
	struct looks looks = { .until = 1 };

	(void)none;
	shmipc_spin_set_budget(0);
	shmipc_spin_init(&state);
	assert_true(shmipc_spin_is_skipped(&state, NO_CPU));
	assert_int_equal(spin(&state, look, &looks), SHMIPC_SPIN_SKIPPED);
	assert_int_equal(looks.count, 0);
	/* a glance is none */
	assert_int_equal(shmipc_spin_glance(&state, look, &looks), SHMIPC_SPIN_WON);
	shmipc_spin_set_budget(BUDGET_US);
}

/* ---- others who want the core ---- */

/* Whether anybody takes it or not, and though the peer is not known to be on this core. */
static bool offers_the_core(enum shmipc_crowd_way crowd_way)
{
	bool offered = false;

	memset(&shmipc_crowd, 0, sizeof(shmipc_crowd)); /* as if nobody had been met */
	atomic_store(&shmipc_crowd.way, crowd_way);
	/* an interruption ends a spin before it comes to that */
	for (int tries = 0; tries < LOSSES && !offered; tries++) {
		struct shmipc_spin state;

		shmipc_spin_init(&state);
		shmipc_spin_for(&state, look, &(struct looks){ 0 }, ELSEWHERE, LONG_US);
		offered = atomic_load(&shmipc_crowd.asked);
	}
	memset(&shmipc_crowd, 0, sizeof(shmipc_crowd));
	return offered;
}

static void test_a_spin_offers_the_core(void **none)
{
	(void)none;
	assert_true(offers_the_core(SHMIPC_CROWD_YIELD));
	assert_false(offers_the_core(SHMIPC_CROWD_SLEEP));
}

static uint64_t ticks_of_a_lost_spin(void)
{
	struct shmipc_spin state;
	uint64_t start = shmipc_ticks();

	shmipc_spin_init(&state);
	assert_int_equal(shmipc_spin_for(&state, look, &(struct looks){ 0 }, ELSEWHERE, LONG_US),
			 SHMIPC_SPIN_LOST);
	return shmipc_ticks() - start;
}

/* Where yielding has been found bad.  Some may be interrupted. */
static void test_beside_others_a_spin_is_short(void **none)
{
	int count_short = 0;

	(void)none;
	memset(&shmipc_crowd, 0, sizeof(shmipc_crowd));
	shmipc_crowd_meet(&shmipc_crowd, shmipc_ticks(), shmipc_clock_ns());
	for (int i = 0; i < LOSSES; i++)
		count_short += ticks_of_a_lost_spin() < LONG_US / 2 * shmipc_ticks_per_us();
	memset(&shmipc_crowd, 0, sizeof(shmipc_crowd));
	assert_true(count_short > LOSSES / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_spin_offers_the_core),
		cmocka_unit_test(test_beside_others_a_spin_is_short),
		cmocka_unit_test(test_what_comes_in_time_wins),
		cmocka_unit_test(test_without_credit_one_in_many_is_tried),
		cmocka_unit_test(test_a_win_brings_credit_back),
		cmocka_unit_test(test_what_is_skipped_is_known_before),
		cmocka_unit_test(test_no_budget_no_spin),
	};

	shmipc_spin_set_budget(BUDGET_US);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
