/* SPDX-License-Identifier: Apache-2.0 */
/* Short connections, one after the other: connect, request, response, close. */
#include <unistd.h>

#include "tools/bench/pattern.h"
#include "tools/bench/workload.h"

enum { MESSAGE_BYTES = 64, WARM_CONNECTIONS = 50 };

#define LAST_REQUEST UINT64_MAX

void connect_serve(int listener, const struct bench_job *job)
{
	_Alignas(64) unsigned char message[MESSAGE_BYTES];
	bool last = false;

	for (uint64_t sequence = 1; !last; sequence++) {
		struct channel channel;

		channel_open(&channel, channel_accept(listener), job);
		if (!channel_recv(&channel, message, sizeof(message)))
			bench_child_fail("no request");
		last = pattern_check(message, sizeof(message), LAST_REQUEST);
		if (!last && !pattern_check(message, sizeof(message), sequence))
			bench_corrupt("request", sequence);
		pattern_fill(message, sizeof(message), ~sequence);
		channel_send(&channel, message, sizeof(message));
		channel_close(&channel);
	}
}

static void one_connection(const struct bench_job *job, uint64_t request, uint64_t reply)
{
	_Alignas(64) unsigned char message[MESSAGE_BYTES];
	struct channel channel;

	channel_open(&channel, channel_connect(job), job);
	pattern_fill(message, sizeof(message), request);
	channel_send(&channel, message, sizeof(message));
	if (!channel_recv(&channel, message, sizeof(message)))
		bench_child_fail("no response");
	if (!pattern_check(message, sizeof(message), reply))
		bench_corrupt("response", request);
	channel_close(&channel);
}

void connect_drive(const struct bench_job *job)
{
	uint64_t sequence = 1, from, now, count = 0;

	for (; sequence <= WARM_CONNECTIONS; sequence++)
		one_connection(job, sequence, ~sequence);
	from = now = bench_now_ns();
	for (; now < from + job->duration_ns; count++, sequence++) {
		one_connection(job, sequence, ~sequence);
		now = bench_now_ns();
	}
	one_connection(job, LAST_REQUEST, ~sequence);
	bench_report("value", (double)count * 1e9 / (double)(now - from));
	bench_report("count", (double)count);
}
