/* SPDX-License-Identifier: Apache-2.0 */
/* Who looks before it sleeps, and who does not. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/spin.h"

enum {
	PROBE_EVERY = 32,
	BUDGET_US = 3,
	NO_CPU = 0,
	LOSSES = 4 * SHMIPC_SPIN_CREDIT_MAX,
	LATE = 20, /* looks */
	LONG_US = 200,
	OFFERS_MAX = 8,
	LATER_TRIES = 1000,
	SLICE_US = 500,	     /* who takes so much of a core computes */
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

static volatile int offers, slow_us;

static void wait_for_ticks(uint64_t ticks)
{
	uint64_t start = shmipc_ticks();

	while (shmipc_ticks() - start < ticks)
		;
}

/* Instead of the kernel, which has nothing to count by. */
static void take_offer(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	(void)context;
	offers++;
	wait_for_ticks((uint64_t)slow_us * shmipc_ticks_per_us());
}

static bool catch_offers(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_yield, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };
	struct sigaction action = { .sa_sigaction = take_offer, .sa_flags = SA_SIGINFO };

	return sigaction(SIGSYS, &action, NULL) == 0 &&
	       prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* The filter is for good, and others yield too, such as a sanitizer: a process of its own. */
static void assert_in_child(bool (*holds)(void))
{
	pid_t child = fork();
	int status = 1;

	if (child == 0)
		_exit(catch_offers() && holds() ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static bool spin_in_vain(void)
{
	struct shmipc_spin state;

	shmipc_spin_init(&state);
	return shmipc_spin_for(&state, look, &(struct looks){ 0 }, ELSEWHERE, LONG_US) ==
	       SHMIPC_SPIN_LOST;
}

/* Though the peer is not known to be on this core; and ever more seldom while nobody takes it.  An
 * interruption ends a spin before it comes to that, or looks as if somebody had taken it. */
static bool offers_now_and_then(void)
{
	int often = 0;

	slow_us = 0;
	for (int i = 0; i < LOSSES; i++) {
		int before = offers;

		if (!spin_in_vain())
			return false;
		often += offers - before > OFFERS_MAX;
	}
	return offers > 0 && often < LOSSES / 2;
}

static void test_a_spin_offers_the_core(void **none)
{
	(void)none;
	assert_in_child(offers_now_and_then);
}

/* A stop of the whole machine in the middle proves nothing. */
static bool keeps_the_core(uint64_t kept)
{
	uint64_t passed = kept;
	int before = 0;

	slow_us = SLICE_US;
	for (int tries = 0; tries < LOSSES && passed >= kept; tries++) {
		uint64_t start;

		wait_for_ticks(kept);
		before = offers;
		for (int i = 0; i < LOSSES && offers == before; i++)
			spin_in_vain();
		start = shmipc_ticks();
		before = offers;
		for (int i = 0; i < 10; i++)
			spin_in_vain();
		passed = shmipc_ticks() - start;
	}
	return offers == before;
}

/* One who was himself kept from the core for long counts as slower still. */
static bool offers_it_later(uint64_t kept)
{
	int before = offers;

	slow_us = 0;
	for (int i = 0; i < LATER_TRIES && offers == before; i++) {
		wait_for_ticks(kept / 10);
		spin_in_vain();
	}
	return offers > before;
}

static bool does_not_ask_again_soon(void)
{
	const uint64_t kept = 100 * SLICE_US * shmipc_ticks_per_us();

	return keeps_the_core(kept) && offers_it_later(kept);
}

static void test_who_computes_is_not_asked_again_soon(void **none)
{
	(void)none;
	assert_in_child(does_not_ask_again_soon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_comes_in_time_wins),
		cmocka_unit_test(test_without_credit_one_in_many_is_tried),
		cmocka_unit_test(test_a_win_brings_credit_back),
		cmocka_unit_test(test_what_is_skipped_is_known_before),
		cmocka_unit_test(test_no_budget_no_spin),
		cmocka_unit_test(test_a_spin_offers_the_core),
		cmocka_unit_test(test_who_computes_is_not_asked_again_soon),
	};

	shmipc_spin_set_budget(BUDGET_US);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
