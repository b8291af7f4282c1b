/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock of one end of one direction.
 *
 * It lives in memory that only this process and its forked children map (never in a segment: a lock
 * is not shared across trust).  The word holds the owner's thread id, so that a waiter can tell a
 * dead owner from a slow one.  A process with one thread whose connection was never shared by fork
 * takes it with plain stores
 * (`private_use`): that still lets a signal handler see that its own thread is inside.
 */
#ifndef SHMIPC_CORE_LOCK_H
#define SHMIPC_CORE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/postpone.h"

struct shmipc_lock {
	_Atomic uint32_t owner; /* thread id, 0 = free; SHMIPC_LOCK_WAITERS is or'ed in */
};

#define SHMIPC_LOCK_WAITERS 0x80000000u

enum shmipc_lock_result {
	SHMIPC_LOCK_OK = 0,
	SHMIPC_LOCK_RECOVERED = 1, /* taken over from a dead owner: what it protects may be half
				      done */
	SHMIPC_LOCK_REENTERED = 2, /* this very thread holds it (a signal handler that could not be
				      made to wait): not taken */
};

/* The slow path: contention, reentry, a dead owner. */
enum shmipc_lock_result shmipc_lock_contended(struct shmipc_lock *lock, uint32_t self);
void shmipc_lock_wake(struct shmipc_lock *lock);

/* This thread's id, cached; survives fork (see thread.c). */
uint32_t shmipc_thread_id(void);

/* From here to the drop signal handlers wait (postpone.h); not so if it is REENTERED. */
static inline enum shmipc_lock_result shmipc_lock_take(struct shmipc_lock *lock, bool private_use)
{
	uint32_t self = shmipc_thread_id();
	uint32_t owner = atomic_load_explicit(&lock->owner, memory_order_relaxed);

	shmipc_postpone_begin();
	if (private_use) {
		if (owner == 0) {
			atomic_store_explicit(&lock->owner, self, memory_order_relaxed);
			atomic_signal_fence(memory_order_seq_cst);
			return SHMIPC_LOCK_OK;
		}
	} else if (owner == 0 && atomic_compare_exchange_strong_explicit(&lock->owner, &owner, self,
									 memory_order_acquire,
									 memory_order_relaxed)) {
		/* [lock:acq] sees what the last owner wrote; pairs with [lock:rel] in
		 * shmipc_lock_drop() */
		return SHMIPC_LOCK_OK;
	}
	return shmipc_lock_contended(lock, self);
}

/* Only if it is free now. */
static inline bool shmipc_lock_try(struct shmipc_lock *lock)
{
	uint32_t nobody = 0;

	shmipc_postpone_begin();
	if (atomic_compare_exchange_strong_explicit(&lock->owner, &nobody, shmipc_thread_id(),
						    memory_order_acquire, memory_order_relaxed))
		return true;
	shmipc_postpone_end();
	return false;
}

static inline void shmipc_lock_drop(struct shmipc_lock *lock, bool private_use)
{
	if (private_use) {
		atomic_signal_fence(memory_order_seq_cst);
		/* a waiter can have come only if the process is no longer alone: look */
		if (!(atomic_load_explicit(&lock->owner, memory_order_relaxed) &
		      SHMIPC_LOCK_WAITERS)) {
			atomic_store_explicit(&lock->owner, 0, memory_order_release);
			shmipc_postpone_end();
			return;
		}
	}
	/* [lock:rel] pairs with [lock:acq] */
	if (atomic_exchange_explicit(&lock->owner, 0, memory_order_release) & SHMIPC_LOCK_WAITERS)
		shmipc_lock_wake(lock);
	shmipc_postpone_end();
}

#endif
