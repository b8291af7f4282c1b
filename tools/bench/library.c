/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libshmipc under test, as a program uses it that cares: each message is written where it is sent
 * from (reserve) and checked where it arrives (read_view), and the memory of one message serves the
 * next (reuse).  Messages larger than PIECE_BYTES are sent in pieces, so that the reader is at work
 * while the writer is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shmipc.h"
#include "tools/bench/pattern.h"
#include "tools/bench/stats.h"
#include "tools/bench/workload.h"

enum {
	PIECE_BYTES = 64 << 10,
	SLICE_HEADER_BYTES = 20,
	SLICE_BYTES_MIN = 1024,
	LINE_BYTES = 64,
	MEMORY_BYTES_MIN = 2 << 20,
	SAMPLES_MAX = 1 << 19, /* the newest ones are kept */
	SAMPLES_MIN = 16,
	WARM_TRIPS = 32,
	WARM_NS = 20000000,
};

static ssize_t need(ssize_t result, const char *what)
{
	if (result < 0) {
		errno = (int)-result;
		bench_child_fail(what);
	}
	return result;
}

static size_t piece_of(size_t bytes)
{
	return bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
}

static void configure(struct shmipc_config *config, const struct bench_job *job)
{
	size_t bytes = piece_of(job->size_bytes);

	if (bytes < SLICE_BYTES_MIN)
		bytes = SLICE_BYTES_MIN;
	/* one slice holds a piece, and slices follow each other on the lines of the cache */
	bytes = (bytes + SLICE_HEADER_BYTES + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
	shmipc_config_init(config, sizeof(*config));
	config->memory = SHMIPC_MEMORY_MEMFD;
	/* slices are used in turn: no more of them than are needed stay in the cache */
	config->buffer_bytes = 2 * job->size_bytes > MEMORY_BYTES_MIN
				       ? 2 * (uint32_t)job->size_bytes
				       : MEMORY_BYTES_MIN;
	config->slice_class_count = 1;
	config->slice_classes[0] = (struct shmipc_slice_class){
		.bytes = (uint32_t)bytes - SLICE_HEADER_BYTES, .percent = 100
	};
	config->spin_us = job->spin_us;
}

/* ---- a message ---- */

static void send_message(struct shmipc_stream *stream, size_t bytes, uint64_t sequence)
{
	size_t piece = piece_of(bytes);
	void *room;

	for (size_t at = 0; at < bytes; at += piece) {
		if (piece > bytes - at)
			piece = bytes - at;
		need(shmipc_stream_reserve(stream, piece, &room), "reserve");
		pattern_fill_piece(room, piece, sequence, at);
		need(shmipc_stream_commit(stream, piece), "commit");
		need(shmipc_stream_flush(stream), "flush");
	}
}

/* False: the peer has closed the stream. */
static bool take_message(struct shmipc_stream *stream, size_t bytes, uint64_t sequence)
{
	size_t piece = piece_of(bytes);
	const void *view;

	for (size_t at = 0; at < bytes; at += piece) {
		int error;

		if (piece > bytes - at)
			piece = bytes - at;
		error = shmipc_stream_read_view(stream, piece, &view);
		if (error == -ENODATA && at == 0)
			return false;
		need(error, "read");
		if (!pattern_check_piece(view, piece, sequence, at))
			bench_corrupt("message", sequence);
		shmipc_stream_reuse(stream);
	}
	return true;
}

static void report_wakeups(const char *who, const struct shmipc_metrics *metrics)
{
	if (metrics->fallback_sent > 0) {
		errno = ENOBUFS;
		bench_child_fail("a message took the socket");
	}
	printf("%s_wakeups=%llu\n%s_messages=%llu\n", who,
	       (unsigned long long)metrics->wakeups_sent, who,
	       (unsigned long long)metrics->messages_sent);
}

/* ---- one conversation ---- */

static void serve_one(struct shmipc_session *session, size_t bytes)
{
	struct shmipc_stream *stream;
	uint64_t sequence = 0;

	need(shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream), "accept a stream");
	while (take_message(stream, bytes, ++sequence))
		send_message(stream, bytes, ~sequence);
	shmipc_stream_close(stream);
}

static void round_trip(struct shmipc_stream *stream, size_t bytes, uint64_t sequence)
{
	send_message(stream, bytes, sequence);
	if (!take_message(stream, bytes, ~sequence))
		bench_child_fail("end of stream instead of a reply");
}

static void drive_one(struct shmipc_stream *stream, const struct bench_job *job)
{
	uint32_t *samples = pattern_buffer(SAMPLES_MAX * sizeof(samples[0]));
	uint64_t sequence = 0, before = bench_now_ns(), end = before + WARM_NS;
	size_t count = 0, kept;

	if (!samples)
		bench_child_fail("out of memory");
	while (sequence < WARM_TRIPS || bench_now_ns() < end)
		round_trip(stream, job->size_bytes, ++sequence);
	before = bench_now_ns();
	end = before + job->duration_ns;
	while (before < end || count < SAMPLES_MIN) {
		uint64_t now, took;

		round_trip(stream, job->size_bytes, ++sequence);
		now = bench_now_ns();
		took = now - before;
		samples[count++ % SAMPLES_MAX] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
		before = now;
	}
	kept = count < SAMPLES_MAX ? count : SAMPLES_MAX;
	bench_report("value", stats_percentile(samples, kept, 500));
	bench_report("p50", stats_percentile(samples, kept, 500));
	bench_report("p99", stats_percentile(samples, kept, 990));
	bench_report("p999", stats_percentile(samples, kept, 999));
	bench_report("count", (double)count);
	free(samples);
}

/* ---- many at once ---- */

struct crowd {
	size_t bytes;
	bool over;
	struct shmipc_metrics metrics;
};

static void on_data(struct shmipc_stream *stream, void *user)
{
	const struct crowd *crowd = user;
	uint64_t sequence = (uint64_t)(uintptr_t)shmipc_stream_user(stream);

	while (shmipc_stream_readable(stream) >= crowd->bytes) {
		take_message(stream, crowd->bytes, ++sequence);
		send_message(stream, crowd->bytes, ~sequence);
	}
	shmipc_stream_set_user(stream, (void *)(uintptr_t)sequence);
}

static void on_close(struct shmipc_stream *stream, int reason, void *user)
{
	(void)reason;
	(void)user;
	shmipc_stream_close(stream);
}

static void on_stream(struct shmipc_session *session, struct shmipc_stream *stream, void *user)
{
	static const struct shmipc_stream_callbacks callbacks = { .on_data = on_data,
								  .on_close = on_close };

	(void)session;
	need(shmipc_stream_set_callbacks(stream, &callbacks, user), "callbacks");
}

static void on_shutdown(struct shmipc_session *session, int reason, void *user)
{
	struct crowd *crowd = user;

	(void)reason;
	shmipc_session_metrics(session, &crowd->metrics, sizeof(crowd->metrics));
	crowd->over = true;
}

static void serve_many(const struct bench_job *job, const struct shmipc_config *config,
		       const char *address)
{
	static const struct shmipc_session_callbacks callbacks = { .on_stream = on_stream,
								   .on_shutdown = on_shutdown };
	struct crowd crowd = { .bytes = job->size_bytes };
	struct shmipc_listener *listener;
	struct shmipc_loop *loop;

	need(shmipc_loop_create(&loop), "loop");
	need(shmipc_listener_create(address, 0, config, loop, &callbacks, &crowd, &listener),
	     "listen");
	bench_child_ready(job->address);
	while (!crowd.over)
		need(shmipc_process(loop, SHMIPC_NEVER), "process");
	report_wakeups("server", &crowd.metrics);
	shmipc_listener_destroy(listener);
}

static void drive_many(struct shmipc_client *client, const struct bench_job *job)
{
	struct shmipc_stream *streams[BENCH_STREAM_COUNT];
	uint64_t sequence = 0, begin = bench_now_ns(), took = 0, trips = 0;

	for (int i = 0; i < BENCH_STREAM_COUNT; i++)
		need(shmipc_client_get_stream(client, SHMIPC_NEVER, &streams[i]), "get a stream");
	while (took < job->duration_ns) {
		sequence++;
		for (int i = 0; i < BENCH_STREAM_COUNT; i++)
			send_message(streams[i], job->size_bytes, sequence);
		for (int i = 0; i < BENCH_STREAM_COUNT; i++)
			if (!take_message(streams[i], job->size_bytes, ~sequence))
				bench_child_fail("end of stream instead of a reply");
		trips += BENCH_STREAM_COUNT;
		if (sequence == WARM_TRIPS) {
			begin = bench_now_ns();
			trips = 0;
		}
		took = sequence > WARM_TRIPS ? bench_now_ns() - begin : 0;
	}
	for (int i = 0; i < BENCH_STREAM_COUNT; i++)
		shmipc_stream_close(streams[i]);
	bench_report("value", (double)trips * 1e9 / (double)took);
	bench_report("count", (double)trips);
}

/* ---- both ends ---- */

static void name_address(char address[BENCH_ADDRESS_BYTES + 8], const struct bench_job *job)
{
	snprintf(address, BENCH_ADDRESS_BYTES + 8, "unix:%s", job->address);
}

void library_serve(const struct bench_job *job)
{
	char address[BENCH_ADDRESS_BYTES + 8];
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_metrics metrics;
	struct shmipc_config config;

	name_address(address, job);
	configure(&config, job);
	if (job->workload == BENCH_STREAMS) {
		serve_many(job, &config, address);
		return;
	}
	need(shmipc_listener_create(address, 0, &config, NULL, NULL, NULL, &listener), "listen");
	bench_child_ready(job->address);
	need(shmipc_listener_accept(listener, SHMIPC_NEVER, &session), "accept a session");
	serve_one(session, job->size_bytes);
	shmipc_session_metrics(session, &metrics, sizeof(metrics));
	report_wakeups("server", &metrics);
	shmipc_session_close(session);
	shmipc_listener_destroy(listener);
}

void library_drive(const struct bench_job *job)
{
	char address[BENCH_ADDRESS_BYTES + 8];
	struct shmipc_metrics metrics;
	struct shmipc_client *client;
	struct shmipc_config config;
	struct shmipc_stream *stream;

	name_address(address, job);
	configure(&config, job);
	need(shmipc_client_create(address, &config, NULL, &client), "connect");
	if (job->workload == BENCH_STREAMS) {
		drive_many(client, job);
	} else {
		need(shmipc_client_get_stream(client, SHMIPC_NEVER, &stream), "get a stream");
		drive_one(stream, job);
		shmipc_stream_close(stream);
	}
	shmipc_client_metrics(client, &metrics, sizeof(metrics));
	report_wakeups("client", &metrics);
	shmipc_client_destroy(client);
}
