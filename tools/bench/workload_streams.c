/* SPDX-License-Identifier: Apache-2.0 */
/* Many conversations at once, by a socket each: the client sends on all, then reads from all; the
 * server answers whoever has sent, by epoll. */
#include <stdlib.h>
#include <sys/epoll.h>

#include "tools/bench/pattern.h"
#include "tools/bench/workload.h"

enum { WARM_TRIPS = 200 };

static void answer(struct channel *channel, void *buffer, size_t bytes, uint64_t *sequence)
{
	if (!pattern_check(buffer, bytes, ++*sequence))
		bench_corrupt("request", *sequence);
	pattern_fill(buffer, bytes, ~*sequence);
	channel_send(channel, buffer, bytes);
}

void streams_serve(int listener, const struct bench_job *job)
{
	static struct channel channels[BENCH_STREAM_COUNT];
	static uint64_t sequences[BENCH_STREAM_COUNT];
	struct epoll_event events[BENCH_STREAM_COUNT];
	int set = epoll_create1(EPOLL_CLOEXEC), open = 0, n;
	void *buffer = pattern_buffer(job->size_bytes);

	if (set < 0 || !buffer)
		bench_child_fail("epoll");
	for (; open < BENCH_STREAM_COUNT; open++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)open };

		channel_open(&channels[open], channel_accept(listener), job);
		if (epoll_ctl(set, EPOLL_CTL_ADD, channels[open].fd, &event) < 0)
			bench_child_fail("epoll_ctl");
	}
	while (open > 0) {
		n = epoll_wait(set, events, BENCH_STREAM_COUNT, -1);
		for (int i = 0; i < n; i++) {
			uint32_t which = events[i].data.u32;

			if (channel_recv(&channels[which], buffer, job->size_bytes)) {
				answer(&channels[which], buffer, job->size_bytes,
				       &sequences[which]);
				continue;
			}
			channel_close(&channels[which]);
			open--;
		}
	}
	free(buffer);
}

static void trip(struct channel *channels, void *buffer, size_t bytes, uint64_t sequence)
{
	for (int i = 0; i < BENCH_STREAM_COUNT; i++) {
		pattern_fill(buffer, bytes, sequence);
		channel_send(&channels[i], buffer, bytes);
	}
	for (int i = 0; i < BENCH_STREAM_COUNT; i++) {
		if (!channel_recv(&channels[i], buffer, bytes))
			bench_child_fail("end of stream instead of a reply");
		if (!pattern_check(buffer, bytes, ~sequence))
			bench_corrupt("reply", sequence);
	}
}

void streams_drive(const struct bench_job *job)
{
	static struct channel channels[BENCH_STREAM_COUNT];
	void *buffer = pattern_buffer(job->size_bytes);
	uint64_t sequence = 0, begin, took, trips = 0;

	if (!buffer)
		bench_child_fail("out of memory");
	for (int i = 0; i < BENCH_STREAM_COUNT; i++)
		channel_open(&channels[i], channel_connect(job), job);
	while (sequence < WARM_TRIPS)
		trip(channels, buffer, job->size_bytes, ++sequence);
	begin = bench_now_ns();
	do {
		trip(channels, buffer, job->size_bytes, ++sequence);
		trips += BENCH_STREAM_COUNT;
		took = bench_now_ns() - begin;
	} while (took < job->duration_ns);
	for (int i = 0; i < BENCH_STREAM_COUNT; i++)
		channel_close(&channels[i]);
	bench_report("value", (double)trips * 1e9 / (double)took);
	bench_report("count", (double)trips);
	free(buffer);
}
