/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c
/* What is closed or destroyed while a loop in another thread is at work with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/ipc/peer.h"

static unsigned int descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static struct shmipc_loop *start_loop(void)
{
	struct shmipc_loop *loop;

	assert_int_equal(shmipc_loop_create(&loop), 0);
	assert_int_equal(shmipc_loop_start(loop), 0);
	return loop;
}

/* ---- callbacks ------------------------------------------------------------------------------ */

/* What a callback works with; gone as soon as close() has returned. */
struct work {
	_Atomic bool gone;
	_Atomic unsigned int calls;
};

static _Atomic unsigned int late_calls;

static void be_slow(struct work *work)
{
	late_calls += work->gone;
	work->calls++;
	usleep(200);
	late_calls += work->gone;
}

static void slow_data(struct shmipc_stream *stream, void *user)
{
	be_slow(user);
	shmipc_stream_discard(stream, shmipc_stream_readable(stream));
}

static const struct shmipc_stream_callbacks slow = { .on_data = slow_data };

static void streams_are_closed_beside_their_callbacks(void **state)
{
	struct shmipc_loop *loop;
	struct shmipc_client *client;
	struct peer peer;
	unsigned int called = 0;

	(void)state;
	late_calls = 0;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_start(&peer);
	loop = start_loop();
	client = peer_connect(&peer, loop);
	for (unsigned int i = 0; i < 600; i++) {
		struct work *work = calloc(1, sizeof(*work));
		struct shmipc_stream *stream = peer_stream(client);

		assert_int_equal(shmipc_stream_set_callbacks(stream, &slow, work), 0);
		assert_int_equal(shmipc_stream_send(stream, "hello", 5), 0);
		if (i % 3 == 0)
			while (work->calls == 0)
				;
		else
			usleep(i % 50 * 4);
		if (i % 2)
			assert_int_equal(shmipc_stream_set_callbacks(stream, NULL, NULL), 0);
		else
			shmipc_client_put_stream(client, stream);
		work->gone = true;
		called += work->calls;
		free(work);
		if (i % 2)
			shmipc_stream_close(stream);
	}
	assert_true(called >= 200);
	assert_int_equal(late_calls, 0);
	shmipc_client_destroy(client);
	assert_int_equal(shmipc_loop_destroy(loop), 0);
	peer_stop(&peer);
}

static void slow_stream(struct shmipc_session *session, struct shmipc_stream *stream, void *user)
{
	(void)session;
	be_slow(user);
	shmipc_stream_close(stream);
}

static void slow_shutdown(struct shmipc_session *session, int reason, void *user)
{
	(void)session;
	(void)reason;
	be_slow(user);
}

static void sessions_are_closed_beside_their_callbacks(void **state)
{
	static const struct shmipc_session_callbacks callbacks = { .on_stream = slow_stream,
								   .on_shutdown = slow_shutdown };
	struct shmipc_loop *loop = start_loop();
	struct peer peer;

	(void)state;
	late_calls = 0;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	for (unsigned int i = 0; i < 60; i++) {
		struct work *work = calloc(1, sizeof(*work));
		struct shmipc_stream *streams[3];
		struct peer_pair pair;

		peer_make_pair(&peer, loop, &callbacks, work, &pair);
		for (int k = 0; k < 3; k++) {
			assert_int_equal(shmipc_session_open_stream(pair.client, &streams[k]), 0);
			assert_int_equal(shmipc_stream_send(streams[k], "x", 1), 0);
		}
		if (i % 3 == 0)
			while (work->calls == 0)
				;
		if (i % 5 == 0) /* on_shutdown may run meanwhile */
			shmipc_session_close(pair.client);
		shmipc_session_close(pair.server);
		work->gone = true;
		free(work);
		for (int k = 0; k < 3; k++)
			shmipc_stream_close(streams[k]);
		if (i % 5)
			shmipc_session_close(pair.client);
		close(pair.wire);
	}
	assert_int_equal(late_calls, 0);
	assert_int_equal(shmipc_loop_destroy(loop), 0);
}

/* Each callback closes what it was called for. */
static int close_session(struct shmipc_session *session, void *user)
{
	_Atomic unsigned int *calls = user;

	(*calls)++;
	shmipc_session_close(session);
	return 0;
}

static int refuse_session(struct shmipc_session *session, void *user)
{
	close_session(session, user);
	return 1;
}

static void close_from_stream(struct shmipc_session *session, struct shmipc_stream *stream,
			      void *user)
{
	_Atomic unsigned int *calls = user;

	(*calls)++;
	shmipc_stream_close(stream);
	shmipc_session_close(session);
}

static void callbacks_close_what_called_them(void **state)
{
	static const struct shmipc_session_callbacks callbacks[] = {
		{ .on_session = close_session },
		{ .on_session = refuse_session },
		{ .on_stream = close_from_stream },
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(callbacks) / sizeof(callbacks[0]); i++) {
		_Atomic unsigned int calls = 0;
		struct shmipc_listener *listener;
		struct shmipc_client *client;
		struct shmipc_stream *stream;
		struct shmipc_loop *loop;
		struct peer peer;
		const void *view;

		peer_prepare(&peer, PEER_UNIX_MEMFD);
		loop = start_loop();
		assert_int_equal(shmipc_listener_create(peer.address, 0, &peer.config, loop,
							&callbacks[i], &calls, &listener),
				 0);
		client = peer_connect(&peer, NULL);
		if (shmipc_client_get_stream(client, SHMIPC_NOWAIT, &stream) == 0) {
			shmipc_stream_send(stream, "x", 1);
			assert_true(shmipc_stream_read_view(stream, 1, &view) < 0);
			shmipc_stream_close(stream);
		}
		shmipc_client_destroy(client);
		assert_int_equal(calls, 1);
		shmipc_listener_destroy(listener);
		assert_int_equal(shmipc_loop_destroy(loop), 0);
		assert_int_equal(peer_files(&peer), 0);
	}
}

/* ---- waits ---------------------------------------------------------------------------------- */

static void *read_one(void *stream)
{
	const void *view;

	return (void *)(intptr_t)shmipc_stream_read_view(stream, 1, &view);
}

/* Who sleeps on the socket has no descriptor by which others could tell him. */
static void a_shutdown_ends_a_wait_without_descriptors(void **state)
{
	struct rlimit before, none;
	struct shmipc_stream *stream;
	struct peer_pair pair;
	struct peer peer;
	pthread_t thread;
	void *result;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_make_pair(&peer, NULL, NULL, NULL, &pair);
	assert_int_equal(shmipc_session_open_stream(pair.client, &stream), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	pthread_create(&thread, NULL, read_one, stream);
	usleep(20000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	shmipc_stream_shutdown(stream);
	pthread_join(thread, &result);
	assert_int_equal((intptr_t)result, -ESHUTDOWN);
	shmipc_stream_close(stream);
	peer_close_pair(&pair);
}

/* ---- connecting ----------------------------------------------------------------------------- */

struct door {
	struct shmipc_listener *listener;
	_Atomic bool stop;
};

/* Every session ends as soon as it has begun, so that clients are always about to connect. */
static void *slam(void *argument)
{
	struct door *door = argument;
	struct shmipc_session *session;

	while (!door->stop)
		if (shmipc_listener_accept(door->listener, shmipc_deadline_after(5000000),
					   &session) == 0)
			shmipc_session_close(session);
	return NULL;
}

static void clients_are_destroyed_while_they_connect(void **state)
{
	struct door door = { .stop = false };
	unsigned int before;
	struct shmipc_loop *loop;
	struct peer peer;
	pthread_t thread;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer.config.sessions = 3;
	peer.config.reconnect_min_ms = peer.config.reconnect_max_ms = 1;
	peer.config.buffer_bytes = 1 << 20;
	before = descriptors();
	assert_int_equal(shmipc_listener_create(peer.address, 0, &peer.config, NULL, NULL, NULL,
						&door.listener),
			 0);
	pthread_create(&thread, NULL, slam, &door);
	loop = start_loop();
	for (unsigned int i = 0; i < 100; i++) {
		struct shmipc_client *client = peer_connect(&peer, loop);

		usleep(i * 37 % 4000);
		shmipc_client_destroy(client);
	}
	assert_int_equal(shmipc_loop_destroy(loop), 0);
	door.stop = true;
	pthread_join(thread, NULL);
	/* which may hold one whose client went away in the middle of its handshake */
	shmipc_listener_destroy(door.listener);
	assert_int_equal(descriptors(), before);
	assert_int_equal(peer_files(&peer), 0);
}

struct caller {
	struct peer *peer;
	_Atomic bool stop;
};

static void *call_always(void *argument)
{
	struct caller *caller = argument;

	while (!caller->stop) {
		struct shmipc_client *client;

		if (shmipc_client_create(caller->peer->address, &caller->peer->config, NULL,
					 &client) == 0)
			shmipc_client_destroy(client);
	}
	return NULL;
}

static void listeners_are_destroyed_while_clients_connect(void **state)
{
	struct caller caller = { .stop = false };
	unsigned int before = descriptors();
	struct shmipc_loop *loop;
	struct peer peer;
	pthread_t threads[2];

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer.config.buffer_bytes = 1 << 20;
	caller.peer = &peer;
	loop = start_loop();
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, call_always, &caller);
	for (unsigned int i = 0; i < 100; i++) {
		struct shmipc_listener *listener;

		assert_int_equal(shmipc_listener_create(peer.address, 0, &peer.config, loop, NULL,
							NULL, &listener),
				 0);
		usleep(i * 37 % 3000);
		shmipc_listener_destroy(listener);
	}
	caller.stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	/* the last sessions' callbacks, and what is freed after them */
	assert_int_equal(shmipc_loop_stop(loop), 0);
	while (shmipc_process(loop, SHMIPC_NOWAIT) > 0)
		;
	assert_int_equal(shmipc_loop_destroy(loop), 0);
	assert_int_equal(descriptors(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_are_closed_beside_their_callbacks),
		cmocka_unit_test(sessions_are_closed_beside_their_callbacks),
		cmocka_unit_test(callbacks_close_what_called_them),
		cmocka_unit_test(a_shutdown_ends_a_wait_without_descriptors),
		cmocka_unit_test(clients_are_destroyed_while_they_connect),
		cmocka_unit_test(listeners_are_destroyed_while_clients_connect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
