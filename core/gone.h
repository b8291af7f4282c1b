/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has a thread, or a process, ended?  By its number: one that is used again delays the answer, it
 * does not make a wrong one.  Where a relative has numbers of its own (thread.h) nobody is ever
 * said to have ended.
 */
#ifndef SHMIPC_CORE_GONE_H
#define SHMIPC_CORE_GONE_H

#include <stdbool.h>
#include <stdint.h>

bool shmipc_thread_is_gone(uint32_t tid);

/* All its threads: then its descriptors are closed. */
bool shmipc_process_is_gone(uint32_t pid);

/* The same by one system call: one that nobody has waited for yet counts as alive. */
bool shmipc_process_is_reaped(uint32_t pid);

#endif
