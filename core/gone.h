/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has a thread, or a process, ended?  By its number: one that is used again delays the answer, it
 * does not make a wrong one.  Where a relative has numbers of its own (thread.h) nobody is ever
 * said to have ended.
 */
#ifndef SHMIPC_CORE_GONE_H
#define SHMIPC_CORE_GONE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

bool shmipc_thread_is_gone(uint32_t tid);

/* All its threads: then its descriptors are closed. */
bool shmipc_process_is_gone(uint32_t pid);

/* The same by one system call: one that nobody has waited for yet counts as alive. */
bool shmipc_process_is_reaped(uint32_t pid);

/* The application has been told that some process has ended: whatever was seen of a socket before
 * that is old.  Async-signal-safe. */
void shmipc_heard_of_an_end(void);

/* Private to shmipc_is_newer_than_ends(): ticks of the last such news. */
extern _Atomic uint64_t shmipc_end_heard_ticks;

/* Was it seen, at `ticks`, after the last such news? */
static inline bool shmipc_is_newer_than_ends(uint64_t ticks)
{
	return ticks > atomic_load_explicit(&shmipc_end_heard_ticks, memory_order_relaxed);
}

#endif
