/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c
/* What is sent by the socket, with a kernel that takes as little as it likes: the file is looked
 * into, and its sendto() is this test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "core/ipc/session.h"
#include "core/sys.h"
#include "tests/unit/ipc/peer.h"

static ssize_t fake_sendto(int fd, const void *from, size_t bytes, int flags, const void *address,
			   socklen_t address_bytes);

#define sys_sendto fake_sendto
#include "core/ipc/session_output.c"

static uint8_t sent[256];
static size_t sent_bytes;
static size_t takes; /* so many bytes of the next call; the calls after it fail */
static struct shmipc_session *meanwhile; /* another thread queues a block for it during that call */
static struct shmipc_session *reads; /* another thread reads the socket of it during that call */

static ssize_t fake_sendto(int fd, const void *from, size_t bytes, int flags, const void *address,
			   socklen_t address_bytes)
{
	size_t n = bytes < takes ? bytes : takes;

	(void)fd;
	(void)flags;
	(void)address;
	(void)address_bytes;
	if (n == 0)
		return -EAGAIN;
	memcpy(sent + sent_bytes, from, n);
	sent_bytes += n;
	takes = 0;
	if (meanwhile) {
		struct shmipc_block *block = shmipc_block_new(4);

		memcpy(block->data, "DATA", 4);
		shmipc_session_queue_block(meanwhile, block);
		meanwhile = NULL;
	}
	if (reads) {
		struct shmipc_session *s = reads;

		reads = NULL;
		shmipc_session_lock(s);
		shmipc_session_read(s);
		shmipc_session_unlock(s);
	}
	return (ssize_t)n;
}

/* A message of which the kernel took a part is sent to its end before anything else. */
static void nothing_comes_into_a_message(void **state)
{
	static const uint8_t polling[] = { 0, 0, 0, 8, 0x77, 0x58, 3, 1 };
	struct shmipc_session *s = calloc(1, sizeof(*s));
	uint64_t mark;

	(void)state;
	s->version = 3;
	s->fd = s->wake_fd = -1;
	for (size_t part = 1; part < sizeof(polling); part++) {
		sent_bytes = 0;
		takes = part;
		meanwhile = s;
		shmipc_session_lock(s);
		shmipc_session_wake_peer(s);
		mark = s->out_queued;
		assert_int_equal(sent_bytes, part);
		while (s->out_first) {
			assert_true(s->out_sent < mark);
			takes = 3;
			shmipc_session_pump(s);
		}
		assert_int_equal(s->out_sent, mark);
		shmipc_session_unlock(s);
		assert_int_equal(sent_bytes, sizeof(polling) + 4);
		assert_memory_equal(sent, polling, sizeof(polling));
		assert_memory_equal(sent + sizeof(polling), "DATA", 4);
	}
	free(s);
}

/* A stream falls back while another one is refused: what it had in the queue comes first. */
static void nobody_reads_the_socket_before_the_queue(void **state)
{
	static const char fallback[] = "\0\0\0\x11\x77\x58\3\3\0\0\0\2\0\0\0\0c";
	struct shmipc_stream *streams[3], *stream;
	struct peer_pair pair;
	struct peer peer;
	char bytes[2];

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer.config.accept_backlog = 1;
	peer_make_pair(&peer, NULL, NULL, NULL, &pair);
	for (int i = 0; i < 3; i++)
		assert_int_equal(shmipc_session_open_stream(pair.client, &streams[i]), 0);
	sent_bytes = 0;
	assert_int_equal(shmipc_stream_send(streams[0], "a", 1), 0);
	assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NOWAIT, &stream), 0);
	assert_int_equal(shmipc_stream_read_full(stream, bytes, 1), 0);
	assert_true(shmipc_queue_rest(&pair.client->receive));
	assert_int_equal(shmipc_stream_send(streams[1], "x", 1), 0);
	assert_int_equal(shmipc_stream_send(streams[2], "y", 1), 0); /* one too many */
	assert_int_equal(shmipc_stream_send(streams[0], "b", 1), 0);
	assert_int_equal(send(pair.wire, fallback, sizeof(fallback) - 1, 0), sizeof(fallback) - 1);
	takes = sizeof(sent);
	reads = pair.server;
	sent_bytes = 0;
	shmipc_session_lock(pair.server);
	shmipc_session_harvest(pair.server);
	shmipc_session_unlock(pair.server);
	assert_null(reads); /* the client was to be woken */
	assert_int_equal(shmipc_stream_read_full(stream, bytes, 2), 0);
	assert_memory_equal(bytes, "bc", 2);
	shmipc_stream_close(stream);
	for (int i = 0; i < 3; i++)
		shmipc_stream_close(streams[i]);
	peer_close_pair(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_comes_into_a_message),
		cmocka_unit_test(nobody_reads_the_socket_before_the_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
