/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* What a receive gives: flags, time-outs, counts, and the end of the stream. */
#include "tests/unit/conversation.h"

#include <pthread.h>
#include <sys/time.h>
#include <time.h>

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

static void peek_at(uint64_t offset, size_t bytes)
{
	assert_int_equal(end_receive(&pair.server, in, bytes, MSG_PEEK | MSG_DONTWAIT), bytes);
	assert_int_equal(pair_check(in, bytes, got + offset, 0), bytes);
}

/* Before consent it is the kernel that peeks, behind it we do: SO_PEEK_OFF goes with that. */
static void an_offset_is_handed_over(void **state)
{
	int offset;
	socklen_t bytes = sizeof(offset);

	(void)state;
	conversation_open(true);
	say(100, 0);
	shmipc_receiver_set_peek_offset(&pair.server.rx, 10);
	peek_at(10, 20);
	peek_at(30, 20);
	hear(15, 15);
	shmipc_receiver_take_peek_offset(&pair.server.rx, pair.server.fd);
	assert_int_equal(shmipc_receiver_peek_offset(&pair.server.rx), 35);
	assert_int_equal(getsockopt(pair.server.fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &bytes), 0);
	assert_int_equal(offset, -1);
	pair_consent(&pair);
	say(100, 0);
	peek_at(35, 100);
	hear(BIG, 185);
	pair_close(&pair);
}

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
	conversation_open(false);
	waits_for_all(MSG_PEEK);
	pair_close(&pair);
}

static _Atomic uint32_t others;

static void *fork_in_its_sleep(void *argument)
{
	usleep(20000);
	atomic_store(&others, 1);
	say(100, 0);
	return argument;
}

/* A handler that ran while the call slept has forked: from then on its locks are real ones. */
static void a_call_is_private_no_longer_than_its_end(void)
{
	const struct iovec iov = { in, 100 };
	struct shmipc_io io = { .fd = pair.server.fd, .private_use = true, .shared = &others };
	pthread_t other;

	pair_consent(&pair);
	atomic_store(&others, 0);
	shmipc_cursor_init(&io.cursor, &iov, 1);
	pthread_create(&other, NULL, fork_in_its_sleep, NULL);
	check(shmipc_receiver_receive(&pair.server.rx, &io), 100);
	assert_false(io.private_use);
	pthread_join(other, NULL);
}
BOTH(a_call_is_private_no_longer_than_its_end)

static void a_look_at_a_unix_stream_waits_for_nothing(void **state)
{
	(void)state;
	conversation_open(true);
	pair_consent(&pair);
	say(100, 0);
	check(end_receive(&pair.server, in, 1100, MSG_WAITALL | MSG_PEEK), 100);
	hear(BIG, 100);
	pair_close(&pair);
}

static void truncates_as_tcp_does(void **state)
{
	(void)state;
	conversation_open(false);
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
	say(100, 0);
	pthread_create(&late, NULL, say_late, NULL);
	assert_in_range(end_receive(&pair.server, in, 4000, MSG_WAITALL), 100, 1100);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= 110);
	pthread_join(late, NULL);
}
BOTH(a_receive_time_out_covers_all_sleeps)

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

/* A killed peer left a token unread: by the kernel a reset, to the application the end.  The kernel
 * has filled no header then. */
static void the_end_of_a_token_has_a_header(void **state)
{
	struct sockaddr_storage name;
	char control[64];
	struct iovec iov = { in, BIG };
	struct msghdr message = { .msg_name = &name,
				  .msg_namelen = sizeof(name),
				  .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control),
				  .msg_flags = MSG_CTRUNC };
	struct shmipc_io io = { .message = &message };

	(void)state;
	conversation_open(false);
	/* the client hears by the kernel */
	shmipc_receiver_consent(&pair.server.rx, 0);
	say(100, 0);
	hear(BIG, 100);
	shmipc_sender_nudge(&pair.client.tx, pair.client.fd);
	let_arrive();
	close(pair.server.fd);
	pair.server.fd = -1;
	let_arrive();
	io.fd = pair.client.fd;
	shmipc_cursor_init(&io.cursor, &iov, 1);
	assert_int_equal(shmipc_receiver_receive(&pair.client.rx, &io), 0);
	assert_int_equal(message.msg_namelen, 0);
	assert_int_equal(message.msg_controllen, 0);
	assert_int_equal(message.msg_flags, 0);
	pair_close(&pair);
}

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(peeks_over_a_cut),
		TESTS(waits_for_all_taking),
		cmocka_unit_test(an_offset_is_handed_over),
		cmocka_unit_test(waits_for_all_peeking),
		cmocka_unit_test(a_look_at_a_unix_stream_waits_for_nothing),
		TESTS(a_call_is_private_no_longer_than_its_end),
		cmocka_unit_test(truncates_as_tcp_does),
		TESTS(control_data_is_empty_by_the_ring),
		TESTS(a_receive_time_out_covers_all_sleeps),
		TESTS(ends_after_the_ring_is_drained),
		TESTS(a_reset_is_told_once),
		cmocka_unit_test(the_end_of_a_token_has_a_header),
		TESTS(a_dead_reader_becomes_an_error),
		TESTS(pending_counts_no_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
