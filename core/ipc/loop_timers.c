/* SPDX-License-Identifier: Apache-2.0 */
/* When something is due that no descriptor tells. */
#include <stddef.h>
#include <sys/timerfd.h>

#include "core/cpu.h"
#include "core/ipc/loop_parts.h"
#include "core/sys.h"

static void set_timer(struct shmipc_loop *loop)
{
	struct itimerspec time = { { 0, 0 }, { 0, 0 } };
	uint64_t first = 0;

	for (struct shmipc_timer *t = loop->timers.next; t != &loop->timers; t = t->next)
		if (first == 0 || t->due_ns < first)
			first = t->due_ns;
	if (first == loop->armed_ns)
		return;
	loop->armed_ns = first;
	time.it_value.tv_sec = (time_t)(first / 1000000000u);
	time.it_value.tv_nsec = (long)(first % 1000000000u);
	sys_timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &time);
}

static void unlink_timer(struct shmipc_timer *timer)
{
	timer->next->previous = timer->previous;
	timer->previous->next = timer->next;
	timer->next = timer->previous = NULL;
}

bool shmipc_loop_arm(struct shmipc_loop *loop, struct shmipc_timer *timer, uint64_t due_ns)
{
	bool was_armed;

	shmipc_mutex_lock(&loop->lock);
	was_armed = timer->next != NULL;
	if (was_armed)
		unlink_timer(timer);
	timer->due_ns = due_ns ? due_ns : 1;
	timer->next = &loop->timers;
	timer->previous = loop->timers.previous;
	timer->previous->next = timer;
	loop->timers.previous = timer;
	set_timer(loop);
	shmipc_mutex_unlock(&loop->lock);
	return was_armed;
}

bool shmipc_loop_disarm(struct shmipc_loop *loop, struct shmipc_timer *timer)
{
	bool was_armed;

	shmipc_mutex_lock(&loop->lock);
	was_armed = timer->next != NULL;
	if (was_armed)
		unlink_timer(timer);
	set_timer(loop);
	shmipc_mutex_unlock(&loop->lock);
	return was_armed;
}

static struct shmipc_timer *next_due(struct shmipc_loop *loop, uint64_t now)
{
	struct shmipc_timer *due = NULL;

	shmipc_mutex_lock(&loop->lock);
	for (struct shmipc_timer *t = loop->timers.next; t != &loop->timers; t = t->next)
		if (t->due_ns <= now) {
			due = t;
			unlink_timer(t);
			break;
		}
	set_timer(loop);
	shmipc_mutex_unlock(&loop->lock);
	return due;
}

void shmipc_loop_fire_timers(struct shmipc_loop *loop)
{
	uint64_t count, now = shmipc_clock_ns();
	struct shmipc_timer *due;

	sys_read(loop->timer_fd, &count, sizeof(count));
	shmipc_mutex_lock(&loop->lock);
	loop->armed_ns = 0;
	shmipc_mutex_unlock(&loop->lock);
	while ((due = next_due(loop, now)) != NULL)
		due->fire(due);
}
