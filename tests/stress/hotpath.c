/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hotpath SECONDS SEED: what sender and receiver cost beside a bare ring, two processes, in one
 * run.  The ping-pong uses blocking receives, the streams too; the bare ring spins.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "core/cpu.h"
#include "core/ring.h"
#include "tests/stress/pair.h"

enum { RING_BYTES = 1 << 20, ROUNDS = 7, SMALL = 64, LARGE = 128 * 1024 };

/* ---- the bare ring ---- */

struct raw_line {
	_Alignas(128) _Atomic uint64_t tail;
	_Alignas(128) _Atomic uint64_t head;
};

struct raw {
	struct raw_line line[2];
	unsigned char data[2][RING_BYTES];
};

struct side {
	struct raw_line *line;
	struct shmipc_ring ring;
	uint64_t own, seen;
};

static void raw_put(struct side *s, unsigned char *from, size_t bytes)
{
	struct iovec iov = { from, bytes };
	struct shmipc_cursor cursor = { &iov, 1, 0, bytes };

	while (cursor.left) {
		size_t n = cursor.left < 32768 ? cursor.left : 32768;

		while (RING_BYTES - (s->own - s->seen) < n)
			s->seen = atomic_load_explicit(&s->line->head, memory_order_acquire);
		shmipc_ring_put(&s->ring, 0, s->own, &cursor, n);
		s->own += n;
		atomic_store_explicit(&s->line->tail, s->own, memory_order_release);
	}
}

static size_t raw_get(struct side *s, unsigned char *to, size_t bytes)
{
	struct iovec iov = { to, bytes };
	struct shmipc_cursor cursor = { &iov, 1, 0, bytes };
	size_t n;

	while (s->seen == s->own)
		s->seen = atomic_load_explicit(&s->line->tail, memory_order_acquire);
	n = s->seen - s->own < bytes ? s->seen - s->own : bytes;
	shmipc_ring_get(&s->ring, 0, s->own, &cursor, n);
	s->own += n;
	atomic_store_explicit(&s->line->head, s->own, memory_order_release);
	return n;
}

/* ---- both behind one face ---- */

struct face {
	struct end *end; /* NULL: bare */
	struct side out, in;
};

static unsigned char buffer[LARGE];

static void put(struct face *f, size_t bytes)
{
	if (!f->end) {
		raw_put(&f->out, buffer, bytes);
	} else if (end_send(f->end, buffer, bytes, 0) != (ssize_t)bytes) {
		fprintf(stderr, "hotpath: send failed\n");
		exit(1);
	}
}

static size_t get(struct face *f, size_t bytes)
{
	ssize_t n;

	if (!f->end)
		return raw_get(&f->in, buffer, bytes);
	n = end_receive(f->end, buffer, bytes, 0);
	if (n <= 0) {
		fprintf(stderr, "hotpath: receive failed\n");
		exit(1);
	}
	return (size_t)n;
}

static void get_all(struct face *f, size_t bytes)
{
	while (bytes)
		bytes -= get(f, bytes);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

enum what { PING_PONG, ONE_WAY, STREAM };

static const struct {
	const char *name;
	size_t bytes;
	long count;
} kinds[] = {
	[PING_PONG] = { "64 B ping-pong", SMALL, 200000 },
	[ONE_WAY] = { "64 B one way", SMALL, 4000000 },
	[STREAM] = { "128 KiB stream", LARGE, 20000 },
};

static void far_side(struct face *f, enum what what)
{
	for (long i = 0; i < kinds[what].count && what == PING_PONG; i++) {
		get_all(f, SMALL);
		put(f, SMALL);
	}
	if (what != PING_PONG) {
		/* a message at a time, as programs read */
		for (size_t left = kinds[what].bytes * (size_t)kinds[what].count; left;)
			left -= get(f, kinds[what].bytes < left ? kinds[what].bytes : left);
		put(f, 1);
	}
}

static double near_side(struct face *f, enum what what)
{
	double start = now();

	for (long i = 0; i < kinds[what].count; i++) {
		put(f, kinds[what].bytes);
		if (what == PING_PONG)
			get_all(f, SMALL);
	}
	if (what != PING_PONG)
		get_all(f, 1);
	return (now() - start) * 1e9 / (double)kinds[what].count;
}

static double measure(enum what what, bool bare, bool is_unix)
{
	static struct pair *p;
	struct raw *raw = pair_shared(sizeof(*raw));
	struct face face[2] = { 0 };
	double ns;
	pid_t pid;

	p = p ? p : pair_shared(sizeof(*p));
	for (int i = 0; i < 2; i++) {
		const struct shmipc_ring out = { .loop = raw->data[i], .ring_bytes = RING_BYTES };
		const struct shmipc_ring in = { .loop = raw->data[!i], .ring_bytes = RING_BYTES };

		face[i].out = (struct side){ &raw->line[i], out, 0, 0 };
		face[i].in = (struct side){ &raw->line[!i], in, 0, 0 };
	}
	memset(raw->data, 1, sizeof(raw->data));
	if (!bare) {
		memset(p, 0, sizeof(*p));
		pair_open(p, is_unix, RING_BYTES);
		pair_consent(p);
		p->client.private_use = p->server.private_use = true;
		face[0].end = &p->client;
		face[1].end = &p->server;
	}
	pid = fork();
	if (pid == 0) {
		pin(1);
		far_side(&face[1], what);
		_exit(0);
	}
	pin(0);
	ns = near_side(&face[0], what);
	waitpid(pid, NULL, 0);
	if (!bare) {
		if (getenv("HOTPATH_VERBOSE"))
			fprintf(stderr,
				"   tokens %lu waits %lu won %lu lost %lu overflow %lu cuts %lu\n",
				p->client.tx.uncounted.tokens, p->server.rx.uncounted.waits,
				p->server.rx.uncounted.spins_won, p->server.rx.uncounted.spins_lost,
				p->client.tx.uncounted.overflow, p->client.tx.uncounted.cuts);
		pair_close(p);
	}
	munmap(raw, sizeof(*raw));
	return ns;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int main(void)
{
	double ns[2][ROUNDS];

	for (enum what what = PING_PONG; what <= STREAM; what++) {
		if (getenv("HOTPATH_KIND") && atoi(getenv("HOTPATH_KIND")) != (int)what)
			continue;
		for (int i = 0; i < ROUNDS; i++) {
			ns[0][i] = measure(what, true, true);
			ns[1][i] = measure(what, false, i & 1);
		}
		for (int k = 0; k < 2; k++)
			qsort(ns[k], ROUNDS, sizeof(double), compare);
		printf("%-16s bare ring %8.1f ns (best %.1f)  sender/receiver %8.1f ns (best %.1f)  ratio %.2f\n",
		       kinds[what].name, ns[0][ROUNDS / 2], ns[0][0], ns[1][ROUNDS / 2], ns[1][0],
		       ns[1][ROUNDS / 2] / ns[0][ROUNDS / 2]);
	}
	return 0;
}
