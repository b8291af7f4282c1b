/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to look before sleeping.
 *
 * A wake-up costs 20 to 60 us on a virtual machine, a look at shared memory 0.1 us; so a waiter
 * looks for a while first.  But a spin that loses burns a core that somebody may need: each waiter
 * learns whether spinning pays here, gives its core away at once when the peer runs on the same
 * one (or sleeps, where others make that better: core/crowd.h), and stops when it finds that it was
 * preempted in between (the machine is oversubscribed).
 *
 * Nor does it keep a core from others that have work, where peers are more than cores: after a
 * moment it offers the core, at first often and ever more seldom if nobody takes it.  Who then runs
 * may be the peer of one who waits elsewhere, and neither of them has been woken.  One who takes a
 * whole time slice computes: for a hundred times as long the process offers nothing more.
 *
 * Who waits for several peers at once, and does not spin, glances: for no longer than the system
 * calls of a sleep take, because one of many is likely to answer in that time.  By the kernel's
 * sockets, whose calls take longer than ours, such a program never comes to sleep.
 */
#ifndef SHMIPC_CORE_SPIN_H
#define SHMIPC_CORE_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Threads that wait at once may lose what one of them has learned: a little more, or less,
 * spinning.
 */
struct shmipc_spin {
	_Atomic int32_t credit;	  /* 0 .. SHMIPC_SPIN_CREDIT_MAX; rises with each win */
	_Atomic uint32_t skipped; /* waits that did not spin for want of credit */
};

enum { SHMIPC_SPIN_CREDIT_MAX = 16, SHMIPC_SPIN_CREDIT_START = 8 };

enum shmipc_spin_result { SHMIPC_SPIN_WON, SHMIPC_SPIN_LOST, SHMIPC_SPIN_SKIPPED };

enum { SHMIPC_SPIN_GLANCE_US = 5 };

/* Process-wide budget of one wait, in microseconds; 0 = never spin. Set once at start-up. */
void shmipc_spin_set_budget(uint32_t budget_us);
uint32_t shmipc_spin_budget(void);

void shmipc_spin_init(struct shmipc_spin *spin);

/* Where this thread runs, plus one; 0 where unknown. */
uint32_t shmipc_spin_cpu(void);

/* The next wait does not spin, as far as can be told now: not at all, for want of credit, or
 * because the peer is on this core and whoever waits sleeps. */
bool shmipc_spin_is_skipped(const struct shmipc_spin *spin, uint32_t peer_cpu);

/* Look at ready(argument) until it says true or the budget is used up.  peer_cpu is the word that
 * the peer publishes (see shmipc_spin_cpu), 0 if unknown; when it is our own CPU, the core is
 * yielded between looks. */
enum shmipc_spin_result shmipc_spin_until(struct shmipc_spin *spin, bool (*ready)(void *argument),
					  void *argument, uint32_t peer_cpu);

/* The same for SHMIPC_SPIN_GLANCE_US, whatever the budget; learns for itself, in a state of its
 * own.
 */
enum shmipc_spin_result shmipc_spin_glance(struct shmipc_spin *glance,
					   bool (*ready)(void *argument), void *argument);

/* The same with a budget of the caller's. */
enum shmipc_spin_result shmipc_spin_for(struct shmipc_spin *spin, bool (*ready)(void *argument),
					void *argument, uint32_t peer_cpu, uint32_t wait_us);

#endif
