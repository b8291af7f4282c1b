/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May the receiving ends of this process become relaxed at all?
 *
 * A relaxed end trusts that whoever sleeps for it does so in calls that arm it.  Whether the
 * process can wait by other means is not for core to find out: whoever can says so here.  Until the
 * answer is there every end stays strict, which is always right.
 *
 * [relaxing] Relaxing an end: clear STRICT, then look here again.  Taking the leave back: say so
 * here, then make the ends strict.  Both in one order (seq_cst), so none stays relaxed.
 */
#ifndef SHMIPC_CORE_RELAXING_H
#define SHMIPC_CORE_RELAXING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum shmipc_relaxing {
	SHMIPC_RELAXING_ALLOWED = 0, /* also where nobody decides: the library's own ends */
	SHMIPC_RELAXING_UNDECIDED,
	SHMIPC_RELAXING_FORBIDDEN,
};

extern _Atomic uint32_t shmipc_relaxing;

/* Once, before any end is attached.  `decide` is called without any lock held, outside of signal
 * handlers that came in the middle of something, and changes shmipc_relaxing when it knows more. */
void shmipc_relaxing_decide_by(void (*decide)(void));
void shmipc_relaxing_ask(void);

static inline bool shmipc_relaxing_is_allowed(void)
{
	return atomic_load(&shmipc_relaxing) == SHMIPC_RELAXING_ALLOWED;
}

static inline bool shmipc_relaxing_is_forbidden(void)
{
	return atomic_load(&shmipc_relaxing) == SHMIPC_RELAXING_FORBIDDEN;
}

/* No lock held: an end is about to become relaxed, or a wait to sleep. */
static inline void shmipc_relaxing_settle(void)
{
	if (!shmipc_relaxing_is_forbidden())
		shmipc_relaxing_ask();
}

#endif
