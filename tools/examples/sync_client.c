/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync_client ADDRESS [THREADS [REQUESTS]]: synchronous calls from several threads that share one
 * client.  Each thread takes a stream, makes requests and puts it back.
 */
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>

#include "shmipc.h"
#include "tools/examples/fail.h"

enum { THREADS_MAX = 64, LINE_BYTES = 64, REQUESTS_A_STREAM = 50, TIMEOUT_S = 10 };

static struct shmipc_client *client;
static unsigned int requests = 500;

static void request(struct shmipc_stream *stream, unsigned int thread, unsigned int number)
{
	char line[LINE_BYTES], answer[LINE_BYTES];
	int bytes = snprintf(line, sizeof(line), "request %u of thread %u\n", number, thread);

	shmipc_stream_set_read_deadline(stream,
					shmipc_deadline_after(TIMEOUT_S * UINT64_C(1000000000)));
	need(shmipc_stream_send(stream, line, (size_t)bytes), "send");
	need(shmipc_stream_read_full(stream, answer, (size_t)bytes), "read");
	for (int i = 0; i < bytes; i++)
		if (answer[i] != toupper((unsigned char)line[i])) {
			fprintf(stderr, "wrong answer to %s", line);
			exit(1);
		}
}

static void *run(void *argument)
{
	unsigned int thread = (unsigned int)(uintptr_t)argument;
	struct shmipc_stream *stream;

	for (unsigned int done = 0; done < requests;) {
		unsigned int some = REQUESTS_A_STREAM;

		need(shmipc_client_get_stream(client, SHMIPC_NEVER, &stream), "get a stream");
		for (; some > 0 && done < requests; some--)
			request(stream, thread, done++);
		shmipc_client_put_stream(client, stream);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned int threads = argc > 2 ? (unsigned int)atoi(argv[2]) : 4;
	pthread_t ids[THREADS_MAX];

	need_usage(argc >= 2 && argc <= 4 && threads >= 1 && threads <= THREADS_MAX,
		   "sync_client ADDRESS [THREADS [REQUESTS]]");
	if (argc > 3)
		requests = (unsigned int)atoi(argv[3]);
	need(shmipc_client_create(argv[1], NULL, NULL, &client), "connect");
	for (unsigned int i = 0; i < threads; i++)
		need(-pthread_create(&ids[i], NULL, run, (void *)(uintptr_t)i), "thread");
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	shmipc_client_destroy(client);
	printf("%u requests, every answer right\n", threads * requests);
	return 0;
}
