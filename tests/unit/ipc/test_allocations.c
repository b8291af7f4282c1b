/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c
/* Messages take no memory from the heap, at neither end.  (Linked so that every allocation of this
 * process is counted.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ipc/peer.h"

static _Atomic unsigned long allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *at, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *at, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
	allocations++;
	return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	allocations++;
	return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *at, size_t bytes)
{
	allocations++;
	return __real_realloc(at, bytes);
}

static void messages_allocate_nothing(void **state)
{
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	struct peer peer;
	unsigned long before = 0;
	const void *view;
	void *room;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_start(&peer);
	client = peer_connect(&peer, NULL);
	for (int i = 0; i < 3000; i++) {
		size_t bytes = i % 3 == 0 ? 64 : i % 3 == 1 ? 20000 : 300000;

		if (i == 1000)
			before = allocations;
		/* a new stream each time: opening and closing is part of it */
		stream = peer_stream(client);
		assert_int_equal(shmipc_stream_reserve(stream, 16, &room), 0);
		memset(room, 1, 16);
		assert_int_equal(shmipc_stream_commit(stream, 16), 0);
		for (size_t done = 0; done < bytes;) {
			ssize_t n = shmipc_stream_reserve_some(stream, bytes - done, &room);

			assert_true(n > 0);
			memset(room, 2, (size_t)n);
			assert_int_equal(shmipc_stream_commit(stream, (size_t)n), 0);
			done += (size_t)n;
		}
		assert_int_equal(shmipc_stream_flush(stream), 0);
		assert_int_equal(shmipc_stream_read_view(stream, 16 + bytes, &view), 0);
		shmipc_stream_reuse(stream);
		if (i % 2)
			shmipc_client_put_stream(client, stream);
		else
			shmipc_stream_close(stream);
	}
	assert_true(before > 0);
	assert_int_equal(allocations - before, 0);
	shmipc_client_destroy(client);
	peer_stop(&peer);
}

/* ---- both ends in this process -------------------------------------------------------------- */

static void send_in_place(struct shmipc_stream *stream, size_t bytes)
{
	void *room;

	while (bytes > 0) {
		ssize_t n = shmipc_stream_reserve_some(stream, bytes, &room);

		assert_true(n > 0);
		memset(room, 3, (size_t)n);
		assert_int_equal(shmipc_stream_commit(stream, (size_t)n), 0);
		bytes -= (size_t)n;
	}
	assert_int_equal(shmipc_stream_flush(stream), 0);
}

static void neither_end_allocates(void **state)
{
	static const size_t sizes[] = { 64, 20000, 300000 };
	struct shmipc_stream *stream, *accepted;
	unsigned long before = 0;
	struct peer_pair pair;
	struct peer peer;
	const void *view;

	(void)state;
	peer_prepare(&peer, PEER_UNIX_MEMFD);
	peer_make_pair(&peer, NULL, NULL, NULL, &pair);
	for (int i = 0; i < 3000; i++) {
		size_t bytes = sizes[i % 3];

		if (i == 1000)
			before = allocations;
		assert_int_equal(shmipc_session_open_stream(pair.client, &stream), 0);
		send_in_place(stream, bytes);
		assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NEVER, &accepted),
				 0);
		for (int round = 0; round < 3; round++) {
			assert_int_equal(shmipc_stream_read_view(accepted, bytes, &view), 0);
			shmipc_stream_reuse(accepted);
			send_in_place(accepted, bytes);
			assert_int_equal(shmipc_stream_read_view(stream, bytes, &view), 0);
			shmipc_stream_reuse(stream);
			send_in_place(stream, bytes);
		}
		shmipc_stream_close(stream);
		shmipc_stream_close(accepted);
	}
	assert_int_equal(allocations - before, 0);
	peer_close_pair(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_allocate_nothing),
		cmocka_unit_test(neither_end_allocates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
