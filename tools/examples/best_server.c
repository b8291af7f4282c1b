/* SPDX-License-Identifier: Apache-2.0 */
/*
 * best_server ADDRESS: best practice, the other side.  Sums the values of each request where they
 * lie, and builds the reply in the memory of the request.  Serves one client, then ends.
 */
#include <errno.h>
#include <stdio.h>

#include "shmipc.h"
#include "tools/examples/fail.h"
#include "tools/examples/message.h"

/* The next request, not copied.  False: the client is done. */
static bool next_request(struct shmipc_stream *stream, struct message *out)
{
	const void *view;
	size_t bytes;
	int error = shmipc_stream_peek(stream, sizeof(struct message_header), &view);

	if (error == -ENODATA || error == -ECONNRESET || error == -ESHUTDOWN)
		return false;
	need(error, "peek");
	bytes = message_length(view);
	need(bytes > 0 ? 0 : -EPROTO, "length of the request");
	/* The length was checked; what the header says now is checked by message_parse(). */
	need(shmipc_stream_read_view(stream, bytes, &view), "read");
	need(message_parse(view, bytes, out) ? 0 : -EPROTO, "request");
	return true;
}

static void reply(struct shmipc_stream *stream, uint64_t id, uint64_t sum)
{
	size_t bytes = message_bytes(0, 1);
	void *room;

	need(shmipc_stream_reserve(stream, bytes, &room), "reserve");
	message_set_value(message_build(room, id, NULL, 0, 1), 0, sum);
	need(shmipc_stream_commit(stream, bytes), "commit");
	need(shmipc_stream_flush(stream), "flush");
}

static uint64_t serve(struct shmipc_stream *stream)
{
	struct message request;
	uint64_t served = 0;

	for (; next_request(stream, &request); served++) {
		uint64_t id = request.header.id, sum = 0;

		for (uint32_t i = 0; i < request.header.value_count; i++)
			sum += message_value(&request, i);
		/* From here the views are invalid, and their memory is that of the reply. */
		shmipc_stream_reuse(stream);
		reply(stream, id, sum);
	}
	shmipc_stream_close(stream);
	return served;
}

int main(int argc, char **argv)
{
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_stream *stream;

	need_usage(argc == 2, "best_server ADDRESS");
	need(shmipc_listener_create(argv[1], 0, NULL, NULL, NULL, NULL, &listener), "listen");
	need(shmipc_listener_accept(listener, SHMIPC_NEVER, &session), "accept a session");
	need(shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream), "accept a stream");
	printf("%llu requests served\n", (unsigned long long)serve(stream));
	shmipc_session_close(session);
	shmipc_listener_destroy(listener);
	return 0;
}
