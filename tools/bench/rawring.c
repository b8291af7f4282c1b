/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/rawring.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/segment.h"
#include "tools/bench/channel.h"
#include "tools/bench/process.h"
#include "tools/bench/workload.h"

enum {
	RING_BYTES = 256 << 10,
	CHUNK_BYTES = 16
		      << 10, /* published at once: the consumer copies while the producer goes on */
	CROWDED_BYTES = 2048,
	CROWDED_PAUSES = 16,
};

struct rawring {
	struct shmipc_ring out, in;
	struct shmipc_direction *out_control, *in_control;
	uint64_t tail, head_seen; /* of `out` */
	uint64_t head, tail_seen; /* of `in` */
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("yield" ::: "memory");
#endif
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static uint64_t room(struct rawring *raw)
{
	uint64_t left = RING_BYTES - (raw->tail - raw->head_seen);

	if (left > 0)
		return left;
	/* acquire: pairs with the release in rawring_recv, the bytes before head have been copied
	 * out */
	raw->head_seen = atomic_load_explicit(&raw->out_control->rx.head, memory_order_acquire);
	return RING_BYTES - (raw->tail - raw->head_seen);
}

void rawring_send(struct rawring *raw, const void *from, size_t bytes)
{
	const unsigned char *at = from;

	while (bytes > 0) {
		size_t offset = raw->tail & (RING_BYTES - 1);
		size_t n = least(least(bytes, CHUNK_BYTES), least(room(raw), RING_BYTES - offset));

		if (n == 0) {
			cpu_relax();
			continue;
		}
		memcpy(raw->out.loop + offset, at, n);
		at += n;
		bytes -= n;
		raw->tail += n;
		/* release: pairs with the acquire in available() */
		atomic_store_explicit(&raw->out_control->tx.tail, raw->tail, memory_order_release);
	}
}

static uint64_t available(struct rawring *raw)
{
	if (raw->tail_seen == raw->head)
		raw->tail_seen = atomic_load_explicit(&raw->in_control->tx.tail,
						      memory_order_acquire);
	return raw->tail_seen - raw->head;
}

static bool finished(struct rawring *raw)
{
	if (!(atomic_load_explicit(&raw->in_control->tx.flags, memory_order_acquire) &
	      SHMIPC_TX_FIN))
		return false;
	return available(raw) == 0; /* the flag was stored after the last tail */
}

/* A consumer at the producer's heels pulls the line with the tail away from it for every message.
 * With a buffer that has room for much more, fall back a little. */
static void give_distance(struct rawring *raw, size_t bytes)
{
	if (bytes <= CROWDED_BYTES || available(raw) >= CROWDED_BYTES || available(raw) >= bytes)
		return;
	for (int i = 0; i < CROWDED_PAUSES; i++)
		cpu_relax();
	raw->tail_seen = atomic_load_explicit(&raw->in_control->tx.tail, memory_order_acquire);
}

size_t rawring_recv(struct rawring *raw, void *to, size_t bytes)
{
	unsigned char *at = to;
	size_t got = 0;

	while (available(raw) == 0) {
		if (finished(raw))
			return 0;
		cpu_relax();
	}
	give_distance(raw, bytes);
	while (got < bytes && available(raw) > 0) {
		size_t offset = raw->head & (RING_BYTES - 1);
		size_t n = least(least(bytes - got, CHUNK_BYTES),
				 least(available(raw), RING_BYTES - offset));

		memcpy(at + got, raw->in.loop + offset, n);
		got += n;
		raw->head += n;
		atomic_store_explicit(&raw->in_control->rx.head, raw->head, memory_order_release);
	}
	return got;
}

void rawring_finish(struct rawring *raw)
{
	atomic_store_explicit(&raw->out_control->tx.flags, SHMIPC_TX_FIN, memory_order_release);
}

static void open_end(struct rawring *raw, const struct shmipc_segment *segment, unsigned int out)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(segment, 0);

	*raw = (struct rawring){
		.out = shmipc_segment_ring(segment, 0, out),
		.in = shmipc_segment_ring(segment, 0, 1 - out),
		.out_control = &control->direction[out],
		.in_control = &control->direction[1 - out],
	};
	/* each end touches what it writes: no page fault falls into the measurement */
	memset(raw->out.loop, 0, RING_BYTES);
}

static _Noreturn void serve(const struct bench_job *job, const struct shmipc_segment *segment)
{
	struct rawring raw;
	struct channel channel = { .fd = -1, .epoll_fd = -1, .raw = &raw };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	process_pin(job->cpu_server);
	open_end(&raw, segment, 1);
	workload_serve(&channel, job);
	fflush(stdout);
	_exit(0);
}

int rawring_run(const struct bench_job *job)
{
	struct shmipc_segment segment;
	struct rawring raw;
	struct channel channel = { .fd = -1, .epoll_fd = -1, .raw = &raw };
	int fd, status = 0, error = shmipc_segment_create(&segment, 1, RING_BYTES, &fd);
	pid_t server;

	if (error) {
		errno = -error;
		bench_child_fail("segment");
	}
	server = fork();
	if (server < 0)
		bench_child_fail("fork");
	if (server == 0)
		serve(job, &segment);
	process_pin(job->cpu_client);
	open_end(&raw, &segment, 0);
	workload_drive(&channel, job);
	waitpid(server, &status, 0);
	shmipc_segment_unmap(&segment);
	close(fd);
	return status == 0 ? 0 : 3;
}
