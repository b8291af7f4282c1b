/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock of the library's own objects, between the threads of one process.
 *
 * Not libc's: a preloaded library may have taken that over, and a process with one thread should
 * pay no locked instruction.  glibc tells whether there is a second thread; it cannot come to be
 * while this one is inside.
 */
#ifndef SHMIPC_CORE_IPC_MUTEX_H
#define SHMIPC_CORE_IPC_MUTEX_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/thread.h"

struct shmipc_mutex {
	_Atomic uint32_t word; /* 0 free, 1 taken, 2 taken and somebody sleeps */
};

void shmipc_mutex_contended(struct shmipc_mutex *mutex);
void shmipc_mutex_wake(struct shmipc_mutex *mutex);

static inline void shmipc_mutex_lock(struct shmipc_mutex *mutex)
{
	uint32_t unlocked = 0;

	if (shmipc_single_threaded())
		atomic_store_explicit(&mutex->word, 1, memory_order_relaxed);
	/* [mutex:acq] sees what the last owner did; pairs with [mutex:rel] */
	else if (!atomic_compare_exchange_strong_explicit(
			 &mutex->word, &unlocked, 1, memory_order_acquire, memory_order_relaxed))
		shmipc_mutex_contended(mutex);
}

static inline void shmipc_mutex_unlock(struct shmipc_mutex *mutex)
{
	if (shmipc_single_threaded())
		atomic_store_explicit(&mutex->word, 0, memory_order_release);
	/* [mutex:rel] pairs with [mutex:acq] */
	else if (atomic_exchange_explicit(&mutex->word, 0, memory_order_release) == 2)
		shmipc_mutex_wake(mutex);
}

/* Sleeps while *word is `value`, at most until the deadline (CLOCK_MONOTONIC, UINT64_MAX = never).
 * May return early. */
void shmipc_word_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns);
void shmipc_word_wake(_Atomic uint32_t *word);

#endif
