/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c
/* Streams between two processes: bytes, ends, waiting, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/ipc/peer.h"

static void round_trip(struct shmipc_stream *stream, size_t bytes, unsigned int seed)
{
	uint8_t *out = malloc(bytes), *in = malloc(bytes);

	peer_fill(out, bytes, seed);
	assert_int_equal(shmipc_stream_send(stream, out, bytes), 0);
	assert_int_equal(shmipc_stream_read_full(stream, in, bytes), 0);
	peer_check(in, bytes, seed);
	free(out);
	free(in);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void sizes_over(enum peer_kind kind)
{
	static const size_t sizes[] = { 1,	64,	8171,	8172,	 8173,	 40000,
					131052, 131053, 500000, 1000000, 6000000 };
	struct shmipc_stream *stream, *other;
	struct shmipc_metrics metrics;
	struct shmipc_client *client;
	struct peer peer;

	peer_prepare(&peer, kind);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	stream = peer_stream(client);
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		round_trip(stream, sizes[i], i);
	/* the last one is larger than the memory: it went by the socket, as does then all else of
	 * the stream, and the session opens no new ones for a while */
	shmipc_client_metrics(client, &metrics, sizeof(metrics));
	assert_true(metrics.fallback_sent >= 1);
	assert_true(metrics.fallback_received >= 1);
	round_trip(stream, 10, 99);
	assert_int_equal(shmipc_client_get_stream(client, SHMIPC_NOWAIT, &other), -EBUSY);
	assert_int_equal(shmipc_client_healthy_sessions(client), 0);
	shmipc_stream_close(stream);
	shmipc_client_destroy(client);
	peer_stop(&peer);
	assert_int_equal(peer_files(&peer), 0);
}

static void bytes_cross_unix_files(void **state)
{
	(void)state;
	sizes_over(PEER_UNIX_FILE);
}

static void bytes_cross_unix_memfds(void **state)
{
	(void)state;
	sizes_over(PEER_UNIX_MEMFD);
}

static void bytes_cross_tcp_files(void **state)
{
	(void)state;
	sizes_over(PEER_TCP_FILE);
}

static void messages_are_built_and_parsed_in_place(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	const void *view, *again;
	uint32_t number;
	void *room;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	stream = peer_stream(client);
	assert_int_equal(shmipc_stream_reserve(stream, 4096, &room), 0);
	memset(room, 'x', 4096);
	number = 1000;
	memcpy(room, &number, 4);
	assert_int_equal(shmipc_stream_commit(stream, 4097), -EINVAL);
	assert_int_equal(shmipc_stream_commit(stream, 1004), 0);
	assert_int_equal(shmipc_stream_commit(stream, 1), -EINVAL); /* reserved no more */
	assert_int_equal(shmipc_stream_unflushed(stream), 1004);
	assert_int_equal(shmipc_stream_reserve(stream, 0, &room), -EINVAL);
	assert_int_equal(shmipc_stream_flush(stream), 0);
	assert_int_equal(shmipc_stream_flush(stream), 0); /* of nothing */
	assert_int_equal(shmipc_stream_peek(stream, 4, &view), 0);
	memcpy(&number, view, 4);
	assert_int_equal(number, 1000);
	assert_int_equal(shmipc_stream_peek(stream, 1004, &again), 0);
	assert_ptr_equal(view, again);
	assert_int_equal(shmipc_stream_discard(stream, 4), 0);
	assert_int_equal(shmipc_stream_readable(stream), 1000);
	assert_int_equal(shmipc_stream_read_view(stream, 600, &view), 0);
	assert_ptr_equal(view, (const uint8_t *)again + 4);
	assert_int_equal(shmipc_stream_read_some_view(stream, 4096, &view), 400);
	assert_int_equal(*(const char *)view, 'x');
	shmipc_stream_release(stream);
	shmipc_client_put_stream(client, stream);
	shmipc_client_destroy(client);
	peer_stop(&peer);
}

static void views_over_several_slices_are_whole(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	uint8_t *out = malloc(300000);
	const void *view;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	stream = peer_stream(client);
	peer_fill(out, 300000, 5);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(shmipc_stream_send(stream, out, 300000), 0);
		assert_int_equal(shmipc_stream_read_view(stream, 300000, &view), 0);
		peer_check(view, 300000, 5);
		shmipc_stream_reuse(stream);
	}
	free(out);
	shmipc_stream_close(stream);
	shmipc_client_destroy(client);
	peer_stop(&peer);
}

/* ---- ends ----------------------------------------------------------------------------------- */

static void send_and_close(struct shmipc_session *session)
{
	struct shmipc_stream *stream;
	char byte;

	shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream);
	shmipc_stream_read_full(stream, &byte, 1);
	shmipc_stream_send(stream, "last words", 10);
	shmipc_stream_close(stream);
	/* until the client has gone */
	while (shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream) == 0)
		shmipc_stream_close(stream);
}

static void what_was_sent_before_a_close_is_read(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	const void *view;
	char text[16];

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer_run(&peer, send_and_close);
	client = peer_connect(&peer, NULL);
	stream = peer_stream(client);
	assert_int_equal(shmipc_stream_send(stream, "x", 1), 0);
	assert_int_equal(shmipc_stream_read_view(stream, 11, &view), -ENODATA);
	assert_false(shmipc_stream_is_open(stream));
	assert_int_equal(shmipc_stream_readable(stream), 10);
	assert_int_equal(shmipc_stream_read(stream, text, sizeof(text)), 10);
	assert_memory_equal(text, "last words", 10);
	assert_int_equal(shmipc_stream_read(stream, text, sizeof(text)), 0);
	assert_int_equal(shmipc_stream_read_some_view(stream, 1, &view), 0);
	assert_int_equal(shmipc_stream_send(stream, "x", 1), -EPIPE);
	shmipc_stream_close(stream);
	shmipc_client_destroy(client);
	assert_int_equal(peer_wait(&peer), 0);
}

static void send_and_exit(struct shmipc_session *session)
{
	static uint8_t bytes[700000];
	struct shmipc_stream *stream;
	char byte;

	shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream);
	shmipc_stream_read_full(stream, &byte, 1);
	peer_fill(bytes, sizeof(bytes), byte == 's' ? 1 : 2);
	if (byte == 's') /* by the socket: nothing else fits */
		while (shmipc_stream_reserve(stream, 131000, (void *[]){ NULL }) == 0 &&
		       shmipc_stream_commit(stream, 131000) == 0 &&
		       shmipc_stream_unflushed(stream) < (6 << 20))
			;
	shmipc_stream_drop_unflushed(stream);
	shmipc_stream_send(stream, bytes, sizeof(bytes));
	_exit(0);
}

static void a_flush_before_exit_is_never_lost(void **state)
{
	uint8_t *in = malloc(700000);

	(void)state;
	for (int i = 0; i < 30; i++) {
		struct shmipc_client *client;
		struct shmipc_stream *stream;
		struct peer peer;

		peer_prepare(&peer, (enum peer_kind)(i % PEER_KINDS));
		peer_run(&peer, send_and_exit);
		client = peer_connect(&peer, NULL);
		stream = peer_stream(client);
		assert_int_equal(shmipc_stream_send(stream, i % 2 ? "s" : "q", 1), 0);
		if (i % 5 == 0)
			peer_wait(&peer);
		assert_int_equal(shmipc_stream_read_full(stream, in, 700000), 0);
		peer_check(in, 700000, i % 2 ? 1 : 2);
		assert_int_equal(shmipc_stream_read(stream, in, 1), -ECONNRESET);
		shmipc_stream_close(stream);
		shmipc_client_destroy(client);
		if (i % 5)
			peer_wait(&peer);
		if (strncmp(peer.address, "unix:", 5) == 0)
			unlink(peer.address + 5);
		assert_int_equal(peer_files(&peer), 0);
	}
	free(in);
}

static void views_survive_the_peer(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	uint8_t out[5000];
	const void *view;

	(void)state;
	for (int kind = 0; kind < PEER_KINDS; kind++) {
		peer_prepare(&peer, (enum peer_kind)kind);
		peer_start(&peer);
		client = peer_connect(&peer, NULL);
		stream = peer_stream(client);
		peer_fill(out, sizeof(out), 7);
		assert_int_equal(shmipc_stream_send(stream, out, sizeof(out)), 0);
		assert_int_equal(shmipc_stream_read_view(stream, sizeof(out), &view), 0);
		peer_kill(&peer);
		assert_int_equal(shmipc_stream_read(stream, out, 1), -ECONNRESET);
		peer_check(view, sizeof(out), 7);
		assert_int_equal(shmipc_stream_send(stream, out, 1), -ECONNRESET);
		shmipc_client_destroy(client);
		peer_check(view, sizeof(out), 7);
		shmipc_stream_release(stream);
		shmipc_stream_close(stream);
		assert_int_equal(peer_files(&peer), 0);
	}
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void deadlines_end_waits_and_nothing_else(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	const void *view;
	uint64_t before;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	stream = peer_stream(client);
	shmipc_stream_set_read_deadline(stream, SHMIPC_NOWAIT);
	assert_int_equal(shmipc_stream_read_view(stream, 1, &view), -EAGAIN);
	before = shmipc_deadline_after(0);
	shmipc_stream_set_read_deadline(stream, shmipc_deadline_after(20000000));
	assert_int_equal(shmipc_stream_read_view(stream, 1, &view), -ETIMEDOUT);
	assert_true(shmipc_deadline_after(0) - before >= 20000000);
	shmipc_stream_set_read_deadline(stream, SHMIPC_NEVER);
	round_trip(stream, 100, 3);
	assert_int_equal(shmipc_deadline_after(SHMIPC_NEVER), SHMIPC_NEVER);
	shmipc_stream_close(stream);
	shmipc_client_destroy(client);
	peer_stop(&peer);
}

/* Takes nothing for a while, so that the queue fills up. */
static void start_late(struct shmipc_session *session)
{
	struct shmipc_stream *stream;
	uint8_t bytes[100];
	int total = 0, n;

	usleep(200000);
	if (shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream))
		_exit(2);
	while (shmipc_stream_read_full(stream, bytes, sizeof(bytes)) == 0) {
		peer_check(bytes, sizeof(bytes), (unsigned int)total);
		total++;
	}
	n = total;
	shmipc_stream_close(stream);
	_exit(n == 1000 ? 0 : 3);
}

static void a_full_queue_holds_the_writer_back(void **state)
{
	struct shmipc_metrics metrics;
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	uint8_t bytes[100];
	int again = 0;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer.config.queue_capacity = 8;
	peer_run(&peer, start_late);
	client = peer_connect(&peer, NULL);
	stream = peer_stream(client);
	for (unsigned int i = 0; i < 1000; i++) {
		int error;

		peer_fill(bytes, sizeof(bytes), i);
		assert_int_equal(shmipc_stream_write(stream, bytes, sizeof(bytes)), 0);
		shmipc_stream_set_write_deadline(stream, SHMIPC_NOWAIT);
		error = shmipc_stream_flush(stream);
		if (error) { /* kept, and sent by the next flush */
			assert_int_equal(error, -EAGAIN);
			again++;
			shmipc_stream_set_write_deadline(stream, SHMIPC_NEVER);
			assert_int_equal(shmipc_stream_flush(stream), 0);
		}
	}
	assert_true(again > 0);
	shmipc_client_metrics(client, &metrics, sizeof(metrics));
	assert_true(metrics.queue_full > 0);
	assert_int_equal(metrics.messages_sent, 1000);
	shmipc_stream_close(stream);
	assert_int_equal(peer_wait(&peer), 0);
	shmipc_client_destroy(client);
}

struct caller {
	pthread_t thread;
	struct shmipc_client *client;
	unsigned int seed;
};

static void *call_often(void *argument)
{
	struct caller *caller = argument;

	for (unsigned int i = 0; i < 300; i++) {
		struct shmipc_stream *stream = peer_stream(caller->client);

		round_trip(stream, 1 + (caller->seed * 997 + i * 131) % 20000, caller->seed + i);
		if (i % 50 == 49)
			shmipc_stream_close(stream);
		else
			shmipc_client_put_stream(caller->client, stream);
	}
	return NULL;
}

static void crowd(bool dispatcher, unsigned int sessions)
{
	struct caller callers[6];
	struct shmipc_loop *loop = NULL;
	struct shmipc_client *client;
	struct peer peer;

	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer.config.sessions = sessions;
	peer_start(&peer);
	if (dispatcher) {
		assert_int_equal(shmipc_loop_create(&loop), 0);
		assert_int_equal(shmipc_loop_start(loop), 0);
		assert_int_equal(shmipc_loop_start(loop), -EALREADY);
		assert_int_equal(shmipc_process(loop, SHMIPC_NOWAIT), -EBUSY);
	}
	client = peer_connect(&peer, loop);
	for (unsigned int i = 0; i < 6; i++) {
		callers[i].client = client;
		callers[i].seed = i;
		assert_int_equal(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]),
				 0);
	}
	for (unsigned int i = 0; i < 6; i++)
		pthread_join(callers[i].thread, NULL);
	shmipc_client_destroy(client);
	if (loop)
		assert_int_equal(shmipc_loop_destroy(loop), 0);
	peer_stop(&peer);
}

static void threads_share_a_session(void **state)
{
	(void)state;
	crowd(false, 1);
}

static void threads_share_sessions_with_a_dispatcher(void **state)
{
	(void)state;
	crowd(true, 3);
}

static void *read_for_ever(void *argument)
{
	const void *view;

	return (void *)(intptr_t)shmipc_stream_read_view(argument, 1, &view);
}

static void a_shutdown_ends_a_wait(void **state)
{
	struct shmipc_stream *first, *second;
	struct shmipc_client *client;
	struct peer peer;
	pthread_t threads[2];
	void *result;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	first = peer_stream(client);
	second = peer_stream(client);
	pthread_create(&threads[0], NULL, read_for_ever, first);
	usleep(20000);
	pthread_create(&threads[1], NULL, read_for_ever, second);
	usleep(20000);
	shmipc_stream_shutdown(first); /* the one that sleeps on the socket */
	pthread_join(threads[0], &result);
	assert_int_equal((intptr_t)result, -ESHUTDOWN);
	/* the other one has taken its place: it gets what comes */
	assert_int_equal(shmipc_stream_send(second, "x", 1), 0);
	pthread_join(threads[1], &result);
	assert_int_equal((intptr_t)result, 0);
	shmipc_stream_close(first);
	shmipc_stream_close(second);
	shmipc_client_destroy(client);
	peer_stop(&peer);
}

/* A wait that still looks at the queue is told as one that sleeps is: if it were not, it would fall
 * asleep afterwards and end with its deadline. */
static void a_shutdown_ends_a_look(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	pthread_t thread;
	void *result;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer.config.spin_us = 20000;
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	for (unsigned int i = 0; i < 100; i++) {
		stream = peer_stream(client);
		round_trip(stream, 100, i); /* such that looking is found to pay */
		shmipc_stream_set_read_deadline(stream, shmipc_deadline_after(10000000000));
		pthread_create(&thread, NULL, read_for_ever, stream);
		usleep(30 * i);
		shmipc_stream_shutdown(stream);
		pthread_join(thread, &result);
		assert_int_equal((intptr_t)result, -ESHUTDOWN);
		shmipc_stream_close(stream);
	}
	shmipc_client_destroy(client);
	peer_stop(&peer);
}

/* ---- processes ------------------------------------------------------------------------------ */

static void a_child_does_no_harm(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream, *other;
	struct peer peer;
	const void *view;
	int status;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	stream = peer_stream(client);
	assert_int_equal(shmipc_stream_send(stream, "view", 4), 0);
	assert_int_equal(shmipc_stream_read_view(stream, 4, &view), 0);
	assert_int_equal(shmipc_stream_write(stream, "held", 4), 0);
	if (fork() == 0) {
		int bad = memcmp(view, "view", 4) != 0;

		bad |= shmipc_stream_send(stream, "child", 5) != -ECHILD;
		bad |= shmipc_stream_read_view(stream, 1, &view) != -ECHILD;
		bad |= shmipc_client_get_stream(client, SHMIPC_NOWAIT, &other) != -ECHILD;
		bad |= shmipc_stream_is_open(stream);
		shmipc_stream_close(stream);
		shmipc_client_destroy(client);
		_exit(bad);
	}
	wait(&status);
	assert_int_equal(status, 0);
	assert_memory_equal(view, "view", 4);
	shmipc_stream_release(stream);
	assert_int_equal(shmipc_stream_flush(stream), 0);
	assert_int_equal(shmipc_stream_read_view(stream, 4, &view), 0);
	assert_memory_equal(view, "held", 4);
	shmipc_stream_release(stream);
	round_trip(stream, 100000, 8);
	shmipc_client_put_stream(client, stream);
	assert_true(peer_stream(client) == stream); /* the idle one comes back */
	shmipc_stream_close(stream);
	shmipc_client_destroy(client);
	peer_stop(&peer);
	assert_int_equal(peer_files(&peer), 0);
}

static void another_user_is_served_over_memfds(void **state)
{
	struct peer peer;
	int status;

	(void)state;
	if (geteuid() != 0)
		skip();
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_start(&peer);
	chmod(peer.address + 5, 0777);
	if (fork() == 0) {
		struct shmipc_client *client;
		struct shmipc_stream *stream;

		if (setgid(65534) || setuid(65534))
			_exit(2);
		client = peer_connect(&peer, NULL);
		stream = peer_stream(client);
		round_trip(stream, 200000, 4);
		shmipc_stream_close(stream);
		shmipc_client_destroy(client);
		_exit(0);
	}
	wait(&status);
	assert_int_equal(status, 0);
	peer_stop(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_cross_unix_files),
		cmocka_unit_test(bytes_cross_unix_memfds),
		cmocka_unit_test(bytes_cross_tcp_files),
		cmocka_unit_test(messages_are_built_and_parsed_in_place),
		cmocka_unit_test(views_over_several_slices_are_whole),
		cmocka_unit_test(what_was_sent_before_a_close_is_read),
		cmocka_unit_test(a_flush_before_exit_is_never_lost),
		cmocka_unit_test(views_survive_the_peer),
		cmocka_unit_test(deadlines_end_waits_and_nothing_else),
		cmocka_unit_test(a_full_queue_holds_the_writer_back),
		cmocka_unit_test(threads_share_a_session),
		cmocka_unit_test(threads_share_sessions_with_a_dispatcher),
		cmocka_unit_test(a_shutdown_ends_a_wait),
		cmocka_unit_test(a_shutdown_ends_a_look),
		cmocka_unit_test(a_child_does_no_harm),
		cmocka_unit_test(another_user_is_served_over_memfds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
