/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/golden.c
/*
 * The recorded scenarios once more, with a client and a server of ours and this test as the wire
 * between them: the same operations, then the same messages and the same memory.
 *
 * Compared is all that a compatible peer must reproduce.  The order of a free list after a message
 * of several slices was recycled is not among it, so after the first of those only what does not
 * depend on the order is compared.
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
#include <sys/socket.h>
#include <unistd.h>

#include "core/fdpass.h"
#include "core/ipc/session.h"
#include "core/ipc/stream.h"
#include "tests/unit/ipc/golden.h"

enum { STREAMS = 8, WIRE_ROOM = 2 << 20, LINE_ROOM = 2048 };

struct end {
	struct shmipc_session *session;
	struct shmipc_handshake handshake;
	int wire; /* the test's side of its socket */
	struct shmipc_stream *streams[STREAMS];
	uint8_t *held; /* what it sent and the test has not passed on */
	size_t held_bytes;
	size_t compared; /* of those */
	size_t pattern;	 /* bytes written into the message under way */
};

struct replay {
	const char *scenario;
	struct shmipc_config config;
	struct shmipc_shared_config *shared;
	struct shmipc_mapping *buffer;
	struct end client, server;
	bool order_is_ours; /* free lists may be in another order than recorded */
	bool fallback;
	unsigned int messages, snapshots;
};

/* ---- the wire ------------------------------------------------------------------------------- */

static void collect(struct end *end)
{
	ssize_t n;

	while ((n = recv(end->wire, end->held + end->held_bytes, WIRE_ROOM - end->held_bytes,
			 MSG_DONTWAIT)) > 0)
		end->held_bytes += (size_t)n;
}

static void pass_on(struct end *from, struct end *to)
{
	collect(from);
	if (from->held_bytes > 0)
		assert_int_equal(send(to->wire, from->held, from->held_bytes, 0), from->held_bytes);
	from->held_bytes = from->compared = 0;
}

static void drain(struct end *end)
{
	for (int i = 0; i < 3; i++)
		shmipc_session_poke(end->session);
	shmipc_session_lock(end->session);
	assert_true(shmipc_session_rest(end->session));
	shmipc_session_unlock(end->session);
}

/* What was recorded as the next message of this side must be what it has just sent. */
static void compare_message(struct end *end, unsigned int type, const char *hex)
{
	const uint8_t *message;
	struct shmipc_message_header header;
	unsigned int value;

	collect(end);
	message = end->held + end->compared;
	assert_int_equal(
		shmipc_message_decode_header(message, end->held_bytes - end->compared, &header), 0);
	assert_int_equal(header.type, type);
	end->compared += header.length;
	assert_true(end->compared <= end->held_bytes);
	for (size_t i = 0; i < header.length && sscanf(hex + 2 * i, "%2x", &value) == 1; i++)
		assert_int_equal(message[i], value);
}

/* ---- handshake ------------------------------------------------------------------------------ */

static void connect_end(struct end *end)
{
	int fds[2], room = 4 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	end->handshake.fd = fds[0];
	end->wire = fds[1];
	end->held = malloc(WIRE_ROOM);
}

static void relay(int from, int to)
{
	uint8_t bytes[1024];
	int fds[2];
	unsigned int count = 2;
	ssize_t n = shmipc_fdpass_receive(from, bytes, sizeof(bytes), fds, &count);

	if (n <= 0)
		return;
	assert_int_equal(shmipc_fdpass_send(to, bytes, (size_t)n, fds, count), n);
	while (count > 0)
		close(fds[--count]);
}

static void start_client(struct replay *replay)
{
	struct end *client = &replay->client;
	static unsigned int scenarios;
	char name[128], queue[160], buffer[160];

	snprintf(name, sizeof(name), "/dev/shm/shmipc_replay_%d_c0123456789abcd%02x", getpid(),
		 scenarios++);
	snprintf(queue, sizeof(queue), "%s_queue_0", name);
	snprintf(buffer, sizeof(buffer), "%s_buffer", name);
	assert_int_equal(shmipc_mapping_create(&replay->config, buffer, &replay->buffer), 0);
	assert_int_equal(shmipc_handshake_start(&client->handshake, SHMIPC_ROLE_CLIENT,
						client->handshake.fd, &replay->config,
						replay->buffer, queue, buffer),
			 0);
}

/* Both sides step, and the test relays, until both are done. */
static void shake_hands(struct replay *replay)
{
	struct end *client = &replay->client, *server = &replay->server;
	int ours = -EAGAIN, theirs = -EAGAIN;

	shmipc_handshake_start(&server->handshake, SHMIPC_ROLE_SERVER, server->handshake.fd,
			       &replay->config, NULL, NULL, NULL);
	for (int i = 0; i < 20 && (ours || theirs); i++) {
		if (ours)
			ours = client->session ? 0 : shmipc_handshake_step(&client->handshake);
		relay(client->wire, server->wire);
		if (theirs)
			theirs = shmipc_handshake_step(&server->handshake);
		relay(server->wire, client->wire);
	}
	assert_int_equal(ours, 0);
	assert_int_equal(theirs, 0);
	if (!client->session)
		assert_int_equal(
			shmipc_session_new(&client->handshake, replay->shared, &client->session),
			0);
	assert_int_equal(shmipc_session_new(&server->handshake, replay->shared, &server->session),
			 0);
}

/* ---- operations ----------------------------------------------------------------------------- */

static struct shmipc_stream *stream_of(struct end *end, unsigned int id)
{
	assert_true(id < STREAMS);
	while (!end->streams[id] && end->session->role == SHMIPC_ROLE_SERVER) {
		struct shmipc_stream *stream;

		assert_int_equal(shmipc_session_accept_stream(end->session, SHMIPC_NOWAIT, &stream),
				 0);
		assert_true(shmipc_stream_id(stream) < STREAMS);
		shmipc_stream_set_read_deadline(stream, SHMIPC_NOWAIT);
		shmipc_stream_set_write_deadline(stream, SHMIPC_NOWAIT);
		end->streams[shmipc_stream_id(stream)] = stream;
	}
	assert_non_null(end->streams[id]);
	return end->streams[id];
}

static void fill(uint8_t *to, size_t bytes, size_t *pattern)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = golden_byte((*pattern)++);
}

static void do_write(struct end *end, struct shmipc_stream *stream, size_t bytes)
{
	uint8_t *data = malloc(bytes);

	fill(data, bytes, &end->pattern);
	assert_int_equal(shmipc_stream_write(stream, data, bytes), 0);
	free(data);
}

static void do_flush(struct replay *replay, struct end *end, struct shmipc_stream *stream)
{
	int error = shmipc_stream_flush(stream);

	if (error == -EAGAIN) { /* recorded as a failed flush, whose data is dropped */
		assert_int_equal(shmipc_queue_has_room(&end->session->send), 0);
		shmipc_stream_drop_unflushed(stream);
	} else {
		assert_int_equal(error, 0);
	}
	if (stream->fallback) /* the recorded side still takes slices, and gives them back */
		replay->fallback = replay->order_is_ours = true;
	end->pattern = 0;
}

static void do_read(struct replay *replay, struct shmipc_stream *stream, size_t bytes)
{
	const void *view;
	size_t first = stream->rx.pieces[stream->rx.next & stream->rx.mask].left;

	assert_int_equal(shmipc_stream_read_view(stream, bytes, &view), 0);
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(((const uint8_t *)view)[i], golden_byte(i));
	if (first < bytes)
		replay->order_is_ours = true;
}

/* False: from here on the recorded client does what ours does not. */
static bool operate(struct replay *replay, struct end *end, const char *what)
{
	unsigned int id = 0;
	size_t bytes = 0;
	char name[32];
	void *room;

	if (sscanf(what, "%31s %u %zu", name, &id, &bytes) < 1 || strcmp(name, "dial") == 0)
		return true;
	if (strcmp(name, "open") == 0) {
		struct shmipc_stream *stream;

		assert_int_equal(shmipc_session_open_stream(end->session, &stream), 0);
		shmipc_stream_set_read_deadline(stream, SHMIPC_NOWAIT);
		shmipc_stream_set_write_deadline(stream, SHMIPC_NOWAIT);
		end->streams[shmipc_stream_id(stream)] = stream;
	} else if (strcmp(name, "write") == 0) {
		do_write(end, stream_of(end, id), bytes);
	} else if (strcmp(name, "reserve") == 0) {
		/* the recorded client leaves an empty slice in front; ours gives it back */
		if (end->streams[id]->tx.count > 0)
			return false;
		assert_int_equal(shmipc_stream_reserve(stream_of(end, id), bytes, &room), 0);
		fill(room, bytes, &end->pattern);
		assert_int_equal(shmipc_stream_commit(stream_of(end, id), bytes), 0);
	} else if (strcmp(name, "flush") == 0) {
		do_flush(replay, end, stream_of(end, id));
	} else if (strcmp(name, "read") == 0) {
		do_read(replay, stream_of(end, id), bytes);
	} else if (strcmp(name, "release") == 0) {
		shmipc_stream_release(stream_of(end, id));
	} else if (strcmp(name, "reuse") == 0) {
		shmipc_stream_reuse(stream_of(end, id));
	} else if (strcmp(name, "state") == 0) {
		assert_false(shmipc_stream_is_open(stream_of(end, id)));
	} else if (strcmp(name, "close") == 0) {
		/* ours keeps the close of such a stream behind its data, in the socket */
		if (replay->fallback)
			return false;
		shmipc_stream_close(stream_of(end, id));
		end->streams[id] = NULL;
	} else {
		fail_msg("unknown operation: %s", what);
	}
	return true;
}

/* ---- memory --------------------------------------------------------------------------------- */

static bool depends_on_order(const char *key, const char *value)
{
	return strstr(key, ".head") || strstr(key, ".tail") || strstr(key, ".out.") ||
	       (strstr(key, "pending.") && strstr(value, " 0") != NULL);
}

static void compare_memory(struct replay *replay, const char *snapshot)
{
	const struct shmipc_area *buffer = &replay->buffer->area;
	const struct shmipc_area *queues = &replay->client.session->queues;
	struct golden_facts recorded = golden_facts(replay->scenario, snapshot);
	struct golden_facts mine = golden_decode(buffer->base, buffer->bytes, queues->base,
						 queues->bytes, false);
	char key[64], value[128];

	for (const char *at = mine.text; *at; at = strchr(at, '\n') + 1) {
		const char *other;

		assert_int_equal(sscanf(at, "%63[^=]=%127[^\n]", key, value), 2);
		other = golden_text(&recorded, key);
		if (!*other || strcmp(other, value) == 0)
			continue;
		if (replay->order_is_ours && depends_on_order(key, value) &&
		    !strstr(key, "ring.0.head") && !strstr(key, "ring.0.tail"))
			continue;
		fail_msg("%s, %s: %s is %s, was %s", replay->scenario, snapshot, key, value, other);
	}
	golden_free(&mine);
	golden_free(&recorded);
	replay->snapshots++;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Messages stand in a transcript behind the operation that made them. */
static void message_line(struct replay *replay, const char *line)
{
	int type, at = 0;
	char direction[8], kind[4];

	if (sscanf(line, "M %*u %*u %7s %3s %*s %*u %*u %n", direction, kind, &at) < 2)
		fail_msg("unknown line: %s", line);
	type = atoi(kind);
	if (kind[0] == '-' || type == SHMIPC_MESSAGE_SHARE_FILE || type > 3)
		return; /* the handshake: test_transcript.c */
	compare_message(strcmp(direction, "C2S") == 0 ? &replay->client : &replay->server,
			(unsigned int)type, line + at);
	replay->messages++;
}

static void deliver(struct replay *replay, const char *direction)
{
	bool to_server = strcmp(direction, "C2S") == 0;
	struct end *from = to_server ? &replay->client : &replay->server;
	struct end *to = to_server ? &replay->server : &replay->client;

	pass_on(from, to);
	if (!replay->server.session)
		shake_hands(replay);
	drain(to);
}

static bool play(struct replay *replay, char *line)
{
	char name[64];

	line[strcspn(line, "\n")] = 0;
	if (strncmp(line, "O client ", 9) == 0)
		return operate(replay, &replay->client, line + 9);
	if (strncmp(line, "O server ", 9) == 0)
		return operate(replay, &replay->server, line + 9);
	if (line[0] == 'D')
		deliver(replay, line + 2);
	else if (line[0] == 'M')
		message_line(replay, line);
	else if (sscanf(line, "S %63s", name) == 1)
		compare_memory(replay, name);
	return true;
}

static void close_end(struct end *end)
{
	for (unsigned int i = 0; i < STREAMS; i++)
		if (end->streams[i])
			shmipc_stream_close(end->streams[i]);
	shmipc_session_close(end->session);
	close(end->wire);
	free(end->held);
}

/* early: the server reads the handshake only after the client has sent its first message. */
static void replay_scenario(const char *scenario, unsigned int snapshots, unsigned int messages)
{
	struct replay *replay = calloc(1, sizeof(*replay));
	char path[256], line[LINE_ROOM];
	FILE *file;
	int error;

	replay->scenario = scenario;
	golden_config(scenario, &replay->config);
	replay->shared = shmipc_config_share(&replay->config, &error);
	assert_non_null(replay->shared);
	connect_end(&replay->client);
	connect_end(&replay->server);
	start_client(replay);
	if (!strstr(scenario, "early")) {
		shake_hands(replay);
	} else {
		assert_int_equal(shmipc_handshake_step(&replay->client.handshake), 0);
		assert_int_equal(shmipc_session_new(&replay->client.handshake, replay->shared,
						    &replay->client.session),
				 0);
		collect(&replay->client);
		replay->client.compared = replay->client.held_bytes;
	}
	snprintf(path, sizeof(path), GOLDEN_ROOT "%s/transcript.txt", scenario);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) && play(replay, line))
		;
	fclose(file);
	assert_int_equal(replay->snapshots, snapshots);
	assert_int_equal(replay->messages, messages);
	close_end(&replay->client);
	close_end(&replay->server);
	shmipc_config_put(replay->shared);
	free(replay);
}

#define SCENARIO(name, snapshots, messages)                  \
	static void name(void **state)                       \
	{                                                    \
		(void)state;                                 \
		replay_scenario(#name, snapshots, messages); \
	}

SCENARIO(v2_unix_file, 13, 5)
SCENARIO(v3_unix_memfd, 13, 5)
SCENARIO(v2_unix_file_full, 8, 3)
SCENARIO(v3_unix_memfd_full, 8, 3)
SCENARIO(v2_unix_file_fallback, 6, 4)
SCENARIO(v3_unix_memfd_fallback, 6, 4)
SCENARIO(v2_unix_file_reuse, 4, 4)
SCENARIO(v2_unix_file_early, 3, 1)
SCENARIO(v2_unix_file_default1m, 5, 3)
SCENARIO(v2_unix_file_default32m, 3, 2)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(v2_unix_file),		 cmocka_unit_test(v3_unix_memfd),
		cmocka_unit_test(v2_unix_file_full),	 cmocka_unit_test(v3_unix_memfd_full),
		cmocka_unit_test(v2_unix_file_fallback), cmocka_unit_test(v3_unix_memfd_fallback),
		cmocka_unit_test(v2_unix_file_reuse),	 cmocka_unit_test(v2_unix_file_default1m),
		cmocka_unit_test(v2_unix_file_early),	 cmocka_unit_test(v2_unix_file_default32m),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
