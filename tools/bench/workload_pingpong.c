/* SPDX-License-Identifier: Apache-2.0 */
/* Round trips: a message there, another one back, each written and checked in full. */
#include <stdlib.h>
#include <string.h>

#include "tools/bench/pattern.h"
#include "tools/bench/stats.h"
#include "tools/bench/workload.h"

enum {
	SAMPLES_MAX = 1 << 19, /* the newest ones are kept */
	SAMPLES_MIN = 16,
	WARM_ROUND_TRIPS = 32,
	WARM_NS = 20000000,
};

static void need(bool ok)
{
	if (!ok)
		bench_child_fail("out of memory");
}

void pingpong_serve(struct channel *channel, const struct bench_job *job)
{
	void *buffer = pattern_buffer(job->size_bytes);
	uint64_t sequence = 0;

	need(buffer != NULL);
	while (channel_recv(channel, buffer, job->size_bytes)) {
		if (!pattern_check(buffer, job->size_bytes, ++sequence))
			bench_corrupt("request", sequence);
		pattern_fill(buffer, job->size_bytes, ~sequence);
		channel_send(channel, buffer, job->size_bytes);
	}
	free(buffer);
}

struct pinger {
	struct channel *channel;
	void *buffer;
	size_t size_bytes;
	uint64_t sequence;
};

static void round_trip(struct pinger *pinger)
{
	uint64_t sequence = ++pinger->sequence;

	pattern_fill(pinger->buffer, pinger->size_bytes, sequence);
	channel_send(pinger->channel, pinger->buffer, pinger->size_bytes);
	if (!channel_recv(pinger->channel, pinger->buffer, pinger->size_bytes))
		bench_child_fail("end of stream instead of a reply");
	if (!pattern_check(pinger->buffer, pinger->size_bytes, ~sequence))
		bench_corrupt("reply", sequence);
}

static void warm_up(struct pinger *pinger)
{
	uint64_t end = bench_now_ns() + WARM_NS;

	for (int i = 0; i < WARM_ROUND_TRIPS || bench_now_ns() < end; i++)
		round_trip(pinger);
}

static size_t measure(struct pinger *pinger, uint32_t *samples, uint64_t duration_ns)
{
	uint64_t before = bench_now_ns(), end = before + duration_ns;
	size_t count = 0;

	while (before < end || count < SAMPLES_MIN) {
		uint64_t now, took;

		round_trip(pinger);
		now = bench_now_ns();
		took = now - before;
		samples[count++ % SAMPLES_MAX] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
		before = now;
	}
	return count;
}

void pingpong_drive(struct channel *channel, const struct bench_job *job)
{
	struct pinger pinger = { channel, pattern_buffer(job->size_bytes), job->size_bytes, 0 };
	uint32_t *samples = pattern_buffer(SAMPLES_MAX * sizeof(samples[0]));
	size_t count, kept;

	need(pinger.buffer && samples);
	warm_up(&pinger);
	count = measure(&pinger, samples, job->duration_ns);
	channel_finish(channel);
	kept = count < SAMPLES_MAX ? count : SAMPLES_MAX;
	bench_report("value", stats_percentile(samples, kept, 500));
	bench_report("p50", stats_percentile(samples, kept, 500));
	bench_report("p99", stats_percentile(samples, kept, 990));
	bench_report("p999", stats_percentile(samples, kept, 999));
	bench_report("count", (double)count);
	free(samples);
	free(pinger.buffer);
}
