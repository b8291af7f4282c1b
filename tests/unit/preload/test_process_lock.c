/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads are the first to take a lock of their process, again and again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "preload/process_lock.h"

enum { ROUNDS = 200000, THREADS = 2, LOOKS = 20 };

static struct shim_process_lock lock;
static _Atomic uint32_t round_now, arrived, inside, together;

static void take_it_once(void)
{
	assert_true(shim_process_lock_take(&lock));
	for (int i = 0; i < LOOKS; i++)
		if (atomic_fetch_add(&inside, i == 0) + (i == 0) > 1)
			atomic_store(&together, 1);
	atomic_fetch_sub(&inside, 1);
	shim_process_lock_drop(&lock);
}

static void *take_in_each_round(void *argument)
{
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		while (atomic_load(&round_now) != round)
			;
		take_it_once();
		atomic_fetch_add(&arrived, 1);
	}
	return argument;
}

static void the_first_two_exclude_each_other(void **state)
{
	pthread_t other;

	(void)state;
	shmipc_process_init();
	pthread_create(&other, NULL, take_in_each_round, NULL);
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		/* as in a child of a process in which a thread that is gone here was inside */
		atomic_store(&lock.generation, 0);
		atomic_store(&lock.lock.owner, round % 2 ? 0 : 4000000);
		atomic_store(&arrived, 0);
		atomic_store(&round_now, round);
		take_it_once();
		while (atomic_load(&arrived) < THREADS - 1)
			sched_yield();
	}
	pthread_join(other, NULL);
	assert_int_equal(together, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_first_two_exclude_each_other) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
