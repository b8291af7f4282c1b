/* SPDX-License-Identifier: Apache-2.0 */
/* Sleeping in an epoll set, and the calls that ask the kernel of it. */
#include <errno.h>

#include "core/cpu.h"
#include "core/postpone.h"
#include "core/relaxing.h"
#include "core/sleep.h"
#include "preload/session.h"
#include "preload/sets_parts.h"
#include "preload/waits.h"

enum {
	QUIET_SLEEPS_MAX = 8, /* sleeps without news after which a registration is left armed */
	SLEEP_BITS = 42,      /* a thread's number has no more than 22 */
	CORRECTIONS = 4,      /* answers in a row of which nothing was true */
};

/* Awake. */
static void wake_up(const struct shim_set_wait *wait)
{
	if (wait->process == shmipc_process_generation())
		atomic_fetch_sub(&wait->set->sleepers, 1);
}

/* The call is over, and no other one of its thread has begun since: it holds the set no more. */
static void leave_for_good(const struct shim_set_wait *wait)
{
	if (wait->process == shmipc_process_generation())
		shim_set_unpin(wait->set);
}

/* Cancelled in its sleep, or a handler has jumped out of it: it lies with nobody. */
static void undo_sleep(void *argument)
{
	const struct shim_set_wait *wait = argument;
	struct shim_set *set = wait->set;

	shim_set_lies_down(NULL);
	if (shim_set_enter(set)) {
		atomic_store(&set->asleep, false);
		shim_set_lie_alone(set);
		shim_set_leave(set);
	}
	wake_up(wait);
	leave_for_good(wait);
}

/* It may have taken an edge from the kernel that ends the sleep of another thread. */
static void undo_question(void *argument)
{
	const struct shim_set_wait *wait = argument;
	struct shim_set *set = wait->set;
	struct shim_registration *r;

	if (shim_set_enter(set)) {
		for (r = shim_registration_hot(&set->registrations); r;
		     r = shim_registration_next_hot(r))
			shmipc_receiver_disturb(&r->conn->rx);
		shim_set_leave(set);
	}
	leave_for_good(wait);
}

static __attribute__((hot)) long kernel_wait(const struct shim_set_wait *wait, const long call[7],
					     bool sleeps)
{
	if (sleeps)
		return shmipc_sleep6(call, undo_sleep, (void *)wait);
	/* under another mask a handler may run in the call, and must run before it returns */
	if (call[5])
		return shmipc_sleep6(call, undo_question, (void *)wait);
	return sys_call6(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
}

__attribute__((hot)) int shim_set_ask_kernel(const struct shim_set_wait *wait,
					     struct epoll_event *events, int room,
					     uint64_t deadline_ns, bool sleeps)
{
	struct timespec left = shim_wait_left(deadline_ns);
	const long new_call[7] = { SYS_epoll_pwait2,
				   wait->epfd,
				   (long)events,
				   room,
				   deadline_ns == SHIM_WAIT_FOR_EVER ? 0 : (long)&left,
				   (long)wait->mask,
				   8 };
	long old_call[7] = {
		SYS_epoll_pwait, wait->epfd, (long)events, room, 0, (long)wait->mask, 8
	};
	int64_t ms = -1;
	int n;

	/* a wait of no time looks at no signal */
	if (sleeps && wait->mask && left.tv_sec == 0 && left.tv_nsec == 0)
		left.tv_nsec = 1;
	n = (int)kernel_wait(wait, new_call, sleeps);
	if (n != -ENOSYS)
		return n;
	if (deadline_ns != SHIM_WAIT_FOR_EVER)
		ms = (int64_t)left.tv_sec * 1000 + (left.tv_nsec + 999999) / 1000000;
	old_call[4] = ms > INT32_MAX ? INT32_MAX : (long)ms;
	return (int)kernel_wait(wait, old_call, sleeps);
}

__attribute__((hot)) int shim_set_correct(const struct shim_set_wait *wait,
					  struct epoll_event *events, int n, int most,
					  int *answered)
{
	struct shim_set *set = wait->set;
	int told = 0;

	for (int i = 0; *answered > 0 && shim_set_enter(set); i++) {
		told = shim_set_merge(set, events, n, *answered) - n;
		shim_set_leave(set);
		if (n + told > 0 || *answered < most || i == CORRECTIONS)
			break;
		*answered = shim_set_ask_kernel(wait, events + n, most, 0, false);
		if (*answered == -EBADF) /* closed meanwhile; the first answer stands */
			*answered = 0;
	}
	return told;
}

/*
 * [together] One token wakes this sleep, to whichever of the hot ones it comes (sender_cut.c):
 * whoever wakes looks at all that are hot.  So only hot ones lie in it, and stay hot until it ends.
 * A signal handler may take tokens off meanwhile: shim_set_get_up(); so may other threads, which
 * rouse the sleeper then (shmipc_receiver_disturb), but no other process: only connections lie in
 * it that this one alone holds.  And only those whose socket is empty, for what a sender has given
 * to TCP does not come here as long as there is no room for it behind what is unread.
 */
static bool lies_together(const struct shim_registration *r)
{
	return r->armed && shim_registration_wants_bytes(r) && !r->stray && !r->absent &&
	       !r->blurred && !r->conn->rx.foreign && atomic_load(&r->conn->shared) == 0 &&
	       shmipc_receiver_follows_ring(&r->conn->rx) &&
	       !shmipc_receiver_has_tokens(&r->conn->rx) && atomic_load(&r->conn->rx.watchers) == 1;
}

/* Unique among all processes that have ever used a segment, for years. */
static uint64_t next_sleep(void)
{
	static _Atomic uint64_t sleeps;

	return (uint64_t)shmipc_thread_id() << SLEEP_BITS |
	       (atomic_fetch_add(&sleeps, 1) + 1) % (1ULL << SLEEP_BITS);
}

/* Locked.  Those that are hot are armed, and all tokens taken.  True: news. */
static bool lie_down_together(struct shim_set *set)
{
	struct shim_registration *r = shim_registration_hot(&set->registrations);
	const bool alone = shmipc_single_threaded();
	uint64_t sleep;
	bool news = false;

	if (set->strict || !r || !shim_registration_next_hot(r) ||
	    (!alone && !shim_set_make_rousable(set)))
		return false;
	sleep = next_sleep();
	for (; r; r = shim_registration_next_hot(r))
		if (lies_together(r))
			shmipc_receiver_lie_down(&r->conn->rx, sleep, alone ? -1 : set->epfd);
	atomic_thread_fence(memory_order_seq_cst); /* [together] */
	set->together = true;
	shim_set_lies_down(set);
	for (r = shim_registration_hot(&set->registrations); r && !news;
	     r = shim_registration_next_hot(r))
		news = shim_registration_is_ready(set, r);
	return news;
}

/* Locked.  Arm what is hot.  True: news came meanwhile, do not sleep. */
static bool arm_hot(struct shim_set *set, bool *owing)
{
	struct shim_registration *r = shim_registration_hot(&set->registrations), *next;
	bool news = false;

	for (; r; r = next) {
		next = shim_registration_next_hot(r);
		if (shim_registration_is_ours(r))
			shmipc_sender_serve(&r->conn->tx, r->fd, shim_conn_private(r->conn));
		shim_set_arm(set, r);
		if (shim_registration_is_ready(set, r))
			news = true;
		else if (shmipc_sender_owes(&r->conn->tx))
			*owing = true;
		else if (set->strict || ++r->quiet > QUIET_SLEEPS_MAX)
			shim_registration_make_cold(&set->registrations, r);
	}
	return news || lie_down_together(set);
}

/* Locked, so none of them ends meanwhile.  When to wake up if nothing comes. */
static uint64_t shrink(struct shim_set *set, uint64_t deadline_ns)
{
	bool left = false;

	deadline_ns = shim_session_cool(deadline_ns);
	if (!shim_shrink_is_pending(&set->shrink))
		return deadline_ns;
	if (shim_shrink_is_due(&set->shrink)) {
		for (struct shim_registration *r = shim_registration_first(&set->registrations); r;
		     r = shim_registration_next(r))
			left |= !shmipc_sender_shrink(&r->conn->tx);
		shim_shrink_looked(&set->shrink, left);
	}
	return shim_shrink_is_pending(&set->shrink) ? shim_shrink_deadline(deadline_ns)
						    : deadline_ns;
}

/* Awake again: whoever has had news lately needs no token, we look at it ourselves.  What is cold
 * stays armed. */
static void disarm_hot(struct shim_set *set)
{
	struct shim_registration *r = shim_registration_hot(&set->registrations);

	shim_set_lies_down(NULL);
	atomic_store(&set->asleep, false);
	set->together = false;
	for (; r; r = shim_registration_next_hot(r)) {
		if (!r->armed)
			continue;
		shmipc_receiver_get_up(&r->conn->rx);
		if (!set->strict)
			shim_registration_disarm(r);
	}
}

__attribute__((hot)) int shim_set_sleep(const struct shim_set_wait *wait,
					struct epoll_event *events, int room, uint64_t deadline_ns)
{
	struct shim_set *set = wait->set;
	bool news, all, owing = false;
	uint64_t told;
	int n = 0;

	shmipc_relaxing_settle();
	if (!shim_set_enter(set))
		return -EINTR;
	shmipc_postpone_begin(); /* but for the sleep, until the sleeper is counted no more */
	if (atomic_fetch_add(&set->sleepers, 1) > 0)
		shim_set_make_strict(set); /* two threads in one set */
	news = arm_hot(set, &owing);
	if (!news) {
		shim_set_tell_kernel(set); /* what changes from here on is told at once */
		deadline_ns = shrink(set, deadline_ns);
	}
	told = shmipc_ticks();
	atomic_store(&set->asleep, !news);
	shim_set_leave(set);
	if (!news)
		n = shim_set_ask_kernel(wait, events, room,
					owing ? shim_wait_soon(deadline_ns) : deadline_ns, true);
	/* it looks when it returns; meanwhile another thread may have changed something, or a
	 * handler have heard of an end */
	if (shmipc_single_threaded() && !shmipc_postpone.ran)
		told = shmipc_ticks();
	all = !news && n >= 0 && n < room;
	if (shim_set_enter(set)) {
		disarm_hot(set);
		if (n > 0)
			n = shim_set_merge(set, events, 0, n);
		shim_set_leave(set);
		if (all) /* [watch] */
			shim_set_told_all(set, told);
	}
	if (!news)
		shim_set_looked_at(set, shmipc_ticks());
	wake_up(wait);
	shmipc_postpone_end();
	return n;
}

__attribute__((hot)) int shim_set_sleep_plain(const struct shim_set_wait *wait,
					      struct epoll_event *events, int room,
					      uint64_t deadline_ns)
{
	struct shim_set *set = wait->set;
	int n = 0;

	shmipc_postpone_begin();
	deadline_ns = shim_session_cool(deadline_ns);
	if (atomic_fetch_add(&set->sleepers, 1) > 0)
		shim_set_is_foreign(wait->epfd);
	atomic_store(&set->asleep, true);
	/* [add], and [plain]: a member that is removed and of which the kernel is still to hear was
	 * noted as a change before it ceased to be a member */
	if (atomic_load(&set->members) == 0 && !shim_registration_changed(&set->registrations))
		n = shim_set_ask_kernel(wait, events, room, deadline_ns, true);
	/* what is ready goes before a signal, whose handler may have closed the set */
	if (n == -EINTR && shmipc_sleep_was_no_call() && shim_set_of(wait->epfd) == set) {
		n = shim_set_ask_kernel(wait, events, room, 0, false);
		n = n != 0 ? n : -EINTR;
	}
	atomic_store(&set->asleep, false);
	if (n > 0 && (atomic_load(&set->members) > 0 || set->marked || set->tagged)) {
		int answered = n;

		n = shim_set_correct(wait, events, 0, room, &answered);
		if (answered < 0)
			n = answered;
	}
	wake_up(wait);
	shmipc_postpone_end();
	return n;
}
