/* SPDX-License-Identifier: Apache-2.0 */
/* One way: the client sends messages of one size, the server reads whatever there is and verifies.
 */
#include <stdlib.h>

#include "tools/bench/pattern.h"
#include "tools/bench/workload.h"

enum {
	RECV_BYTES_MIN = 64 << 10,
	CLOCK_BYTES = 64 << 10, /* the sender looks at the clock once for so many bytes */
	WARM_NS = 20000000,
};

struct sink {
	struct channel *channel;
	void *buffer;
	size_t buffer_bytes;
	size_t stride;
	uint64_t position;
};

static bool take(struct sink *sink)
{
	size_t n = channel_recv_some(sink->channel, sink->buffer, sink->buffer_bytes);

	if (!pattern_verify(sink->buffer, n, sink->position, sink->stride))
		bench_corrupt("stream", sink->position);
	sink->position += n;
	return n > 0;
}

void stream_serve(struct channel *channel, const struct bench_job *job)
{
	size_t bytes = job->size_bytes > RECV_BYTES_MIN ? job->size_bytes : RECV_BYTES_MIN;
	struct sink sink = { channel, pattern_buffer(bytes), bytes, pattern_stride(job->size_bytes),
			     0 };
	uint64_t from, from_ns, took_ns, end;

	if (!sink.buffer)
		bench_child_fail("out of memory");
	take(&sink);
	end = bench_now_ns() + WARM_NS;
	while (bench_now_ns() < end && take(&sink))
		continue;
	from = sink.position;
	from_ns = bench_now_ns();
	while (take(&sink))
		continue;
	took_ns = bench_now_ns() - from_ns;
	bytes = (size_t)(sink.position - from);
	if (job->workload == BENCH_RATE)
		bench_report("value",
			     (double)bytes / (double)job->size_bytes * 1e9 / (double)took_ns);
	else
		bench_report("value", (double)bytes / (double)took_ns); /* GB/s */
	bench_report("count", (double)sink.position / (double)job->size_bytes);
	bench_report("bytes", (double)sink.position);
	free(sink.buffer);
}

void stream_drive(struct channel *channel, const struct bench_job *job)
{
	size_t stride = pattern_stride(job->size_bytes);
	size_t batch = job->size_bytes < CLOCK_BYTES ? CLOCK_BYTES / job->size_bytes : 1;
	void *buffer = pattern_buffer(job->size_bytes);
	uint64_t position = 0, end = bench_now_ns() + WARM_NS + job->duration_ns;
	char none;

	if (!buffer)
		bench_child_fail("out of memory");
	do
		for (size_t i = 0; i < batch; i++, position += job->size_bytes) {
			pattern_stamp(buffer, job->size_bytes, position, stride);
			channel_send(channel, buffer, job->size_bytes);
		}
	while (bench_now_ns() < end);
	channel_finish(channel);
	bench_report("sent", (double)position);
	if (!channel->raw && channel_recv(channel, &none, 1))
		bench_corrupt("stream: bytes that nobody sent", 0);
	free(buffer);
}
