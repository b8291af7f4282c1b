/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/mutex.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <time.h>

#include "core/cpu.h"
#include "core/sys.h"

enum { LOOKS = 100 };

void shmipc_mutex_contended(struct shmipc_mutex *mutex)
{
	for (int i = 0; i < LOOKS; i++) {
		uint32_t word = 0;

		if (atomic_compare_exchange_weak_explicit(
			    &mutex->word, &word, 1, memory_order_acquire, memory_order_relaxed))
			return;
		shmipc_cpu_pause();
	}
	while (atomic_exchange_explicit(&mutex->word, 2, memory_order_acquire) != 0)
		sys_futex(&mutex->word, FUTEX_WAIT_PRIVATE, 2, NULL);
}

void shmipc_mutex_wake(struct shmipc_mutex *mutex)
{
	sys_futex(&mutex->word, FUTEX_WAKE_PRIVATE, 1, NULL);
}

void shmipc_word_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	struct timespec left, *timeout = NULL;

	if (deadline_ns != UINT64_MAX) {
		uint64_t now = shmipc_clock_ns();
		uint64_t ns = deadline_ns > now ? deadline_ns - now : 0;

		left.tv_sec = (time_t)(ns / 1000000000u);
		left.tv_nsec = (long)(ns % 1000000000u);
		timeout = &left;
	}
	sys_futex(word, FUTEX_WAIT_PRIVATE, value, timeout);
}

void shmipc_word_wake(_Atomic uint32_t *word)
{
	sys_futex(word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
}
