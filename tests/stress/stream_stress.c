/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_stress SECONDS SEED: two processes, both directions, random sizes, waits, cuts and stops
 * of the other side; every byte is checked by its position, and no progress for STALL_MS is a lost
 * wake-up.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/stress/pair.h"

enum { BUFFER_BYTES = 200 * 1024, STALL_MS = 5000, TICK_MS = 5, ROUND_MS = 700, SPINNERS = 2 };

struct shape {
	bool is_unix, threads, readers, spinners, stops, one_way, cuts, polite;
	uint32_t ring_bytes, size_max;
	uint64_t seed;
};

struct shared {
	struct pair pair;
	struct shape shape;
	_Atomic uint64_t sent[2], got[2], sum_sent[2], sum_got[2];
	_Atomic uint64_t operations;
	_Atomic bool stop, failed;
};

static struct shared *shared;

static void fail(const char *what, uint64_t a, uint64_t b)
{
	fprintf(stderr, "FAIL: %s (%lu, %lu)\n", what, a, b);
	atomic_store(&shared->failed, true);
}

/* ---- sending ---- */

static size_t random_size(uint64_t *random)
{
	uint32_t kind = pair_random(random) % 4;
	uint32_t most = kind == 0 ? 16 : kind == 1 ? 1500 : shared->shape.size_max;

	return 1 + pair_random(random) % most;
}

static void maybe_cut(struct end *e, uint64_t *random)
{
	if (!shared->shape.cuts || pair_random(random) % 64)
		return;
	shmipc_lock_take(&e->tx.lock, e->private_use);
	shmipc_sender_downgrade(&e->tx, e->fd);
	e->tx.no_more_ring = false;
	shmipc_lock_drop(&e->tx.lock, e->private_use);
}

/* As if the last burst had been long ago. */
static void maybe_shrink(struct end *e, uint64_t *random)
{
	if (pair_random(random) % 64)
		return;
	shmipc_lock_take(&e->tx.lock, e->private_use);
	e->tx.grown_ticks = 0;
	shmipc_lock_drop(&e->tx.lock, e->private_use);
	if (pair_random(random) % 2)
		shmipc_sender_shrink(&e->tx);
}

static bool send_once(struct end *e, unsigned int direction, unsigned char *buffer, size_t most,
		      uint64_t *random, int flags)
{
	uint64_t at = atomic_load(&shared->sent[direction]), sum = 0;
	size_t bytes = random_size(random);
	ssize_t n;

	bytes = bytes < most ? bytes : most;
	maybe_cut(e, random);
	maybe_shrink(e, random);
	pair_fill(buffer, bytes, at, direction);
	n = end_send(e, buffer, bytes, flags);
	if (n == -EAGAIN && (flags & MSG_DONTWAIT))
		return true;
	/* a kernel send that is stopped half way (SIGSTOP) returns short */
	if (n <= 0 || (size_t)n > bytes ||
	    (!(flags & MSG_DONTWAIT) && !shared->shape.stops && (size_t)n != bytes)) {
		fail("send", (uint64_t)n, bytes);
		return false;
	}
	for (ssize_t i = 0; i < n; i++)
		sum += buffer[i];
	atomic_fetch_add(&shared->sum_sent[direction], sum);
	atomic_store(&shared->sent[direction], at + (uint64_t)n);
	atomic_fetch_add(&shared->operations, 1);
	return true;
}

/* ---- receiving: a wait of some kind, then what is there ---- */

static void wait_strict(struct end *e)
{
	struct pollfd real = { .fd = e->fd, .events = POLLIN };

	shmipc_receiver_strict(&e->rx, true);
	if (!shmipc_receiver_hint(&e->rx))
		poll(&real, 1, -1);
}

static void wait_armed(struct end *e)
{
	struct pollfd real = { .fd = e->fd, .events = POLLIN };

	shmipc_receiver_arm(&e->rx);
	if (!shmipc_receiver_hint(&e->rx) &&
	    !shmipc_receiver_readable(&e->rx, e->fd, e->private_use))
		poll(&real, 1, -1);
	shmipc_receiver_disarm(&e->rx);
}

static ssize_t receive_somehow(struct end *e, unsigned char *buffer, size_t bytes, uint64_t *random)
{
	ssize_t n;
	uint32_t way = pair_random(random) % 16;

	if (shared->shape.readers && way >= 12)
		way = 0;
	switch (way) {
	case 12:
		/* question and answer: more may never come */
		return end_receive(e, buffer, bytes < 3000 ? bytes : 3000,
				   shared->shape.threads || shared->shape.one_way ? MSG_WAITALL
										  : 0);
	case 13:
		n = end_receive(e, buffer, bytes, MSG_PEEK);
		if (n > 0 && pair_check(buffer, (size_t)n,
					atomic_load(&e->rx.head) + atomic_load(&e->rx.kernel_read),
					e == &shared->pair.client) < (size_t)n)
			fail("peek", (uint64_t)n, bytes);
		return end_receive(e, buffer, bytes, 0);
	case 4:
	case 5:
	case 6:
	case 7:
		wait_strict(e);
		return end_receive(e, buffer, bytes, MSG_DONTWAIT);
	case 8:
	case 9:
		atomic_fetch_add(&e->rx.watchers, 1);
		wait_armed(e);
		n = end_receive(e, buffer, bytes, MSG_DONTWAIT);
		atomic_fetch_sub(&e->rx.watchers, 1);
		return n;
	case 10:
		return end_receive(e, buffer, bytes, MSG_DONTWAIT);
	default:
		return end_receive(e, buffer, bytes, 0);
	}
}

/* False at the end. */
static bool receive_once(struct end *e, unsigned int direction, unsigned char *buffer,
			 uint64_t *random, bool wait)
{
	size_t bytes = random_size(random);
	uint64_t sum = 0;
	ssize_t n = wait ? receive_somehow(e, buffer, bytes, random)
			 : end_receive(e, buffer, bytes, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return true;
	if (n < 0)
		fail("receive", (uint64_t)-n, 0);
	if (n <= 0)
		return false;
	if (!shared->shape.readers) {
		uint64_t at = atomic_load(&shared->got[direction]);
		size_t good = pair_check(buffer, (size_t)n, at, direction);

		if (good < (size_t)n) {
			fail("wrong byte at", at + good, (uint64_t)n);
			return false;
		}
	}
	for (ssize_t i = 0; i < n; i++)
		sum += buffer[i];
	atomic_fetch_add(&shared->sum_got[direction], sum);
	atomic_fetch_add(&shared->got[direction], (uint64_t)n);
	atomic_fetch_add(&shared->operations, 1);
	return true;
}

/* ---- the ends ---- */

struct job {
	struct end *end;
	unsigned int direction;
	uint64_t random;
};

static void *writer(void *argument)
{
	struct job *job = argument;
	unsigned char *buffer = malloc(BUFFER_BYTES);

	while (!atomic_load(&shared->stop) && !atomic_load(&shared->failed)) {
		if (!send_once(job->end, job->direction, buffer, BUFFER_BYTES, &job->random,
			       pair_random(&job->random) % 8 ? 0 : MSG_DONTWAIT))
			break;
		if (pair_random(&job->random) % 512 == 0)
			usleep(pair_random(&job->random) % 2000);
	}
	free(buffer);
	end_finish(job->end);
	return NULL;
}

static void *reader(void *argument)
{
	struct job *job = argument;
	unsigned char *buffer = malloc(BUFFER_BYTES);

	while (!atomic_load(&shared->failed) &&
	       receive_once(job->end, job->direction, buffer, &job->random, true))
		if (pair_random(&job->random) % 512 == 0)
			usleep(pair_random(&job->random) % 2000);
	free(buffer);
	return NULL;
}

static void run_threads(struct end *e, unsigned int out, uint64_t seed)
{
	struct job w = { e, out, seed }, r = { e, !out, seed + 99 }, r2 = { e, !out, seed + 999 };
	pthread_t writing, reading;

	pthread_create(&writing, NULL, writer, &w);
	if (shared->shape.readers)
		pthread_create(&reading, NULL, reader, &r2);
	reader(&r);
	pthread_join(writing, NULL);
	if (shared->shape.readers)
		pthread_join(reading, NULL);
}

/* One thread, alone: request and answer, or one way. */
static void run_alone(struct end *e, unsigned int out, uint64_t seed)
{
	struct job job = { e, out, seed };
	unsigned char *buffer = malloc(BUFFER_BYTES);
	bool more = true;

	e->private_use = true;
	if (shared->shape.one_way) {
		if (out == 0) {
			writer(&job);
		} else {
			job.direction = 0;
			reader(&job);
			end_finish(e);
		}
		free(buffer);
		return;
	}
	while (more && !atomic_load(&shared->failed)) {
		if (out == 0) {
			uint64_t goal;

			more = !atomic_load(&shared->stop) &&
			       send_once(e, 0, buffer, BUFFER_BYTES, &job.random, 0);
			goal = atomic_load(&shared->sent[0]);
			/* the answer is as long as the question */
			while (more && atomic_load(&shared->got[1]) < goal)
				more = receive_once(e, 1, buffer, &job.random, true);
		} else {
			more = receive_once(e, 0, buffer, &job.random, true);
			while (more && atomic_load(&shared->sent[1]) < atomic_load(&shared->got[0]))
				more = send_once(e, 1, buffer,
						 atomic_load(&shared->got[0]) -
							 atomic_load(&shared->sent[1]),
						 &job.random, 0);
		}
	}
	end_finish(e);
	while (receive_once(e, !out, buffer, &job.random, true))
		;
	free(buffer);
}

static pid_t start(struct end *e, struct end *other, unsigned int out)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	close(other->fd);
	if (shared->shape.threads)
		run_threads(e, out, shared->shape.seed + out);
	else
		run_alone(e, out, shared->shape.seed + out);
	end_close(e);
	_exit(0);
}

static pid_t start_spinner(void)
{
	pid_t pid = fork();
	volatile uint64_t n = 0;

	if (pid)
		return pid;
	for (;;)
		n++;
}

/* ---- one round ---- */

static struct shape random_shape(uint64_t *random)
{
	struct shape s = {
		.is_unix = pair_random(random) & 1,
		.threads = pair_random(random) & 1,
		.spinners = pair_random(random) % 4 == 0,
		.stops = pair_random(random) % 3 == 0,
		.one_way = pair_random(random) & 1,
		.cuts = pair_random(random) & 1,
		.ring_bytes = 4096u << (pair_random(random) % 7),
		.size_max = pair_random(random) & 1 ? BUFFER_BYTES : 3000,
		.seed = ((uint64_t)pair_random(random) << 20) | 1,
	};

	s.readers = s.threads && pair_random(random) % 2;
	return s;
}

static void say(const struct shape *s)
{
	fprintf(stderr, "  %s ring %u size %u%s%s%s%s%s%s seed %lu\n", s->is_unix ? "unix" : "tcp",
		s->ring_bytes, s->size_max, s->threads ? " threads" : "",
		s->readers ? " readers" : "", !s->threads && s->one_way ? " one-way" : "",
		s->cuts ? " cuts" : "", s->spinners ? " spinners" : "", s->stops ? " stops" : "",
		s->seed);
}

static void nap_ms(long ms)
{
	const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

/* True: both ended. */
static bool watch(pid_t pids[2], uint64_t *random)
{
	uint64_t last = 0;
	int quiet_ms = 0, alive = 2;

	for (int ms = 0; alive; ms += TICK_MS) {
		uint64_t now = atomic_load(&shared->got[0]) + atomic_load(&shared->got[1]);

		if (ms >= ROUND_MS)
			atomic_store(&shared->stop, true);
		if (shared->shape.stops && pair_random(random) % 8 == 0) {
			pid_t victim = pids[pair_random(random) & 1];

			if (victim > 0) {
				kill(victim, SIGSTOP);
				nap_ms(pair_random(random) % 20);
				kill(victim, SIGCONT);
			}
		}
		nap_ms(TICK_MS);
		for (int i = 0; i < 2; i++) {
			int status;

			if (pids[i] > 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
				pids[i] = 0;
				alive--;
				if (status)
					fail("child status", (uint64_t)status, 0);
			}
		}
		quiet_ms = now == last ? quiet_ms + TICK_MS : 0;
		last = now;
		if (quiet_ms > STALL_MS || atomic_load(&shared->failed))
			return false;
	}
	return true;
}

static void check_totals(void)
{
	for (int d = 0; d < 2; d++) {
		if (atomic_load(&shared->sent[d]) != atomic_load(&shared->got[d]))
			fail("bytes lost", atomic_load(&shared->sent[d]),
			     atomic_load(&shared->got[d]));
		if (atomic_load(&shared->sum_sent[d]) != atomic_load(&shared->sum_got[d]))
			fail("sums differ", atomic_load(&shared->sum_sent[d]),
			     atomic_load(&shared->sum_got[d]));
	}
}

static bool run_round(uint64_t *random, uint64_t *operations, uint64_t *by_ring)
{
	struct pair *p = &shared->pair;
	pid_t pids[2], spinners[SPINNERS] = { 0 };
	bool ended;

	memset(shared, 0, sizeof(*shared));
	shared->shape = random_shape(random);
	pair_open(p, shared->shape.is_unix, shared->shape.ring_bytes);
	pair_consent(p);
	pids[0] = start(&p->client, &p->server, 0);
	pids[1] = start(&p->server, &p->client, 1);
	close(p->client.fd);
	close(p->server.fd);
	for (int i = 0; shared->shape.spinners && i < SPINNERS; i++)
		spinners[i] = start_spinner();
	ended = watch(pids, random);
	if (ended)
		check_totals();
	else if (!atomic_load(&shared->failed))
		fail("no progress: a wake-up was lost", atomic_load(&shared->sent[0]),
		     atomic_load(&shared->got[0]));
	if (atomic_load(&shared->failed)) {
		say(&shared->shape);
		pair_dump(p);
		if (getenv("STREAM_STRESS_HOLD"))
			pause();
	}
	for (int i = 0; i < 2; i++)
		if (pids[i] > 0 && kill(pids[i], SIGKILL) == 0)
			waitpid(pids[i], NULL, 0);
	for (int i = 0; i < SPINNERS; i++)
		if (spinners[i] > 0 && kill(spinners[i], SIGKILL) == 0)
			waitpid(spinners[i], NULL, 0);
	*operations += atomic_load(&shared->operations);
	*by_ring += p->client.tx.tail + p->server.tx.tail;
	shmipc_segment_unmap(&p->segment);
	return !atomic_load(&shared->failed);
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 5, rounds = 0;
	uint64_t random = (argc > 2 ? strtoull(argv[2], NULL, 0) : 1) *
				  UINT64_C(0x9e3779b97f4a7c15) |
			  1;
	uint64_t operations = 0, by_ring = 0;
	time_t end = time(NULL) + seconds;

	shared = pair_shared(sizeof(*shared));
	signal(SIGPIPE, SIG_IGN);
	do {
		if (!run_round(&random, &operations, &by_ring)) {
			fprintf(stderr, "stream_stress: failed in round %d\n", rounds);
			return 1;
		}
		rounds++;
	} while (time(NULL) < end);
	printf("stream_stress: %d rounds, %lu operations, %lu MiB by ring\n", rounds, operations,
	       by_ring >> 20);
	return 0;
}
