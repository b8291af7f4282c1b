/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* Cuts at exact offsets, to the ring and back: in the middle of a stream, again and again, for
 * good, and where positions wrap. */
#include "tests/unit/conversation.h"

/* ---- cuts ---- */

static void upgrades_behind_unread_kernel_bytes(void)
{
	say(1000, 0);
	pair_consent(&pair);
	say(500, 0);
	assert_true(shmipc_sender_on_ring(&pair.client.tx));
	assert_int_equal(atomic_load(&pair.control->direction[0].tx.cut), 1000);
	assert_int_equal(pair.client.tx.tail, 500);
	hear(300, 300);
	hear(BIG, 1200); /* over the cut in one call */
	hear_nothing();
}
BOTH(upgrades_behind_unread_kernel_bytes)

static void stays_by_the_kernel_without_consent(void)
{
	say(100, 0);
	say(100, 0);
	assert_false(shmipc_sender_on_ring(&pair.client.tx));
	hear(BIG, 200);
	shmipc_receiver_consent(&pair.server.rx, got);
	pair.client.tx.settled = false;
	say(100, 0);
	assert_false(shmipc_sender_on_ring(&pair.client.tx));
	hear(BIG, 100);
}
BOTH(stays_by_the_kernel_without_consent)

/* Bytes moved behind our back on a Unix socket: the counts of the two ends never agree. */
static void stays_by_the_kernel_when_counts_differ(void **state)
{
	(void)state;
	conversation_open(true);
	pair.client.tx.verified = false;
	assert_int_equal(send(pair.client.fd, out, 3, 0), 3);
	assert_int_equal(recv(pair.server.fd, in, 2, 0), 2);
	pair_consent(&pair);
	shmipc_sender_serve(&pair.client.tx, pair.client.fd, false);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(end_send(&pair.client, out, 10, 0), 10);
		assert_true(recv(pair.server.fd, in, BIG, 0) > 0);
	}
	assert_false(shmipc_sender_on_ring(&pair.client.tx));
	pair_close(&pair);
}

static void a_full_ring_overflows_and_comes_back(void)
{
	pair_consent(&pair);
	for (int round = 0; round < 5; round++) {
		say(RING_BYTES + 3000, MSG_DONTWAIT);
		assert_false(shmipc_sender_on_ring(&pair.client.tx));
		say(700, MSG_DONTWAIT);
		hear(5, 5);
		hear(RING_BYTES - 7, RING_BYTES - 7);
		hear(BIG, 3702); /* ring, LAST, kernel */
		hear_nothing();
		say(10, 0);
		assert_true(shmipc_sender_on_ring(&pair.client.tx));
		hear(BIG, 10);
	}
}
BOTH(a_full_ring_overflows_and_comes_back)

static void two_cuts_unseen(void)
{
	say(10, 0);
	pair_consent(&pair);
	say(20, 0);
	cut_away();
	say(30, 0);
	say(40, 0); /* the receiver has not passed: no third cut */
	assert_int_equal(pair.client.tx.phase, 2);
	hear(BIG, 100);
	assert_int_equal(atomic_load(&pair.server.rx.phase), 2);
	say(50, 0);
	assert_int_equal(pair.client.tx.phase, 3);
	hear(BIG, 50);
}
BOTH(two_cuts_unseen)

/* LAST is read before the sender's store of the phase: the cut must not be passed twice. */
static void last_before_the_phase(void)
{
	_Atomic uint32_t *phase = &pair.control->direction[0].tx.phase;

	pair_consent(&pair);
	say(100, 0);
	hear(BIG, 100);
	cut_away();
	atomic_store(phase, 1);
	hear_nothing();
	assert_int_equal(atomic_load(&pair.server.rx.phase), 2);
	hear_nothing();
	assert_int_equal(atomic_load(&pair.server.rx.phase), 2);
	atomic_store(phase, 2);
	say(100, 0);
	hear(BIG, 100);
}
BOTH(last_before_the_phase)

/* The end is found by a look that began before the cut. */
static void the_end_does_not_overtake_a_cut(void)
{
	pair_consent(&pair);
	shmipc_receiver_relax(&pair.server.rx);
	say(100, 0);
	end_finish(&pair.client);
	let_arrive();
	shmipc_receiver_relax(&pair.server.rx);
	hear(BIG, 100);
	assert_int_equal(end_receive(&pair.server, in, BIG, 0), 0);
}
BOTH(the_end_does_not_overtake_a_cut)

/* ---- downgrade and stop ---- */

static void downgrade_for_good(void)
{
	pair_consent(&pair);
	say(100, 0);
	shmipc_sender_downgrade(&pair.client.tx, pair.client.fd);
	say(100, 0);
	hear(BIG, 200);
	say(100, 0);
	assert_false(shmipc_sender_on_ring(&pair.client.tx));
	hear(BIG, 100);
}
BOTH(downgrade_for_good)

/* An edge of what came with it may be still to be told. */
static void dropped_tokens_leave_last(void)
{
	char value = 0;

	pair_consent(&pair);
	say(100, 0);
	hear(BIG, 100); /* on the ring */
	say(100, 0);
	cut_away();
	let_arrive();
	shmipc_receiver_drop_tokens(&pair.server.rx, pair.server.fd,
				    shmipc_receiver_arrived(&pair.server.rx), false);
	assert_int_equal(recv(pair.server.fd, &value, 1, MSG_PEEK | MSG_DONTWAIT), 1);
	assert_int_equal(value, SHMIPC_TOKEN_LAST);
	say(100, 0);
	hear(BIG, 200);
}
BOTH(dropped_tokens_leave_last)

/* After a stop the socket is a plain stream for whoever reads it. */
static void stop_resends_what_was_not_read(void)
{
	pair_consent(&pair);
	say(100, 0);
	say(400, 0);
	hear(150, 150);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_false(kernel_readable()); /* no token is left */
	shmipc_sender_serve(&pair.client.tx, pair.client.fd, false);
	let_arrive();
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(shmipc_receiver_leave_ring(&pair.server.rx, pair.server.fd, false), 0);
	say(50, 0);
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 400);
}
BOTH(stop_resends_what_was_not_read)

static void stop_of_an_empty_ring_needs_nobody(void)
{
	pair_consent(&pair);
	say(100, 0);
	hear(BIG, 100);
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_false(kernel_readable());
	say(70, 0);
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 70);
}
BOTH(stop_of_an_empty_ring_needs_nobody)

static void stop_by_the_kernel(void)
{
	say(100, 0);
	pair_consent(&pair);
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	say(70, 0);
	assert_false(shmipc_sender_on_ring(&pair.client.tx));
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 170);
}
BOTH(stop_by_the_kernel)

static void stop_after_last_reads_to_the_end_of_the_ring(void)
{
	pair_consent(&pair);
	say(100, 0);
	cut_away();
	say(50, 0);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	hear(100, 100);
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	check(recv(pair.server.fd, in, BIG, MSG_DONTWAIT), 50);
}
BOTH(stop_after_last_reads_to_the_end_of_the_ring)

/* ---- positions just below a wrap ---- */

static void start_at(uint64_t position, uint32_t phase, uint32_t tokens)
{
	struct shmipc_direction *d = &pair.control->direction[0];
	struct shmipc_sender *s = &pair.client.tx;
	struct shmipc_receiver *r = &pair.server.rx;

	s->tail = s->head = s->base = s->restart_at = position;
	s->phase = phase;
	s->tokens = tokens;
	atomic_store(&s->kernel_bytes, position);
	atomic_store(&r->kernel_read, position);
	atomic_store(&r->head, position);
	atomic_store(&r->phase, phase);
	atomic_store(&r->taken, tokens);
	atomic_store(&d->tx.tail, position);
	atomic_store(&d->tx.base, position);
	atomic_store(&d->tx.phase, phase);
	atomic_store(&d->tx.tokens_promised, tokens);
	atomic_store(&d->rx.head, position);
	atomic_store(&d->rx.phase, phase);
	atomic_store(&d->rx.tokens_taken, tokens);
}

static void wraps(void)
{
	static const uint64_t positions[] = { UINT32_MAX - 5, (uint64_t)INT64_MAX - 5000 };

	for (size_t i = 0; i < 2; i++) {
		start_at(positions[i], UINT32_MAX - 1, UINT32_MAX - 2);
		pair_consent(&pair);
		for (int k = 0; k < 40; k++) {
			say(RING_BYTES + 500, MSG_DONTWAIT);
			hear(BIG, RING_BYTES + 500);
			say(100, 0);
			say(100, 0);
			hear(BIG, 200);
			if (k == 4)
				k = 38;
		}
		hear_nothing();
	}
}
BOTH(wraps)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(upgrades_behind_unread_kernel_bytes),
		TESTS(stays_by_the_kernel_without_consent),
		cmocka_unit_test(stays_by_the_kernel_when_counts_differ),
		TESTS(a_full_ring_overflows_and_comes_back),
		TESTS(two_cuts_unseen),
		TESTS(last_before_the_phase),
		TESTS(the_end_does_not_overtake_a_cut),
		TESTS(downgrade_for_good),
		TESTS(dropped_tokens_leave_last),
		TESTS(stop_resends_what_was_not_read),
		TESTS(stop_of_an_empty_ring_needs_nobody),
		TESTS(stop_by_the_kernel),
		TESTS(stop_after_last_reads_to_the_end_of_the_ring),
		TESTS(wraps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
