/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the library's objects know of the application's loop: sources (descriptors), timers, and
 * tasks (callbacks that are due).
 *
 * Lock order: a session's lock, then the loop's.  Nothing of the loop is called with its lock held.
 */
#ifndef SHMIPC_CORE_IPC_LOOP_H
#define SHMIPC_CORE_IPC_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shmipc.h"

struct shmipc_source {
	int fd;
	uint32_t events; /* EPOLL* */
	bool removed;
	void (*ready)(struct shmipc_source *source, uint32_t events);
	/* the loop will not touch it again: free it */
	void (*gone)(struct shmipc_source *source);
	struct shmipc_source *next_gone;
};

struct shmipc_task {
	struct shmipc_task *next, *previous;  /* NULL: not queued */
	int (*run)(struct shmipc_task *task); /* returns how many callbacks it ran */
};

struct shmipc_timer {
	struct shmipc_timer *next, *previous;
	uint64_t due_ns;
	void (*fire)(struct shmipc_timer *timer);
};

/* Everybody who must end before the loop may. */
void shmipc_loop_use(struct shmipc_loop *loop);
void shmipc_loop_leave(struct shmipc_loop *loop);

int shmipc_loop_add(struct shmipc_loop *loop, struct shmipc_source *source);
void shmipc_loop_change(struct shmipc_loop *loop, struct shmipc_source *source, uint32_t events);
/* Once.  ->gone() comes later, in the loop, or at once if nobody is in it. */
void shmipc_loop_remove(struct shmipc_loop *loop, struct shmipc_source *source);

/* Any thread; queued twice is queued once. */
void shmipc_loop_queue(struct shmipc_loop *loop, struct shmipc_task *task);
/* The task does not start any more, and has ended where it ran in another thread.  If it runs in
 * this one (it is the caller's own callback), the loop will not touch it when it returns.  No lock
 * is held that a callback may want, and nobody but the task itself queues it meanwhile. */
void shmipc_loop_cancel(struct shmipc_loop *loop, struct shmipc_task *task);
/* Within a task: nobody has cancelled it. */
bool shmipc_loop_still_runs(struct shmipc_loop *loop, const struct shmipc_task *task);

/* fire() runs in the loop; a timer that is armed again moves.  True: it was armed before. */
bool shmipc_loop_arm(struct shmipc_loop *loop, struct shmipc_timer *timer, uint64_t due_ns);
bool shmipc_loop_disarm(struct shmipc_loop *loop, struct shmipc_timer *timer);

/* Is the calling thread in shmipc_process()?  Is there a thread of ours, other than this one, that
 * moves sessions forward? */
bool shmipc_loop_is_here(struct shmipc_loop *loop);
bool shmipc_loop_has_other_thread(struct shmipc_loop *loop);

/* Somebody who sleeps because that thread takes in for him: *word is set and woken at its end. */
struct shmipc_follower {
	struct shmipc_follower *next, *previous;
	_Atomic uint32_t *word;
};
/* False: there is no such thread. */
bool shmipc_loop_follow(struct shmipc_loop *loop, struct shmipc_follower *follower);
void shmipc_loop_unfollow(struct shmipc_loop *loop, struct shmipc_follower *follower);

/* A session that is awake: its queue has to be looked at before the loop sleeps.  Only in the
 * loop. */
struct shmipc_awake {
	struct shmipc_awake *next;
	bool listed;
	/* is there something?  for spinning; no lock is held */
	bool (*look)(struct shmipc_awake *awake);
	void (*take)(struct shmipc_awake *awake);
	/* false: something came and was taken, and the loop must not sleep */
	bool (*rest)(struct shmipc_awake *awake);
	uint32_t spin_us; /* 0: not to be spun for */
};
void shmipc_loop_stays_awake(struct shmipc_loop *loop, struct shmipc_awake *awake);
/* In the loop, or when nobody is in it. */
void shmipc_loop_forget_awake(struct shmipc_loop *loop, struct shmipc_awake *awake);

#endif
