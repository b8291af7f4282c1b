/* SPDX-License-Identifier: Apache-2.0 */
/* When does an end that owes the kernel a readiness for all that it holds become one that does not?
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "core/layout.h"
#include "core/relaxing.h"
#include "core/spin.h"
#include "tests/stress/pair.h"

enum { RING_BYTES = 4096, MESSAGE = 100, RECEIVES = 8 };

static struct pair pair;

static void say(size_t bytes)
{
	unsigned char out[MESSAGE] = { 0 };

	assert_int_equal(end_send(&pair.client, out, bytes, 0), bytes);
	usleep(2000);
}

/* On the ring, strict as after every attach, nothing unread, and receives wait for a millisecond.
 */
static int open_strict(void **state)
{
	const struct timeval limit = { .tv_usec = 1000 };
	char in[MESSAGE];

	(void)state;
	memset(&pair, 0, sizeof(pair));
	shmipc_spin_set_budget(0);
	pair_open(&pair, true, RING_BYTES);
	pair.client.tx.verified = true;
	pair_consent(&pair);
	say(MESSAGE);
	if (!shmipc_sender_on_ring(&pair.client.tx) ||
	    setsockopt(pair.server.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		return -1;
	shmipc_receiver_strict(&pair.server.rx, true);
	return end_receive(&pair.server, in, MESSAGE, 0) == MESSAGE ? 0 : -1;
}

static int close_it(void **state)
{
	(void)state;
	pair_close(&pair);
	shmipc_spin_set_budget(50);
	return 0;
}

static bool is_strict(void)
{
	return atomic_load(&pair.server.rx.want->want) & SHMIPC_WANT_STRICT;
}

static void wait_in_vain(size_t bytes, int flags)
{
	char in[MESSAGE];

	assert_int_equal(end_receive(&pair.server, in, bytes, flags), -EAGAIN);
}

static void by_receives_that_wait(void **state)
{
	(void)state;
	assert_true(is_strict());
	wait_in_vain(1, 0);
	assert_true(is_strict()); /* one may be chance */
	for (int i = 0; i < RECEIVES; i++)
		wait_in_vain(1, 0);
	assert_false(is_strict());
}

/* A token that came too late for its bytes: it may have woken a wait that we do not see. */
static void send_stale_token(void)
{
	char token = SHMIPC_TOKEN_WAKE;

	atomic_fetch_add(&pair.control->direction[0].tx.tokens_promised, 1);
	assert_int_equal(write(pair.client.fd, &token, 1), 1);
}

static void not_by_receives_that_find_a_token(void **state)
{
	(void)state;
	for (int i = 0; i < RECEIVES; i++) {
		send_stale_token();
		wait_in_vain(1, 0);
	}
	assert_true(is_strict());
}

/* A token that is promised has woken nobody yet: a sender that is that slow is no reason. */
static void by_receives_before_the_token_is_sent(void **state)
{
	char token = SHMIPC_TOKEN_WAKE;

	(void)state;
	for (int i = 0; i < RECEIVES; i++) {
		atomic_fetch_add(&pair.control->direction[0].tx.tokens_promised, 1);
		wait_in_vain(1, 0);
		assert_int_equal(write(pair.client.fd, &token, 1), 1);
		usleep(2000);
		wait_in_vain(0, MSG_PEEK); /* takes it */
	}
	assert_false(is_strict());
}

static void not_by_the_rest_of_a_receive(void **state)
{
	char in[MESSAGE];

	(void)state;
	for (int i = 0; i < RECEIVES; i++) {
		say(MESSAGE / 2);
		assert_int_equal(end_receive(&pair.server, in, MESSAGE, MSG_WAITALL), MESSAGE / 2);
	}
	assert_true(is_strict());
}

/* Whoever looks without waiting and then does not wait by calls of ours begins anew. */
static void not_after_a_look_in_vain(void **state)
{
	(void)state;
	for (int i = 0; i < RECEIVES; i++) {
		wait_in_vain(1, MSG_DONTWAIT);
		wait_in_vain(1, 0);
	}
	assert_true(is_strict());
}

static int asked;

static void not_yet(void)
{
	asked++;
}

static void yes(void)
{
	atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_ALLOWED);
}

/* Whoever knows the process has not decided yet, decides, and takes it back. */
static void not_without_leave(void **state)
{
	(void)state;
	asked = 0;
	shmipc_relaxing_decide_by(not_yet);
	for (int i = 0; i < RECEIVES; i++)
		wait_in_vain(1, 0);
	assert_true(is_strict());
	assert_true(asked > 0);
	shmipc_relaxing_decide_by(yes);
	wait_in_vain(1, 0);
	assert_false(is_strict());
	shmipc_receiver_strict(&pair.server.rx, true);
	asked = 0;
	shmipc_relaxing_decide_by(not_yet);
	atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_FORBIDDEN);
	for (int i = 0; i < RECEIVES; i++)
		wait_in_vain(1, 0);
	assert_true(is_strict());
	assert_int_equal(asked, 0); /* that is for good */
	atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_ALLOWED);
}

#define STRICT(name) cmocka_unit_test_setup_teardown(name, open_strict, close_it)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STRICT(by_receives_that_wait),
		STRICT(not_by_receives_that_find_a_token),
		STRICT(by_receives_before_the_token_is_sent),
		STRICT(not_by_the_rest_of_a_receive),
		STRICT(not_after_a_look_in_vain),
		STRICT(not_without_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
