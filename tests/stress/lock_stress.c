/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock_stress SECONDS SEED: several processes of several threads each under one lock; some are
 * killed while they hold it and are reaped late.  Two holders at once, or nobody getting on, is a
 * failure.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "core/cpu.h"
#include "tests/stress/pair.h"

enum { PROCESSES = 3, THREADS = 2, STALL_MS = 5000 };

struct shared {
	struct shmipc_lock lock;
	uint32_t inside; /* process id of the holder; not atomic: the lock is what guards it */
	uint64_t plain;	 /* the same */
	_Atomic uint64_t turns, recovered;
	_Atomic bool failed, stop;
};

static struct shared *shared;

static void *take_turns(void *argument)
{
	uint64_t random = *(uint64_t *)argument;
	volatile uint32_t *inside = &shared->inside;
	uint32_t self = shmipc_thread_id();

	while (!atomic_load(&shared->stop)) {
		enum shmipc_lock_result result = shmipc_lock_take(&shared->lock, false);

		if (result == SHMIPC_LOCK_RECOVERED) {
			atomic_fetch_add(&shared->recovered, 1);
			*inside = 0;
		}
		if (result == SHMIPC_LOCK_REENTERED || *inside != 0) {
			fprintf(stderr, "FAIL: %u got in, %u is inside (%d)\n", self, *inside,
				result);
			atomic_store(&shared->failed, true);
		}
		*inside = self;
		shared->plain++;
		for (uint32_t i = pair_random(&random) % 200; i > 0; i--)
			shmipc_cpu_pause();
		if (pair_random(&random) % 1024 == 0)
			usleep(100);
		atomic_fetch_add(&shared->turns, 1);
		if (shmipc_lock_take(&shared->lock, false) != SHMIPC_LOCK_REENTERED)
			atomic_store(&shared->failed, true);
		*inside = 0;
		shmipc_lock_drop(&shared->lock, false);
	}
	return NULL;
}

static pid_t start(uint64_t seed)
{
	uint64_t seeds[THREADS];
	pthread_t threads[THREADS];
	pid_t pid = fork();

	if (pid)
		return pid;
	for (int i = 0; i < THREADS; i++) {
		seeds[i] = (seed << 8) + (uint64_t)i * 2 + 1;
		pthread_create(&threads[i], NULL, take_turns, &seeds[i]);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	_exit(0);
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 5, quiet_ms = 0, dead = 0;
	uint64_t random = (argc > 2 ? strtoull(argv[2], NULL, 0) : 1) *
				  UINT64_C(0x9e3779b97f4a7c15) |
			  1;
	uint64_t last = 0;
	time_t end = time(NULL) + seconds;
	pid_t pids[PROCESSES], corpse = 0;

	shmipc_process_init();
	shared = pair_shared(sizeof(*shared));
	for (int i = 0; i < PROCESSES; i++)
		pids[i] = start(pair_random(&random));
	while (time(NULL) < end && !atomic_load(&shared->failed) && quiet_ms < STALL_MS) {
		int victim = (int)(pair_random(&random) % PROCESSES);
		uint64_t now;

		usleep(1000 + pair_random(&random) % 40000);
		kill(pids[victim], SIGKILL);
		if (corpse)
			waitpid(corpse, NULL, 0);
		corpse = pids[victim]; /* reaped a turn later: a zombie may hold the lock */
		pids[victim] = start(pair_random(&random));
		dead++;
		now = atomic_load(&shared->turns);
		quiet_ms = now == last ? quiet_ms + 20 : 0;
		last = now;
	}
	atomic_store(&shared->stop, true);
	if (quiet_ms >= STALL_MS)
		fprintf(stderr, "FAIL: nobody gets on, owner %x\n",
			atomic_load(&shared->lock.owner));
	for (int i = 0; i < PROCESSES; i++) {
		if (quiet_ms >= STALL_MS)
			kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	printf("lock_stress: %lu turns, %d killed, %lu locks recovered\n",
	       atomic_load(&shared->turns), dead, atomic_load(&shared->recovered));
	return atomic_load(&shared->failed) || quiet_ms >= STALL_MS;
}
