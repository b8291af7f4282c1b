/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c
/* Clients and servers over time: loops, reconnecting, hot restarts, limits, hostile peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/message.h"
#include "tests/unit/ipc/peer.h"

static int try_round_trip(struct shmipc_stream *stream, size_t bytes)
{
	uint8_t *out = malloc(bytes), *in = malloc(bytes);
	int error;

	peer_fill(out, bytes, (unsigned int)bytes);
	error = shmipc_stream_send(stream, out, bytes);
	if (!error)
		error = shmipc_stream_read_full(stream, in, bytes);
	if (!error)
		peer_check(in, bytes, (unsigned int)bytes);
	free(out);
	free(in);
	return error;
}

/* ---- loops ---------------------------------------------------------------------------------- */

struct counter {
	unsigned int data, closes;
	size_t bytes;
	int reason;
};

static void count_data(struct shmipc_stream *stream, void *user)
{
	struct counter *counter = user;
	const void *view;
	size_t n = shmipc_stream_readable(stream);

	counter->data++;
	if (counter->bytes + n < 100000)
		return; /* asked again when more has come, not before */
	counter->bytes += n;
	assert_int_equal(shmipc_stream_read_view(stream, n, &view), 0);
	shmipc_stream_release(stream);
}

static void count_close(struct shmipc_stream *stream, int reason, void *user)
{
	struct counter *counter = user;

	counter->closes++;
	counter->reason = reason;
	shmipc_stream_close(stream);
}

static const struct shmipc_stream_callbacks counting = { .on_data = count_data,
							 .on_close = count_close };

/* A client in a loop, with a stream that counts what comes back from its server. */
struct looped {
	struct counter counter;
	struct shmipc_stream *stream;
	struct shmipc_client *client;
	struct shmipc_loop *loop;
	struct peer peer;
};

static void start_looped(struct looped *l)
{
	l->counter = (struct counter){ 0 };
	peer_prepare(&l->peer, PEER_UNIX_FILE);
	peer_start(&l->peer);
	assert_int_equal(shmipc_loop_create(&l->loop), 0);
	l->client = peer_connect(&l->peer, l->loop);
	l->stream = peer_stream(l->client);
	assert_int_equal(shmipc_stream_set_callbacks(l->stream, &counting, &l->counter), 0);
}

/* In the application's own loop. */
static void await_all(struct looped *l)
{
	while (l->counter.bytes < 100000) {
		struct pollfd wait = { .fd = shmipc_fd(l->loop), .events = POLLIN };

		assert_int_equal(poll(&wait, 1, 10000), 1);
		assert_true(shmipc_process(l->loop, SHMIPC_NOWAIT) >= 0);
	}
}

static void callbacks_run_in_the_applications_loop(void **state)
{
	struct looped looped;
	uint8_t bytes[10000] = { 0 };

	(void)state;
	start_looped(&looped);
	for (int i = 0; i < 10; i++)
		assert_int_equal(shmipc_stream_send(looped.stream, bytes, sizeof(bytes)), 0);
	await_all(&looped);
	assert_true(looped.counter.data <= 11);
	assert_int_equal(shmipc_loop_destroy(looped.loop), -EBUSY);
	assert_int_equal(shmipc_process(looped.loop, shmipc_deadline_after(1000000)), 0);
	shmipc_loop_wake(looped.loop);
	assert_int_equal(shmipc_process(looped.loop, SHMIPC_NEVER), 0);
	peer_kill(&looped.peer);
	while (looped.counter.closes == 0)
		assert_true(shmipc_process(looped.loop, shmipc_deadline_after(100000000)) >= 0);
	assert_int_equal(looped.counter.reason, -ECONNRESET);
	shmipc_client_destroy(looped.client);
	assert_int_equal(shmipc_loop_destroy(looped.loop), 0);
	assert_int_equal(peer_files(&looped.peer), 0);
}

/* The child has the parent's epoll set, timer and sockets by the same descriptions. */
static void a_child_of_a_loop_does_no_harm(void **state)
{
	struct looped looped;
	uint8_t bytes[10000] = { 0 };
	int status;

	(void)state;
	start_looped(&looped);
	assert_int_equal(shmipc_stream_send(looped.stream, bytes, sizeof(bytes)), 0);
	for (int round = 0; round < 5; round++) {
		if (fork() == 0) {
			int bad = shmipc_process(looped.loop, SHMIPC_NOWAIT) != -ECHILD;

			bad |= shmipc_loop_start(looped.loop) != -ECHILD;
			bad |= shmipc_stream_set_callbacks(looped.stream, NULL, NULL) != -ECHILD;
			shmipc_stream_close(looped.stream);
			shmipc_client_destroy(looped.client);
			bad |= shmipc_loop_destroy(looped.loop) != 0;
			_exit(bad);
		}
		if (round % 2 == 0)
			assert_int_equal(shmipc_stream_send(looped.stream, bytes, sizeof(bytes)),
					 0);
		wait(&status);
		assert_int_equal(status, 0);
		if (round % 2)
			assert_int_equal(shmipc_stream_send(looped.stream, bytes, sizeof(bytes)),
					 0);
	}
	for (int i = 6; i < 10; i++)
		assert_int_equal(shmipc_stream_send(looped.stream, bytes, sizeof(bytes)), 0);
	await_all(&looped);
	assert_int_equal(looped.counter.closes, 0);
	shmipc_stream_close(looped.stream);
	shmipc_client_destroy(looped.client);
	assert_int_equal(shmipc_loop_destroy(looped.loop), 0);
	peer_stop(&looped.peer);
	assert_int_equal(peer_files(&looped.peer), 0);
}

/* ---- reconnecting --------------------------------------------------------------------------- */

static void lost_sessions_are_replaced(void **state)
{
	(void)state;
	for (int with_loop = 0; with_loop < 2; with_loop++) {
		struct shmipc_loop *loop = NULL;
		struct shmipc_metrics metrics;
		struct shmipc_client *client;
		struct shmipc_stream *stream;
		struct peer peer;
		char address[128];

		peer_prepare(&peer, with_loop ? PEER_UNIX_MEMFD : PEER_UNIX_FILE);
		peer.config.sessions = 3;
		peer.config.reconnect_min_ms = 5;
		peer.config.reconnect_max_ms = 40;
		peer_start(&peer);
		if (with_loop) {
			assert_int_equal(shmipc_loop_create(&loop), 0);
			assert_int_equal(shmipc_loop_start(loop), 0);
		}
		client = peer_connect(&peer, loop);
		stream = peer_stream(client);
		assert_int_equal(try_round_trip(stream, 30000), 0);
		peer_kill(&peer);
		assert_int_equal(try_round_trip(stream, 10), -ECONNRESET);
		shmipc_client_put_stream(client, stream);
		while (shmipc_client_healthy_sessions(client) > 0)
			usleep(1000);
		assert_int_equal(
			shmipc_client_get_stream(
				client, shmipc_deadline_after(with_loop ? 0 : 20000000), &stream),
			-ENOTCONN);
		strcpy(address, peer.address);
		peer_start(&peer);
		assert_string_equal(address, peer.address);
		while (shmipc_client_healthy_sessions(client) < 3)
			if (shmipc_client_get_stream(client, SHMIPC_NOWAIT, &stream) == 0)
				shmipc_client_put_stream(client, stream);
		stream = peer_stream(client);
		assert_int_equal(try_round_trip(stream, 300000), 0);
		shmipc_client_put_stream(client, stream);
		shmipc_client_metrics(client, &metrics, sizeof(metrics));
		assert_int_equal(metrics.reconnects, 3);
		assert_int_equal(metrics.sessions, 3);
		shmipc_client_destroy(client);
		if (loop)
			assert_int_equal(shmipc_loop_destroy(loop), 0);
		peer_stop(&peer);
		assert_int_equal(peer_files(&peer), 0);
	}
}

static void what_killed_clients_leave_is_swept(void **state)
{
	struct peer peer;
	struct shmipc_client *client;
	pid_t child;
	int fds[2];
	char byte;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer_start(&peer);
	kill(peer.pid, SIGSTOP); /* so that the server does not clean up */
	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		peer_connect(&peer, NULL);
		write(fds[1], "x", 1);
		pause();
	}
	assert_int_equal(read(fds[0], &byte, 1), 1);
	assert_int_equal(peer_files(&peer), 2);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	peer_kill(&peer);
	assert_int_equal(peer_files(&peer), 2);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	assert_true(peer_files(&peer) <= 2); /* its own */
	shmipc_client_destroy(client);
	peer_stop(&peer);
	assert_int_equal(peer_files(&peer), 0);
	close(fds[0]);
	close(fds[1]);
}

/* ---- hot restart ---------------------------------------------------------------------------- */

struct load {
	struct shmipc_client *client;
	_Atomic bool stop;
	_Atomic unsigned int requests, failures;
};

static void *make_requests(void *argument)
{
	struct load *load = argument;

	while (!load->stop) {
		struct shmipc_stream *stream = NULL;
		int error = shmipc_client_get_stream(load->client,
						     shmipc_deadline_after(5000000000), &stream);

		if (!error)
			error = try_round_trip(stream, 3000);
		if (stream)
			shmipc_client_put_stream(load->client, stream);
		load->failures += error != 0;
		load->requests++;
	}
	return NULL;
}

static void restart_over(enum peer_kind kind, bool with_loop)
{
	struct shmipc_metrics metrics;
	struct shmipc_loop *loop = NULL;
	struct load load = { 0 };
	struct peer old, new;
	pthread_t threads[2];
	unsigned int before;

	peer_prepare(&old, kind);
	old.config.sessions = 2;
	old.config.hot_restart_timeout_ms = 20000;
	peer_start(&old);
	new = old;
	peer_prepare_successor(&new);
	if (with_loop) {
		assert_int_equal(shmipc_loop_create(&loop), 0);
		assert_int_equal(shmipc_loop_start(loop), 0);
	}
	load.client = peer_connect(&old, loop);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, make_requests, &load);
	while (load.requests < 50)
		usleep(1000);
	peer_go(&new);
	kill(old.pid, SIGUSR1);
	assert_int_equal(peer_wait(&old), 0); /* every client has moved */
	before = load.requests;
	while (load.requests < before + 50)
		usleep(1000);
	load.stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(load.failures, 0);
	shmipc_client_metrics(load.client, &metrics, sizeof(metrics));
	assert_int_equal(metrics.hot_restarts, 1);
	assert_int_equal(metrics.hot_restart_errors, 0);
	shmipc_client_destroy(load.client);
	if (loop)
		assert_int_equal(shmipc_loop_destroy(loop), 0);
	peer_stop(&new);
	assert_int_equal(peer_files(&old), 0);
}

static void a_hot_restart_loses_no_request(void **state)
{
	(void)state;
	restart_over(PEER_UNIX_FILE, false);
	restart_over(PEER_UNIX_MEMFD, true);
	restart_over(PEER_TCP_FILE, false);
}

/* ---- limits and hostile peers --------------------------------------------------------------- */

static void bad_messages_end_the_session_alone(void **state)
{
	static const struct {
		uint8_t bytes[24];
		size_t count;
		int reason;
	} bad[] = {
		{ "\0\0\0\x08\x77\x59\3\1", 8, -EPROTO },   /* magic */
		{ "\0\0\0\x09\x77\x58\3\1", 8, -EPROTO },   /* length */
		{ "\0\0\0\x07\x77\x58\3\1", 8, -EPROTO },   /* shorter than itself */
		{ "\0\0\0\x08\x77\x58\3\6", 8, -EPROTO },   /* of the handshake */
		{ "\0\0\0\x08\x77\x58\3\x0b", 8, -EPROTO }, /* unknown */
		{ "\0\0\0\x10\x77\x58\3\x8\0\0\0\0\0\0\0\1", 16, -EPROTO }, /* a server's word */
		{ "\x0f\xff\xff\xff\x77\x58\3\3\0\0\0\2\0\0\0\0", 16, -ENOBUFS },
		{ "\xff\xff\xff\xff\x77\x58\3\3\0\0\0\2\0\0\0\0", 16, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct shmipc_stream *stream;
		struct peer_pair pair;
		struct peer peer;

		peer_prepare(&peer, PEER_UNIX_MEMFD);
		peer.config.fallback_bytes_max = 1 << 20;
		peer_make_pair(&peer, NULL, NULL, NULL, &pair);
		assert_int_equal(send(pair.wire, bad[i].bytes, bad[i].count, 0), bad[i].count);
		assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NEVER, &stream),
				 bad[i].reason);
		assert_int_equal(shmipc_session_health(pair.server), bad[i].reason);
		peer_close_pair(&pair);
	}
}

/* Single bytes take much more memory than they are. */
static void small_messages_by_the_socket_are_limited_too(void **state)
{
	enum { BYTES = 17, LIMIT = 1000 };
	static uint8_t messages[LIMIT + 1][BYTES];
	struct shmipc_stream *stream;
	struct peer_pair pair;
	struct peer peer;
	const void *view;

	(void)state;
	for (int i = 0; i <= LIMIT; i++)
		memcpy(messages[i], "\0\0\0\x11\x77\x58\3\3\0\0\0\2\0\0\0\0x", BYTES);
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer.config.fallback_bytes_max = LIMIT * 129;
	peer_make_pair(&peer, NULL, NULL, NULL, &pair);
	assert_int_equal(send(pair.wire, messages, LIMIT * BYTES, 0), LIMIT * BYTES);
	assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NEVER, &stream), 0);
	/* who reads has room for more */
	assert_int_equal(shmipc_stream_read_view(stream, LIMIT, &view), 0);
	shmipc_stream_release(stream);
	assert_int_equal(send(pair.wire, messages, sizeof(messages), 0), sizeof(messages));
	assert_int_equal(shmipc_stream_read_view(stream, LIMIT + 1, &view), -ENOBUFS);
	assert_int_equal(shmipc_session_health(pair.server), -ENOBUFS);
	shmipc_stream_close(stream);
	peer_close_pair(&pair);
}

static void streams_that_nobody_wants_are_refused(void **state)
{
	struct shmipc_stream *streams[4], *stream;
	const void *view;
	struct peer_pair pair;
	struct peer peer;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer.config.accept_backlog = 2;
	peer_make_pair(&peer, NULL, NULL, NULL, &pair);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(shmipc_session_open_stream(pair.client, &streams[i]), 0);
		assert_int_equal(shmipc_stream_send(streams[i], "hello", 5), 0);
	}
	assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NEVER, &stream), 0);
	assert_int_equal(shmipc_stream_id(stream), 2);
	assert_int_equal(shmipc_session_open_stream(pair.server, &streams[0]), -ENOTSUP);
	assert_int_equal(shmipc_stream_read_view(streams[3], 1, &view), -ENODATA);
	shmipc_stream_set_read_deadline(streams[1], SHMIPC_NOWAIT);
	assert_int_equal(shmipc_stream_read_view(streams[1], 1, &view), -EAGAIN);
	/* late data of a stream that was closed here is not a new stream */
	shmipc_stream_close(stream);
	assert_int_equal(shmipc_stream_send(streams[0], "late", 4), 0);
	assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NOWAIT, &stream), 0);
	assert_int_equal(shmipc_stream_id(stream), 3);
	shmipc_stream_close(stream);
	assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NOWAIT, &stream),
			 -EAGAIN);
	for (int i = 0; i < 4; i++)
		shmipc_stream_close(streams[i]);
	peer_close_pair(&pair);
	assert_int_equal(peer_files(&peer), 0);
}

static void configurations_are_checked(void **state)
{
	struct shmipc_config config;
	struct shmipc_client *client;
	struct shmipc_listener *listener;
	const char *why;

	(void)state;
	shmipc_config_init(&config, sizeof(config));
	assert_int_equal(shmipc_config_check(&config, &why), 0);
	assert_null(why);
	config.slice_classes[0].percent = 51;
	assert_int_equal(shmipc_config_check(&config, &why), -EINVAL);
	assert_non_null(why);
	shmipc_config_init(&config, sizeof(config));
	config.buffer_bytes = 1 << 19;
	assert_int_equal(shmipc_config_check(&config, NULL), -EINVAL);
	shmipc_config_init(&config, sizeof(config));
	config.memory = SHMIPC_MEMORY_MEMFD;
	assert_int_equal(shmipc_client_create("somewhere", &config, NULL, &client), -EINVAL);
	assert_int_equal(shmipc_client_create("unix:/tmp/nobody.is.here", &config, NULL, &client),
			 -ENOENT);
	assert_int_equal(
		shmipc_listener_create("tcp:127.0.0.1:0", 0, &config, NULL, NULL, NULL, &listener),
		0);
	assert_int_equal(
		shmipc_client_create(shmipc_listener_address(listener), &config, NULL, &client),
		-EPROTONOSUPPORT);
	shmipc_listener_destroy(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(callbacks_run_in_the_applications_loop),
		cmocka_unit_test(a_child_of_a_loop_does_no_harm),
		cmocka_unit_test(lost_sessions_are_replaced),
		cmocka_unit_test(what_killed_clients_leave_is_swept),
		cmocka_unit_test(a_hot_restart_loses_no_request),
		cmocka_unit_test(bad_messages_end_the_session_alone),
		cmocka_unit_test(small_messages_by_the_socket_are_limited_too),
		cmocka_unit_test(streams_that_nobody_wants_are_refused),
		cmocka_unit_test(configurations_are_checked),
	};

	signal(SIGUSR1, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
