/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both mappings of a session changed while it is in use.  The input is a program: calls of the
 * library on one side, what a hostile peer does to the mappings and the socket on the other.  In a
 * third of all runs a thread scribbles into the mappings at the same time, so that words change
 * between the library's look at them and its use.
 *
 * Found are crashes, accesses outside the mappings, hangs, leaks of memory and of descriptors.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/peer.h"

enum {
	STREAMS = 6,
	STEPS_MAX = 200,
	SERVER = 1,
	LOOP = 2,
	SCRIBBLE = 4, /* where bit 3 says so too, in the headers alone */
	STAYS = 16,   /* the peer is there when the session is closed */
	IN_HEADERS = 8,
	HEADER_BYTES = 96
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct program {
	const uint8_t *at;
	size_t left;
};

struct run {
	struct program program;
	struct fuzz_peer peer;
	struct shmipc_session *session;
	struct shmipc_loop *loop;
	struct shmipc_stream *streams[STREAMS];
	bool server;
};

static uint32_t next(struct program *program, size_t bytes)
{
	uint32_t value = 0;

	if (bytes > program->left)
		bytes = program->left;
	memcpy(&value, program->at, bytes);
	program->at += bytes;
	program->left -= bytes;
	return value;
}

/* ---- the hostile thread ---- */

struct scribbler {
	pthread_t thread;
	const struct fuzz_peer *peer;
	uint32_t seed;
	bool in_headers;
	atomic_bool stop;
};

static void store(uint8_t *at, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)at, value, __ATOMIC_RELAXED);
}

static void *scribble(void *argument)
{
	struct scribbler *scribbler = argument;
	const struct fuzz_peer *peer = scribbler->peer;
	uint32_t x = scribbler->seed | 1;

	while (!atomic_load_explicit(&scribbler->stop, memory_order_relaxed)) {
		uint8_t *mapping = x & 1 ? peer->queues : peer->buffer;
		size_t bytes = x & 1 ? peer->queue_bytes : peer->buffer_bytes;

		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		if (scribbler->in_headers)
			bytes = HEADER_BYTES;
		/* mostly small numbers: the others are refused at the first look */
		store(mapping + x % bytes / 4 * 4, x & 0x100 ? x >> 16 : x >> 28);
	}
	return NULL;
}

/* ---- what the peer does ---- */

static uint32_t some_slice(struct run *run)
{
	uint32_t which = next(&run->program, 1);
	int list = which & 1;

	return run->peer.lists[list].first +
	       which / 2 % run->peer.lists[list].count * run->peer.lists[list].stride;
}

static void write_slice(struct run *run, uint32_t offset, uint32_t size, uint32_t following)
{
	uint8_t *slice = run->peer.buffer + offset;

	store(slice + 4, size);
	store(slice + 8, 0);
	store(slice + 12, following);
	slice[16] = following ? 3 : 2;
}

/* A message as it should be, of one slice or of a chain of two. */
static void honest_message(struct run *run)
{
	uint32_t stream = 2 + next(&run->program, 1) % 4, size = next(&run->program, 1) % 65;
	uint32_t first = some_slice(run), second = some_slice(run);
	bool chain = size & 1 && first != second;

	write_slice(run, first, size, chain ? second : 0);
	if (chain)
		write_slice(run, second, size, 0);
	peer_put(&run->peer, stream, first, 0);
}

static void any_message(struct run *run)
{
	uint32_t stream = next(&run->program, 1), offset = next(&run->program, 3);
	uint32_t status = next(&run->program, 1);

	peer_put(&run->peer, stream, status & 0x80 ? offset : some_slice(run), status & 0x7f);
}

static void change_mapping(struct run *run, uint8_t *mapping, size_t bytes, bool header)
{
	uint32_t at = next(&run->program, header ? 1 : 3), value = next(&run->program, 4);

	store(mapping + at % (header ? HEADER_BYTES : bytes) / 4 * 4, value);
}

static void change_slice(struct run *run)
{
	uint32_t offset = some_slice(run), word = next(&run->program, 1) % 5;

	store(run->peer.buffer + offset + 4 * word, next(&run->program, 4));
}

static void send_bytes(struct run *run)
{
	uint8_t bytes[64];
	uint32_t count = next(&run->program, 1) % sizeof(bytes);

	for (uint32_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)next(&run->program, 1);
	peer_send(&run->peer, bytes, count);
}

static void send_fallback(struct run *run)
{
	static uint8_t message[16 + 256] = { 0, 0, 0, 0, 0x77, 0x58, 3, 3 };
	uint32_t count = next(&run->program, 1);

	message[2] = (uint8_t)((16 + count) >> 8);
	message[3] = (uint8_t)(16 + count);
	message[11] = (uint8_t)(2 + next(&run->program, 1) % 4);
	message[15] = (uint8_t)(next(&run->program, 1) % 3);
	peer_send(&run->peer, message, 16 + count);
}

static void peer_step(struct run *run, uint32_t what)
{
	static const uint8_t polling[] = { 0, 0, 0, 8, 0x77, 0x58, 3, 1 };
	static const uint8_t close_2[] = { 0, 0, 0, 12, 0x77, 0x58, 3, 2, 0, 0, 0, 2 };

	switch (what % 11) {
	case 0:
	case 1:
		honest_message(run);
		break;
	case 2:
		any_message(run);
		break;
	case 3:
		change_mapping(run, run->peer.queues, run->peer.queue_bytes, what & 16);
		break;
	case 4:
		change_mapping(run, run->peer.buffer, run->peer.buffer_bytes, what & 16);
		break;
	case 5:
		change_slice(run);
		break;
	case 6:
		send_bytes(run);
		break;
	case 7:
		send_fallback(run);
		break;
	case 8:
		peer_send(&run->peer, polling, sizeof(polling));
		break;
	case 9:
		peer_take_all(&run->peer);
		peer_drain_socket(&run->peer);
		break;
	default:
		peer_send(&run->peer, close_2, sizeof(close_2));
	}
}

/* ---- what the application does ---- */

static void keep(struct run *run, struct shmipc_stream *stream)
{
	shmipc_stream_set_read_deadline(stream, SHMIPC_NOWAIT);
	shmipc_stream_set_write_deadline(stream, SHMIPC_NOWAIT);
	for (int i = 0; i < STREAMS; i++)
		if (!run->streams[i]) {
			run->streams[i] = stream;
			return;
		}
	shmipc_stream_close(stream);
}

static void drop(struct run *run, struct shmipc_stream *stream)
{
	for (int i = 0; i < STREAMS; i++)
		if (run->streams[i] == stream)
			run->streams[i] = NULL;
	shmipc_stream_close(stream);
}

static void on_data(struct shmipc_stream *stream, void *user)
{
	const void *view;
	ssize_t n = shmipc_stream_read_some_view(stream, 100, &view);

	(void)user;
	if (n > 0)
		peer_touch(view, (size_t)n);
	shmipc_stream_reuse(stream);
}

static void on_close(struct shmipc_stream *stream, int reason, void *user)
{
	(void)reason;
	drop(user, stream);
}

static void on_writable(struct shmipc_stream *stream, void *user)
{
	(void)user;
	shmipc_stream_flush(stream);
}

static void listen_to(struct run *run, struct shmipc_stream *stream)
{
	static const struct shmipc_stream_callbacks callbacks = { .on_data = on_data,
								  .on_close = on_close,
								  .on_writable = on_writable };

	shmipc_stream_set_callbacks(stream, &callbacks, run);
}

static void on_stream(struct shmipc_session *session, struct shmipc_stream *stream, void *user)
{
	struct run *run = user;

	(void)session;
	listen_to(run, stream);
	keep(run, stream);
}

static void on_shutdown(struct shmipc_session *session, int reason, void *user)
{
	(void)session;
	(void)reason;
	(void)user;
}

static void open_one(struct run *run)
{
	struct shmipc_stream *stream;
	int error = run->server ? shmipc_session_accept_stream(run->session, SHMIPC_NOWAIT, &stream)
				: shmipc_session_open_stream(run->session, &stream);

	if (!error)
		keep(run, stream);
}

static void read_step(struct run *run, struct shmipc_stream *stream, uint32_t what)
{
	size_t bytes = next(&run->program, 1) * (what & 32 ? 16u : 1u);
	uint8_t copy[256 * 16];
	const void *view;
	ssize_t n;

	switch (what % 8) {
	case 0:
		if (shmipc_stream_read_view(stream, bytes, &view) == 0)
			peer_touch(view, bytes);
		break;
	case 1:
		if (shmipc_stream_peek(stream, bytes, &view) == 0)
			peer_touch(view, bytes);
		break;
	case 2:
		n = shmipc_stream_read_some_view(stream, bytes, &view);
		if (n > (ssize_t)bytes)
			abort();
		if (n > 0)
			peer_touch(view, (size_t)n);
		break;
	case 3:
		shmipc_stream_discard(stream, bytes);
		break;
	case 4:
		if (shmipc_stream_read(stream, copy, bytes) > (ssize_t)bytes)
			abort();
		break;
	case 5:
		shmipc_stream_release(stream);
		break;
	case 6:
		shmipc_stream_reuse(stream);
		break;
	default:
		shmipc_stream_readable(stream);
	}
}

static void write_step(struct run *run, struct shmipc_stream *stream, uint32_t what)
{
	size_t bytes = next(&run->program, 1) * (what & 32 ? 500u : 1u);
	static const uint8_t zeros[255 * 500];
	ssize_t n;
	void *room;

	switch (what % 5) {
	case 0:
		if (shmipc_stream_reserve(stream, bytes, &room) == 0) {
			memset(room, 0x5a, bytes);
			shmipc_stream_commit(stream, bytes);
		}
		break;
	case 1:
		n = shmipc_stream_reserve_some(stream, bytes, &room);
		if (n > (ssize_t)bytes)
			abort();
		if (n > 0) {
			memset(room, 0xa5, (size_t)n);
			shmipc_stream_commit(stream, (size_t)n);
		}
		break;
	case 2:
		shmipc_stream_write(stream, zeros, bytes);
		break;
	case 3:
		shmipc_stream_flush(stream);
		break;
	default:
		shmipc_stream_drop_unflushed(stream);
	}
}

static void other_step(struct run *run, struct shmipc_stream *stream, uint32_t what)
{
	struct shmipc_metrics metrics;

	switch (what % 6) {
	case 0:
		open_one(run);
		break;
	case 1:
		if (run->loop)
			shmipc_process(run->loop, SHMIPC_NOWAIT);
		break;
	case 2:
		if (stream)
			drop(run, stream);
		break;
	case 3:
		if (stream)
			shmipc_stream_shutdown(stream);
		break;
	case 4:
		shmipc_session_metrics(run->session, &metrics, sizeof(metrics));
		shmipc_session_health(run->session);
		break;
	default:
		if (stream && run->loop)
			listen_to(run, stream);
	}
}

static void step(struct run *run)
{
	uint32_t what = next(&run->program, 1), which = next(&run->program, 1);
	struct shmipc_stream *stream = run->streams[which % STREAMS];

	if (what < 100)
		peer_step(run, what);
	else if (what >= 230 || !stream)
		other_step(run, stream, what);
	else if (what < 180)
		read_step(run, stream, what);
	else
		write_step(run, stream, what);
}

/* ---- one input ---- */

static void begin(struct run *run, uint32_t how)
{
	static const struct shmipc_session_callbacks callbacks = { .on_stream = on_stream,
								   .on_shutdown = on_shutdown };
	struct shmipc_config config;

	peer_configure(&config);
	run->server = how & SERVER;
	if (how & LOOP && shmipc_loop_create(&run->loop))
		abort();
	peer_connect(&run->peer, run->server ? SHMIPC_ROLE_SERVER : SHMIPC_ROLE_CLIENT, &config,
		     run->loop, run->loop ? &callbacks : NULL, run, &run->session);
}

static void end(struct run *run, uint32_t how)
{
	if (!(how & STAYS))
		shutdown(run->peer.fd, SHUT_RDWR);
	for (int i = 0; i < STREAMS; i++)
		if (run->streams[i])
			shmipc_stream_close(run->streams[i]);
	if (how & STAYS) {
		peer_take_all(&run->peer);
		peer_drain_socket(&run->peer);
		shutdown(run->peer.fd, SHUT_RDWR);
	}
	shmipc_session_close(run->session);
	if (run->loop) {
		shmipc_process(run->loop, SHMIPC_NOWAIT);
		if (shmipc_loop_destroy(run->loop))
			abort();
	}
	peer_end(&run->peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct run run = { .program = { data, bytes } };
	struct scribbler scribbler = { .peer = &run.peer };
	uint32_t how = next(&run.program, 1);
	int lowest = peer_lowest_descriptor();

	begin(&run, how);
	scribbler.seed = next(&run.program, 4);
	scribbler.in_headers = how & IN_HEADERS;
	if (how & SCRIBBLE && pthread_create(&scribbler.thread, NULL, scribble, &scribbler))
		abort();
	for (int i = 0; i < STEPS_MAX && run.program.left > 0; i++)
		step(&run);
	if (how & SCRIBBLE) {
		atomic_store(&scribbler.stop, true);
		pthread_join(scribbler.thread, NULL);
	}
	end(&run, how);
	peer_check_descriptors(lowest);
	return 0;
}
