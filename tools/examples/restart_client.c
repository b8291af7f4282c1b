/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restart_client ADDRESS [SECONDS [THREADS]]: load for the hot restart.  Each thread makes requests
 * without a pause, each with a stream from the pool; every answer must come and be right, whichever
 * server gives it.
 */
#include <pthread.h>
#include <stdio.h>

#include "shmipc.h"
#include "tools/examples/fail.h"
#include "tools/examples/frame.h"

enum { THREADS_MAX = 64, SERVERS_MAX = 64, SESSIONS = 2, TIMEOUT_S = 10 };

struct load {
	pthread_t thread;
	uint64_t seed, until_ns;
	unsigned long long requests, lost;
	uint64_t servers[SERVERS_MAX]; /* each once, as they were met */
	unsigned int server_count;
};

static struct shmipc_client *client;

/* 0 or what went wrong. */
static int request(struct shmipc_stream *stream, uint64_t seed, uint64_t *server)
{
	unsigned char frame[FRAME_BYTES], answer[FRAME_BYTES];
	int error;

	frame_fill(frame, seed);
	shmipc_stream_set_read_deadline(stream,
					shmipc_deadline_after(TIMEOUT_S * UINT64_C(1000000000)));
	error = shmipc_stream_send(stream, frame, sizeof(frame));
	if (!error)
		error = shmipc_stream_read_full(stream, answer, sizeof(answer));
	if (error)
		return error;
	memcpy(server, answer, sizeof(*server));
	memcpy(answer, frame, sizeof(*server)); /* the server's number stands there */
	return frame_is(answer, seed) ? 0 : -1;
}

/* While the sessions move one after the other, a thread goes back and forth between two of them. */
static void meet(struct load *load, uint64_t server)
{
	for (unsigned int i = 0; i < load->server_count; i++)
		if (load->servers[i] == server)
			return;
	if (load->server_count < SERVERS_MAX)
		load->servers[load->server_count++] = server;
}

static void *run(void *argument)
{
	struct load *load = argument;
	struct shmipc_stream *stream;
	uint64_t server;
	int error;

	while (shmipc_deadline_after(0) < load->until_ns) {
		error = shmipc_client_get_stream(client, load->until_ns, &stream);
		if (!error) {
			error = request(stream, load->seed++, &server);
			shmipc_client_put_stream(client, stream);
		}
		load->requests++;
		if (!error) {
			meet(load, server);
			continue;
		}
		load->lost++;
		fprintf(stderr, "lost: %s\n", error == -1 ? "wrong bytes" : strerror(-error));
	}
	return NULL;
}

int main(int argc, char **argv)
{
	double seconds = argc > 2 ? atof(argv[2]) : 3;
	unsigned int threads = argc > 3 ? (unsigned int)atoi(argv[3]) : 4, servers = 0;
	static struct load loads[THREADS_MAX];
	unsigned long long requests = 0, lost = 0;
	struct shmipc_config config;
	struct shmipc_loop *loop;

	need_usage(argc >= 2 && argc <= 4 && threads >= 1 && threads <= THREADS_MAX && seconds > 0,
		   "restart_client ADDRESS [SECONDS [THREADS]]");
	shmipc_config_init(&config, sizeof(config));
	config.sessions = SESSIONS;
	need(shmipc_loop_create(&loop), "loop");
	need(shmipc_loop_start(loop), "thread");
	need(shmipc_client_create(argv[1], &config, loop, &client), "connect");
	for (unsigned int i = 0; i < threads; i++) {
		loads[i].seed = (uint64_t)i << 40;
		loads[i].until_ns = shmipc_deadline_after((uint64_t)(seconds * 1e9));
		need(-pthread_create(&loads[i].thread, NULL, run, &loads[i]), "thread");
	}
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(loads[i].thread, NULL);
		requests += loads[i].requests;
		lost += loads[i].lost;
		if (loads[i].server_count > servers)
			servers = loads[i].server_count;
	}
	shmipc_client_destroy(client);
	need(shmipc_loop_stop(loop), "end the thread");
	need(shmipc_loop_destroy(loop), "end the loop");
	printf("%llu requests, %llu lost, %u servers\n", requests, lost, servers);
	return lost > 0;
}
