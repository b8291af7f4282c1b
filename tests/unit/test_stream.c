/* SPDX-License-Identifier: Apache-2.0 */
/* Sender and receiver over real sockets: cuts at exact offsets, tokens, the end, and peers that
 * lie. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>

#include "core/spin.h"
#include "tests/stress/pair.h"

enum { RING_BYTES = 4096, BIG = 64 * 1024 };

static struct pair pair;
static unsigned char out[BIG], in[BIG];
static uint64_t sent, got;

static void open_pair(bool is_unix)
{
	memset(&pair, 0, sizeof(pair));
	sent = got = 0;
	pair_open(&pair, is_unix, RING_BYTES);
	pair.client.tx.verified = true;
}

/* Loopback TCP delivers at once, but not always before the call returns. */
static void let_arrive(void)
{
	usleep(2000);
}

static void say(size_t bytes, int flags)
{
	pair_fill(out, bytes, sent, 0);
	assert_int_equal(end_send(&pair.client, out, bytes, flags), bytes);
	sent += bytes;
	let_arrive();
}

static void check(ssize_t n, size_t bytes)
{
	assert_int_equal(n, bytes);
	assert_int_equal(pair_check(in, bytes, got, 0), bytes);
}

static void hear(size_t room, size_t bytes)
{
	check(end_receive(&pair.server, in, room, MSG_DONTWAIT), bytes);
	got += bytes;
}

static void hear_nothing(void)
{
	assert_int_equal(end_receive(&pair.server, in, BIG, MSG_DONTWAIT), -EAGAIN);
}

static bool kernel_readable(void)
{
	struct pollfd real = { .fd = pair.server.fd, .events = POLLIN };

	return poll(&real, 1, 0) > 0;
}

static void cut_away(void)
{
	assert_int_equal(shmipc_sender_downgrade(&pair.client.tx, pair.client.fd), 0);
	pair.client.tx.no_more_ring = false;
	let_arrive();
}

#define BOTH(name)                            \
	static void name##_unix(void **state) \
	{                                     \
		(void)state;                  \
		open_pair(true);              \
		name();                       \
		pair_close(&pair);            \
	}                                     \
	static void name##_tcp(void **state)  \
	{                                     \
		(void)state;                  \
		open_pair(false);             \
		name();                       \
		pair_close(&pair);            \
	}

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
	open_pair(true);
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

/* ---- flags ---- */

static void peeks_over_a_cut(void)
{
	say(100, 0);
	pair_consent(&pair);
	say(200, 0);
	check(end_receive(&pair.server, in, 50, MSG_PEEK), 50);
	check(end_receive(&pair.server, in, BIG, MSG_PEEK), 300);
	check(end_receive(&pair.server, in, BIG, MSG_PEEK | MSG_DONTWAIT), 300);
	hear(150, 150);
	cut_away();
	say(80, 0);
	check(end_receive(&pair.server, in, BIG, MSG_PEEK), 230); /* over tokens and LAST */
	check(end_receive(&pair.server, in, 160, MSG_PEEK), 160);
	hear(150, 150);
	check(end_receive(&pair.server, in, BIG, MSG_PEEK), 80);
	hear(BIG, 80);
}
BOTH(peeks_over_a_cut)

static void *say_late(void *argument)
{
	for (int i = 0; i < 10; i++) {
		usleep(3000);
		say(100, 0);
	}
	return argument;
}

static void waits_for_all(int flags)
{
	pthread_t late;

	pair_consent(&pair);
	say(100, 0);
	pthread_create(&late, NULL, say_late, NULL);
	check(end_receive(&pair.server, in, 1100, MSG_WAITALL | flags), 1100);
	pthread_join(late, NULL);
	if (flags & MSG_PEEK)
		check(end_receive(&pair.server, in, 1100, MSG_WAITALL), 1100);
	got += 1100;
	end_finish(&pair.client);
	assert_int_equal(end_receive(&pair.server, in, 100, MSG_WAITALL), 0);
}

static void waits_for_all_taking(void)
{
	waits_for_all(0);
}
BOTH(waits_for_all_taking)

static void waits_for_all_peeking(void **state)
{
	(void)state;
	open_pair(false);
	waits_for_all(MSG_PEEK);
	pair_close(&pair);
}

static void a_look_at_a_unix_stream_waits_for_nothing(void **state)
{
	(void)state;
	open_pair(true);
	pair_consent(&pair);
	say(100, 0);
	check(end_receive(&pair.server, in, 1100, MSG_WAITALL | MSG_PEEK), 100);
	hear(BIG, 100);
	pair_close(&pair);
}

static void truncates_as_tcp_does(void **state)
{
	(void)state;
	open_pair(false);
	say(100, 0);
	pair_consent(&pair);
	say(100, 0);
	memset(in, 7, sizeof(in));
	assert_int_equal(end_receive(&pair.server, in, 150, MSG_TRUNC), 150);
	assert_int_equal(in[0], 7);
	assert_int_equal(in[149], 7);
	got = 150;
	hear(BIG, 50);
	pair_close(&pair);
}

static void control_data_is_empty_by_the_ring(void)
{
	char control[64];
	struct iovec iov = { in, BIG };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = 64
	};
	struct shmipc_io io = { .fd = pair.server.fd, .message = &message };

	pair_consent(&pair);
	say(100, 0);
	shmipc_cursor_init(&io.cursor, &iov, 1);
	check(shmipc_receiver_receive(&pair.server.rx, &io), 100);
	assert_int_equal(message.msg_controllen, 0);
	got += 100;
}
BOTH(control_data_is_empty_by_the_ring)

static void a_receive_time_out_covers_all_sleeps(void)
{
	struct timeval limit = { 0, 60000 };
	struct timespec a, b;
	pthread_t late;

	pair_consent(&pair);
	setsockopt(pair.server.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_int_equal(end_receive(&pair.server, in, 100, 0), -EAGAIN);
	pthread_create(&late, NULL, say_late, NULL);
	assert_in_range(end_receive(&pair.server, in, 4000, MSG_WAITALL), 100, 1000);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_in_range((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 110, 400);
	pthread_join(late, NULL);
}
BOTH(a_receive_time_out_covers_all_sleeps)

/* ---- the end ---- */

static void ends_after_the_ring_is_drained(void)
{
	pair_consent(&pair);
	say(300, 0);
	end_finish(&pair.client);
	end_close(&pair.client);
	let_arrive();
	hear(100, 100);
	hear(BIG, 200);
	assert_int_equal(end_receive(&pair.server, in, BIG, 0), 0);
	assert_int_equal(end_receive(&pair.server, in, BIG, MSG_DONTWAIT), 0);
}
BOTH(ends_after_the_ring_is_drained)

static void a_reset_is_told_once(void)
{
	pair_consent(&pair);
	say(300, 0);
	shmipc_sender_finish(&pair.client.tx, SHMIPC_TX_RESET);
	end_close(&pair.client);
	let_arrive();
	hear(BIG, 300);
	assert_int_equal(end_receive(&pair.server, in, BIG, 0), -ECONNRESET);
	assert_int_equal(end_receive(&pair.server, in, BIG, 0), 0);
}
BOTH(a_reset_is_told_once)

static void a_dead_reader_becomes_an_error(void)
{
	ssize_t n = 1;

	pair_consent(&pair);
	say(100, 0);
	hear(BIG, 100);
	close(pair.server.fd); /* as a kill would */
	pair.server.fd = -1;
	for (int i = 0; i < 10 && n > 0; i++) {
		n = end_send(&pair.client, out, 100, 0);
		usleep(2000);
	}
	assert_true(n == -EPIPE || n == -ECONNRESET);
}
BOTH(a_dead_reader_becomes_an_error)

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

static void pending_counts_no_tokens(void)
{
	say(30, 0);
	pair_consent(&pair);
	say(100, 0);
	assert_int_equal(shmipc_receiver_pending(&pair.server.rx, pair.server.fd, false), 130);
	hear(80, 80);
	assert_int_equal(shmipc_receiver_pending(&pair.server.rx, pair.server.fd, false), 50);
	hear(50, 50);
	assert_int_equal(shmipc_receiver_pending(&pair.server.rx, pair.server.fd, false), 0);
	cut_away();
	say(60, 0);
	assert_int_equal(shmipc_receiver_pending(&pair.server.rx, pair.server.fd, false), 60);
}
BOTH(pending_counts_no_tokens)

/* ---- how far a conversation strays ---- */

/* An empty ring starts again: small messages that are read one by one stay in its first bytes. */
static void small_talk_stays_at_the_start(void)
{
	enum { MESSAGE = 300, STRAYS = 2048 + MESSAGE };
	const unsigned char *data = pair.client.tx.ring.data;

	say(1, 0);
	pair_consent(&pair);
	hear(BIG, 1);
	for (int i = 0; i < 100; i++) {
		say(MESSAGE, 0);
		hear(BIG, MESSAGE);
		assert_true(pair.client.tx.tail - pair.client.tx.base <= STRAYS);
	}
	assert_true(pair.client.tx.base > 0);
	for (size_t i = STRAYS; i < RING_BYTES; i++)
		assert_int_equal(data[i], 0);
}
BOTH(small_talk_stays_at_the_start)

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

/* ---- peers that lie ---- */

/* A receiver among hostile words: it may say anything, but it returns and stays inside the ring. */
static void hostile_sender(void)
{
	struct shmipc_tx_line *tx = &pair.control->direction[0].tx;
	uint64_t random = 12345;

	pair_consent(&pair);
	shmipc_spin_set_budget(0);
	for (int i = 0; i < 3000; i++) {
		uint64_t wild = pair_random(&random) & 1 ? (uint64_t)pair_random(&random) << 32
							 : pair_random(&random) % 10000 - 5000;

		switch (pair_random(&random) % 7) {
		case 0:
			atomic_store(&tx->tail, wild);
			break;
		case 1:
			atomic_store(&tx->base, wild);
			break;
		case 2:
			atomic_store(&tx->cut, wild);
			break;
		case 3:
			atomic_store(&tx->phase, (uint32_t)wild);
			break;
		case 4:
			atomic_store(&tx->tokens_promised, (uint32_t)wild);
			break;
		case 5:
			atomic_store(&tx->flags, (uint32_t)wild & ~(uint32_t)SHMIPC_TX_CUTTING);
			break;
		default:
			(void)!send(pair.client.fd, "wLwwwwLLx", 9, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		end_receive(&pair.server, in, 1 + pair_random(&random) % BIG,
			    MSG_DONTWAIT | (pair_random(&random) & 1 ? MSG_PEEK : 0));
		shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false);
		shmipc_receiver_pending(&pair.server.rx, pair.server.fd, false);
		shmipc_receiver_hint(&pair.server.rx);
	}
	shmipc_spin_set_budget(50);
}
BOTH(hostile_sender)

static void hostile_receiver(void)
{
	struct shmipc_direction *d = &pair.control->direction[0];
	uint64_t random = 54321;

	pair_consent(&pair);
	shmipc_spin_set_budget(0);
	for (int i = 0; i < 3000; i++) {
		uint64_t wild = pair_random(&random) & 1 ? (uint64_t)pair_random(&random) << 32
							 : pair_random(&random) % 10000 - 5000;

		switch (pair_random(&random) % 4) {
		case 0:
			atomic_store(&d->rx.head, wild);
			break;
		case 1:
			atomic_store(&d->rx.phase, (uint32_t)wild);
			break;
		case 2:
			atomic_store(&d->rx.tokens_taken, (uint32_t)wild);
			break;
		default:
			atomic_store(&d->wait.want,
				     i < 2000 ? (uint32_t)wild & ~(uint32_t)(SHMIPC_WANT_STOP |
									     SHMIPC_WANT_CLOSED)
					      : (uint32_t)wild);
		}
		end_send(&pair.client, out, 1 + pair_random(&random) % BIG, MSG_DONTWAIT);
		shmipc_sender_serve(&pair.client.tx, pair.client.fd, false);
		(void)!recv(pair.server.fd, in, BIG, MSG_DONTWAIT);
	}
	shmipc_spin_set_budget(50);
}
BOTH(hostile_receiver)

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

#define TESTS(name) cmocka_unit_test(name##_unix), cmocka_unit_test(name##_tcp)

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
		TESTS(peeks_over_a_cut),
		TESTS(waits_for_all_taking),
		cmocka_unit_test(waits_for_all_peeking),
		cmocka_unit_test(a_look_at_a_unix_stream_waits_for_nothing),
		cmocka_unit_test(truncates_as_tcp_does),
		TESTS(control_data_is_empty_by_the_ring),
		TESTS(a_receive_time_out_covers_all_sleeps),
		TESTS(ends_after_the_ring_is_drained),
		TESTS(a_reset_is_told_once),
		TESTS(a_dead_reader_becomes_an_error),
		TESTS(close_leaves_no_token),
		TESTS(downgrade_for_good),
		TESTS(stop_resends_what_was_not_read),
		TESTS(stop_of_an_empty_ring_needs_nobody),
		TESTS(stop_by_the_kernel),
		TESTS(stop_after_last_reads_to_the_end_of_the_ring),
		TESTS(strict_keeps_the_kernel_true),
		TESTS(edges_never_end),
		TESTS(relaxed_sends_tokens_to_sleepers_only),
		TESTS(pending_counts_no_tokens),
		TESTS(small_talk_stays_at_the_start),
		TESTS(wraps),
		TESTS(hostile_sender),
		TESTS(hostile_receiver),
		TESTS(both_ways_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
