/* SPDX-License-Identifier: Apache-2.0 */
#include "core/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>

#include "core/cpu.h"
#include "core/sys.h"

enum {
	SPINS_BEFORE_SLEEP = 200,
	OWNER_CHECK_NS = 10 * 1000 *
			 1000, /* how often a sleeper asks whether the owner still lives */
};

/* A dead process that nobody has waited for still takes signals; its parent may be the one who
 * waits here.  /proc tells; without /proc it counts as alive until it is reaped. */
static bool thread_is_corpse(uint32_t tid)
{
	char path[] = "/proc/0000000000/stat", text[256],
	     *digit = path + sizeof("/proc/0000000000") - 2;
	ssize_t n;
	int fd;

	for (; tid > 0; tid /= 10)
		*digit-- = (char)('0' + tid % 10);
	digit++;
	/* "/proc/" moves up to the first digit */
	for (int i = 5; i >= 0; i--)
		*--digit = "/proc/"[i];
	fd = sys_openat(AT_FDCWD, digit, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	n = sys_read(fd, text, sizeof(text) - 2);
	sys_close(fd);
	if (n <= 0)
		return false;
	text[n] = text[n + 1] = 0;
	/* "1234 (name) Z ...": the name may hold anything, so from the right */
	while (n > 2 && text[n - 1] != ')')
		n--;
	return (text[n + 1] == 'Z' || text[n + 1] == 'X');
}

/* Signal 0 to a thread of any process: -ESRCH when it is gone.  A forked relative lives in the same
 * PID namespace; a reused id delays recovery, it does not break exclusion. */
static bool thread_is_gone(uint32_t tid)
{
	return (int)sys_call3(SYS_tkill, (long)tid, 0, 0) == -ESRCH || thread_is_corpse(tid);
}

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
		    thread_is_gone(owner & ~SHMIPC_LOCK_WAITERS) &&
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
