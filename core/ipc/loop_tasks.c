/* SPDX-License-Identifier: Apache-2.0 */
/* Callbacks that are due. */
#include "core/ipc/loop_parts.h"

#include <stddef.h>

enum { TASKS_IN_A_ROW = 256 };

void shmipc_loop_queue(struct shmipc_loop *loop, struct shmipc_task *task)
{
	bool first = false;

	shmipc_mutex_lock(&loop->lock);
	if (!task->next) {
		first = true;
		task->next = &loop->tasks;
		task->previous = loop->tasks.previous;
		task->previous->next = task;
		loop->tasks.previous = task;
	}
	shmipc_mutex_unlock(&loop->lock);
	if (first && !shmipc_loop_is_here(loop))
		shmipc_loop_ring(loop);
}

static void unlink_task(struct shmipc_task *task)
{
	task->next->previous = task->previous;
	task->previous->next = task->next;
	task->next = task->previous = NULL;
}

/* Lock held, and let go meanwhile. */
static void await_end(struct shmipc_loop *loop, const struct shmipc_task *task)
{
	loop->cancelling++;
	while (loop->running == task) {
		uint32_t before = atomic_load_explicit(&loop->tasks_run, memory_order_relaxed);

		shmipc_mutex_unlock(&loop->lock);
		shmipc_word_wait(&loop->tasks_run, before, SHMIPC_NEVER);
		shmipc_mutex_lock(&loop->lock);
	}
	loop->cancelling--;
}

void shmipc_loop_cancel(struct shmipc_loop *loop, struct shmipc_task *task)
{
	shmipc_mutex_lock(&loop->lock);
	if (task->next)
		unlink_task(task);
	if (loop->running == task) {
		if (shmipc_loop_is_here(loop))
			loop->running = NULL;
		else
			await_end(loop, task);
		/* it may have queued itself again before it ended */
		if (task->next)
			unlink_task(task);
	}
	shmipc_mutex_unlock(&loop->lock);
}

bool shmipc_loop_still_runs(struct shmipc_loop *loop, const struct shmipc_task *task)
{
	bool runs;

	shmipc_mutex_lock(&loop->lock);
	runs = loop->running == task;
	shmipc_mutex_unlock(&loop->lock);
	return runs;
}

/* Lock held: the one before has ended, and this one runs now, or none. */
static void set_running(struct shmipc_loop *loop, const struct shmipc_task *task)
{
	loop->running = task;
	if (loop->cancelling == 0)
		return;
	atomic_fetch_add_explicit(&loop->tasks_run, 1, memory_order_relaxed);
	shmipc_word_wake(&loop->tasks_run);
}

static struct shmipc_task *next_task(struct shmipc_loop *loop)
{
	struct shmipc_task *task;

	shmipc_mutex_lock(&loop->lock);
	task = loop->tasks.next;
	if (task == &loop->tasks)
		task = NULL;
	else
		unlink_task(task);
	set_running(loop, task);
	shmipc_mutex_unlock(&loop->lock);
	return task;
}

int shmipc_loop_run_tasks(struct shmipc_loop *loop)
{
	int calls = 0;

	for (int i = 0; i < TASKS_IN_A_ROW; i++) {
		struct shmipc_task *task = next_task(loop);

		if (!task)
			break;
		calls += task->run(task);
	}
	shmipc_mutex_lock(&loop->lock);
	set_running(loop, NULL);
	shmipc_mutex_unlock(&loop->lock);
	return calls;
}

bool shmipc_loop_has_tasks(struct shmipc_loop *loop)
{
	bool any;

	shmipc_mutex_lock(&loop->lock);
	any = loop->tasks.next != &loop->tasks || loop->gone;
	shmipc_mutex_unlock(&loop->lock);
	return any;
}
