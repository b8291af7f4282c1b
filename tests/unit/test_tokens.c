/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* Wake tokens: the kernel says readable when it must, and no token is left over. */
#include "tests/unit/conversation.h"

#include <pthread.h>
#include <sys/ioctl.h>

/* ---- wake-ups ---- */

static void strict_keeps_the_kernel_true(void)
{
	pair_consent(&pair);
	for (int i = 0; i < 300; i++) {
		say(20, 0);
		assert_true(kernel_readable());
		hear(5, 5);
		assert_true(kernel_readable());
		hear(10, 10);
		assert_true(kernel_readable());
		hear(5, 5); /* exactly all */
		assert_false(kernel_readable());
		if (i > 20)
			i += 20;
	}
}
BOTH(strict_keeps_the_kernel_true)

/* An edge-triggered reader that is always one message behind goes on getting edges. */
static void edges_never_end(void)
{
	uint64_t tokens;

	pair_consent(&pair);
	pair_fill(out, 10, sent, 0);
	say(10, 0);
	for (int i = 0; i < 200; i++) {
		tokens = atomic_load(&pair.client.tx.count->tokens);
		pair_fill(out, 10, sent, 0);
		assert_int_equal(end_send(&pair.client, out, 10, 0), 10);
		sent += 10;
		assert_int_equal(atomic_load(&pair.client.tx.count->tokens), tokens + 1);
		hear(10, 10);
		assert_true(kernel_readable());
	}
}
BOTH(edges_never_end)

static void relaxed_sends_tokens_to_sleepers_only(void)
{
	pair_consent(&pair);
	shmipc_receiver_relax(&pair.server.rx);
	say(100, 0);
	assert_false(kernel_readable());
	hear(BIG, 100);
	shmipc_receiver_arm(&pair.server.rx);
	assert_false(shmipc_receiver_hint(&pair.server.rx));
	say(100, 0);
	say(100, 0);
	assert_true(kernel_readable());
	assert_int_equal(atomic_load(&pair.client.tx.count->tokens), 1);
	shmipc_receiver_disarm(&pair.server.rx);
	assert_true(shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false));
	hear(BIG, 200);
	assert_false(shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false));
	assert_false(kernel_readable());
}
BOTH(relaxed_sends_tokens_to_sleepers_only)

static _Atomic uint64_t woken;

static void say_to_sleepers(int sleepers, uint64_t sleep, uint32_t tokens)
{
	uint64_t before = atomic_load(&pair.client.tx.count->tokens);

	for (int i = 0; i < sleepers; i++)
		shmipc_receiver_arm(&pair.server.rx);
	shmipc_receiver_lie_down(&pair.server.rx, sleep, -1);
	assert_false(shmipc_receiver_hint(&pair.server.rx));
	say(100, 0);
	assert_true(shmipc_receiver_hint(&pair.server.rx));
	assert_int_equal(atomic_load(&pair.client.tx.count->tokens) - before, tokens);
	shmipc_receiver_get_up(&pair.server.rx);
	for (int i = 0; i < sleepers; i++)
		shmipc_receiver_disarm(&pair.server.rx);
	hear(BIG, 100);
	assert_false(shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false));
}

/* Another connection's token has ended sleep 7: whoever lies in it looks at this one too. */
static void one_token_ends_a_sleep_together(void)
{
	pair_consent(&pair);
	shmipc_receiver_relax(&pair.server.rx);
	say(100, 0);
	hear(BIG, 100);
	say_to_sleepers(1, 7, 1); /* nobody has said whose tokens are counted */
	pair.client.tx.woken = &woken;
	atomic_store(&woken, 0);
	say_to_sleepers(1, 7, 1);
	assert_int_equal(atomic_load(&woken), 7);
	say_to_sleepers(1, 7, 0);
	say_to_sleepers(1, 8, 1); /* the next one */
	assert_int_equal(atomic_load(&woken), 8);
	say_to_sleepers(2, 8, 1); /* one of them lies elsewhere */
	atomic_store(&woken, 0);
	say_to_sleepers(1, 0, 1);
	assert_int_equal(atomic_load(&woken), 0);
	atomic_store(&woken, 8);
	shmipc_receiver_strict(&pair.server.rx, false);
	say_to_sleepers(1, 8, 1);
}
BOTH(one_token_ends_a_sleep_together)

static int roused_in;

static void rouse(int where)
{
	roused_in = where;
}

static void lie_down(uint64_t sleep, int where)
{
	roused_in = -1;
	shmipc_receiver_arm(&pair.server.rx);
	shmipc_receiver_lie_down(&pair.server.rx, sleep, where);
	say(100, 0);
	assert_int_equal(atomic_load(&woken), sleep);
}

static void stand_up(void)
{
	shmipc_receiver_get_up(&pair.server.rx);
	shmipc_receiver_disarm(&pair.server.rx);
}

/* Another thread takes the token off: who sleeps there is told, once, and by no token after that.
 */
static void a_taken_token_rouses_the_sleeper(void)
{
	pair_consent(&pair);
	shmipc_receiver_relax(&pair.server.rx);
	say(100, 0);
	hear(BIG, 100);
	pair.client.tx.woken = &woken;
	atomic_store(&woken, 0);
	shmipc_receiver_rouse = rouse;
	lie_down(21, 5);
	hear(BIG, 100);
	assert_int_equal(roused_in, -1); /* bytes, and the token lies there */
	assert_false(shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(roused_in, 5);
	roused_in = -1;
	say(100, 0); /* it lies alone, and is sent a token of its own */
	assert_true(kernel_readable());
	hear(BIG, 100);
	assert_false(shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(roused_in, -1);
	stand_up();
	lie_down(22, 6);
	stand_up(); /* awake, it takes it itself */
	hear(BIG, 100);
	assert_false(shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(roused_in, -1);
	lie_down(23, 7);
	shmipc_receiver_disturb(&pair.server.rx); /* it hears of this one no more */
	assert_int_equal(roused_in, 7);
	stand_up();
}
BOTH(a_taken_token_rouses_the_sleeper)

/* It has ended its own direction: only the answer to a byte tells that it has died since. */
static void a_half_closed_peer_is_asked(void)
{
	pair_consent(&pair);
	shmipc_receiver_relax(&pair.server.rx);
	say(100, 0);
	hear(BIG, 100);
	pair.client.tx.woken = &woken;
	atomic_store(&woken, 7);
	say_to_sleepers(1, 7, 0);
	atomic_fetch_or(&pair.server.tx.tx->flags, SHMIPC_TX_FIN);
	pair.client.tx.half_closed = true;
	say_to_sleepers(1, 7, pair.client.tx.is_unix ? 0 : 1);
}
BOTH(a_half_closed_peer_is_asked)

/* The sender promises first, and may be anywhere before it sends. */
static void a_promised_token_is_under_way(void)
{
	struct shmipc_receiver *r = &pair.server.rx;
	_Atomic uint32_t *promised;
	int64_t besides;

	pair_consent(&pair);
	promised = &pair.client.tx.tx->tokens_promised;
	say(10, 0);
	hear(100, 10);
	besides = shmipc_receiver_besides_kernel(r);
	assert_int_equal(shmipc_receiver_tokens_under_way(r, pair.server.fd), 0);
	atomic_fetch_add(promised, 1);
	assert_int_equal(shmipc_receiver_besides_kernel(r), besides - 1);
	assert_int_equal(shmipc_receiver_tokens_under_way(r, pair.server.fd), 1);
	assert_int_equal(send(pair.client.fd, "w", 1, 0), 1);
	let_arrive();
	assert_int_equal(shmipc_receiver_tokens_under_way(r, pair.server.fd), 0);
	pair.client.tx.tokens++;
}
BOTH(a_promised_token_is_under_way)

static void close_leaves_no_token(void)
{
	int there = -1;

	pair_consent(&pair);
	for (int i = 0; i < 20; i++)
		say(10, 0); /* strict with edges: a token for each */
	assert_true(kernel_readable());
	got = 200;
	assert_true(shmipc_receiver_close(&pair.server.rx, pair.server.fd)); /* unread bytes */
	ioctl(pair.server.fd, FIONREAD, &there);
	assert_int_equal(there, 0);
	pair_fill(out, 10, 0, 0);
	end_send(&pair.client, out, 10, 0); /* closed: no token any more, the kernel's business */
	assert_int_equal(pair.client.tx.tokens, atomic_load(&pair.server.rx.taken));
}
BOTH(close_leaves_no_token)

/* ---- two threads, small enough for ThreadSanitizer ---- */

enum { DUPLEX_BYTES = 300 * 1000 };

static void *pour(void *argument)
{
	struct end *e = argument;
	unsigned int direction = e == &pair.server;
	unsigned char *data = malloc(BIG);
	uint64_t at = 0, random = 99 + direction;

	while (at < DUPLEX_BYTES) {
		size_t bytes = 1 + pair_random(&random) % 6000;

		bytes = bytes < DUPLEX_BYTES - at ? bytes : DUPLEX_BYTES - at;
		pair_fill(data, bytes, at, direction);
		if (end_send(e, data, bytes, 0) != (ssize_t)bytes)
			break;
		at += bytes;
	}
	free(data);
	end_finish(e);
	return (void *)(uintptr_t)at;
}

static void *drink(void *argument)
{
	struct end *e = argument;
	unsigned int direction = e == &pair.client;
	unsigned char *data = malloc(BIG);
	uint64_t at = 0, random = 77 + direction;

	for (;;) {
		ssize_t n = end_receive(e, data, 1 + pair_random(&random) % 6000, 0);

		if (n <= 0 || pair_check(data, (size_t)n, at, direction) != (size_t)n)
			break;
		at += (uint64_t)n;
	}
	free(data);
	return (void *)(uintptr_t)at;
}

static void both_ways_at_once(void)
{
	pthread_t threads[4];
	void *result;

	pair_consent(&pair);
	pthread_create(&threads[0], NULL, pour, &pair.client);
	pthread_create(&threads[1], NULL, drink, &pair.server);
	pthread_create(&threads[2], NULL, pour, &pair.server);
	pthread_create(&threads[3], NULL, drink, &pair.client);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		assert_int_equal((uintptr_t)result, DUPLEX_BYTES);
	}
}
BOTH(both_ways_at_once)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(a_promised_token_is_under_way),
		TESTS(close_leaves_no_token),
		TESTS(strict_keeps_the_kernel_true),
		TESTS(edges_never_end),
		TESTS(relaxed_sends_tokens_to_sleepers_only),
		TESTS(one_token_ends_a_sleep_together),
		TESTS(a_taken_token_rouses_the_sleeper),
		TESTS(a_half_closed_peer_is_asked),
		TESTS(both_ways_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
