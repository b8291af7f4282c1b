/* SPDX-License-Identifier: Apache-2.0 */
/* CPU time that a connected, warm pair uses while nothing is sent: one end in recv(), one in
 * poll(). */
#include <poll.h>

#include "tools/bench/pattern.h"
#include "tools/bench/workload.h"

enum { MESSAGE_BYTES = 64, WARM_ROUND_TRIPS = 2000 };

#define QUIET UINT64_MAX

static void next_message(struct channel *channel, void *message)
{
	if (!channel_recv(channel, message, MESSAGE_BYTES))
		bench_child_fail("early end of stream");
}

void idle_serve(struct channel *channel, const struct bench_job *job)
{
	_Alignas(64) unsigned char message[MESSAGE_BYTES];
	uint64_t before;

	(void)job;
	for (next_message(channel, message); !pattern_check(message, MESSAGE_BYTES, QUIET);
	     next_message(channel, message))
		channel_send(channel, message, MESSAGE_BYTES);
	before = bench_cpu_ns();
	next_message(channel, message);
	bench_report("server_cpu_ns", (double)(bench_cpu_ns() - before));
}

void idle_drive(struct channel *channel, const struct bench_job *job)
{
	_Alignas(64) unsigned char message[MESSAGE_BYTES];
	struct pollfd wait = { .fd = channel->fd, .events = POLLIN };
	uint64_t before;

	for (uint64_t i = 1; i <= WARM_ROUND_TRIPS; i++) {
		pattern_fill(message, MESSAGE_BYTES, i);
		channel_send(channel, message, MESSAGE_BYTES);
		next_message(channel, message);
		if (!pattern_check(message, MESSAGE_BYTES, i))
			bench_corrupt("echo", i);
	}
	pattern_fill(message, MESSAGE_BYTES, QUIET);
	channel_send(channel, message, MESSAGE_BYTES);
	before = bench_cpu_ns();
	if (poll(&wait, 1, (int)(job->duration_ns / 1000000)) != 0)
		bench_child_fail("an idle connection became ready");
	bench_report("client_cpu_ns", (double)(bench_cpu_ns() - before));
	channel_send(channel, message, MESSAGE_BYTES);
	channel_finish(channel);
}
