/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Should a waiter whose peer is on the same core yield to it, or sleep?
 *
 * Alone with its peer it had better yield: the peer runs, and nobody need be woken.  Beside others
 * a yield may take a whole time slice of theirs, and what that means only the outcome tells.
 * Where others are pairs like ours, all of them are faster by yielding, for sooner or later both
 * ends of a pair run at once.  Beside a process that computes, it is the worst way to wait: whoever
 * is woken from sleep is let in early, whoever yields comes last (Linux 6.18: some hundred round
 * trips a second, where sleepers made thirty thousand).
 *
 * So in a process that has met long yields both ways are tried in slots of the machine's clock, one
 * of yielding and some of sleeping, and the answer is kept for those that follow.  What counts is
 * how often the process waited in the slot of yielding and in the last of sleep, because that much
 * was done.  The clock is everybody's, so both ends of a connection, and all the pairs of a
 * machine, try the same way at the same time: ends that disagree have the worst of both, and would
 * learn nothing.  Before the first answer they sleep, as they would on the kernel's own sockets.
 *
 * One state for the process.  Written without order and not always together; what a thread misses
 * makes a trial less exact, no more.
 */
#ifndef SHMIPC_CORE_CROWD_H
#define SHMIPC_CORE_CROWD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	SHMIPC_CROWD_SLOT_MS = 40,
	SHMIPC_CROWD_PERIOD_SLOTS = 8, /* between trials; more after the same answer again */
	SHMIPC_CROWD_PERIODS_MAX = 32,
	SHMIPC_CROWD_SLEEP_KEPT = 4, /* periods, where the first answer is to sleep: a yield beside
					many that compute costs all their time slices */
	SHMIPC_CROWD_DROP = 8,	     /* this part of the waits of the last trial: ask again soon */
	SHMIPC_CROWD_LONG_US = 300,  /* a turn of a peer is shorter, a time slice has 1 to 4 ms */
};

enum shmipc_crowd_way { SHMIPC_CROWD_YIELD, SHMIPC_CROWD_SLEEP };

/* What is tried in this slot, from its beginning.  Whoever has yielded is let in late for a while,
 * so what sleeping is worth shows in the last of several slots. */
enum shmipc_crowd_trial {
	SHMIPC_CROWD_NONE,
	SHMIPC_CROWD_YIELDING,
	SHMIPC_CROWD_SLEEPING, /* the first slot of it */
	SHMIPC_CROWD_SLEPT = SHMIPC_CROWD_SLEEPING + 3,
};

struct shmipc_crowd {
	_Atomic bool met;	  /* yields take long */
	_Atomic bool met_in_slot; /* since the last trial began */
	_Atomic bool asked;	  /* in this slot: somebody has yielded at all */
	_Atomic uint32_t way;	  /* in this slot */
	_Atomic uint32_t trial;
	_Atomic uint32_t answer;   /* the way that the last trial has found better */
	_Atomic uint32_t periods;  /* between trials: a power of two */
	_Atomic uint32_t waits;	   /* in this slot */
	_Atomic uint32_t yielding; /* waits of the slot in which yielding was tried */
	_Atomic uint64_t slot;
	_Atomic uint64_t until; /* ticks: the clock is not looked at before; how fast they run each
				   process has measured for itself, and not exactly */
};

extern struct shmipc_crowd shmipc_crowd; /* of this process; one of zeros is a new one */

/* At the beginning of each wait, of whatever kind.  now: ticks. */
void shmipc_crowd_count(struct shmipc_crowd *crowd, uint64_t now);
/* What the clock, CLOCK_MONOTONIC, shows: perhaps another slot. */
void shmipc_crowd_look_at_clock(struct shmipc_crowd *crowd, uint64_t now, uint64_t ns);
/* The first long yield. */
void shmipc_crowd_meet(struct shmipc_crowd *crowd, uint64_t now, uint64_t ns);

static inline void shmipc_crowd_begin_wait(struct shmipc_crowd *crowd, uint64_t now)
{
	if (__builtin_expect(atomic_load_explicit(&crowd->met, memory_order_relaxed), 0))
		shmipc_crowd_count(crowd, now);
}

static inline bool shmipc_crowd_may_yield(const struct shmipc_crowd *crowd)
{
	return atomic_load_explicit(&crowd->way, memory_order_relaxed) == SHMIPC_CROWD_YIELD;
}

/* A yield has ended, and has taken so many ticks. */
void shmipc_crowd_yielded(struct shmipc_crowd *crowd, uint64_t now, uint64_t ticks);

#endif
