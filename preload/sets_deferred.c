/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of which the kernel hears later.
 *
 * Event loops change what they wait for around each message: room to write, then bytes, then room
 * again.  Where the answers come from memory the kernel need not know, until somebody looks at what
 * it knows.
 *
 * Invariant: the kernel's set differs from what the application has told us only in those
 * registrations that are on the set's list of changed ones, and nobody looks at a set while
 * there are any.  Those who look:
 *
 *   a wait of ours    tells the kernel under the set's lock: before it sleeps in the same hold of
 *                     the lock in which it has counted itself as a sleeper, before it only asks.
 *                     Whoever changes something while a sleeper is counted tells the kernel at
 *                     once.  What is changed during a mere question comes after that question.
 *   others            nested sets, poll() on a set, duplicates, children, whoever is passed a set:
 *                     each of these makes it strict (sets.h) and tells the kernel before; from then
 *                     on nothing is put off.  A wait by means that we cannot see is not seen here
 *                     either; so only sets that have been waited for by our calls more than a few
 *                     times take part.
 *   new programs      exec and spawn tell the kernel of all sets first.  Not exec in a child of
 *                     vfork: its numbers are its own, the list is the parent's.
 *   a filter          before the process gets one (handover.c): it may forbid epoll_ctl.
 *
 * The kernel names a registration by number and file, so a number tells the kernel what was put off
 * for it before it is closed or replaced.
 *
 * What epoll_ctl() answers is true at once: only those changes are put off that the kernel could
 * not refuse.  Of a number that it has in this set: another wish (MOD), removal (DEL), and after
 * that the same number again (ADD); without flags that some kernels refuse.  The first ADD of a
 * number, and whatever is wrong, is its own to judge, after it has been told what it should know by
 * then.  A registration that is removed here counts against the user's limit until then: if the
 * kernel says that the limit is reached, all sets tell first, and it is asked again.
 */
#include <errno.h>

#include "core/relaxing.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/conn.h"
#include "preload/pointers.h"
#include "preload/sets_parts.h"

enum {
	SIMPLE_EVENTS = SHIM_SET_IN_EVENTS | SHIM_SET_OUT_EVENTS | SHIM_SET_HANGUP_EVENTS |
			EPOLLPRI,
};

/* EPOLLET is the sign of an enum. */
static const uint32_t simple_flags = SIMPLE_EVENTS | EPOLLONESHOT | (uint32_t)EPOLLET;

/* Can memory answer what the kernel does not know yet? */
static bool memory_answers(const struct shim_conn *conn, uint32_t events)
{
	return shmipc_receiver_follows_ring(&conn->rx) &&
	       (!(events & SHIM_SET_OUT_EVENTS) || shmipc_sender_has_room(&conn->tx));
}

static bool may_defer(const struct shim_set *set)
{
	return !set->strict && shmipc_relaxing_is_allowed() &&
	       set->waits >= SHIM_SET_WAITS_COUNTED && atomic_load(&set->sleepers) == 0 &&
	       set->generation == shmipc_process_generation();
}

__attribute__((hot)) bool shim_set_defer(struct shim_set *set, struct shim_conn *conn,
					 int operation, int fd, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_fd(&set->registrations, fd);

	if (!r || r->conn != conn || r->absent || !may_defer(set) || conn->rx.foreign ||
	    !shim_registration_is_ours(r) || (r->in_kernel.events & ~simple_flags) ||
	    r->ghost != (operation == EPOLL_CTL_ADD))
		return false;
	if (operation == EPOLL_CTL_DEL) {
		/* [plain] first the change, then one member less */
		shim_registration_note_change(&set->registrations, r);
		shim_set_bury(set, r);
		return true;
	}
	if ((operation != EPOLL_CTL_ADD && operation != EPOLL_CTL_MOD) ||
	    shim_pointer_is_bad(event, sizeof(*event)) || (event->events & ~simple_flags) ||
	    !memory_answers(conn, event->events))
		return false;
	shim_registration_note_change(&set->registrations, r);
	shim_set_register(set, conn, fd, event, shim_set_tag_for(set, r, event->data.u64));
	return true;
}

/* Told to be silent: a one-shot that has been used. */
static struct epoll_event wanted(const struct shim_registration *r)
{
	struct epoll_event event = { .events = r->event.events, .data.u64 = r->tag };

	if (r->disabled)
		event.events = (uint32_t)EPOLLET | EPOLLONESHOT;
	return event;
}

/* First the kernel, then the list: who finds the list empty asks the kernel without our lock. */
__attribute__((hot)) void shim_set_tell_kernel_of(struct shim_set *set, struct shim_registration *r)
{
	struct epoll_event event = wanted(r);

	if (!r->changed || set->generation != shmipc_process_generation())
		return;
	if (r->ghost) {
		sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, r->fd, &event);
		shim_registration_remove(&set->registrations, r);
		return;
	}
	/* level: away and back again is no change; else each MOD makes an edge */
	if (event.events != r->in_kernel.events || event.data.u64 != r->in_kernel.data.u64 ||
	    (event.events & ((uint32_t)EPOLLET | EPOLLONESHOT))) {
		if (sys_epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &event) == -EINVAL) {
			/* EPOLLEXCLUSIVE: it can only be told anew */
			sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, r->fd, &event);
			sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, r->fd, &event);
		}
		r->in_kernel = event;
	}
	shim_registration_forget_change(&set->registrations, r);
}

__attribute__((hot)) void shim_set_tell_kernel(struct shim_set *set)
{
	struct shim_registration *r;

	while ((r = shim_registration_changed(&set->registrations))) {
		shim_set_tell_kernel_of(set, r);
		if (shim_registration_changed(&set->registrations) == r)
			return; /* a copy that is not ours to speak for */
	}
}

void shim_set_show(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);

	if (!set || !shim_registration_changed(&set->registrations))
		return;
	set = shim_set_enter_by(epfd);
	if (!set)
		return;
	shim_set_tell_kernel(set);
	shim_set_leave(set);
}

bool shim_sets_show(void)
{
	bool any = false;

	for (int i = 0; i < shim_sets_limit(); i++) {
		struct shim_set *set = &shim_sets[i];

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) ||
		    !shim_registration_changed(&set->registrations) || !shim_set_enter(set))
			continue;
		shim_set_tell_kernel(set);
		shim_set_leave(set);
		any = true;
	}
	return any;
}
