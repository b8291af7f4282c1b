/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c
/* What an application can see of its sessions: figures, the monitor, the log, who the peer is. */
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

/* ---- figures -------------------------------------------------------------------------------- */

static void both_sides_count_alike(void **state)
{
	enum { MESSAGES = 50, BYTES = 20000 };
	static uint8_t bytes[BYTES];
	struct shmipc_metrics client, server;
	struct shmipc_stream *stream, *accepted;
	struct peer_pair pair;
	struct peer peer;
	const void *view;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer.config.spin_us = 0;
	peer_make_pair(&peer, NULL, NULL, NULL, &pair);
	assert_int_equal(shmipc_session_open_stream(pair.client, &stream), 0);
	for (int i = 0; i < MESSAGES; i++)
		assert_int_equal(shmipc_stream_send(stream, bytes, BYTES), 0);
	assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NEVER, &accepted), 0);
	shmipc_session_metrics(pair.server, &server, sizeof(server));
	assert_true(server.shared_bytes_in_use >= MESSAGES * BYTES);
	assert_true(server.shared_bytes >= server.shared_bytes_in_use);
	assert_int_equal(shmipc_stream_read_view(accepted, MESSAGES * BYTES, &view), 0);
	shmipc_stream_set_read_deadline(accepted, SHMIPC_NOWAIT);
	assert_int_equal(shmipc_stream_read_view(accepted, 1, &view), -EAGAIN);
	shmipc_session_metrics(pair.client, &client, sizeof(client));
	shmipc_session_metrics(pair.server, &server, sizeof(server));
	assert_int_equal(client.messages_sent, MESSAGES);
	assert_int_equal(server.messages_received, MESSAGES);
	assert_int_equal(client.bytes_sent, MESSAGES * BYTES);
	assert_int_equal(server.bytes_received, MESSAGES * BYTES);
	/* nobody slept in between: one wake-up for all */
	assert_int_equal(client.wakeups_sent, 1);
	assert_int_equal(server.wakeups_received, 1);
	assert_int_equal(client.active_streams, 1);
	assert_int_equal(server.active_streams, 1);
	assert_int_equal(client.sessions, 1);
	shmipc_stream_close(stream);
	shmipc_stream_close(accepted);
	peer_close_pair(&pair);
}

/* A caller that was compiled against an older or a newer header. */
static void callers_of_other_versions_get_what_they_know(void **state)
{
	union {
		struct shmipc_metrics known;
		uint8_t bytes[sizeof(struct shmipc_metrics) + 64];
	} room;
	struct peer_pair pair;
	struct peer peer;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_make_pair(&peer, NULL, NULL, NULL, &pair);
	memset(&room, 0xa5, sizeof(room));
	shmipc_session_metrics(pair.client, &room.known, 2 * sizeof(uint64_t));
	assert_int_equal(room.known.wakeups_received, 0);
	assert_int_equal(room.bytes[2 * sizeof(uint64_t)], 0xa5);
	shmipc_session_metrics(pair.client, &room.known, sizeof(room));
	assert_int_equal(room.known.sessions, 1);
	assert_int_equal(room.bytes[sizeof(room) - 1], 0);
	peer_close_pair(&pair);
}

/* ---- monitor and log ------------------------------------------------------------------------ */

struct observer {
	_Atomic unsigned int reports, lines, warnings;
	_Atomic uint64_t sent;
	char id[128], line[512];
};

static void monitor(void *user, const char *id, const struct shmipc_metrics *metrics)
{
	struct observer *observer = user;

	snprintf(observer->id, sizeof(observer->id), "%s", id);
	observer->sent = metrics->messages_sent;
	observer->reports++;
}

static void take_line(void *user, enum shmipc_log_level level, const char *text)
{
	struct observer *observer = user;

	snprintf(observer->line, sizeof(observer->line), "%s", text);
	observer->warnings += level <= SHMIPC_LOG_WARNING;
	observer->lines++;
}

static void a_monitor_hears_of_a_session(void **state)
{
	struct observer observer = { .reports = 0 };
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct shmipc_loop *loop;
	struct peer peer;
	unsigned int before;
	char id[128];

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_start(&peer);
	peer.config.monitor = monitor;
	peer.config.monitor_interval_ms = 10;
	peer.config.user = &observer;
	assert_int_equal(shmipc_loop_create(&loop), 0);
	client = peer_connect(&peer, loop);
	stream = peer_stream(client);
	snprintf(id, sizeof(id), "%s", shmipc_session_id(shmipc_stream_session(stream)));
	assert_int_equal(shmipc_stream_send(stream, "x", 1), 0);
	while (observer.reports < 3) /* again and again where a loop runs */
		assert_true(shmipc_process(loop, shmipc_deadline_after(1000000000)) >= 0);
	assert_string_equal(observer.id, id);
	assert_int_equal(observer.sent, 1);
	shmipc_stream_close(stream);
	before = observer.reports;
	shmipc_client_destroy(client);
	assert_int_equal(observer.reports, before + 1); /* and once at its end */
	assert_int_equal(shmipc_loop_destroy(loop), 0);
	peer_stop(&peer);
}

static void a_log_says_what_was_asked_for(void **state)
{
	static const enum shmipc_log_level levels[] = { SHMIPC_LOG_ERROR, SHMIPC_LOG_WARNING,
							SHMIPC_LOG_INFO };

	(void)state;
	for (unsigned int i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		static const uint8_t nonsense[8];
		struct observer observer = { .lines = 0 };
		struct shmipc_stream *stream;
		struct peer_pair pair;
		struct peer peer;

		peer_prepare(&peer, PEER_UNIX_MEMFD);
		peer.config.log = take_line;
		peer.config.log_level = levels[i];
		peer.config.user = &observer;
		peer_make_pair(&peer, NULL, NULL, NULL, &pair);
		assert_int_equal(send(pair.wire, nonsense, sizeof(nonsense), 0), sizeof(nonsense));
		assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NEVER, &stream),
				 -EPROTO);
		assert_int_equal(observer.warnings, levels[i] >= SHMIPC_LOG_WARNING);
		if (observer.warnings) {
			assert_non_null(strstr(observer.line, shmipc_session_id(pair.server)));
			assert_non_null(strstr(observer.line, strerror(EPROTO)));
		}
		peer_close_pair(&pair);
		/* the other end only lost its peer */
		assert_true(observer.lines >= observer.warnings);
	}
}

/* ---- who and where -------------------------------------------------------------------------- */

static int listen_by_hand(struct peer *peer)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", peer->address + 5);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static void *connect_client(void *argument)
{
	return peer_connect(argument, NULL);
}

static void a_listening_socket_is_adopted(void **state)
{
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_metrics metrics;
	struct peer peer;
	pthread_t thread;
	void *client;
	pid_t pid;
	uid_t uid;
	gid_t gid;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	assert_int_equal(shmipc_listener_adopt(-1, &peer.config, NULL, NULL, NULL, &listener),
			 -EBADF);
	assert_int_equal(shmipc_listener_adopt(listen_by_hand(&peer), &peer.config, NULL, NULL,
					       NULL, &listener),
			 0);
	assert_string_equal(shmipc_listener_address(listener), peer.address);
	pthread_create(&thread, NULL, connect_client, &peer);
	assert_int_equal(shmipc_listener_accept(listener, SHMIPC_NEVER, &session), 0);
	pthread_join(thread, &client);
	assert_int_equal(shmipc_session_peer(session, &pid, &uid, &gid), 0);
	assert_int_equal(pid, getpid());
	assert_int_equal(uid, geteuid());
	assert_int_equal(gid, getegid());
	assert_int_equal(shmipc_session_peer(session, NULL, NULL, NULL), 0);
	shmipc_listener_metrics(listener, &metrics, sizeof(metrics));
	assert_int_equal(metrics.sessions, 1);
	shmipc_client_destroy(client);
	shmipc_session_close(session);
	assert_int_equal(shmipc_listener_accept(listener, SHMIPC_NOWAIT, &session), -EAGAIN);
	shmipc_listener_destroy(listener);
	/* whose socket it was, his is the path */
	assert_int_equal(unlink(peer.address + 5), 0);
}

static void a_tcp_peer_is_unknown(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	pid_t pid;

	(void)state;
	peer_prepare(&peer, PEER_TCP_FILE);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	stream = peer_stream(client);
	assert_int_equal(shmipc_session_peer(shmipc_stream_session(stream), &pid, NULL, NULL),
			 -ENOTSUP);
	assert_null(shmipc_stream_user(stream));
	shmipc_stream_set_user(stream, &pid);
	assert_ptr_equal(shmipc_stream_user(stream), &pid);
	/* for the next one it is as new */
	shmipc_client_put_stream(client, stream);
	assert_ptr_equal(peer_stream(client), stream);
	assert_null(shmipc_stream_user(stream));
	shmipc_stream_close(stream);
	shmipc_client_destroy(client);
	peer_stop(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sides_count_alike),
		cmocka_unit_test(callers_of_other_versions_get_what_they_know),
		cmocka_unit_test(a_monitor_hears_of_a_session),
		cmocka_unit_test(a_log_says_what_was_asked_for),
		cmocka_unit_test(a_listening_socket_is_adopted),
		cmocka_unit_test(a_tcp_peer_is_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
