/* SPDX-License-Identifier: Apache-2.0 */
/* A core that somebody hogs is found by yielding it, is remembered for a while, and nobody yields
 * or looks for long there. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/crowd.h"
#include "core/spin.h"

enum { SECONDS = 20, LONG_US = 1000 * 1000, REST_MAX_US = 4 * 1000 * 1000 };

static pid_t hog;

static uint64_t ticks_of(uint64_t us)
{
	return us * shmipc_ticks_per_us();
}

static void stay_on_one_core(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

static int start_hog(void **state)
{
	pid_t parent = getpid();

	(void)state;
	stay_on_one_core();
	hog = fork();
	if (hog == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			;
		_exit(0);
	}
	return hog > 0 ? 0 : -1;
}

static int end_hog(void **state)
{
	(void)state;
	kill(hog, SIGKILL);
	return waitpid(hog, NULL, 0) == hog ? 0 : -1;
}

/* Its forgetting is asked for by a time to come. */
static void a_hog_is_found_and_forgotten(void **state)
{
	uint64_t now = shmipc_ticks(), end = now + ticks_of(SECONDS * 1000000ULL);
	enum shmipc_crowd crowd = SHMIPC_CROWD_NONE;

	(void)state;
	assert_false(shmipc_crowd_is_hogging(now));
	while (crowd != SHMIPC_CROWD_HOGGING && now < end)
		crowd = shmipc_crowd_give_core(&now);
	assert_int_equal(crowd, SHMIPC_CROWD_HOGGING);
	assert_true(shmipc_crowd_is_hogging(now));
	assert_false(shmipc_crowd_is_hogging(now + ticks_of(REST_MAX_US)));
}

/* The hog takes the core when it is its turn, so any single wait may be late: most of them count.
 */
enum { TRIES = 21, LATE_US = 200 };

static bool is_late(void *argument)
{
	return shmipc_ticks() >= *(uint64_t *)argument;
}

/* What became of a wait for something that comes late. */
static enum shmipc_spin_result wait_for_late(uint32_t peer_cpu)
{
	uint64_t late = shmipc_ticks() + ticks_of(LATE_US);
	struct shmipc_spin spin;

	shmipc_spin_init(&spin);
	return shmipc_spin_for(&spin, is_late, &late, peer_cpu, LONG_US);
}

static int outcomes(enum shmipc_spin_result wanted, uint32_t peer_cpu)
{
	int found = 0;

	for (int i = 0; i < TRIES; i++) {
		uint64_t now = shmipc_ticks(), end = now + ticks_of(SECONDS * 1000000ULL);

		while (!shmipc_crowd_is_hogging(now) && now < end)
			shmipc_crowd_give_core(&now);
		found += wait_for_late(peer_cpu) == wanted;
	}
	return found;
}

static void beside_a_hog_waits_are_short(void **state)
{
	(void)state;
	assert_in_range(outcomes(SHMIPC_SPIN_LOST, 0), TRIES / 2 + 1, TRIES);
}

static void beside_a_hog_nobody_yields_to_a_peer(void **state)
{
	(void)state;
	assert_in_range(outcomes(SHMIPC_SPIN_SKIPPED, shmipc_spin_cpu()), TRIES / 2 + 1, TRIES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_hog_is_found_and_forgotten, start_hog, end_hog),
		cmocka_unit_test_setup_teardown(beside_a_hog_waits_are_short, start_hog, end_hog),
		cmocka_unit_test_setup_teardown(beside_a_hog_nobody_yields_to_a_peer, start_hog,
						end_hog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
