/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory after a burst.
 *
 * A ring that has carried much and is quiet gives its memory back when its connection sends again.
 * For connections that do not, the waits see to it: one that is about to sleep looks at those that
 * it waits for.  Where something will be due later the sleep is cut short, once or a few times
 * after each burst; then it is as long as ever.
 */
#ifndef SHMIPC_PRELOAD_SHRINK_H
#define SHMIPC_PRELOAD_SHRINK_H

#include <stdbool.h>
#include <stdint.h>

/* Of one who waits for many connections, again and again. */
struct shim_shrink {
	uint64_t done;	     /* of the growth up to here everything has been given back */
	uint64_t looking;    /* up to here we are looking */
	uint64_t next_ticks; /* not before this time does it look again */
};

/* Has any ring of this process carried much not long ago? */
bool shim_shrink_is_recent(void);

/* Is it time to look at them all?  Then say afterwards whether anything is left. */
bool shim_shrink_is_due(struct shim_shrink *shrink);
void shim_shrink_looked(struct shim_shrink *shrink, bool left);
/* Does the sleep have to be cut short? */
bool shim_shrink_is_pending(const struct shim_shrink *shrink);

/* The deadline, or an earlier time at which to look again. */
uint64_t shim_shrink_deadline(uint64_t deadline_ns);

#endif
