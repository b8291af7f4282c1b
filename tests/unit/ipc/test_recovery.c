/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c
/* What a client does when things go wrong for a while: it falls back, loses sessions, is refused.
 */
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
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/ipc/peer.h"

static void round_trip(struct shmipc_stream *stream, size_t bytes)
{
	uint8_t *out = malloc(bytes), *in = malloc(bytes);

	peer_fill(out, bytes, (unsigned int)bytes);
	assert_int_equal(shmipc_stream_send(stream, out, bytes), 0);
	assert_int_equal(shmipc_stream_read_full(stream, in, bytes), 0);
	peer_check(in, bytes, (unsigned int)bytes);
	free(out);
	free(in);
}

/* ---- the circuit breaker -------------------------------------------------------------------- */

static uint64_t fallbacks(struct shmipc_client *client)
{
	struct shmipc_metrics metrics;

	shmipc_client_metrics(client, &metrics, sizeof(metrics));
	return metrics.fallback_sent;
}

static void the_breaker_closes_again(void **state)
{
	struct shmipc_stream *large, *small;
	struct shmipc_client *client;
	struct peer peer;
	uint64_t opened;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer.config.breaker_ms = 300;
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	large = peer_stream(client);
	opened = shmipc_deadline_after(0);
	round_trip(large, 6 << 20); /* more than there is */
	assert_int_equal(fallbacks(client), 1);
	/* as long as it is open: no new streams, also none that were put back */
	while (shmipc_client_get_stream(client, SHMIPC_NOWAIT, &small) == -EBUSY)
		usleep(1000);
	assert_true(shmipc_deadline_after(0) - opened >= 300000000);
	assert_int_equal(shmipc_client_healthy_sessions(client), 1);
	round_trip(small, 20000);
	assert_int_equal(fallbacks(client), 1);
	shmipc_client_put_stream(client, small);
	/* the stream itself never comes back from the socket */
	round_trip(large, 100);
	assert_int_equal(fallbacks(client), 2);
	assert_int_equal(shmipc_client_get_stream(client, SHMIPC_NOWAIT, &small), -EBUSY);
	shmipc_client_put_stream(client, large);
	shmipc_client_destroy(client);
	peer_stop(&peer);
	assert_int_equal(peer_files(&peer), 0);
}

static void without_a_breaker_there_are_streams(void **state)
{
	struct shmipc_stream *large, *small;
	struct shmipc_client *client;
	struct peer peer;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_FILE);
	peer.config.breaker_ms = 0;
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	large = peer_stream(client);
	round_trip(large, 6 << 20);
	small = peer_stream(client);
	round_trip(small, 20000);
	assert_int_equal(fallbacks(client), 1);
	shmipc_client_put_stream(client, large);
	shmipc_client_put_stream(client, small);
	shmipc_client_destroy(client);
	peer_stop(&peer);
}

/* ---- memory that a dead peer may have taken with it ----------------------------------------- */

/* A server in this process, whose sessions the test ends one by one. */
struct server {
	struct shmipc_listener *listener;
	struct shmipc_session *sessions[8];
	_Atomic unsigned int count;
	_Atomic bool stop;
	pthread_t thread;
};

static void *accept_all(void *argument)
{
	struct server *server = argument;

	while (!server->stop)
		if (shmipc_listener_accept(server->listener, shmipc_deadline_after(5000000),
					   &server->sessions[server->count]) == 0)
			server->count++;
	return NULL;
}

static void start_server(struct server *server, struct peer *peer)
{
	*server = (struct server){ .stop = false };
	assert_int_equal(shmipc_listener_create(peer->address, 0, &peer->config, NULL, NULL, NULL,
						&server->listener),
			 0);
	pthread_create(&server->thread, NULL, accept_all, server);
}

static void stop_server(struct server *server)
{
	server->stop = true;
	pthread_join(server->thread, NULL);
	for (unsigned int i = 0; i < server->count; i++)
		if (server->sessions[i])
			shmipc_session_close(server->sessions[i]);
	shmipc_listener_destroy(server->listener);
}

static void await_count(_Atomic unsigned int *count, unsigned int wanted)
{
	for (int i = 0; *count < wanted; i++) {
		assert_true(i < 20000);
		usleep(1000);
	}
}

static unsigned int mappings_of(const char *name)
{
	char line[512];
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned int count = 0;

	while (fgets(line, sizeof(line), file))
		count += strstr(line, name) != NULL;
	fclose(file);
	return count;
}

/* One message to the server and one back, over the stream's own session. */
static void exchange(struct shmipc_stream *stream, struct shmipc_session *server)
{
	struct shmipc_stream *other;
	char text[8];

	assert_int_equal(shmipc_stream_send(stream, "request", 8), 0);
	assert_int_equal(shmipc_session_accept_stream(server, SHMIPC_NEVER, &other), 0);
	assert_int_equal(shmipc_stream_read_full(other, text, 8), 0);
	assert_string_equal(text, "request");
	assert_int_equal(shmipc_stream_send(other, "answers", 8), 0);
	assert_int_equal(shmipc_stream_read_full(stream, text, 8), 0);
	assert_string_equal(text, "answers");
	shmipc_stream_close(other);
}

/* 32 streams in turn from each session: the first one of the next. */
static struct shmipc_stream *stream_of_next_session(struct shmipc_client *client,
						    const struct shmipc_stream *first)
{
	struct shmipc_stream *stream = peer_stream(client);

	for (int i = 1; shmipc_stream_session(stream) == shmipc_stream_session(first); i++) {
		assert_true(i < 40);
		shmipc_stream_close(stream);
		stream = peer_stream(client);
	}
	return stream;
}

/* Until it has asked the server anew for both sessions; without a loop its own calls do that. */
static void await_new_sessions(struct shmipc_client *client, const struct server *server,
			       bool with_loop)
{
	struct shmipc_stream *unused;

	for (int i = 0; server->count < 4 && i < 20000; i++) {
		shmipc_client_healthy_sessions(client);
		if (!with_loop && shmipc_client_get_stream(client, SHMIPC_NOWAIT, &unused) == 0)
			shmipc_stream_close(unused);
		usleep(1000);
	}
	assert_int_equal(server->count, 4);
	while (shmipc_client_healthy_sessions(client) < 2)
		usleep(1000);
}

/* "<name>_queue_<n>": what is before it is the memory's. */
static void name_memory(const struct shmipc_stream *stream, char *name, size_t room)
{
	snprintf(name, room, "%s", shmipc_session_id(shmipc_stream_session(stream)));
	*strstr(name, "_queue_") = 0;
}

static void replace_memory(bool with_loop)
{
	struct shmipc_stream *first, *held;
	struct shmipc_metrics metrics;
	struct shmipc_loop *loop = NULL;
	struct shmipc_client *client;
	struct server server;
	struct peer peer;
	char old[160];

	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer.config.sessions = 2;
	peer.config.reconnect_min_ms = 1;
	start_server(&server, &peer);
	if (with_loop) {
		assert_int_equal(shmipc_loop_create(&loop), 0);
		assert_int_equal(shmipc_loop_start(loop), 0);
	}
	client = peer_connect(&peer, loop);
	await_count(&server.count, 2);
	first = peer_stream(client);
	held = stream_of_next_session(client, first);
	name_memory(held, old, sizeof(old));
	assert_true(mappings_of(old) >= 4); /* two queues, the buffer, the server's of it */

	/* the peer of the first session dies: the other one goes on, but only with what is open */
	shmipc_session_close(server.sessions[0]);
	server.sessions[0] = NULL;
	await_new_sessions(client, &server, with_loop);
	exchange(held, server.sessions[1]);
	assert_true(mappings_of(old) > 0);
	shmipc_stream_close(first);
	shmipc_stream_close(held);
	/* the last stream was what held the old session, and the session the memory; what is left
	 * is the server's queue and buffer */
	for (int i = 0; mappings_of(old) > 2; i++) {
		assert_true(i < 5000);
		usleep(1000);
	}
	shmipc_session_close(server.sessions[1]);
	server.sessions[1] = NULL;
	assert_int_equal(mappings_of(old), 0);
	shmipc_client_metrics(client, &metrics, sizeof(metrics));
	assert_int_equal(metrics.sessions, 2);
	held = peer_stream(client);
	/* both ends call a session by its queue */
	exchange(held, strcmp(shmipc_session_id(shmipc_stream_session(held)),
			      shmipc_session_id(server.sessions[2])) == 0
			       ? server.sessions[2]
			       : server.sessions[3]);
	shmipc_stream_close(held);
	shmipc_client_destroy(client);
	stop_server(&server);
	if (loop)
		assert_int_equal(shmipc_loop_destroy(loop), 0);
	assert_int_equal(peer_files(&peer), 0);
}

static void the_memory_of_a_dead_peer_is_replaced(void **state)
{
	(void)state;
	replace_memory(false);
	replace_memory(true);
}

/* ---- reconnecting --------------------------------------------------------------------------- */

/* Somebody else at the address, who hangs up on everybody. */
struct refuser {
	int fd;
	_Atomic unsigned int calls;
	pthread_t thread;
};

static void *refuse(void *argument)
{
	struct refuser *refuser = argument;
	int fd;

	while ((fd = accept(refuser->fd, NULL, NULL)) >= 0) {
		refuser->calls++;
		close(fd);
	}
	return NULL;
}

static void start_refuser(struct refuser *refuser, const char *address)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	refuser->calls = 0;
	refuser->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", address + 5);
	assert_int_equal(bind(refuser->fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(refuser->fd, 64), 0);
	pthread_create(&refuser->thread, NULL, refuse, refuser);
}

static void stop_refuser(struct refuser *refuser, const char *address)
{
	shutdown(refuser->fd, SHUT_RDWR);
	pthread_join(refuser->thread, NULL);
	close(refuser->fd);
	unlink(address + 5);
}

/* Pauses of 10, 20, 40 and then 80 ms: in 1.2 s no more than 17 attempts, and on a machine that has
 * time for them no fewer than 8. */
static void pauses_grow_up_to_a_bound(void **state)
{
	enum { MILLISECONDS = 1200, MOST = 18, LEAST = 5 };

	(void)state;
	for (int with_loop = 0; with_loop < 2; with_loop++) {
		struct shmipc_loop *loop = NULL;
		struct shmipc_client *client;
		struct shmipc_stream *stream;
		struct refuser refuser;
		struct peer peer;

		peer_prepare(&peer, PEER_UNIX_MEMFD);
		peer.config.reconnect_min_ms = 10;
		peer.config.reconnect_max_ms = 80;
		peer_start(&peer);
		if (with_loop) {
			assert_int_equal(shmipc_loop_create(&loop), 0);
			assert_int_equal(shmipc_loop_start(loop), 0);
		}
		client = peer_connect(&peer, loop);
		peer_kill(&peer);
		start_refuser(&refuser, peer.address);
		if (loop)
			usleep(MILLISECONDS * 1000);
		assert_int_equal(
			shmipc_client_get_stream(
				client,
				loop ? SHMIPC_NOWAIT
				     : shmipc_deadline_after(MILLISECONDS * UINT64_C(1000000)),
				&stream),
			-ENOTCONN);
		assert_in_range(refuser.calls, LEAST, MOST);
		stop_refuser(&refuser, peer.address);
		/* who it was comes back */
		peer_start(&peer);
		while (shmipc_client_get_stream(client, SHMIPC_NOWAIT, &stream))
			usleep(1000);
		round_trip(stream, 1000);
		shmipc_stream_close(stream);
		shmipc_client_destroy(client);
		if (loop)
			assert_int_equal(shmipc_loop_destroy(loop), 0);
		peer_stop(&peer);
		assert_int_equal(peer_files(&peer), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_breaker_closes_again),
		cmocka_unit_test(without_a_breaker_there_are_streams),
		cmocka_unit_test(the_memory_of_a_dead_peer_is_replaced),
		cmocka_unit_test(pauses_grow_up_to_a_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
