/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C side of `make interop`.
 *
 *	echo server ADDRESS
 *	echo client ADDRESS file|memfd PREFIX BUFFER_BYTES SIZE...
 *
 * A request is its length in 4 bytes, big endian, and so many bytes; the reply is the same again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shmipc.h"

enum { STREAMS = 4, ROUNDS = 10, SIZES_MAX = 16 };

static const uint64_t timeout_ns = 20000000000u;
static size_t sizes[SIZES_MAX];
static int size_count;

static void must(ssize_t error, const char *what)
{
	if (error >= 0)
		return;
	fprintf(stderr, "echo: %s: %s\n", what, strerror((int)-error));
	exit(1);
}

/* ---- server ---- */

static int echo_one(struct shmipc_stream *stream)
{
	const void *head, *body;
	uint32_t bytes;
	int error = shmipc_stream_peek(stream, sizeof(bytes), &head);

	if (error)
		return error;
	memcpy(&bytes, head, sizeof(bytes));
	error = shmipc_stream_read_view(stream, sizeof(bytes) + ntohl(bytes), &body);
	if (!error)
		error = shmipc_stream_send(stream, body, sizeof(bytes) + ntohl(bytes));
	shmipc_stream_release(stream);
	return error;
}

static void *echo_stream(void *argument)
{
	struct shmipc_stream *stream = argument;
	int error;

	while ((error = echo_one(stream)) == 0)
		continue;
	if (error != -ENODATA && error != -ECONNRESET && error != -ESHUTDOWN)
		must(error, "echo");
	shmipc_stream_close(stream);
	return NULL;
}

static void start(void *(*function)(void *), void *argument)
{
	pthread_t thread;

	must(-pthread_create(&thread, NULL, function, argument), "thread");
	pthread_detach(thread);
}

static void *serve_session(void *argument)
{
	struct shmipc_session *session = argument;
	struct shmipc_stream *stream;

	while (shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream) == 0)
		start(echo_stream, stream);
	shmipc_session_close(session);
	return NULL;
}

static void serve(const char *address)
{
	struct shmipc_listener *listener;
	struct shmipc_session *session;

	must(shmipc_listener_create(address, 0, NULL, NULL, NULL, NULL, &listener), "listen");
	printf("listening on %s\n", shmipc_listener_address(listener));
	fflush(stdout);
	for (;;) {
		must(shmipc_listener_accept(listener, SHMIPC_NEVER, &session), "accept");
		start(serve_session, session);
	}
}

/* ---- client ---- */

static void exchange(struct shmipc_stream *stream, size_t bytes, unsigned int seed)
{
	uint32_t head = htonl((uint32_t)bytes);
	const unsigned char *view;
	unsigned char *room;

	must(shmipc_stream_write(stream, &head, sizeof(head)), "write");
	must(shmipc_stream_reserve(stream, bytes, (void **)&room), "reserve");
	for (size_t i = 0; i < bytes; i++)
		room[i] = (unsigned char)(i * 7 + seed);
	must(shmipc_stream_commit(stream, bytes), "commit");
	must(shmipc_stream_flush(stream), "flush");
	must(shmipc_stream_read_view(stream, sizeof(head), (const void **)&view), "read");
	must(memcmp(view, &head, sizeof(head)) ? -EPROTO : 0, "length");
	must(shmipc_stream_read_view(stream, bytes, (const void **)&view), "read");
	for (size_t i = 0; i < bytes; i++)
		if (view[i] != (unsigned char)(i * 7 + seed))
			must(-EILSEQ, "echo");
	shmipc_stream_reuse(stream);
}

struct conversation {
	struct shmipc_client *client;
	pthread_t thread;
	unsigned int seed;
};

static void *converse(void *argument)
{
	struct conversation *conversation = argument;
	struct shmipc_stream *stream;

	must(shmipc_client_get_stream(conversation->client, SHMIPC_NEVER, &stream), "get a stream");
	shmipc_stream_set_read_deadline(stream, shmipc_deadline_after(timeout_ns));
	for (unsigned int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < size_count; i++)
			exchange(stream, sizes[i], conversation->seed + round);
	shmipc_client_put_stream(conversation->client, stream);
	return NULL;
}

static void drive(char **argv)
{
	struct conversation conversations[STREAMS];
	struct shmipc_client *client;
	struct shmipc_config config;

	shmipc_config_init(&config, sizeof(config));
	config.memory = strcmp(argv[1], "memfd") ? SHMIPC_MEMORY_FILE : SHMIPC_MEMORY_MEMFD;
	config.path_prefix = argv[2];
	config.buffer_bytes = (uint32_t)strtoul(argv[3], NULL, 10);
	config.sessions = 2;
	must(shmipc_client_create(argv[0], &config, NULL, &client), "connect");
	for (unsigned int i = 0; i < STREAMS; i++) {
		conversations[i] = (struct conversation){ .client = client, .seed = i };
		must(-pthread_create(&conversations[i].thread, NULL, converse, &conversations[i]),
		     "thread");
	}
	for (unsigned int i = 0; i < STREAMS; i++)
		pthread_join(conversations[i].thread, NULL);
	shmipc_client_destroy(client);
	puts("all came back right");
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "server"))
		serve(argv[2]);
	if (argc < 7 || argc > 6 + SIZES_MAX || strcmp(argv[1], "client")) {
		fputs("usage: see echo.c\n", stderr);
		return 2;
	}
	for (int i = 6; i < argc; i++)
		sizes[size_count++] = strtoul(argv[i], NULL, 10);
	drive(argv + 2);
	return 0;
}
