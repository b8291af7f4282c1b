/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of an epoll set, corrected by what memory knows: a readiness that is only a
 * token is taken out, ends are judged, edges and one-shots are told once. */
#include "core/ending.h"
#include "preload/sets_parts.h"
#include "preload/waits.h"

/* By the peer: behind our own shutdown of a TCP socket poll() and recv() find an end in any case.
 */
static bool has_ended(const struct shim_conn *conn, int fd)
{
	struct pollfd entry = { .fd = fd, .events = POLLRDHUP };

	if (conn->rx.pending_error)
		return true;
	if (conn->rx.shut && !conn->is_unix)
		return shmipc_ending_has_come(fd);
	return conn->rx.eof || sys_poll(&entry, 1, 0) > 0;
}

/* Locked.  The kernel says that there is something to read: is that so? */
static __attribute__((hot)) bool input_is_true(struct shim_set *set, struct shim_registration *r)
{
	bool by_ring;

	if (!shim_registration_is_ours(r) || !(r->event.events & SHIM_SET_IN_EVENTS)) {
		shim_registration_told(r); /* what is here before the ring is */
		return true;
	}
	if (!set->strict &&
	    !set->asleep) /* which another thread may be, and must hear of the next */
		shim_registration_disarm(r);
	shim_registration_make_hot(&set->registrations, r);
	if (shim_registration_has_news(r)) {
		shim_set_told(set, r);
		return true;
	}
	if (!shim_wait_is_true(r->conn, r->fd))
		return false;
	/* payload by the kernel, the end, a shutdown by another process, or bytes of the ring that
	 * an edge was reported for */
	by_ring = shmipc_receiver_arrived(&r->conn->rx) == r->seen &&
		  r->shutdowns == atomic_load(&r->conn->shutdowns) &&
		  shmipc_receiver_only_tokens(&r->conn->rx, r->fd) && !has_ended(r->conn, r->fd);
	/* not told: what has arrived since that look is news still */
	if ((r->event.events & EPOLLET) && by_ring)
		return false;
	shim_set_told(set, r);
	return true;
}

/* Locked.  The kernel says that there is room.  An edge-triggered registration is told so again
 * only if there was none since it was told: then something has gone, or tried to go, by the kernel.
 * (Its own edge of the epoll_ctl may still be under way, and a token that was read makes another.)
 */
static bool room_is_true(struct shim_set *set, struct shim_registration *r)
{
	if (r->out == SHIM_OUT_TOLD && (r->event.events & EPOLLET) &&
	    (r->event.events & SHIM_SET_OUT_EVENTS) && shim_registration_is_ours(r) &&
	    r->out_seen == atomic_load(&r->conn->tx.by_kernel))
		return false;
	if (r->event.events & SHIM_SET_OUT_EVENTS)
		shim_registration_told_room(r);
	if (shim_registration_is_ours(r))
		shim_registration_make_hot(&set->registrations, r);
	return true;
}

/* Dropped although one-shot: the kernel must tell again. */
static void rearm_dropped(struct shim_set *set, struct shim_registration *r)
{
	if (!(r->event.events & EPOLLONESHOT) || r->disabled || r->stray)
		return;
	shim_registration_note_change(&set->registrations, r);
	shim_set_tell_kernel_of(set, r);
}

/* In a set of ours alone it waits for a hang-up still, whose connection ever it is by then; from
 * others' eyes it is hidden, and what comes of it they have asked for. */
static bool is_silenced(const struct shim_set *set, const struct shim_registration *r)
{
	return r->disabled && (!set->strict || shim_registration_is_ours(r));
}

static __attribute__((hot)) void correct_hangup(struct shim_registration *r,
						struct epoll_event *event)
{
	uint32_t told = event->events;

	/* also of an end that only sends */
	if (!shim_conn_is_attached(r->conn))
		return;
	if ((told & SHIM_SET_IN_EVENTS) || !(r->event.events & SHIM_SET_IN_EVENTS))
		told |= shim_wait_ask(r->conn, r->fd);
	told = shim_wait_hangup(r->conn, r->event.events, told);
	event->events = told & (r->event.events | event->events | EPOLLERR | EPOLLHUP);
}

/* An edge of our own making: the socket learns of a reset when the application has been told. */
static bool is_told_twice(const struct shim_registration *r, const struct epoll_event *event)
{
	return r->hangup_told && (event->events & EPOLLHUP) && r->conn->tx.edge_made;
}

/* Locked.  Takes out of the kernel's event what is not true.  False: nothing is left. */
static bool correct(struct shim_set *set, struct shim_registration *r, struct epoll_event *event)
{
	const uint32_t out = SHIM_SET_OUT_EVENTS;

	correct_hangup(r, event);
	if (is_silenced(set, r) || is_told_twice(r, event))
		return false;
	if ((event->events & SHIM_SET_IN_EVENTS) && !input_is_true(set, r) &&
	    !(event->events & SHIM_SET_HANGUP_EVENTS))
		event->events &= ~(uint32_t)SHIM_SET_IN_EVENTS;
	/* each event is one of all that is true */
	if ((event->events & out) && !room_is_true(set, r) && !(event->events & ~out))
		event->events = 0;
	shim_registration_told_end(r, event->events);
	if (event->events == 0)
		rearm_dropped(set, r);
	else if (r->event.events & EPOLLONESHOT)
		r->disabled = true; /* the kernel has done the same, also before there is a ring */
	return event->events != 0;
}

/* Locked.  The kernel's answer to the same registration as memory's. */
static void add_to(struct shim_set *set, struct shim_registration *r, struct epoll_event *said,
		   struct epoll_event *event)
{
	correct_hangup(r, event);
	event->events &= ~said->events;
	if ((event->events & SHIM_SET_IN_EVENTS) && !input_is_true(set, r))
		event->events &= ~(uint32_t)SHIM_SET_IN_EVENTS;
	shim_registration_told_end(r, event->events);
	if (event->events)
		set->quiet_looks = 0;
	said->events |= event->events;
}

/* Told, or taken for one of memory's: must a receive find what it stood for?  A level-triggered
 * wait is told of bytes, or of an end behind them, as long as they are there. */
static bool is_told_once(const struct shim_registration *r, uint32_t events)
{
	return (r->event.events & (EPOLLET | EPOLLONESHOT)) ||
	       (events & ~(uint32_t)(SHIM_SET_IN_EVENTS | SHIM_SET_OUT_EVENTS));
}

/* Locked.  The registration whose event it is, which now has the application's data. */
static struct shim_registration *find(struct shim_set *set, struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_tag(&set->registrations,
							       event->data.u64);

	for (; r; r = shim_registration_same_tag(r)) {
		shmipc_receiver_disturb(&r->conn->rx); /* an edge may be another thread's */
		if (!(event->events & ~(uint32_t)SHIM_SET_OUT_EVENTS))
			continue;
		shim_set_watch_told(set, r);
		if (is_told_once(r, event->events))
			shmipc_receiver_was_reported(&r->conn->rx);
		if (r->blurred)
			shim_registration_told(r);
	}
	return shim_set_untag(set, event);
}

/* Locked.  A token's event: memory would have told it, had it been asked. */
static bool is_memorys(const struct shim_registration *r, uint32_t events)
{
	return !(events & ~(uint32_t)(SHIM_SET_IN_EVENTS | SHIM_SET_OUT_EVENTS)) &&
	       shim_registration_has_news(r) && shmipc_receiver_follows_ring(&r->conn->rx);
}

/* Locked.  The edge that we have been told of was to wake another thread, which sleeps on. */
static void renew_edge(struct shim_set *set, struct shim_registration *r)
{
	if (!set->asleep || !r->armed || !(r->event.events & EPOLLET) ||
	    !shim_registration_is_ours(r))
		return;
	shim_set_renew_edge(set, r);
	if (shim_registration_has_news(r))
		shim_set_kick(set); /* what has come meanwhile has made no edge */
}

__attribute__((hot)) int shim_set_merge(struct shim_set *set, struct epoll_event *events, int n,
					int k)
{
	int out = n;

	for (int i = n; i < n + k; i++) {
		struct epoll_event event = events[i];
		const uint64_t tag = event.data.u64;
		struct shim_registration *r;
		bool known;
		int same = 0;

		if (event.data.u64 == SHIM_SET_KICK_DATA) {
			shim_set_kick_came(set);
			set->quiet_looks = 0;
			continue;
		}
		/* another process may hold the set, and what is closed here */
		if (!set->apart && !shim_registration_by_tag(&set->registrations, tag) &&
		    shim_set_comes_late(&event))
			continue;
		r = find(set, &event);
		while (r && same < n && events[same].data.u64 != tag)
			same++;
		known = r && is_memorys(r, event.events);
		if (r && same < n) {
			add_to(set, r, &events[same], &event);
		} else if (!r || correct(set, r, &event)) {
			if (!known)
				set->quiet_looks = 0;
			events[out++] = event;
		}
		if (r)
			renew_edge(set, r);
	}
	return out;
}
