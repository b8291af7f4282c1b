/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* A receiver that stops while payload lies in the socket, tokens behind it, and more in the ring: a
 * reader without the shim gets all of it, and nothing else. */
#include <fcntl.h>
#include <pthread.h>

#include "tests/unit/conversation.h"

enum { EARLY = 1000, LATE = 500, PIECES = 400, PIECE_MAX = 900, MUCH = 300 * 1024 };

/* By the kernel, and then by the ring, with a token. */
static void make_mixed(void)
{
	say(EARLY, 0);
	pair_consent(&pair);
	say(LATE, 0);
	assert_true(shmipc_receiver_is_mixed(&pair.server.rx, false));
}

static bool untangle(void)
{
	bool done = shmipc_receiver_untangle(&pair.server.rx, pair.server.fd, pair.client.fd,
					     false);

	let_arrive();
	return done;
}

/* As a program without the shim does. */
static void read_plain(size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = recv(pair.server.fd, in, bytes < BIG ? bytes : BIG, 0);

		assert_true(n > 0);
		check(n, (size_t)n);
		got += (uint64_t)n;
		bytes -= (size_t)n;
	}
}

static void all_of_it_comes_by_the_kernel(void)
{
	make_mixed();
	assert_true(untangle());
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	read_plain(EARLY + LATE);
	assert_false(kernel_readable());
	say(50, 0); /* nothing is sent again */
	read_plain(50);
	assert_false(kernel_readable());
}
BOTH(all_of_it_comes_by_the_kernel)

/* More than the receiving socket holds: the rest, and the token, wait in the sender's. */
static void what_has_not_arrived_yet_is_fetched(void)
{
	const int room = 2 * MUCH;

	setsockopt(pair.client.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	for (sent = 0; sent < MUCH;) {
		ssize_t n;

		pair_fill(out, BIG, sent, 0);
		n = end_send(&pair.client, out, sent + BIG < MUCH ? BIG : MUCH - (size_t)sent,
			     MSG_DONTWAIT);
		assert_true(n > 0);
		sent += (uint64_t)n;
	}
	pair_consent(&pair);
	pair_fill(out, LATE, sent, 0);
	assert_int_equal(end_send(&pair.client, out, LATE, 0), LATE);
	sent += LATE;
	assert_true(shmipc_receiver_is_mixed(&pair.server.rx, false));
	assert_true(
		shmipc_receiver_untangle(&pair.server.rx, pair.server.fd, pair.client.fd, false));
	read_plain(MUCH + LATE);
	assert_false(kernel_readable());
}

static void what_has_not_arrived_yet_is_fetched_tcp(void **state)
{
	(void)state;
	conversation_open(false);
	what_has_not_arrived_yet_is_fetched();
	pair_close(&pair);
}

static void *go_on_saying(void *argument)
{
	static unsigned char bytes[PIECE_MAX];

	for (int i = 0; i < PIECES; i++) {
		size_t n = 1 + (size_t)i * 37 % PIECE_MAX;

		pair_fill(bytes, n, sent, 0);
		if (end_send(&pair.client, bytes, n, 0) != (ssize_t)n)
			break;
		sent += n;
		usleep(50); /* the other end begins before this is over */
	}
	shutdown(pair.client.fd, SHUT_WR);
	return argument;
}

static void read_all_of(pthread_t sender)
{
	for (ssize_t n; (n = recv(pair.server.fd, in, BIG, 0)) != 0; got += (uint64_t)n)
		check(n, (size_t)n);
	pthread_join(sender, NULL);
	assert_int_equal(got, sent);
	assert_false(pair.client.tx.broken);
}

/* The sender is at work all the time, and waits where it must. */
static void a_sender_at_work_waits(void)
{
	pthread_t sender;

	make_mixed();
	pthread_create(&sender, NULL, go_on_saying, NULL);
	usleep(300);
	assert_true(
		shmipc_receiver_untangle(&pair.server.rx, pair.server.fd, pair.client.fd, false));
	read_all_of(sender);
}
BOTH(a_sender_at_work_waits)

/* The same for one that sends by the kernel. */
static void a_sender_at_work_behind_the_ring_waits(void)
{
	pthread_t sender;

	make_mixed();
	hear(EARLY + LATE / 2, EARLY + LATE / 2);
	cut_away();
	pair.client.tx.no_more_ring = true;
	pthread_create(&sender, NULL, go_on_saying, NULL);
	usleep(100);
	while (!shmipc_receiver_untangle(&pair.server.rx, pair.server.fd, pair.client.fd, false))
		usleep(100);
	read_all_of(sender);
}
BOTH(a_sender_at_work_behind_the_ring_waits)

/* LAST lies behind the tokens, and payload behind it. */
static void a_sender_that_has_been_on_the_ring_is_held_too(void)
{
	make_mixed();
	cut_away();
	say(20, 0);
	assert_true(untangle());
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	say(30, 0);
	read_plain(EARLY + LATE + 20 + 30);
	assert_false(kernel_readable());
}
BOTH(a_sender_that_has_been_on_the_ring_is_held_too)

/* What is unread begins in the ring. */
static void payload_behind_the_ring_comes_behind_it(void)
{
	make_mixed();
	hear(EARLY + LATE / 2, EARLY + LATE / 2);
	cut_away();
	say(20, 0);
	assert_true(shmipc_receiver_is_mixed(&pair.server.rx, false));
	assert_true(untangle());
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	read_plain(LATE - LATE / 2 + 20);
	assert_false(kernel_readable());
	say(30, 0);
	read_plain(30);
}
BOTH(payload_behind_the_ring_comes_behind_it)

/* A FILE, or a program without the shim, at the sender's end: it may write at any time. */
static void others_that_write_are_not_held(void)
{
	make_mixed();
	hear(EARLY + LATE / 2, EARLY + LATE / 2);
	shmipc_sender_lose_count(&pair.client.tx, pair.client.fd);
	cut_away();
	assert_true(shmipc_receiver_is_mixed(&pair.server.rx, false));
	assert_false(untangle());
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	hear(BIG, LATE - LATE / 2);
}
BOTH(others_that_write_are_not_held)

/* It may sleep in the kernel until somebody reads, and what it sends then comes too late. */
static void a_sender_in_the_kernel_is_not_waited_for(void)
{
	make_mixed();
	hear(EARLY + LATE / 2, EARLY + LATE / 2);
	cut_away();
	assert_true(shmipc_receiver_is_mixed(&pair.server.rx, false));
	atomic_fetch_add(&pair.control->direction[0].tx.kernel_senders, 1);
	assert_false(untangle());
	atomic_fetch_sub(&pair.control->direction[0].tx.kernel_senders, 1);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	say(20, 0);
	hear(BIG, LATE - LATE / 2 + 20);
}
BOTH(a_sender_in_the_kernel_is_not_waited_for)

static void a_stream_that_has_ended_is_left_alone(void)
{
	make_mixed();
	end_finish(&pair.client);
	assert_false(untangle());
	hear(BIG, EARLY + LATE);
	assert_int_equal(end_receive(&pair.server, in, BIG, MSG_DONTWAIT), 0);
}
BOTH(a_stream_that_has_ended_is_left_alone)

/* It is seen before the sender says FIN: that waits until the bytes are where they belong. */
static void *finish(void *argument)
{
	end_finish(&pair.client);
	return argument;
}

static void an_end_under_way_comes_behind_the_bytes(void)
{
	pthread_t sender;
	ssize_t n;

	make_mixed();
	pthread_create(&sender, NULL, finish, NULL);
	untangle(); /* before the end, or not at all */
	pthread_join(sender, NULL);
	while ((n = pair.server.rx.stopped ? recv(pair.server.fd, in, BIG, 0)
					   : end_receive(&pair.server, in, BIG, 0)) > 0) {
		check(n, (size_t)n);
		got += (uint64_t)n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(got, EARLY + LATE);
}
BOTH(an_end_under_way_comes_behind_the_bytes)

/* One that has shut its direction before has said all, and its close waits for nobody. */
static void a_close_behind_a_shutdown_does_not_wait(void)
{
	make_mixed();
	end_finish(&pair.client);
	atomic_fetch_or(&pair.server.rx.want->want, SHMIPC_WANT_STOPPED | SHMIPC_WANT_HELPING);
	alarm(20);
	shmipc_sender_end(&pair.client.tx, pair.client.fd, SHMIPC_TX_FIN | SHMIPC_TX_CLOSED);
	alarm(0);
	assert_true(atomic_load(&pair.server.rx.tx->flags) & SHMIPC_TX_CLOSED);
}
BOTH(a_close_behind_a_shutdown_does_not_wait)

/* The end that stopped has closed, and left the socket to a program that still reads: what the
 * kernel takes of a send is what is told. */
static void a_send_behind_a_stop_and_a_close_is_counted(void)
{
	static unsigned char much[512 * BIG]; /* more than any socket holds */
	ssize_t n;

	make_mixed();
	assert_true(untangle());
	assert_true(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	shmipc_receiver_close(&pair.server.rx, pair.server.fd);
	pair_fill(much, sizeof(much), sent, 0);
	n = end_send(&pair.client, much, sizeof(much), MSG_DONTWAIT);
	assert_in_range(n, 1, sizeof(much) - 1);
	sent += (uint64_t)n;
	shutdown(pair.client.fd, SHUT_WR);
	while ((n = recv(pair.server.fd, in, BIG, 0)) > 0) {
		check(n, (size_t)n);
		got += (uint64_t)n;
	}
	assert_int_equal(got, sent);
}
BOTH(a_send_behind_a_stop_and_a_close_is_counted)

/* A descriptor that rides on a byte cannot be sent again by us. */
static void what_carries_descriptors_stays(void **state)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr first;
	} control = { .first = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec piece = { out, EARLY };
	struct msghdr message = { .msg_iov = &piece,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };

	(void)state;
	conversation_open(true);
	memcpy(CMSG_DATA(&control.first), &pair.client.fd, sizeof(int));
	pair_fill(out, EARLY, 0, 0);
	assert_int_equal(sendmsg(pair.client.fd, &message, 0), EARLY);
	sent = EARLY;
	atomic_store(&pair.client.tx.kernel_bytes, EARLY);
	pair_consent(&pair);
	say(LATE, 0);
	assert_true(shmipc_receiver_is_mixed(&pair.server.rx, false));
	assert_false(untangle());
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	hear(EARLY, EARLY);
	hear(BIG, LATE);
	pair_close(&pair);
}

/* Nor can urgency. */
static void what_is_urgent_stays(void **state)
{
	(void)state;
	conversation_open(false);
	make_mixed();
	hear(EARLY + LATE / 2, EARLY + LATE / 2);
	assert_int_equal(end_send(&pair.client, "!", 1, MSG_OOB), 1);
	let_arrive();
	assert_true(shmipc_receiver_is_mixed(&pair.server.rx, false));
	assert_false(untangle());
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	hear(BIG, LATE - LATE / 2);
	assert_int_equal(recv(pair.server.fd, in, 1, MSG_OOB), 1);
	pair_close(&pair);
}

/* No copy is to be had, or none that takes anything: an error, and no wrong byte. */
static void bytes_that_nobody_takes_break_the_stream(void)
{
	int nowhere = open("/dev/null", O_RDONLY | O_CLOEXEC);

	make_mixed();
	assert_false(shmipc_receiver_untangle(&pair.server.rx, pair.server.fd, nowhere, false));
	close(nowhere);
	assert_true(shmipc_receiver_is_entangled(&pair.server.rx));
	assert_int_equal(end_receive(&pair.server, in, BIG, MSG_DONTWAIT), -ECONNRESET);
}
BOTH(bytes_that_nobody_takes_break_the_stream)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(all_of_it_comes_by_the_kernel),
		cmocka_unit_test(what_has_not_arrived_yet_is_fetched_tcp),
		TESTS(a_sender_at_work_waits),
		TESTS(a_sender_that_has_been_on_the_ring_is_held_too),
		TESTS(payload_behind_the_ring_comes_behind_it),
		TESTS(a_sender_in_the_kernel_is_not_waited_for),
		TESTS(others_that_write_are_not_held),
		TESTS(a_sender_at_work_behind_the_ring_waits),
		TESTS(a_stream_that_has_ended_is_left_alone),
		TESTS(an_end_under_way_comes_behind_the_bytes),
		TESTS(a_close_behind_a_shutdown_does_not_wait),
		TESTS(a_send_behind_a_stop_and_a_close_is_counted),
		cmocka_unit_test(what_carries_descriptors_stays),
		cmocka_unit_test(what_is_urgent_stays),
		TESTS(bytes_that_nobody_takes_break_the_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
