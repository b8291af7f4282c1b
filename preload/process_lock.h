/* SPDX-License-Identifier: Apache-2.0 */
/* A lock in the private memory of a process.  A child that was forked while another thread was
 * inside, by a call that no hook of ours saw, finds it free. */
#ifndef SHMIPC_PRELOAD_PROCESS_LOCK_H
#define SHMIPC_PRELOAD_PROCESS_LOCK_H

#include "core/lock.h"
#include "core/thread.h"

struct shim_process_lock {
	struct shmipc_lock lock;
	_Atomic uint32_t generation;
};

/* Several threads may be the first to come: one of them frees it, and only from an owner that it
 * has seen before it knew that it is the one.  Whoever of the others is faster waits for that. */
static inline void shim_process_lock_renew(struct shim_process_lock *lock, uint32_t now)
{
	uint32_t before = atomic_load(&lock->generation);
	uint32_t owner = atomic_load(&lock->lock.owner);

	if (before != now && atomic_compare_exchange_strong(&lock->generation, &before, now) &&
	    owner != 0 && atomic_compare_exchange_strong(&lock->lock.owner, &owner, 0) &&
	    (owner & SHMIPC_LOCK_WAITERS))
		shmipc_lock_wake(&lock->lock);
}

/* False: this very thread is inside already. */
static inline bool shim_process_lock_take(struct shim_process_lock *lock)
{
	shim_process_lock_renew(lock, shmipc_process_generation());
	return shmipc_lock_take(&lock->lock, false) != SHMIPC_LOCK_REENTERED;
}

static inline void shim_process_lock_drop(struct shim_process_lock *lock)
{
	shmipc_lock_drop(&lock->lock, false);
}

#endif
