/* SPDX-License-Identifier: Apache-2.0 */
/* The price of a call on a descriptor that is none of the shim's business: a pipe or a socket pair.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/bench/stats.h"
#include "tools/bench/workload.h"

enum {
	BATCH = 64, /* one-byte messages; all of them fit into either kind of buffer */
	BATCHES_MAX = 1 << 16,
};

static void put(enum bench_call call, int fd)
{
	char byte = 'x';
	ssize_t n = 0;

	for (int i = 0; i < BATCH; i++)
		n += call == BENCH_READ || call == BENCH_WRITE ? write(fd, &byte, 1)
							       : send(fd, &byte, 1, 0);
	if (n != BATCH)
		bench_child_fail("write");
}

static void get(enum bench_call call, int fd)
{
	char byte;
	ssize_t n = 0;

	for (int i = 0; i < BATCH; i++)
		n += call == BENCH_READ || call == BENCH_WRITE ? read(fd, &byte, 1)
							       : recv(fd, &byte, 1, 0);
	if (n != BATCH)
		bench_child_fail("read");
}

void percall_drive(const struct bench_job *job)
{
	bool writing = job->call == BENCH_WRITE || job->call == BENCH_SEND;
	uint32_t *samples = calloc(BATCHES_MAX, sizeof(samples[0]));
	uint64_t end = bench_now_ns() + job->duration_ns;
	size_t count = 0;
	int fds[2];

	if (!samples)
		bench_child_fail("out of memory");
	if (job->call == BENCH_READ || job->call == BENCH_WRITE
		    ? pipe(fds) < 0
		    : socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		bench_child_fail("pipe");
	while (bench_now_ns() < end) {
		uint64_t t0 = bench_now_ns(), t1, t2;

		put(job->call, fds[1]);
		t1 = bench_now_ns();
		get(job->call, fds[0]);
		t2 = bench_now_ns();
		samples[count++ % BATCHES_MAX] = (uint32_t)(writing ? t1 - t0 : t2 - t1);
	}
	if (count > BATCHES_MAX)
		count = BATCHES_MAX;
	bench_report("value", stats_percentile(samples, count, 500) / (double)BATCH);
	bench_report("count", (double)count * BATCH);
	free(samples);
}
