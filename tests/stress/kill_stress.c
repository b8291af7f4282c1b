/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill_stress SECONDS SEED: one side dies by SIGKILL at a random instant.  A surviving reader gets
 * every byte whose send had returned, then the end or ECONNRESET; a surviving writer gets EPIPE or
 * ECONNRESET; nobody hangs. In every third round two processes share the writing end, and one of
 * them dies: the other must go on.
 */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/stress/pair.h"

enum { BUFFER_BYTES = 64 * 1024, HANG_SECONDS = 10, SHARED_ENOUGH = 400 };

enum kind { KILL_WRITER, KILL_READER, KILL_ONE_OF_TWO_WRITERS, KINDS };

struct shared {
	struct pair pair;
	_Atomic uint64_t published; /* bytes of sends that have returned */
	_Atomic uint64_t got;
	_Atomic uint32_t started;
	_Atomic uint64_t messages; /* of the surviving writer of two */
	_Atomic int result;	   /* of the survivor */
	uint64_t seed;
	uint32_t size_max;
};

static struct shared *shared;

/* Two writers: whole messages of one byte value each, so that they may interleave. */
static void write_for_ever(struct end *e, bool alone, uint64_t random)
{
	unsigned char *data = malloc(BUFFER_BYTES);
	uint64_t at = 0;

	e->private_use = alone;
	atomic_fetch_add(&shared->started, 1);
	for (;;) {
		size_t bytes = 1 + pair_random(&random) % shared->size_max;
		ssize_t n;

		if (alone)
			pair_fill(data, bytes, at, 0);
		n = end_send(e, data, bytes, 0);
		if (n < 0) {
			atomic_store(&shared->result, (int)n);
			_exit(n == -EPIPE || n == -ECONNRESET ? 0 : 3);
		}
		at += (uint64_t)n;
		if (alone)
			atomic_store(&shared->published, at);
		else
			atomic_fetch_add(&shared->messages, 1);
		if (pair_random(&random) % 64 == 0)
			usleep(pair_random(&random) % 300);
	}
}

static ssize_t receive_somehow(struct end *e, unsigned char *data, uint64_t *random)
{
	struct pollfd real = { .fd = e->fd, .events = POLLIN };

	if (pair_random(random) % 3)
		return end_receive(e, data, 1 + pair_random(random) % BUFFER_BYTES, 0);
	shmipc_receiver_strict(&e->rx, true);
	if (!shmipc_receiver_hint(&e->rx))
		poll(&real, 1, -1);
	return end_receive(e, data, 1 + pair_random(random) % BUFFER_BYTES, MSG_DONTWAIT);
}

static void read_to_the_end(struct end *e, bool verify, uint64_t random)
{
	unsigned char *data = malloc(BUFFER_BYTES);
	uint64_t at = 0;
	ssize_t n;

	e->private_use = true;
	atomic_fetch_add(&shared->started, 1);
	for (;;) {
		n = receive_somehow(e, data, &random);
		if (n == -EAGAIN)
			continue;
		if (n <= 0)
			break;
		if (verify && pair_check(data, (size_t)n, at, 0) != (size_t)n)
			_exit(4);
		at += (uint64_t)n;
		atomic_store(&shared->got, at);
		if (pair_random(&random) % 64 == 0)
			usleep(pair_random(&random) % 300);
	}
	atomic_store(&shared->result, (int)n);
	_exit(n == 0 || n == -ECONNRESET ? 0 : 3);
}

static pid_t start(bool writer, bool alone, uint64_t seed)
{
	struct pair *p = &shared->pair;
	pid_t pid = fork();

	if (pid)
		return pid;
	close(writer ? p->server.fd : p->client.fd);
	if (writer)
		write_for_ever(&p->client, alone, seed);
	read_to_the_end(&p->server, alone, seed);
	_exit(5);
}

static bool wait_for(pid_t pid, int *status)
{
	for (int i = 0; i < HANG_SECONDS * 1000; i++) {
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		usleep(1000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, status, 0);
	return false;
}

static bool complain(const char *what, enum kind kind, int status)
{
	fprintf(stderr,
		"FAIL: %s (kind %d status %x result %d published %lu got %lu messages %lu)\n", what,
		kind, status, atomic_load(&shared->result), atomic_load(&shared->published),
		atomic_load(&shared->got), atomic_load(&shared->messages));
	pair_dump(&shared->pair);
	return false;
}

/* One of two writers has died, unreaped: the other goes on, or says ECONNRESET where the dead one
 * was half way through a cut. */
static bool check_second_writer(pid_t second, pid_t reader)
{
	uint64_t goal = atomic_load(&shared->messages) + SHARED_ENOUGH;
	int status = 0;

	for (int i = 0; i < HANG_SECONDS * 1000 && atomic_load(&shared->messages) < goal; i++) {
		if (atomic_load(&shared->result))
			break;
		usleep(1000);
	}
	if (atomic_load(&shared->messages) < goal && atomic_load(&shared->result) != -ECONNRESET)
		return complain("the second writer hangs", KILL_ONE_OF_TWO_WRITERS, 0);
	kill(second, SIGKILL);
	waitpid(second, &status, 0);
	if (!wait_for(reader, &status) || status)
		return complain("the reader of two", KILL_ONE_OF_TWO_WRITERS, status);
	return true;
}

static bool run_round(uint64_t *random, enum kind kind)
{
	struct pair *p = &shared->pair;
	uint64_t seed = ((uint64_t)pair_random(random) << 20) | 1;
	bool two = kind == KILL_ONE_OF_TWO_WRITERS, good = true;
	pid_t writer, reader, second = 0, victim;
	int status = 0;

	memset(shared, 0, sizeof(*shared));
	shared->size_max = pair_random(random) & 1 ? 200 : BUFFER_BYTES;
	pair_open(p, pair_random(random) & 1, 4096u << (pair_random(random) % 7));
	pair_consent(p);
	reader = start(false, !two, seed + 1);
	writer = start(true, !two, seed);
	if (two)
		second = start(true, false, seed + 2);
	close(p->client.fd);
	close(p->server.fd);
	while (atomic_load(&shared->started) < 2u + two)
		usleep(50);
	usleep(pair_random(random) % 8000);
	victim = kind == KILL_READER ? reader : writer;
	kill(victim, SIGKILL);
	if (two) {
		good = check_second_writer(second, reader);
		waitpid(writer, NULL, 0); /* only now: a dead owner of the lock may stay unreaped */
	} else {
		waitpid(victim, NULL, 0);
		if (!wait_for(kind == KILL_READER ? writer : reader, &status))
			good = complain("the survivor hangs", kind, status);
		else if (status)
			good = complain("the survivor failed", kind, status);
		else if (kind == KILL_WRITER &&
			 atomic_load(&shared->got) < atomic_load(&shared->published))
			good = complain("bytes lost", kind, status);
	}
	if (!good && two) {
		kill(second, SIGKILL);
		kill(reader, SIGKILL);
	}
	shmipc_segment_unmap(&p->segment);
	return good;
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 5, rounds = 0;
	uint64_t random = (argc > 2 ? strtoull(argv[2], NULL, 0) : 1) *
				  UINT64_C(0x9e3779b97f4a7c15) |
			  1;
	time_t end = time(NULL) + seconds;

	shared = pair_shared(sizeof(*shared));
	signal(SIGPIPE, SIG_IGN);
	do {
		if (!run_round(&random, (enum kind)(rounds % KINDS))) {
			fprintf(stderr, "kill_stress: failed in round %d\n", rounds);
			return 1;
		}
		rounds++;
	} while (time(NULL) < end);
	printf("kill_stress: %d rounds\n", rounds);
	return 0;
}
