/* SPDX-License-Identifier: Apache-2.0 */
#include "core/lock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>

#include "core/cpu.h"
#include "core/gone.h"
#include "core/sys.h"

enum {
	SPINS_BEFORE_SLEEP = 200,
	OWNER_CHECK_NS = 10 * 1000 *
			 1000, /* how often a sleeper asks whether the owner still lives */
};

static enum shmipc_lock_result sleep_for(struct shmipc_lock *lock, uint32_t self)
{
	const struct timespec pause = { 0, OWNER_CHECK_NS };

	for (;;) {
		uint32_t owner = atomic_load_explicit(&lock->owner, memory_order_relaxed);

		if (owner == 0) {
			/* keep the waiters bit: others may sleep behind us */
			if (atomic_compare_exchange_weak_explicit(
				    &lock->owner, &owner, self | SHMIPC_LOCK_WAITERS,
				    memory_order_acquire, memory_order_relaxed))
				return SHMIPC_LOCK_OK;
			continue;
		}
		if (!(owner & SHMIPC_LOCK_WAITERS)) {
			atomic_compare_exchange_weak(&lock->owner, &owner,
						     owner | SHMIPC_LOCK_WAITERS);
			continue;
		}
		if (sys_futex(&lock->owner, FUTEX_WAIT, owner, &pause) == -ETIMEDOUT &&
		    shmipc_thread_is_gone(owner & ~SHMIPC_LOCK_WAITERS) &&
		    atomic_compare_exchange_strong(&lock->owner, &owner,
						   self | SHMIPC_LOCK_WAITERS))
			return SHMIPC_LOCK_RECOVERED;
	}
}

enum shmipc_lock_result shmipc_lock_contended(struct shmipc_lock *lock, uint32_t self)
{
	for (int i = 0; i < SPINS_BEFORE_SLEEP; i++) {
		uint32_t owner = atomic_load_explicit(&lock->owner, memory_order_relaxed);

		if ((owner & ~SHMIPC_LOCK_WAITERS) == self) {
			shmipc_postpone_end();
			return SHMIPC_LOCK_REENTERED;
		}
		if (owner == 0 && atomic_compare_exchange_weak_explicit(&lock->owner, &owner, self,
									memory_order_acquire,
									memory_order_relaxed))
			return SHMIPC_LOCK_OK;
		shmipc_cpu_pause();
	}
	return sleep_for(lock, self);
}

void shmipc_lock_wake(struct shmipc_lock *lock)
{
	sys_futex(&lock->owner, FUTEX_WAKE, 1, NULL);
}
