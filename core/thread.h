/* SPDX-License-Identifier: Apache-2.0 */
/* What this process and this thread are, kept right over fork, _Fork and clone without any hook. */
#ifndef SHMIPC_CORE_THREAD_H
#define SHMIPC_CORE_THREAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Once per process image, before any other call; idempotent. 0 or -errno. */
int shmipc_process_init(void);

/* Changes in a forked child, however it was forked (a page that the kernel wipes in the child
 * tells). The first call in the child registers the child's own number. */
uint32_t shmipc_process_generation(void);

/* A call that slept counts no more.  If a handler has forked in its sleep it returns in two
 * processes, and was counted by the one of this generation. */
static inline void shmipc_process_uncount(_Atomic uint32_t *count, uint32_t generation)
{
	if (generation == shmipc_process_generation())
		atomic_fetch_sub_explicit(count, 1, memory_order_acq_rel);
}

/* Some relative by fork lives in another PID namespace: its numbers and ours mean nothing to each
 * other.  Known before that relative takes its first lock. */
bool shmipc_process_numbers_differ(void);

/* True while only one thread exists (glibc keeps the word). */
bool shmipc_single_threaded(void);

/* Registered with membarrier(GLOBAL_EXPEDITED): senders of this process may publish without a
 * fence. */
bool shmipc_membarrier_registered(void);
void shmipc_membarrier_register(void);
/* Full barrier on every CPU that runs a registered process. false: not available. */
bool shmipc_membarrier(void);

#endif
