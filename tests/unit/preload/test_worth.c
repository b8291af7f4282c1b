/* SPDX-License-Identifier: Apache-2.0 */
/* What became of earlier connections decides from when on the next ones are worth it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "preload/worth.c"

struct shim_config shim_config = { .upgrade_trips = 8,
				   .upgrade_bytes = 512 * 1024,
				   .upgrade_learns = true };

static struct shim_conn conn;

static int start_anew(void **state)
{
	(void)state;
	memset((void *)&conn, 0, sizeof(conn));
	conn.tx.count = &conn.tx.uncounted;
	conn.rx.count = &conn.rx.uncounted;
	for (size_t i = 0; i < sizeof(scores) / sizeof(scores[0]); i++)
		scores[i] = 0;
	asking_us = 0;
	return 0;
}

static uint32_t trips_needed(void)
{
	for (conn.trips = 0; !shim_worth_it(&conn); conn.trips++)
		;
	return conn.trips;
}

static void two_failures_double_it_up_to_a_limit(void **state)
{
	(void)state;
	assert_int_equal(trips_needed(), 8);
	shim_worth_failed(&conn);
	assert_int_equal(trips_needed(), 8);
	shim_worth_failed(&conn);
	assert_int_equal(trips_needed(), 16);
	for (int i = 0; i < 100; i++)
		shim_worth_failed(&conn);
	assert_int_equal(trips_needed(), 8 * 32);
	conn.is_server = true; /* another role has had nothing of it */
	assert_int_equal(trips_needed(), 8);
}

static void what_earned_its_ring_takes_failures_back(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		shim_worth_failed(&conn);
	assert_int_equal(trips_needed(), 32);
	conn.tx.uncounted.ring_messages = 31;
	shim_worth_ended(&conn);
	conn.tx.uncounted.ring_messages = 32;
	shim_worth_ended(&conn);
	assert_int_equal(trips_needed(), 8);
}

static void what_was_kept_from_earning_it_lowers_it(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		shim_worth_failed(&conn);
	conn.trips = 8 + 31;
	for (int i = 0; i < 10; i++)
		shim_worth_missed(&conn);
	assert_int_equal(trips_needed(), 8 * 32);
	conn.trips = 8 + 32;
	for (int i = 0; i < 10; i++)
		shim_worth_missed(&conn);
	assert_int_equal(trips_needed(), 8);
}

static void ask(uint64_t us, int times)
{
	for (int i = 0; i < times; i++)
		shim_worth_asking_took(us * shmipc_ticks_per_us());
}

/* A Unix socket among thousands: to find out who the peer is costs, and has to be paid for. */
static void what_is_dear_to_find_out_has_to_be_paid_for(void **state)
{
	(void)state;
	conn.is_unix = true;
	ask(1000, 1); /* put aside in the middle, perhaps */
	assert_int_equal(trips_needed(), 8);
	ask(1000, 20);
	assert_in_range(trips_needed(), 240, 250);
	conn.trips = 8;
	conn.traffic = 8 * 1024 * 1024;
	assert_true(shim_worth_it(&conn));
	conn.traffic = 7 * 1024 * 1024;
	assert_false(shim_worth_it(&conn));
	conn.traffic = 0;
	conn.is_unix = false;
	assert_int_equal(trips_needed(), 8);
	conn.is_unix = true;
	ask(10, 20);
	assert_int_equal(trips_needed(), 8);
}

static void a_number_that_is_named_stays(void **state)
{
	(void)state;
	shim_config.upgrade_learns = false;
	for (int i = 0; i < 10; i++)
		shim_worth_failed(&conn);
	assert_int_equal(trips_needed(), 8);
	shim_config.upgrade_learns = true;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(two_failures_double_it_up_to_a_limit, start_anew),
		cmocka_unit_test_setup(what_earned_its_ring_takes_failures_back, start_anew),
		cmocka_unit_test_setup(what_was_kept_from_earning_it_lowers_it, start_anew),
		cmocka_unit_test_setup(what_is_dear_to_find_out_has_to_be_paid_for, start_anew),
		cmocka_unit_test_setup(a_number_that_is_named_stays, start_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
