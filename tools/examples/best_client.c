/* SPDX-License-Identifier: Apache-2.0 */
/*
 * best_client ADDRESS [REQUESTS]: best practice.  Each request is serialised straight into shared
 * memory (reserve, fill, commit, flush), each reply is read where it lies (peek, read_view), and
 * the memory of a reply becomes that of the next request (reuse).
 */
#include <inttypes.h>
#include <stdio.h>

#include "shmipc.h"
#include "tools/examples/fail.h"
#include "tools/examples/message.h"

enum { VALUES_MAX = 15000 };

static void send_request(struct shmipc_stream *stream, uint64_t id, uint32_t value_count)
{
	static const char key[] = "readings";
	size_t bytes = message_bytes(sizeof(key), value_count);
	unsigned char *values;
	void *room;

	need(shmipc_stream_reserve(stream, bytes, &room), "reserve");
	values = message_build(room, id, key, sizeof(key), value_count);
	for (uint32_t i = 0; i < value_count; i++)
		message_set_value(values, i, id * i);
	need(shmipc_stream_commit(stream, bytes), "commit");
	need(shmipc_stream_flush(stream), "flush");
}

/* The sum that the server has made of the values. */
static uint64_t read_reply(struct shmipc_stream *stream, uint64_t id)
{
	struct message reply;
	const void *view;
	size_t bytes;

	need(shmipc_stream_peek(stream, sizeof(struct message_header), &view), "peek");
	bytes = message_length(view);
	need(bytes > 0 ? 0 : -1, "length of the reply");
	need(shmipc_stream_read_view(stream, bytes, &view), "read");
	if (!message_parse(view, bytes, &reply) || reply.header.id != id ||
	    reply.header.value_count != 1) {
		fprintf(stderr, "reply %" PRIu64 " is not one\n", id);
		exit(1);
	}
	return message_value(&reply, 0);
}

int main(int argc, char **argv)
{
	struct shmipc_config config;
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	uint64_t requests = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000;

	need_usage(argc == 2 || argc == 3, "best_client ADDRESS [REQUESTS]");
	/* Messages are up to 120 KB: classes of slices that hold one each, and no waste below. */
	shmipc_config_init(&config, sizeof(config));
	config.memory = SHMIPC_MEMORY_MEMFD;
	config.slice_class_count = 2;
	config.slice_classes[0] = (struct shmipc_slice_class){ 4076, 30 };
	config.slice_classes[1] = (struct shmipc_slice_class){ 131052, 70 };

	need(shmipc_client_create(argv[1], &config, NULL, &client), "connect");
	need(shmipc_client_get_stream(client, SHMIPC_NEVER, &stream), "get a stream");
	for (uint64_t id = 1; id <= requests; id++) {
		uint32_t n = (uint32_t)(id * 7919 % VALUES_MAX);

		send_request(stream, id, n);
		if (read_reply(stream, id) != (n ? id * ((uint64_t)n * (n - 1) / 2) : 0)) {
			fprintf(stderr, "reply %" PRIu64 " is wrong\n", id);
			return 1;
		}
		shmipc_stream_reuse(stream);
	}
	shmipc_client_put_stream(client, stream);
	shmipc_client_destroy(client);
	printf("%" PRIu64 " requests, every sum right\n", requests);
	return 0;
}
