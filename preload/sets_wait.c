/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting on an epoll set: what the rings hold, what the kernel says, and sleeping until either has
 * something. */
#include <errno.h>
#include <pthread.h>

#include "core/cpu.h"
#include "core/gone.h"
#include "core/postpone.h"
#include "core/relaxing.h"
#include "core/sleep.h"
#include "preload/sets_parts.h"
#include "preload/waits.h"

enum {
	QUIET_SLEEPS_MAX = 8,	/* sleeps without news after which a registration is left armed */
	LOOKS_PER_KERNEL = 128, /* while spinning: every few us */
	QUIET_LOOKS = 32,	/* questions in vain after which the kernel is asked by time */
	LOOK_EVERY_US = 50,
	LOOK_MAX_US = 2000,
	LOOK_PART = 16,	 /* and not for more than this part of the time */
	SLEEP_BITS = 42, /* a thread's number has no more than 22 */
};

/*
 * When is the kernel asked?
 *
 * It alone knows of plain descriptors, of ends, and of what memory does not hold.  So it is asked
 * in every wait, and its answer stands beside that of memory, until it has had nothing to add
 * QUIET_LOOKS times in a row; then, as long as memory has events for each wait, it is asked every
 * LOOK_EVERY_US, or more rarely where the question is dear because many changes have been put off
 * (sets_deferred.c), but at least every LOOK_MAX_US.  That bounds how long a descriptor of which
 * only the kernel knows can be kept waiting by others.  A wait with which memory has nothing
 * to do, and one under another signal mask, always asks; a sleep is a question.  Any answer, a
 * change of which the kernel has heard at once, and any end of a connection that shared memory
 * shows, bring back the first state.
 */
static bool kernel_is_due(const struct shim_set *set)
{
	return set->strict || set->quiet_looks < QUIET_LOOKS ||
	       !shmipc_is_newer_than_ends(set->looked_ticks) ||
	       shmipc_ticks() - set->looked_ticks >= set->look_every_ticks;
}

static void looked_at(struct shim_set *set, uint64_t ticks)
{
	atomic_store_explicit(&set->looked_ticks, ticks, memory_order_relaxed);
}

/* Its new value. */
static uint32_t raise_by_one(_Atomic uint32_t *count)
{
	uint32_t value = atomic_load_explicit(count, memory_order_relaxed) + 1;

	atomic_store_explicit(count, value, memory_order_relaxed);
	return value;
}

static void looked(struct shim_set *set, uint64_t began)
{
	uint64_t now = shmipc_ticks(), rate = shmipc_ticks_per_us();
	uint64_t every = (now - began) * LOOK_PART;

	if (every < LOOK_EVERY_US * rate)
		every = LOOK_EVERY_US * rate;
	if (every > LOOK_MAX_US * rate)
		every = LOOK_MAX_US * rate;
	looked_at(set, now);
	atomic_store_explicit(&set->look_every_ticks, every, memory_order_relaxed);
}

/* Reported from memory; the kernel's registration must know that a one-shot has been used. */
static void used_up(struct shim_set *set, struct shim_registration *r)
{
	if (r->event.events & EPOLLONESHOT)
		shim_set_silence(set, r);
}

static bool tells_all(const struct shim_registration *r)
{
	return r->event.events & (EPOLLET | EPOLLONESHOT);
}

/* Nothing can be added to a one-shot once it is told: while the kernel is asked, it tells. */
static bool is_told_with_kernel(const struct shim_registration *r, bool due)
{
	return due && (r->event.events & EPOLLONESHOT);
}

/* Each arrival is an edge of all that is true, and a one-shot is told all that is true, as by the
 * kernel; level-triggered the kernel may add the rest.  *due: it must. */
static uint32_t what_else(const struct shim_registration *r, bool *due)
{
	const uint32_t asked = r->event.events & (SHIM_SET_OUT_EVENTS | EPOLLPRI | EPOLLRDHUP);
	bool has_room = shmipc_sender_has_room(&r->conn->tx);
	struct pollfd real = { .fd = r->fd, .events = (short)asked };
	uint32_t room, said;

	/* no end, and urgent bytes leave the ring */
	if (!is_told_with_kernel(r, *due) && shmipc_receiver_follows_ring(&r->conn->rx) &&
	    (!(asked & SHIM_SET_OUT_EVENTS) || has_room))
		return asked & SHIM_SET_OUT_EVENTS;
	*due = true;
	room = has_room ? asked & SHIM_SET_OUT_EVENTS : 0;
	if (!tells_all(r))
		return room;
	if (sys_poll(&real, 1, 0) <= 0)
		real.revents = 0;
	said = (uint32_t)real.revents | shim_wait_ask(r->conn, r->fd);
	said = shim_wait_hangup(r->conn, r->event.events, room | said);
	return said & (asked | EPOLLERR | EPOLLHUP);
}

/* Locked.  Nothing, or all that memory knows to be true.  *due: the kernel may know more. */
static uint32_t memory_says(const struct shim_set *set, const struct shim_registration *r,
			    bool *due)
{
	const struct shmipc_receiver *rx = &r->conn->rx;
	bool news = shim_registration_has_news(r);

	/* the kernel tells, of an end too, and nobody could say that it is the same */
	if (r->blurred && (shmipc_receiver_has_tokens(rx) || rx->eof || rx->pending_error))
		return 0;
	if (!news &&
	    (set->strict || is_told_with_kernel(r, *due) || !shim_registration_has_room(r)))
		return 0;
	return (news ? r->event.events & SHIM_SET_IN_EVENTS : 0) | what_else(r, due);
}

/* Locked.  What the hot ones have, by their tags. */
static int collect(struct shim_set *set, struct epoll_event *events, int room, bool *due)
{
	struct shim_registration *r = shim_registration_hot(&set->registrations), *next;
	const struct shim_registration
		*first = NULL; /* that we have told, now at the end of the line */
	int n = 0;

	for (; r && r != first && n < room; r = next) {
		uint32_t said = memory_says(set, r, due);

		next = shim_registration_next_hot(r);
		if (!said) {
			/* armed and nothing there: the kernel will tell */
			if (r->armed)
				shim_registration_make_cold(&set->registrations, r);
			continue;
		}
		events[n].events = said;
		events[n++].data.u64 = r->tag;
		if (said & SHIM_SET_IN_EVENTS)
			shim_registration_told(r);
		if (said & SHIM_SET_OUT_EVENTS)
			shim_registration_told_room(r);
		shim_registration_told_end(r, said);
		r->quiet = 0;
		used_up(set, r);
		/* to the end of the line: the others have their turn in the next wait */
		if (!first)
			first = r;
		shim_registration_make_hot(&set->registrations, r);
		if (!next)
			break;
	}
	return n;
}

/* Awake. */
static void wake_up(struct shim_set *set)
{
	if (atomic_fetch_sub(&set->sleepers, 1) == 1)
		shim_set_give_back(set);
}

/* Cancelled in its sleep, or a handler has jumped out of it: it lies with nobody. */
static void undo_sleep(void *argument)
{
	struct shim_set *set = argument;

	atomic_store(&shim_set_together, NULL);
	if (shim_set_enter(set)) {
		struct shim_registration *r = shim_registration_first(&set->registrations);

		for (; r; r = shim_registration_next(r))
			if (r->armed)
				shmipc_receiver_sleep_together(&r->conn->rx, 0);
		shim_set_leave(set);
	}
	wake_up(set);
}

static void nothing_noted(void *set)
{
	(void)set;
}

static long kernel_wait(struct shim_set *set, const long call[7], bool sleeps)
{
	if (sleeps)
		return shmipc_sleep6(call, undo_sleep, set);
	/* under another mask a handler may run in the call, and must run before it returns */
	if (call[5])
		return shmipc_sleep6(call, nothing_noted, set);
	return sys_call6(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
}

/* One call of the application.  It waits by its own number of the set, which may have several:
 * another thread may close the others. */
struct set_wait {
	struct shim_set *set;
	int epfd;
	const sigset_t *mask;
};

/* As epoll_pwait2.  sleeps: counted in set->sleepers, may be cancelled. */
static int ask_kernel(const struct set_wait *wait, struct epoll_event *events, int room,
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
	int n = (int)kernel_wait(wait->set, new_call, sleeps);
	int64_t ms = -1;

	if (n != -ENOSYS)
		return n;
	if (deadline_ns != SHIM_WAIT_FOR_EVER)
		ms = (int64_t)left.tv_sec * 1000 + (left.tv_nsec + 999999) / 1000000;
	old_call[4] = ms > INT32_MAX ? INT32_MAX : (long)ms;
	return (int)kernel_wait(wait->set, old_call, sleeps);
}

/* events[0 .. n) are from memory: add the kernel's, without waiting.  It has been told what was put
 * off. */
static int add_kernel(const struct set_wait *wait, struct epoll_event *events, int n, int room)
{
	struct shim_set *set = wait->set;
	uint64_t began = shmipc_ticks();
	int k = ask_kernel(wait, events + n, room - n, 0, false);

	if (set->quiet_looks < QUIET_LOOKS)
		raise_by_one(&set->quiet_looks);
	looked(set, began);
	if (k <= 0)
		return n > 0 ? n : k;
	if (!shim_set_enter(set))
		return n;
	n = shim_set_merge(set, events, n, k);
	shim_set_leave(set);
	return n;
}

/* The kernel's, every second time. */
static bool its_turn(struct shim_set *set)
{
	bool first = !atomic_load_explicit(&set->kernel_first, memory_order_relaxed);

	atomic_store_explicit(&set->kernel_first, first, memory_order_relaxed);
	return first;
}

/* Memory and, where it is due, the kernel, without waiting.  Neither may starve the other where the
 * room is short. */
static int look(const struct set_wait *wait, struct epoll_event *events, int room, bool sleeps_then)
{
	struct shim_set *set = wait->set;
	bool due = wait->mask || kernel_is_due(set);
	bool kernel_first = due && its_turn(set), asked = false;
	int n, told, most = room;

	if (!shim_set_enter(set))
		return -EINTR;
	if (kernel_first && room == 1) {
		shim_set_tell_kernel(set);
		shim_set_leave(set);
		n = add_kernel(wait, events, 0, 1);
		if (n != 0)
			return n;
		asked = true;
		due = false; /* but for what memory wants to know */
		if (!shim_set_enter(set))
			return -EINTR;
	} else if (kernel_first) {
		most = room - 1;
	}
	n = told = collect(set, events, most, &due);
	due = due || (n == 0 && !sleeps_then && !asked);
	if (due && n < room)
		shim_set_tell_kernel(set);
	shim_set_leave(set);
	if (due && n < room)
		n = add_kernel(wait, events, n, room);
	shim_set_untag_told(set, events, told);
	return n;
}

/* An epoll set is itself a descriptor that can be polled. */
static bool kernel_has_events(const struct set_wait *wait)
{
	struct pollfd all = { .fd = wait->epfd, .events = POLLIN };

	return sys_poll(&all, 1, 0) > 0;
}

static bool is_ready(const struct shim_set *set, const struct shim_registration *r)
{
	return shim_registration_has_news(r) || (!set->strict && shim_registration_has_room(r));
}

static bool hot_news(const struct shim_set *set)
{
	for (struct shim_registration *r = shim_registration_hot(&set->registrations); r;
	     r = shim_registration_next_hot(r))
		if (is_ready(set, r))
			return true;
	return false;
}

/* While spinning. */
static bool any_news(void *argument)
{
	const struct set_wait *wait = argument;
	struct shim_set *set = wait->set;
	bool threads = !shmipc_single_threaded(), due, news;

	due = raise_by_one(&set->looks) % LOOKS_PER_KERNEL == 0 && kernel_is_due(set);
	/* another one might close a connection under our eyes */
	if ((threads || due) && !shim_set_enter(set))
		return true;
	news = hot_news(set);
	if (due && !news)
		shim_set_tell_kernel(set);
	if (threads || due)
		shim_set_leave(set);
	if (news || !due)
		return news;
	looked_at(set, shmipc_ticks());
	if (!kernel_has_events(wait))
		return false;
	set->quiet_looks = 0; /* ask what */
	return true;
}

static bool spin(struct set_wait *wait)
{
	struct shim_set *set = wait->set;
	const struct shim_registration *hot;
	struct shmipc_status_rx *count = NULL;
	enum shmipc_spin_result result;
	uint32_t cpu = 0;

	if (set->strict || !shim_set_enter(set))
		return false;
	hot = shim_registration_hot(&set->registrations);
	if (hot && shim_registration_is_ours(hot)) {
		count = hot->conn->rx.count;
		cpu = atomic_load(&hot->conn->rx.tx->cpu);
	}
	shim_set_leave(set);
	if (!count)
		return false;
	result = shmipc_spin_until(&set->spin, any_news, wait, cpu);
	if (result == SHMIPC_SPIN_WON)
		shmipc_count(&count->spins_won, 1);
	else if (result == SHMIPC_SPIN_LOST)
		shmipc_count(&count->spins_lost, 1);
	return result == SHMIPC_SPIN_WON;
}

/*
 * [together] One token wakes this sleep, to whichever of the hot ones it comes (sender_cut.c):
 * whoever wakes looks at all that are hot.  So only hot ones lie in it, and only where nobody else
 * takes tokens off while we sleep: in a process of one thread, which alone holds the connection.  A
 * signal handler may: shim_set_get_up().  And only those whose socket is empty, for what a sender
 * has given to TCP does not come here as long as there is no room for it behind what is unread.
 */
static bool lies_together(const struct shim_registration *r)
{
	return r->armed && shim_registration_wants_bytes(r) && !r->stray && !r->absent &&
	       !r->blurred && !r->conn->rx.foreign && shim_conn_private(r->conn) &&
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
	uint64_t sleep;
	bool news = false;

	if (set->strict || !r || !shim_registration_next_hot(r) || !shmipc_single_threaded())
		return false;
	sleep = next_sleep();
	for (; r; r = shim_registration_next_hot(r))
		if (lies_together(r))
			shmipc_receiver_sleep_together(&r->conn->rx, sleep);
	atomic_thread_fence(memory_order_seq_cst); /* [together] */
	atomic_store(&shim_set_together, set);
	for (r = shim_registration_hot(&set->registrations); r && !news;
	     r = shim_registration_next_hot(r))
		news = is_ready(set, r);
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
		if (is_ready(set, r))
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

	atomic_store(&shim_set_together, NULL);
	for (; r; r = shim_registration_next_hot(r)) {
		if (!set->strict)
			shim_registration_disarm(r);
		else if (r->armed)
			shmipc_receiver_sleep_together(&r->conn->rx, 0);
	}
}

static int sleep_in_kernel(const struct set_wait *wait, struct epoll_event *events, int room,
			   uint64_t deadline_ns)
{
	struct shim_set *set = wait->set;
	bool news, owing = false;
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
	shim_set_leave(set);
	if (!news)
		n = ask_kernel(wait, events, room,
			       owing ? shim_wait_soon(deadline_ns) : deadline_ns, true);
	if (shim_set_enter(set)) {
		disarm_hot(set);
		if (n > 0)
			n = shim_set_merge(set, events, 0, n);
		shim_set_leave(set);
	}
	looked_at(set, shmipc_ticks());
	wake_up(set);
	shmipc_postpone_end();
	return n;
}

/* No registration of ours: the kernel's own wait, but another thread may add one meanwhile, and
 * must know that somebody sleeps. */
static int sleep_plain(const struct set_wait *wait, struct epoll_event *events, int room,
		       uint64_t deadline_ns)
{
	struct shim_set *set = wait->set;
	int n = 0;

	shmipc_postpone_begin();
	if (atomic_fetch_add(&set->sleepers, 1) > 0)
		shim_set_is_foreign(wait->epfd);
	/* [add], and [plain]: a member that is removed and of which the kernel is still to hear was
	 * noted as a change before it ceased to be a member */
	if (atomic_load(&set->members) == 0 && !shim_registration_changed(&set->registrations))
		n = ask_kernel(wait, events, room, deadline_ns, true);
	if (n > 0 && (atomic_load(&set->members) > 0 || set->kicked || set->tagged) &&
	    shim_set_enter(set)) {
		n = shim_set_merge(set, events, 0, n);
		shim_set_leave(set);
	}
	wake_up(set);
	shmipc_postpone_end();
	return n;
}

static bool is_over(uint64_t deadline_ns)
{
	return deadline_ns != SHIM_WAIT_FOR_EVER && shmipc_clock_ns() >= deadline_ns;
}

static bool has_nothing_of_ours(const struct shim_set *set)
{
	return atomic_load_explicit(&set->members, memory_order_relaxed) == 0 &&
	       !shim_registration_changed(&set->registrations);
}

/* Postponed. */
static int wait_for_news(struct set_wait *wait, struct epoll_event *events, int room,
			 uint64_t deadline_ns)
{
	int n = 0;

	while (n == 0 && shim_set_of(wait->epfd) == wait->set && !is_over(deadline_ns)) {
		if (!spin(wait)) {
			n = sleep_in_kernel(wait, events, room, deadline_ns);
			if (n != 0)
				return n;
		}
		n = look(wait, events, room, true);
	}
	return n;
}

int shim_set_wait(int epfd, struct epoll_event *events, int room, const struct timespec *timeout,
		  const sigset_t *mask)
{
	struct shim_set *set = shim_set_of(epfd);
	struct set_wait wait = { set, epfd, mask };
	bool sleeps = !timeout || timeout->tv_sec > 0 || timeout->tv_nsec > 0;
	uint64_t deadline_ns = SHIM_WAIT_FOR_EVER;
	int n = 0;

	atomic_store_explicit(&set->waited, true, memory_order_relaxed);
	if (set->waits < SHIM_SET_WAITS_COUNTED)
		raise_by_one(&set->waits);
	if (!shmipc_single_threaded())
		pthread_testcancel();
	if (has_nothing_of_ours(set)) {
		deadline_ns = shim_wait_deadline(timeout);
		n = sleep_plain(&wait, events, room, deadline_ns);
		if (n != 0 || shim_set_of(epfd) != set || is_over(deadline_ns))
			return n;
	}
	/* a set that always finds something sleeps seldom */
	if (__builtin_expect(!shmipc_relaxing_is_allowed(), 0))
		shmipc_relaxing_settle();
	n = look(&wait, events, room, sleeps);
	if (n != 0 || !sleeps) /* the clock is not asked where nothing waits */
		return n;
	if (deadline_ns == SHIM_WAIT_FOR_EVER)
		deadline_ns = shim_wait_deadline(timeout);
	shmipc_postpone_begin();
	n = wait_for_news(&wait, events, room, deadline_ns);
	shmipc_postpone_end();
	return n;
}
