/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who else wants this core?
 *
 * A waiter may give its core away by sched_yield(), and what the call did says who is there.  It
 * returns at once: nobody.  Soon: others who work in short turns, as a waiter's own partners do; he
 * has lost nothing, and comes back without having been woken.  Late: somebody who computes and took
 * a whole time slice.  Beside such a one a yield is the worst of all ways to wait: a waiter that
 * sleeps is let in when it is woken, one that yields has said that it is in no hurry, and gets its
 * turn behind the other's slice (measured: one round trip in 10 ms, where sleepers make a hundred).
 * So such a core is remembered, for a time that doubles while it is found again, and nothing is
 * yielded meanwhile.
 *
 * One memory for the process: its threads move from core to core.  Written without order; a reader
 * that misses it yields once more.
 */
#ifndef SHMIPC_CORE_CROWD_H
#define SHMIPC_CORE_CROWD_H

#include <stdbool.h>
#include <stdint.h>

enum shmipc_crowd {
	SHMIPC_CROWD_NONE,    /* nobody else was runnable */
	SHMIPC_CROWD_PASSING, /* others ran, and soon made way again */
	SHMIPC_CROWD_HOGGING, /* somebody had a whole slice, or the machine took the core away */
};

/* Yield.  *now: ticks before it; becomes those after. */
enum shmipc_crowd shmipc_crowd_give_core(uint64_t *now);

/* Somebody hogs the cores that this process runs on, as far as it is known: do not yield. */
bool shmipc_crowd_is_hogging(uint64_t now);

#endif
