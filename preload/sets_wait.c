/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting on an epoll set: what the rings hold, what the kernel says, and sleeping until either has
 * something. */
#include <errno.h>
#include <pthread.h>

#include "core/postpone.h"
#include "core/sleep.h"
#include "preload/sets_parts.h"
#include "preload/waits.h"

enum {
	QUIET_SLEEPS_MAX = 8,	/* sleeps without news after which a registration is left armed */
	LOOKS_PER_KERNEL = 128, /* while spinning: every few us */
};

/* Reported from memory; the kernel's registration must know that a one-shot has been used. */
static void used_up(struct shim_set *set, struct shim_registration *r)
{
	if (r->event.events & EPOLLONESHOT)
		shim_set_silence(set, r);
}

/* Each arrival is an edge of all that is true, and a one-shot is told all that is true, as by the
 * kernel. */
static uint32_t what_else(const struct shim_registration *r)
{
	const uint32_t asked = r->event.events & (EPOLLOUT | EPOLLPRI | EPOLLRDHUP);
	struct pollfd real = { .fd = r->fd, .events = (short)asked };
	uint32_t told;

	if (asked == EPOLLOUT && shmipc_sender_on_ring(&r->conn->tx) &&
	    !(r->event.events & EPOLLONESHOT))
		return EPOLLOUT;
	if (sys_poll(&real, 1, 0) <= 0)
		real.revents = 0;
	told = (uint32_t)real.revents | shim_wait_ask(r->conn, r->fd);
	told = shim_wait_hangup(r->conn, r->event.events, told);
	return told & (asked | EPOLLERR | EPOLLHUP);
}

/* Locked.  What the rings of the hot ones hold. */
static int collect(struct shim_set *set, struct epoll_event *events, int room)
{
	struct shim_registration *r = shim_registration_hot(&set->registrations), *next;
	const struct shim_registration
		*first = NULL; /* that we have told, now at the end of the line */
	int n = 0;

	for (; r && r != first && n < room; r = next) {
		next = shim_registration_next_hot(r);
		if (!shim_registration_has_news(r)) {
			/* armed and nothing there: the kernel will tell */
			if (r->armed)
				shim_registration_make_cold(&set->registrations, r);
			continue;
		}
		events[n].events = r->event.events & SHIM_SET_IN_EVENTS;
		if (r->event.events & (EPOLLET | EPOLLONESHOT))
			events[n].events |= what_else(r);
		events[n++].data = r->event.data;
		shim_registration_told(r);
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

static bool has_ended(int fd)
{
	struct pollfd entry = { .fd = fd, .events = POLLRDHUP };

	return sys_poll(&entry, 1, 0) > 0;
}

/* Locked.  The kernel says that there is something to read: is that so?  Several registrations may
 * carry the same data; the application cannot tell them apart either. */
static bool input_is_true(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);
	bool known = false, is_true = false;

	for (; r; r = shim_registration_same_data(r)) {
		if (!shim_registration_is_ours(r) || !(r->event.events & SHIM_SET_IN_EVENTS)) {
			is_true = true;
			shim_registration_told(r); /* what is here before the ring is */
			continue;
		}
		known = true;
		if (!set->strict)
			shim_registration_disarm(r);
		shim_registration_make_hot(&set->registrations, r);
		if (shim_registration_has_news(r)) {
			is_true = true;
			shim_registration_told(r);
		} else if (shim_wait_is_true(r->conn, r->fd)) {
			/* payload by the kernel, the end, or bytes of the ring that an edge was
			 * reported for */
			bool by_ring = shmipc_receiver_arrived(&r->conn->rx) == r->seen &&
				       shmipc_receiver_only_tokens(&r->conn->rx, r->fd) &&
				       !r->conn->rx.eof && !r->conn->rx.pending_error &&
				       !has_ended(r->fd);

			/* not told: what has arrived since that look is news still */
			if ((r->event.events & EPOLLET) && by_ring)
				continue;
			is_true = true;
			shim_registration_told(r);
		}
		if (is_true && (r->event.events & EPOLLONESHOT))
			r->disabled = true; /* the kernel has done the same */
	}
	return is_true || !known;
}

/* Dropped although one-shot: the kernel must tell again. */
static void rearm_dropped(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);

	for (; r; r = shim_registration_same_data(r)) {
		struct epoll_event again = r->event;

		if ((r->event.events & EPOLLONESHOT) && !r->disabled && !r->stray)
			sys_epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &again);
	}
}

/* Locked.  The application is told by the kernel, which has disabled a one-shot by that. */
static void told_by_kernel(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);

	/* also of a connection that has no ring yet */
	if (r && (r->event.events & EPOLLONESHOT) && !shim_registration_same_data(r))
		r->disabled = true;
}

static bool is_silenced(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);

	return r && r->disabled && shim_registration_is_ours(r) && !shim_registration_same_data(r);
}

static void correct_hangup(struct shim_set *set, struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);

	uint32_t told = event->events;

	/* also of an end that only sends */
	if (!r || !shim_conn_is_attached(r->conn) || shim_registration_same_data(r))
		return;
	if ((told & SHIM_SET_IN_EVENTS) || !(r->event.events & SHIM_SET_IN_EVENTS))
		told |= shim_wait_ask(r->conn, r->fd);
	told = shim_wait_hangup(r->conn, r->event.events, told);
	event->events = told & (r->event.events | event->events | EPOLLERR | EPOLLHUP);
}

/* Locked.  events[0 .. n) come from memory, events[n .. n + k) from the kernel.  Returns how many
 * remain. */
static int merge(struct shim_set *set, struct epoll_event *events, int n, int k)
{
	int out = n;

	for (int i = n; i < n + k; i++) {
		struct epoll_event event = events[i];
		int same = 0;

		if (event.data.u64 == SHIM_SET_KICK_DATA) {
			shim_set_unkick(set);
			continue;
		}
		correct_hangup(set, &event);
		while (same < n && events[same].data.u64 != event.data.u64)
			same++;
		if (same < n) {
			events[same].events |= event.events;
			continue;
		}
		if (is_silenced(set, &event))
			continue;
		if ((event.events & SHIM_SET_IN_EVENTS) && !input_is_true(set, &event) &&
		    !(event.events & SHIM_SET_HANGUP_EVENTS)) {
			event.events &= ~(uint32_t)SHIM_SET_IN_EVENTS;
			if (event.events == 0) {
				rearm_dropped(set, &event);
				continue;
			}
		}
		told_by_kernel(set, &event);
		events[out++] = event;
	}
	return out;
}

/* Awake, or cancelled in its sleep. */
static void wake_up(void *argument)
{
	struct shim_set *set = argument;

	if (atomic_fetch_sub(&set->sleepers, 1) == 1)
		shim_set_give_back(set);
}

static void nothing_noted(void *set)
{
	(void)set;
}

static long kernel_wait(struct shim_set *set, const long call[7], bool sleeps)
{
	if (sleeps)
		return shmipc_sleep6(call, wake_up, set);
	/* under another mask a handler may run in the call, and must run before it returns */
	if (call[5])
		return shmipc_sleep6(call, nothing_noted, set);
	return sys_call6(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
}

/* As epoll_pwait2.  sleeps: counted in set->sleepers, may be cancelled. */
static int ask_kernel(struct shim_set *set, struct epoll_event *events, int room,
		      uint64_t deadline_ns, const sigset_t *mask, bool sleeps)
{
	struct timespec left = shim_wait_left(deadline_ns);
	const long new_call[7] = { SYS_epoll_pwait2,
				   set->epfd,
				   (long)events,
				   room,
				   deadline_ns == SHIM_WAIT_FOR_EVER ? 0 : (long)&left,
				   (long)mask,
				   8 };
	long old_call[7] = { SYS_epoll_pwait, set->epfd, (long)events, room, 0, (long)mask, 8 };
	int n = (int)kernel_wait(set, new_call, sleeps);
	int64_t ms = -1;

	if (n != -ENOSYS)
		return n;
	if (deadline_ns != SHIM_WAIT_FOR_EVER)
		ms = (int64_t)left.tv_sec * 1000 + (left.tv_nsec + 999999) / 1000000;
	old_call[4] = ms > INT32_MAX ? INT32_MAX : (long)ms;
	return (int)kernel_wait(set, old_call, sleeps);
}

/* events[0 .. n) are from memory: add the kernel's, without waiting. */
static int add_kernel(struct shim_set *set, struct epoll_event *events, int n, int room,
		      const sigset_t *mask)
{
	int k = ask_kernel(set, events + n, room - n, 0, mask, false);

	if (k <= 0)
		return n > 0 ? n : k;
	if (!shim_set_enter(set))
		return n;
	n = merge(set, events, n, k);
	shim_set_leave(set);
	return n;
}

/* Memory and kernel, without waiting.  Neither may starve the other where the room is short. */
static int look(struct shim_set *set, struct epoll_event *events, int room, const sigset_t *mask)
{
	bool kernel_first = set->kernel_first = !set->kernel_first;
	int n = 0;

	if (room == 1 && kernel_first) {
		n = add_kernel(set, events, 0, 1, mask);
		if (n != 0)
			return n;
	}
	if (!shim_set_enter(set))
		return -EINTR;
	n = collect(set, events, kernel_first && room > 1 ? room - 1 : room);
	shim_set_leave(set);
	return room > n ? add_kernel(set, events, n, room, mask) : n;
}

/* An epoll set is itself a descriptor that can be polled. */
static bool kernel_has_events(const struct shim_set *set)
{
	struct pollfd all = { .fd = set->epfd, .events = POLLIN };

	return sys_poll(&all, 1, 0) > 0;
}

static bool hot_news(const struct shim_set *set)
{
	for (struct shim_registration *r = shim_registration_hot(&set->registrations); r;
	     r = shim_registration_next_hot(r))
		if (shim_registration_has_news(r))
			return true;
	return false;
}

static bool any_news(void *argument)
{
	struct shim_set *set = argument;
	bool threads = !shmipc_single_threaded(), news;

	if (threads &&
	    !shim_set_enter(set)) /* another one might close a connection under our eyes */
		return true;
	news = hot_news(set);
	if (threads)
		shim_set_leave(set);
	return news || (++set->looks % LOOKS_PER_KERNEL == 0 && kernel_has_events(set));
}

static bool spin(struct shim_set *set)
{
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
	result = shmipc_spin_until(&set->spin, any_news, set, cpu);
	if (result == SHMIPC_SPIN_WON)
		shmipc_count(&count->spins_won, 1);
	else if (result == SHMIPC_SPIN_LOST)
		shmipc_count(&count->spins_lost, 1);
	return result == SHMIPC_SPIN_WON;
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
		if (shim_registration_has_news(r))
			news = true;
		else if (shmipc_sender_owes(&r->conn->tx))
			*owing = true;
		else if (set->strict || ++r->quiet > QUIET_SLEEPS_MAX)
			shim_registration_make_cold(&set->registrations, r);
	}
	return news;
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

	for (; r && !set->strict; r = shim_registration_next_hot(r))
		shim_registration_disarm(r);
}

static int sleep_in_kernel(struct shim_set *set, struct epoll_event *events, int room,
			   uint64_t deadline_ns, const sigset_t *mask)
{
	bool news, owing = false;
	int n = 0;

	if (!shim_set_enter(set))
		return -EINTR;
	shmipc_postpone_begin(); /* but for the sleep, until the sleeper is counted no more */
	if (atomic_fetch_add(&set->sleepers, 1) > 0)
		shim_set_make_strict(set); /* two threads in one set */
	news = arm_hot(set, &owing);
	if (!news)
		deadline_ns = shrink(set, deadline_ns);
	shim_set_leave(set);
	if (!news)
		n = ask_kernel(set, events, room, owing ? shim_wait_soon(deadline_ns) : deadline_ns,
			       mask, true);
	if (shim_set_enter(set)) {
		disarm_hot(set);
		if (n > 0)
			n = merge(set, events, 0, n);
		shim_set_leave(set);
	}
	wake_up(set);
	shmipc_postpone_end();
	return n;
}

/* No registration of ours: the kernel's own wait, but another thread may add one meanwhile, and
 * must know that somebody sleeps. */
static int sleep_plain(struct shim_set *set, struct epoll_event *events, int room,
		       uint64_t deadline_ns, const sigset_t *mask)
{
	int n = 0;

	shmipc_postpone_begin();
	if (atomic_fetch_add(&set->sleepers, 1) > 0)
		shim_set_is_foreign(set->epfd);
	if (atomic_load(&set->members) == 0) /* [add] */
		n = ask_kernel(set, events, room, deadline_ns, mask, true);
	if (n > 0 && (atomic_load(&set->members) > 0 || set->kicked) && shim_set_enter(set)) {
		n = merge(set, events, 0, n);
		shim_set_leave(set);
	}
	wake_up(set);
	shmipc_postpone_end();
	return n;
}

int shim_set_wait(int epfd, struct epoll_event *events, int room, uint64_t deadline_ns,
		  const sigset_t *mask)
{
	struct shim_set *set = shim_set_of(epfd);
	int n = 0;

	atomic_store_explicit(&set->waited, true, memory_order_relaxed);
	if (!shmipc_single_threaded())
		pthread_testcancel();
	if (atomic_load_explicit(&set->members, memory_order_relaxed) == 0) {
		n = sleep_plain(set, events, room, deadline_ns, mask);
		if (n != 0 || shim_set_of(epfd) != set ||
		    (deadline_ns != SHIM_WAIT_FOR_EVER && shim_wait_now_ns() >= deadline_ns))
			return n;
	}
	n = look(set, events, room, mask);
	while (n == 0 && shim_set_of(epfd) == set &&
	       (deadline_ns == SHIM_WAIT_FOR_EVER || shim_wait_now_ns() < deadline_ns)) {
		if (!spin(set)) {
			n = sleep_in_kernel(set, events, room, deadline_ns, mask);
			if (n != 0)
				return n;
		}
		n = look(set, events, room, mask);
	}
	return n;
}
