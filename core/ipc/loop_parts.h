/* SPDX-License-Identifier: Apache-2.0 */
/* What the loop's files share, and nobody else includes. */
#ifndef SHMIPC_CORE_IPC_LOOP_PARTS_H
#define SHMIPC_CORE_IPC_LOOP_PARTS_H

#include <stdatomic.h>

#include "core/ipc/dispatcher.h"
#include "core/ipc/loop.h"
#include "core/ipc/mutex.h"
#include "core/spin.h"

struct shmipc_loop {
	struct shmipc_mutex lock;
	int epoll_fd, event_fd, timer_fd;
	struct shmipc_task tasks;   /* head of a circle */
	struct shmipc_timer timers; /* head of a circle */
	uint64_t armed_ns;	    /* what timer_fd is set to; 0 = not set */
	struct shmipc_source *gone;
	struct shmipc_awake *awake; /* only in the loop */
	const struct shmipc_task *running;
	uint32_t cancelling;	    /* threads that wait for `running` to end */
	_Atomic uint32_t tasks_run; /* they sleep on it */
	_Atomic uint32_t thread;    /* who is in shmipc_process(), 0 = nobody */
	_Atomic bool woken;	    /* by shmipc_loop_wake() */
	_Atomic bool called;	    /* another thread has left something to do */
	_Atomic bool event_sent;    /* event_fd is readable */
	_Atomic uint32_t uses;
	uint32_t generation;
	uint32_t looks; /* since the kernel was asked; only in the loop */
	struct shmipc_spin spin;
	struct shmipc_dispatcher dispatcher;
	_Atomic bool has_thread, stop;
	_Atomic uint32_t dispatcher_thread;
	struct shmipc_follower *followers;
};

/* ---- loop.c --------------------------------------------------------------------------------- */

/* Whoever is in the loop, or comes next, does not sleep. */
void shmipc_loop_ring(struct shmipc_loop *loop);

/* ---- loop_tasks.c --------------------------------------------------------------------------- */

/* Returns how many callbacks ran. */
int shmipc_loop_run_tasks(struct shmipc_loop *loop);
/* Something is due, or to be freed. */
bool shmipc_loop_has_tasks(struct shmipc_loop *loop);

/* ---- loop_timers.c -------------------------------------------------------------------------- */

void shmipc_loop_fire_timers(struct shmipc_loop *loop);

#endif
