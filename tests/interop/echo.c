/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C side of `make interop`.
 *
 *	echo server ADDRESS
 *	echo client ADDRESS file|memfd PREFIX BUFFER_BYTES SIZE...
 *	echo load ADDRESS file|memfd PREFIX
 *
 * A server at SIGUSR1 tells its clients to move to the next one at its path, and ends when they
 *have. A load asks one thing after the other until SIGTERM, then says how many, and how many were
 *not answered.
 *
 * A request is its length in 4 bytes, big endian, and so many bytes; the reply is the same again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shmipc.h"

enum { STREAMS = 4, ROUNDS = 10, SIZES_MAX = 16 };

static const uint64_t timeout_ns = 20000000000u;
static size_t sizes[SIZES_MAX];
static int size_count;

static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
	signalled = number;
}

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

static void restart(struct shmipc_listener *listener)
{
	must(shmipc_listener_hot_restart(listener, 7), "hot restart");
	must(shmipc_listener_hot_restart_wait(listener, shmipc_deadline_after(timeout_ns)),
	     "clients that do not move");
	puts("all clients have moved");
	fflush(stdout);
	usleep(500000); /* for what is open here */
	exit(0);
}

static void serve(const char *address)
{
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	int error;

	signal(SIGUSR1, on_signal);
	must(shmipc_listener_create(address, SHMIPC_LISTEN_REPLACE, NULL, NULL, NULL, NULL,
				    &listener),
	     "listen");
	printf("listening on %s\n", shmipc_listener_address(listener));
	fflush(stdout);
	for (;;) {
		error = shmipc_listener_accept(listener, shmipc_deadline_after(20000000), &session);
		if (signalled)
			restart(listener);
		if (error == -ETIMEDOUT)
			continue;
		must(error, "accept");
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

/* argv: ADDRESS file|memfd PREFIX [BUFFER_BYTES] */
static struct shmipc_client *connect_client(char **argv)
{
	struct shmipc_client *client;
	struct shmipc_config config;

	shmipc_config_init(&config, sizeof(config));
	config.memory = strcmp(argv[1], "memfd") ? SHMIPC_MEMORY_FILE : SHMIPC_MEMORY_MEMFD;
	config.path_prefix = argv[2];
	if (argv[3])
		config.buffer_bytes = (uint32_t)strtoul(argv[3], NULL, 10);
	config.sessions = 2;
	config.handshake_timeout_ms = 5000;
	must(shmipc_client_create(argv[0], &config, NULL, &client), "connect");
	return client;
}

/* Wrong bytes end the process; anything else that goes wrong is returned. */
static int ask(struct shmipc_client *client, size_t bytes, unsigned int seed)
{
	static unsigned char room[sizeof(uint32_t) + 20000], answer[sizeof(room)];
	uint32_t head = htonl((uint32_t)bytes);
	struct shmipc_stream *stream;
	int error = shmipc_client_get_stream(client, shmipc_deadline_after(5000000000u), &stream);

	if (error)
		return error;
	memcpy(room, &head, sizeof(head));
	for (size_t i = 0; i < bytes; i++)
		room[sizeof(head) + i] = (unsigned char)(i * 7 + seed);
	shmipc_stream_set_read_deadline(stream, shmipc_deadline_after(5000000000u));
	error = shmipc_stream_send(stream, room, sizeof(head) + bytes);
	if (!error)
		error = shmipc_stream_read_full(stream, answer, sizeof(head) + bytes);
	if (!error && memcmp(room, answer, sizeof(head) + bytes))
		must(-EILSEQ, "load");
	shmipc_client_put_stream(client, stream);
	return error;
}

static void load(char **argv)
{
	struct shmipc_client *client = connect_client(argv);
	unsigned int asked = 0, lost = 0;

	signal(SIGTERM, on_signal);
	while (!signalled) {
		int error = ask(client, 1 + asked * 997 % 20000, asked);

		if (error) {
			fprintf(stderr, "echo: load: %s\n", strerror(-error));
			lost++;
			usleep(5000);
		}
		if (++asked == 50) {
			puts("under load");
			fflush(stdout);
		}
	}
	printf("%u requests, %u lost\n", asked, lost);
	shmipc_client_destroy(client);
}

static void drive(char **argv)
{
	struct conversation conversations[STREAMS];
	struct shmipc_client *client = connect_client(argv);

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
	if (argc == 5 && !strcmp(argv[1], "load")) {
		load(argv + 2);
		return 0;
	}
	if (argc < 7 || argc > 6 + SIZES_MAX || strcmp(argv[1], "client")) {
		fputs("usage: see echo.c\n", stderr);
		return 2;
	}
	for (int i = 6; i < argc; i++)
		sizes[size_count++] = strtoul(argv[i], NULL, 10);
	drive(argv + 2);
	return 0;
}
