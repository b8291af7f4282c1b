/* SPDX-License-Identifier: Apache-2.0 */
/*
 * async_client ADDRESS [STREAMS [FRAMES]]: callbacks in the library's dispatcher thread, which
 * shmipc_loop_start() makes; main() only waits for the end.  Each stream sends a frame, and the
 * next one when the frame has come back.
 */
#include <pthread.h>
#include <stdio.h>

#include "shmipc.h"
#include "tools/examples/fail.h"
#include "tools/examples/frame.h"

enum { STREAMS_MAX = 4096, TIMEOUT_S = 60 };

struct conversation {
	struct shmipc_stream *stream;
	uint64_t seed; /* of the frame that is under way */
	unsigned int left;
};

static struct conversation conversations[STREAMS_MAX];
static unsigned int frames = 200;

/* Written in callbacks, read by main(). */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned int done;

static void send_frame(struct conversation *conversation)
{
	void *room;

	need(shmipc_stream_reserve(conversation->stream, FRAME_BYTES, &room), "reserve");
	frame_fill(room, conversation->seed);
	need(shmipc_stream_commit(conversation->stream, FRAME_BYTES), "commit");
	need(shmipc_stream_flush(conversation->stream), "flush");
}

static void finish(void)
{
	pthread_mutex_lock(&lock);
	done++;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

static void on_data(struct shmipc_stream *stream, void *user)
{
	struct conversation *conversation = user;
	const void *view;

	if (shmipc_stream_readable(stream) < FRAME_BYTES)
		return; /* called again when more arrives */
	need(shmipc_stream_read_view(stream, FRAME_BYTES, &view), "read");
	if (!frame_is(view, conversation->seed)) {
		fprintf(stderr, "stream %u: wrong bytes\n", shmipc_stream_id(stream));
		exit(1);
	}
	shmipc_stream_reuse(stream);
	if (--conversation->left == 0) {
		finish();
		return;
	}
	conversation->seed++;
	send_frame(conversation);
}

static void on_close(struct shmipc_stream *stream, int reason, void *user)
{
	(void)user;
	fprintf(stderr, "stream %u: closed by the server (%d)\n", shmipc_stream_id(stream), reason);
	exit(1);
}

static void wait_for(unsigned int streams)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += TIMEOUT_S;
	pthread_mutex_lock(&lock);
	while (done < streams)
		need(-pthread_cond_timedwait(&changed, &lock, &until), "wait");
	pthread_mutex_unlock(&lock);
}

static void begin(struct shmipc_client *client, unsigned int number)
{
	static const struct shmipc_stream_callbacks callbacks = { .on_data = on_data,
								  .on_close = on_close };
	struct conversation *conversation = &conversations[number];

	conversation->seed = (uint64_t)number << 32;
	conversation->left = frames;
	need(shmipc_client_get_stream(client, SHMIPC_NEVER, &conversation->stream), "get a stream");
	/* The first frame is sent here, all others by on_data: one writer at a time. */
	send_frame(conversation);
	need(shmipc_stream_set_callbacks(conversation->stream, &callbacks, conversation),
	     "callbacks");
}

int main(int argc, char **argv)
{
	unsigned int streams = argc > 2 ? (unsigned int)atoi(argv[2]) : 16;
	struct shmipc_client *client;
	struct shmipc_loop *loop;

	need_usage(argc >= 2 && argc <= 4 && streams >= 1 && streams <= STREAMS_MAX,
		   "async_client ADDRESS [STREAMS [FRAMES]]");
	if (argc > 3)
		frames = (unsigned int)atoi(argv[3]);
	need_usage(frames > 0, "async_client ADDRESS [STREAMS [FRAMES]]");
	need(shmipc_loop_create(&loop), "loop");
	need(shmipc_loop_start(loop), "thread");
	need(shmipc_client_create(argv[1], NULL, loop, &client), "connect");
	for (unsigned int i = 0; i < streams; i++)
		begin(client, i);
	wait_for(streams);
	need(shmipc_loop_stop(loop), "end the thread"); /* no callback runs from here on */
	for (unsigned int i = 0; i < streams; i++)
		shmipc_client_put_stream(client, conversations[i].stream);
	shmipc_client_destroy(client);
	need(shmipc_loop_destroy(loop), "end the loop");
	printf("%u streams, %u frames, all came back right\n", streams, streams * frames);
	return 0;
}
