/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of an epoll set, corrected by what memory knows: a readiness that is only a
 * token is taken out, ends are judged, edges and one-shots are told once. */
#include "preload/sets_parts.h"
#include "preload/waits.h"

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

/* Locked.  The kernel says that there is room.  An edge-triggered registration is told so again
 * only if there was none since it was told: then something has gone, or tried to go, by the kernel.
 * (Its own edge of the epoll_ctl may still be under way, and a token that was read makes another.)
 */
static bool room_is_true(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);
	bool is_true = !r;

	for (; r; r = shim_registration_same_data(r)) {
		if (r->out == SHIM_OUT_TOLD && (r->event.events & EPOLLET) &&
		    (r->event.events & SHIM_SET_OUT_EVENTS) && shim_registration_is_ours(r) &&
		    r->out_seen == atomic_load(&r->conn->tx.by_kernel))
			continue;
		is_true = true;
		if (r->event.events & SHIM_SET_OUT_EVENTS)
			shim_registration_told_room(r);
		if (shim_registration_is_ours(r))
			shim_registration_make_hot(&set->registrations, r);
	}
	return is_true;
}

/* Dropped although one-shot: the kernel must tell again. */
static void rearm_dropped(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);

	for (; r; r = shim_registration_same_data(r)) {
		if (!(r->event.events & EPOLLONESHOT) || r->disabled || r->stray)
			continue;
		shim_registration_note_change(&set->registrations, r);
		shim_set_tell_kernel_of(set, r);
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

/* In a set of ours alone it waits for a hang-up still, whose connection ever it is by then; from
 * others' eyes it is hidden, and what comes of it they have asked for. */
static bool is_silenced(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);

	return r && r->disabled && (!set->strict || shim_registration_is_ours(r)) &&
	       !shim_registration_same_data(r);
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

/* Locked.  Takes out of the kernel's event what is not true.  False: nothing is left. */
static bool correct(struct shim_set *set, struct epoll_event *event)
{
	const uint32_t out = SHIM_SET_OUT_EVENTS;

	correct_hangup(set, event);
	if (is_silenced(set, event))
		return false;
	if ((event->events & SHIM_SET_IN_EVENTS) && !input_is_true(set, event) &&
	    !(event->events & SHIM_SET_HANGUP_EVENTS))
		event->events &= ~(uint32_t)SHIM_SET_IN_EVENTS;
	/* each event is one of all that is true */
	if ((event->events & out) && !room_is_true(set, event) && !(event->events & ~out))
		event->events = 0;
	if (event->events)
		told_by_kernel(set, event);
	else
		rearm_dropped(set, event);
	return event->events != 0;
}

/* Locked.  An event that only the kernel could give is told, or is taken for one of memory's: a
 * receive must find what it stood for. */
static void note_report(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations,
								event->data.u64);

	for (; r && (event->events & ~(uint32_t)SHIM_SET_OUT_EVENTS);
	     r = shim_registration_same_data(r))
		shmipc_receiver_was_reported(&r->conn->rx);
}

/* Locked.  The kernel's answer to the same registration as memory's. */
static void add_to(struct shim_set *set, struct epoll_event *said, struct epoll_event *event)
{
	correct_hangup(set, event);
	event->events &= ~said->events;
	if ((event->events & SHIM_SET_IN_EVENTS) && !input_is_true(set, event))
		event->events &= ~(uint32_t)SHIM_SET_IN_EVENTS;
	if (event->events)
		set->quiet_looks = 0;
	said->events |= event->events;
}

int shim_set_merge(struct shim_set *set, struct epoll_event *events, int n, int k)
{
	int out = n;

	for (int i = n; i < n + k; i++) {
		struct epoll_event event = events[i];
		int same = 0;

		if (event.data.u64 == SHIM_SET_KICK_DATA) {
			shim_set_unkick(set);
			set->quiet_looks = 0;
			continue;
		}
		note_report(set, &event);
		while (same < n && events[same].data.u64 != event.data.u64)
			same++;
		if (same < n) {
			add_to(set, &events[same], &event);
		} else if (correct(set, &event)) {
			set->quiet_looks = 0;
			events[out++] = event;
		}
	}
	return out;
}
