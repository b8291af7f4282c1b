/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* A receiver that stops while tokens, LAST or the sender's next call are still under way. */
#include <pthread.h>

#include "tests/unit/conversation.h"

/* A sender that lost its processor between its promise and the byte. */
static void promise_only(void)
{
	pair.client.tx.tokens++;
	atomic_store(&pair.client.tx.tx->tokens_promised, pair.client.tx.tokens);
}

static void stop_waits_for_a_token_under_way(void)
{
	pair_consent(&pair);
	say(100, 0);
	hear(BIG, 100);
	promise_only();
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(send(pair.client.fd, "w", 1, 0), 1);
	let_arrive();
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_false(kernel_readable());
	say(70, 0);
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 70);
}
BOTH(stop_waits_for_a_token_under_way)

/* It had not seen the stop when it decided to leave the ring. */
static void stop_meets_last_under_way(void)
{
	pair_consent(&pair);
	say(100, 0);
	hear(40, 40);
	promise_only();
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(send(pair.client.fd, "L", 1, 0), 1);
	pair.client.tx.phase++;
	atomic_store(&pair.client.tx.tx->phase, pair.client.tx.phase);
	let_arrive();
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	say(50, 0);
	hear(BIG, 110);
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	say(70, 0);
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 70);
}
BOTH(stop_meets_last_under_way)

/* No foreign byte for a call of ours either: the stream ends in an error. */
static void token_that_never_comes_breaks_the_stream(void)
{
	pair_consent(&pair);
	say(100, 0);
	hear(BIG, 100);
	promise_only();
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(end_receive(&pair.server, in, BIG, MSG_DONTWAIT), -ECONNRESET);
}
BOTH(token_that_never_comes_breaks_the_stream)

/* The token behind them cannot be called back, so the ring is read by the rules and nothing of it
 * is sent again. */
static void stop_before_unread_kernel_bytes(void)
{
	say(1000, 0);
	pair_consent(&pair);
	say(500, 0);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	shmipc_sender_serve(&pair.client.tx, pair.client.fd, false);
	say(50, 0);
	hear(BIG, 1550);
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	say(70, 0);
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 70);
}
BOTH(stop_before_unread_kernel_bytes)

/* The sender makes no call: the receiver, by a copy of its socket, does its part. */
static void receiver_helps_a_silent_sender(void)
{
	pair_consent(&pair);
	say(400, 0);
	hear(150, 150);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	shmipc_receiver_help(&pair.server.rx, pair.client.fd, false);
	let_arrive();
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 250);
	got += 250;
	say(50, 0); /* nothing is sent again */
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 50);
}
BOTH(receiver_helps_a_silent_sender)

static void nobody_helps_a_sender_at_work(void)
{
	pair_consent(&pair);
	say(400, 0);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	atomic_fetch_or(&pair.control->direction[0].tx.flags, SHMIPC_TX_SERVING);
	shmipc_receiver_help(&pair.server.rx, pair.client.fd, false);
	assert_false(kernel_readable());
	shmipc_sender_serve(&pair.client.tx, pair.client.fd, false);
	let_arrive();
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 400);
}
BOTH(nobody_helps_a_sender_at_work)

static void *help_for_a_while(void *argument)
{
	usleep(20000);
	atomic_fetch_and(&pair.control->direction[0].wait.want, ~(uint32_t)SHMIPC_WANT_HELPING);
	return argument;
}

static void sender_waits_for_its_helper(void)
{
	pthread_t helper;

	pair_consent(&pair);
	say(400, 0);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	atomic_fetch_or(&pair.control->direction[0].wait.want, SHMIPC_WANT_HELPING);
	pthread_create(&helper, NULL, help_for_a_while, NULL);
	shmipc_sender_serve(&pair.client.tx, pair.client.fd, false);
	assert_false(atomic_load(&pair.control->direction[0].wait.want) & SHMIPC_WANT_HELPING);
	pthread_join(helper, NULL);
	let_arrive();
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 400);
}
BOTH(sender_waits_for_its_helper)

/* Others will send on this socket: what was not read goes before that, or they may not. */
static void a_sender_that_leaves_serves_the_stop(void)
{
	pair_consent(&pair);
	say(400, 0);
	hear(150, 150);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(shmipc_sender_downgrade(&pair.client.tx, pair.client.fd), 0);
	assert_int_equal(shmipc_sender_downgrade(&pair.client.tx, pair.client.fd), 0);
	let_arrive();
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 250);
}
BOTH(a_sender_that_leaves_serves_the_stop)

static void a_sender_that_owes_has_not_left(void)
{
	static char filling[BIG];
	ssize_t n = 0;

	pair_consent(&pair);
	say(400, 0);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	while (n >= 0)
		n = send(pair.client.fd, filling, sizeof(filling), MSG_DONTWAIT);
	assert_int_equal(shmipc_sender_downgrade(&pair.client.tx, pair.client.fd), -EAGAIN);
	assert_true(shmipc_sender_owes(&pair.client.tx));
	n = 0;
	while (shmipc_sender_downgrade(&pair.client.tx, pair.client.fd) == -EAGAIN)
		if ((n = recv(pair.server.fd, in, BIG, MSG_DONTWAIT)) < 0)
			usleep(1000);
	assert_false(shmipc_sender_owes(&pair.client.tx));
}
BOTH(a_sender_that_owes_has_not_left)

/* It was killed between sending and counting. */
static void nothing_follows_a_helper_that_died(void)
{
	pair_consent(&pair);
	say(400, 0);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	atomic_fetch_or(&pair.control->direction[0].wait.want,
			SHMIPC_WANT_HELPING | SHMIPC_WANT_FAILED);
	assert_int_equal(end_send(&pair.client, out, 10, 0), -ECONNRESET);
	let_arrive();
	assert_false(kernel_readable());
}
BOTH(nothing_follows_a_helper_that_died)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(stop_waits_for_a_token_under_way),
		TESTS(stop_meets_last_under_way),
		TESTS(token_that_never_comes_breaks_the_stream),
		TESTS(stop_before_unread_kernel_bytes),
		TESTS(receiver_helps_a_silent_sender),
		TESTS(nobody_helps_a_sender_at_work),
		TESTS(sender_waits_for_its_helper),
		TESTS(a_sender_that_leaves_serves_the_stop),
		TESTS(a_sender_that_owes_has_not_left),
		TESTS(nothing_follows_a_helper_that_died),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
