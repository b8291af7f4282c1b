/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "core/cpu.h"
#include "core/ipc/loop_parts.h"
#include "core/lock.h"
#include "core/sys.h"

enum { EVENTS_ROOM = 64, LOOK_AT_KERNEL_EVERY = 64 };

/* ---- life ----------------------------------------------------------------------------------- */

static int watch(struct shmipc_loop *loop, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

	return sys_epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void close_all(struct shmipc_loop *loop)
{
	if (loop->epoll_fd >= 0)
		sys_close(loop->epoll_fd);
	if (loop->event_fd >= 0)
		sys_close(loop->event_fd);
	if (loop->timer_fd >= 0)
		sys_close(loop->timer_fd);
}

int shmipc_loop_create(struct shmipc_loop **loop_out)
{
	struct shmipc_loop *loop;
	int error = shmipc_process_init();

	if (error)
		return error;
	loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->generation = shmipc_process_generation();
	loop->tasks.next = loop->tasks.previous = &loop->tasks;
	loop->timers.next = loop->timers.previous = &loop->timers;
	shmipc_spin_init(&loop->spin);
	loop->epoll_fd = sys_epoll_create(EPOLL_CLOEXEC);
	loop->event_fd = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->timer_fd = sys_timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	error = loop->epoll_fd < 0   ? loop->epoll_fd
		: loop->event_fd < 0 ? loop->event_fd
		: loop->timer_fd < 0 ? loop->timer_fd
				     : 0;
	if (!error)
		error = watch(loop, loop->event_fd, &loop->event_fd);
	if (!error)
		error = watch(loop, loop->timer_fd, &loop->timer_fd);
	if (error) {
		close_all(loop);
		free(loop);
		return error;
	}
	*loop_out = loop;
	return 0;
}

static void bury(struct shmipc_loop *loop)
{
	struct shmipc_source *source;

	shmipc_mutex_lock(&loop->lock);
	source = loop->gone;
	loop->gone = NULL;
	shmipc_mutex_unlock(&loop->lock);
	while (source) {
		struct shmipc_source *next = source->next_gone;

		source->gone(source);
		source = next;
	}
}

int shmipc_loop_destroy(struct shmipc_loop *loop)
{
	if (loop->generation == shmipc_process_generation()) {
		if (shmipc_loop_is_here(loop))
			return -EBUSY;
		shmipc_loop_stop(loop);
		bury(loop);
		if (atomic_load(&loop->uses) > 0)
			return -EBUSY;
	}
	close_all(loop);
	free(loop);
	return 0;
}

void shmipc_loop_use(struct shmipc_loop *loop)
{
	atomic_fetch_add(&loop->uses, 1);
}

void shmipc_loop_leave(struct shmipc_loop *loop)
{
	atomic_fetch_sub(&loop->uses, 1);
}

int shmipc_fd(const struct shmipc_loop *loop)
{
	return loop->epoll_fd;
}

bool shmipc_loop_is_here(struct shmipc_loop *loop)
{
	return atomic_load_explicit(&loop->thread, memory_order_relaxed) == shmipc_thread_id();
}

bool shmipc_loop_has_other_thread(struct shmipc_loop *loop)
{
	uint32_t thread = atomic_load_explicit(&loop->dispatcher_thread, memory_order_relaxed);

	return thread != 0 && thread != shmipc_thread_id();
}

/* ---- waking --------------------------------------------------------------------------------- */

void shmipc_loop_ring(struct shmipc_loop *loop)
{
	uint64_t one = 1;

	atomic_store(&loop->called, true);
	/* [event] after what is to be done, pairs with hush() */
	if (!atomic_exchange(&loop->event_sent, true))
		sys_write(loop->event_fd, &one, sizeof(one));
}

void shmipc_loop_wake(struct shmipc_loop *loop)
{
	if (loop->generation != shmipc_process_generation())
		return; /* a child's descriptor is its parent's */
	atomic_store(&loop->woken, true);
	shmipc_loop_ring(loop);
}

static void hush(struct shmipc_loop *loop)
{
	uint64_t count;

	/* [event] The flag falls last, so while it stands the descriptor is readable or we are
	 * here. Whoever finds it up in between sends nothing, and what he has left to do is seen
	 * after this store, before the loop sleeps.  The other way round we would read what he
	 * sends, and the flag would stand for good with nothing behind it. */
	sys_read(loop->event_fd, &count, sizeof(count));
	atomic_store(&loop->event_sent, false);
}

/* ---- sources -------------------------------------------------------------------------------- */

int shmipc_loop_add(struct shmipc_loop *loop, struct shmipc_source *source)
{
	struct epoll_event event = { .events = source->events, .data.ptr = source };

	int error;

	/* under the lock, which the loop takes before it looks at the source */
	shmipc_mutex_lock(&loop->lock);
	source->removed = false;
	error = sys_epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event);
	shmipc_mutex_unlock(&loop->lock);
	return error;
}

void shmipc_loop_change(struct shmipc_loop *loop, struct shmipc_source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	source->events = events;
	sys_epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event);
}

void shmipc_loop_remove(struct shmipc_loop *loop, struct shmipc_source *source)
{
	struct epoll_event event = { 0 };

	sys_epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, &event);
	shmipc_mutex_lock(&loop->lock);
	/* whoever is in the loop may hold it in his hands: it is freed when he comes round */
	source->removed = true;
	source->next_gone = loop->gone;
	loop->gone = source;
	shmipc_mutex_unlock(&loop->lock);
	shmipc_loop_ring(loop);
}

/* ---- sessions that are awake ---------------------------------------------------------------- */

void shmipc_loop_stays_awake(struct shmipc_loop *loop, struct shmipc_awake *awake)
{
	if (awake->listed)
		return;
	awake->listed = true;
	awake->next = loop->awake;
	loop->awake = awake;
}

void shmipc_loop_forget_awake(struct shmipc_loop *loop, struct shmipc_awake *awake)
{
	struct shmipc_awake **at = &loop->awake;

	if (!awake->listed)
		return;
	while (*at != awake)
		at = &(*at)->next;
	*at = awake->next;
	awake->listed = false;
}

static uint32_t spin_budget(const struct shmipc_loop *loop)
{
	uint32_t most = 0;

	for (const struct shmipc_awake *awake = loop->awake; awake; awake = awake->next)
		if (awake->spin_us > most)
			most = awake->spin_us;
	return most;
}

static bool any_has_something(void *argument)
{
	struct shmipc_loop *loop = argument;

	for (struct shmipc_awake *awake = loop->awake; awake; awake = awake->next)
		if (awake->look(awake))
			return true;
	return atomic_load_explicit(&loop->called, memory_order_relaxed);
}

/* Looks at the queues for as long as that has proved to pay.  True: something is there. */
static bool spin(struct shmipc_loop *loop)
{
	uint32_t budget_us = spin_budget(loop);

	return budget_us > 0 && shmipc_spin_for(&loop->spin, any_has_something, loop, 0,
						budget_us) == SHMIPC_SPIN_WON;
}

static void take_from_all(struct shmipc_loop *loop)
{
	for (struct shmipc_awake *awake = loop->awake; awake; awake = awake->next)
		if (awake->look(awake))
			awake->take(awake);
}

/* Lets them rest, all of them.  False: one had something, and it was taken in. */
static bool let_rest(struct shmipc_loop *loop)
{
	while (loop->awake) {
		struct shmipc_awake *awake = loop->awake;

		if (!awake->rest(awake))
			return false;
		loop->awake = awake->next;
		awake->listed = false;
	}
	return true;
}

/* ---- processing ----------------------------------------------------------------------------- */

/* -1: for ever */
static int milliseconds_until(uint64_t deadline_ns)
{
	uint64_t now, ms;

	if (deadline_ns == SHMIPC_NEVER)
		return -1;
	if (deadline_ns == SHMIPC_NOWAIT || deadline_ns <= (now = shmipc_clock_ns()))
		return 0;
	ms = (deadline_ns - now + 999999) / 1000000;
	return ms > 1000000 ? 1000000 : (int)ms;
}

/* Takes in what the kernel says is ready.  Returns how many things were. */
static int gather(struct shmipc_loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENTS_ROOM];
	int n = sys_epoll_wait(loop->epoll_fd, events, EVENTS_ROOM, timeout_ms);

	loop->looks = 0;
	for (int i = 0; i < n; i++) {
		struct shmipc_source *source = events[i].data.ptr;
		bool removed;

		if (events[i].data.ptr == &loop->event_fd) {
			hush(loop);
			continue;
		}
		if (events[i].data.ptr == &loop->timer_fd) {
			shmipc_loop_fire_timers(loop);
			continue;
		}
		shmipc_mutex_lock(&loop->lock);
		removed = source->removed;
		shmipc_mutex_unlock(&loop->lock);
		if (!removed)
			source->ready(source, events[i].events);
	}
	return n;
}

/* Before the loop is left: the application may poll shmipc_fd() next.  Either the peers know that
 * they must wake us, or the descriptor is readable already. */
static void leave(struct shmipc_loop *loop, bool comes_back)
{
	bool rested = !loop->awake;

	if (loop->has_thread)
		return;
	if (!comes_back || spin_budget(loop) == 0)
		rested = let_rest(loop);
	/* one that came when the descriptor had just been read */
	if (!rested || shmipc_loop_has_tasks(loop) || atomic_load(&loop->woken))
		shmipc_loop_ring(loop);
}

static int process(struct shmipc_loop *loop, uint64_t deadline_ns)
{
	int calls;

	for (;;) {
		atomic_store(&loop->called, false);
		bury(loop);
		calls = shmipc_loop_run_tasks(loop);
		if (calls > 0 || atomic_exchange(&loop->woken, false))
			break;
		if (deadline_ns != SHMIPC_NOWAIT && loop->awake && spin(loop)) {
			take_from_all(loop);
			if (++loop->looks >= LOOK_AT_KERNEL_EVERY)
				gather(loop, 0);
			continue;
		}
		if (!let_rest(loop) || shmipc_loop_has_tasks(loop))
			continue;
		gather(loop, milliseconds_until(deadline_ns));
		/* also when the kernel always has something that comes to nothing */
		if (milliseconds_until(deadline_ns) == 0 && !shmipc_loop_has_tasks(loop))
			break;
	}
	leave(loop, deadline_ns != SHMIPC_NOWAIT);
	return calls;
}

static int run_once(struct shmipc_loop *loop, uint64_t deadline_ns)
{
	uint32_t nobody = 0;
	int result;

	if (!atomic_compare_exchange_strong(&loop->thread, &nobody, shmipc_thread_id()))
		return -EBUSY;
	result = process(loop, deadline_ns);
	atomic_store(&loop->thread, 0);
	return result;
}

int shmipc_process(struct shmipc_loop *loop, uint64_t deadline_ns)
{
	if (loop->generation != shmipc_process_generation())
		return -ECHILD;
	if (atomic_load(&loop->has_thread))
		return -EBUSY;
	return run_once(loop, deadline_ns);
}

/* ---- the dispatcher ------------------------------------------------------------------------- */

static void dispatch(void *argument)
{
	struct shmipc_loop *loop = argument;

	atomic_store(&loop->dispatcher_thread, shmipc_thread_id());
	while (!atomic_load(&loop->stop))
		run_once(loop, SHMIPC_NEVER);
	atomic_store(&loop->dispatcher_thread, 0);
}

bool shmipc_loop_follow(struct shmipc_loop *loop, struct shmipc_follower *follower)
{
	bool follows;

	shmipc_mutex_lock(&loop->lock);
	follows = shmipc_loop_has_other_thread(loop);
	if (follows) {
		follower->previous = NULL;
		follower->next = loop->followers;
		if (follower->next)
			follower->next->previous = follower;
		loop->followers = follower;
	}
	shmipc_mutex_unlock(&loop->lock);
	return follows;
}

void shmipc_loop_unfollow(struct shmipc_loop *loop, struct shmipc_follower *follower)
{
	shmipc_mutex_lock(&loop->lock);
	if (follower->previous)
		follower->previous->next = follower->next;
	else
		loop->followers = follower->next;
	if (follower->next)
		follower->next->previous = follower->previous;
	shmipc_mutex_unlock(&loop->lock);
}

/* The dispatcher has ended: they have to look for themselves. */
static void dismiss_followers(struct shmipc_loop *loop)
{
	shmipc_mutex_lock(&loop->lock);
	for (struct shmipc_follower *f = loop->followers; f; f = f->next) {
		atomic_store_explicit(f->word, 1, memory_order_relaxed);
		shmipc_word_wake(f->word);
	}
	shmipc_mutex_unlock(&loop->lock);
}

int shmipc_loop_start(struct shmipc_loop *loop)
{
	bool stopped = false;
	int error;

	if (loop->generation != shmipc_process_generation())
		return -ECHILD;
	if (!atomic_compare_exchange_strong(&loop->has_thread, &stopped, true))
		return -EALREADY;
	atomic_store(&loop->stop, false);
	error = shmipc_dispatcher_start(&loop->dispatcher, dispatch, loop);
	if (error)
		atomic_store(&loop->has_thread, false);
	return error;
}

int shmipc_loop_stop(struct shmipc_loop *loop)
{
	if (loop->generation != shmipc_process_generation())
		return -ECHILD;
	if (!atomic_load(&loop->has_thread))
		return 0;
	if (shmipc_loop_is_here(loop))
		return -EDEADLK;
	atomic_store(&loop->stop, true);
	shmipc_loop_wake(loop);
	shmipc_dispatcher_join(&loop->dispatcher);
	atomic_store(&loop->has_thread, false);
	/* it lets nothing rest when it ends: whoever polls the descriptor next does */
	shmipc_loop_ring(loop);
	dismiss_followers(loop);
	return 0;
}
