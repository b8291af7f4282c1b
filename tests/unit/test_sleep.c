/* SPDX-License-Identifier: Apache-2.0 */
/* Which sleep does a signal end that came at a bad moment? */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/postpone.h"
#include "core/sleep.h"

static int pair[2];
static int delivered;
static bool restarts;

static void undo_nothing(void *argument)
{
	(void)argument;
}

/* As the handlers of an application do, behind ours. */
static void deliver(void)
{
	delivered++;
	shmipc_postpone.waiting = false;
	shmipc_postpone.ran = true;
	shmipc_postpone.interrupted |= !restarts;
}

static int open_pair(void **state)
{
	(void)state;
	shmipc_postpone_use(deliver, NULL);
	shmipc_postpone = (struct shmipc_postpone){ 0 };
	delivered = 0;
	restarts = false;
	return socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}

static int close_pair(void **state)
{
	(void)state;
	shmipc_postpone = (struct shmipc_postpone){ 0 };
	return close(pair[0]) | close(pair[1]);
}

static long receive(int flags)
{
	char byte;

	return SHMIPC_SLEEP(undo_nothing, NULL, SYS_recvfrom, pair[0], &byte, 1, flags, 0, 0);
}

static long nap(void)
{
	const struct timespec time = { 0, 1000000 };

	return SHMIPC_SLEEP(undo_nothing, NULL, SYS_nanosleep, &time, 0, 0, 0, 0, 0);
}

static void say_byte(void)
{
	assert_int_equal(send(pair[1], "x", 1, 0), 1);
}

static void a_signal_ends_a_sleep(void **state)
{
	(void)state;
	shmipc_postpone_begin();
	shmipc_postpone.waiting = true;
	assert_int_equal(receive(0), -EINTR);
	assert_int_equal(delivered, 1);
	assert_false(shmipc_sleep_restarts());
	assert_true(shmipc_sleep_was_no_call());
	/* and no other one */
	assert_int_equal(nap(), 0);
	shmipc_postpone_end();
}

static void what_needs_no_sleep_is_done(void **state)
{
	(void)state;
	say_byte();
	shmipc_postpone_begin();
	shmipc_postpone.waiting = true;
	assert_int_equal(receive(0), 1);
	/* the same call wants to sleep after all */
	assert_int_equal(receive(0), -EINTR);
	assert_int_equal(delivered, 1);
	shmipc_postpone_end();
}

static void a_call_that_never_sleeps_is_not_ended(void **state)
{
	(void)state;
	shmipc_postpone_begin();
	shmipc_postpone.waiting = true;
	assert_int_equal(receive(MSG_DONTWAIT), -EAGAIN);
	shmipc_postpone_end();
	assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	shmipc_postpone_begin();
	shmipc_postpone.waiting = true;
	assert_int_equal(receive(0), -EAGAIN);
	shmipc_postpone_end();
	assert_int_equal(delivered, 2);
}

/* A handler that asks for a restart ends no receive, but a nap, which its caller repeats. */
static void a_restart_ends_only_waits(void **state)
{
	(void)state;
	restarts = true;
	say_byte();
	shmipc_postpone_begin();
	shmipc_postpone.waiting = true;
	assert_int_equal(receive(0), 1);
	assert_int_equal(nap(), -EINTR);
	assert_true(shmipc_sleep_restarts());
	assert_int_equal(nap(), 0);
	shmipc_postpone_end();
}

static void the_next_call_begins_anew(void **state)
{
	(void)state;
	say_byte();
	shmipc_postpone_begin();
	shmipc_postpone.waiting = true;
	assert_int_equal(receive(0), 1);
	shmipc_postpone_end();
	shmipc_postpone_begin();
	assert_int_equal(nap(), 0);
	shmipc_postpone_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_signal_ends_a_sleep, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(what_needs_no_sleep_is_done, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(a_call_that_never_sleeps_is_not_ended, open_pair,
						close_pair),
		cmocka_unit_test_setup_teardown(a_restart_ends_only_waits, open_pair, close_pair),
		cmocka_unit_test_setup_teardown(the_next_call_begins_anew, open_pair, close_pair),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
