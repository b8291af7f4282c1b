/* SPDX-License-Identifier: Apache-2.0 */
/* A lock in the private memory of a process.  A child that was forked while another thread was
 * inside, by a call that no hook of ours saw, finds it free. */
#ifndef SHMIPC_PRELOAD_PROCESS_LOCK_H
#define SHMIPC_PRELOAD_PROCESS_LOCK_H

#include "core/lock.h"
#include "core/thread.h"

struct shim_process_lock {
	struct shmipc_lock lock;
	uint32_t generation;
};

/* False: this very thread is inside already. */
static inline bool shim_process_lock_take(struct shim_process_lock *lock)
{
	uint32_t now = shmipc_process_generation();

	if (lock->generation != now) {
		atomic_store(&lock->lock.owner, 0);
		lock->generation = now;
	}
	return shmipc_lock_take(&lock->lock, false) != SHMIPC_LOCK_REENTERED;
}

static inline void shim_process_lock_drop(struct shim_process_lock *lock)
{
	shmipc_lock_drop(&lock->lock, false);
}

#endif
