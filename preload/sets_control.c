/* SPDX-License-Identifier: Apache-2.0 */
/* epoll_ctl: what the application wants of a set. */
#include <errno.h>

#include "core/sys.h"
#include "preload/conn.h"
#include "preload/pins.h"
#include "preload/pointers.h"
#include "preload/sets_parts.h"

/* The pool of registrations is used up: others wait for it. */
static void waits_unknown(struct shim_conn *conn)
{
	conn->rx.foreign = SHMIPC_FOREIGN_WAITS;
	if (conn->rx.ready)
		shmipc_receiver_strict(&conn->rx, true);
}

/* It counts among the set's members and its connection's watchers. */
static struct shim_registration *join(struct shim_set *set, struct shim_conn *conn, int fd,
				      uint64_t tag)
{
	struct shim_registration *r = shim_registration_by_fd(&set->registrations, fd);

	if (r && !r->ghost) {
		shim_registration_retag(&set->registrations, r, tag);
		return r;
	}
	if (r)
		shim_registration_revive(&set->registrations, r, tag);
	else
		r = shim_registration_add(&set->registrations, fd, tag);
	if (!r)
		return NULL;
	r->conn = conn;
	r->armed = false;
	atomic_fetch_add(&conn->rx.watchers, 1);
	atomic_fetch_add(&set->members, 1);
	return r;
}

__attribute__((hot)) struct shim_registration *shim_set_register(struct shim_set *set,
								 struct shim_conn *conn, int fd,
								 const struct epoll_event *event,
								 uint64_t tag)
{
	struct shim_registration *r = join(set, conn, fd, tag);

	if (!r) {
		waits_unknown(conn);
		return NULL;
	}
	shim_set_tag_means(tag, event->data.u64);
	r->event = *event;
	r->blurred = shim_set_is_blurred(set, r);
	r->disabled = r->absent = r->hangup_told = false;
	r->shutdowns = atomic_load(&conn->shutdowns);
	r->out = SHIM_OUT_DUE;
	r->quiet = 0;
	r->seen = shmipc_receiver_arrived(&conn->rx) - 1; /* what is there now is news */
	shim_registration_disarm(r);
	shim_registration_make_hot(&set->registrations, r);
	shim_set_watch(set, r);
	if (set->strict)
		shim_set_make_foreign(set, r);
	else if (!atomic_load(&set->waited) && shim_registration_is_ours(r))
		shmipc_receiver_strict(&conn->rx, true); /* the set's own wait relaxes it */
	/* [add] the registration, then the sleepers; a wait counts itself, then looks for
	 * registrations */
	if (set->strict || atomic_load(&set->sleepers) > 0) {
		shim_set_arm(set, r);
		if (shim_registration_needs_kick(r) && !shmipc_receiver_has_tokens(&conn->rx))
			shim_set_kick(set);
	}
	return r;
}

struct shim_registration *shim_set_register_known(struct shim_set *set, struct shim_conn *conn,
						  int fd, const struct epoll_event *event,
						  uint64_t tag)
{
	struct shim_registration *r = shim_set_register(set, conn, fd, event, tag);

	if (r) {
		r->in_kernel = *event;
		r->in_kernel.data.u64 = tag;
	}
	return r;
}

/* ---- epoll_ctl ---- */

/* A registration that is removed, and of which the kernel has not heard, counts against the user's
 * limit. */
static int ask_kernel(int epfd, int operation, int fd, struct epoll_event *event)
{
	int result = sys_epoll_ctl(epfd, operation, fd, event);

	if (__builtin_expect(result == -ENOSPC || result == -ENOMEM, 0) && shim_sets_show())
		result = sys_epoll_ctl(epfd, operation, fd, event);
	return result;
}

/* A one-shot that was told is out of the kernel's set, as the application cannot know: unless
 * another process has changed it since. */
static int ask_kernel_of_absent(int epfd, int operation, int fd, struct epoll_event *event)
{
	int result;

	if (operation == EPOLL_CTL_ADD && !shim_pointer_is_bad(event, sizeof(*event)))
		return -EEXIST;
	if (operation == EPOLL_CTL_DEL) {
		result = sys_epoll_ctl(epfd, operation, fd, event);
		return result == -ENOENT ? 0 : result;
	}
	result = sys_epoll_ctl(epfd, EPOLL_CTL_ADD, fd, event);
	return result == -EEXIST ? sys_epoll_ctl(epfd, operation, fd, event) : result;
}

static bool has_any(const struct shim_set *set)
{
	return atomic_load_explicit(&set->members, memory_order_relaxed) > 0 ||
	       shim_registration_changed(&set->registrations);
}

/* The number is no connection of ours any more, and this registration is of before: what was put
 * off for it, or taken out of the kernel's set, comes first; from then on it is the kernel's alone.
 * -ENODATA: none of these. */
static int control_former(struct shim_set *set, int operation, int fd, struct epoll_event *event)
{
	struct shim_registration *r;
	int result = -ENODATA;

	if (!set || shim_conn_of(fd) || !has_any(set) || !shim_set_enter(set))
		return result;
	r = shim_registration_by_fd(&set->registrations, fd);
	if (r)
		shim_set_tell_kernel_of(set, r);
	r = shim_registration_by_fd(&set->registrations, fd);
	if (r) {
		result = r->absent ? ask_kernel_of_absent(set->epfd, operation, fd, event)
				   : sys_epoll_ctl(set->epfd, operation, fd, event);
		if (result >= 0)
			shim_set_remove(set, r);
	}
	shim_set_leave(set);
	return result;
}

/* A number that is no connection of ours, or a set of which we know nothing. */
static int control_other(struct shim_set *set, int epfd, int operation, int fd,
			 struct epoll_event *event)
{
	struct shim_conn *conn = shim_conn_of(fd);
	bool nests = operation == EPOLL_CTL_ADD && shim_fd_kind(shim_fd_word(fd)) == SHIM_FD_SET;
	bool joins = set && !conn && operation != EPOLL_CTL_DEL && (uint32_t)fd < SHIM_FD_MAX &&
		     !shim_pointer_is_bad(event, sizeof(*event));
	struct epoll_event tagged, *told = event;
	int result;

	if (nests)
		shim_set_show(fd);
	if (joins) {
		tagged.events = event->events;
		tagged.data.u64 = shim_set_plain_joins(set, fd, event->data.u64);
		told = &tagged;
	}
	result = control_former(set, operation, fd, told);
	if (result == -ENODATA)
		result = ask_kernel(epfd, operation, fd, told);
	if (result < 0 && joins)
		shim_set_plain_stays_out(set, fd, event->data.u64, tagged.data.u64);
	if (result < 0)
		return result;
	if (nests)
		shim_set_is_foreign(fd);
	if (set)
		set->quiet_looks = 0;
	if (conn && operation != EPOLL_CTL_DEL)
		waits_unknown(conn);
	else if (!conn && (uint32_t)fd < SHIM_FD_MAX &&
		 shim_fd_kind(shim_fd_word(fd)) != SHIM_FD_SET)
		shim_set_remember_plain(set, operation, fd, event, joins ? tagged.data.u64 : 0);
	return 0;
}

/* Locked. */
static int control_now(struct shim_set *set, struct shim_conn *conn, int operation, int fd,
		       struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_fd(&set->registrations, fd);
	struct epoll_event tagged = { 0 }, *told = event;
	int result;

	/* its answer is to what it should know */
	if (r)
		shim_set_tell_kernel_of(set, r);
	r = shim_registration_by_fd(&set->registrations, fd);
	if (operation != EPOLL_CTL_DEL && !shim_pointer_is_bad(event, sizeof(*event))) {
		tagged.events = event->events;
		tagged.data.u64 = shim_set_tag_for(set, r, event->data.u64);
		told = &tagged;
	}
	result = r && r->absent ? ask_kernel_of_absent(set->epfd, operation, fd, told)
				: sys_epoll_ctl(set->epfd, operation, fd, told);
	if (result == -EEXIST && !r) /* nor shall we know of it */
		waits_unknown(conn);
	if (result < 0)
		return result;
	set->quiet_looks = 0;
	if (operation != EPOLL_CTL_DEL)
		shim_set_register_known(set, conn, fd, event, tagged.data.u64);
	else if ((r = shim_registration_by_fd(&set->registrations, fd)))
		shim_set_remove(set, r);
	return 0;
}

/*
 * Another thread may close the number meanwhile, and a third one get it for something else.
 *
 * [number] We count a member, fence, and look whether the number leads to the connection and none
 * of its numbers is closing; a close takes the number away, or says that it is closing, fence, and
 * enters each set that has members, before the kernel closes.  So either we see it, or it waits
 * until we leave the set and then finds what we have registered.  The connection is held: it is the
 * same one all the time.
 */
static bool stays(const struct shim_conn *conn, int fd)
{
	uint32_t word;

	atomic_thread_fence(memory_order_seq_cst); /* [number] */
	word = shim_fd_word(fd);
	return shim_fd_index(word) == shim_conn_index(conn) &&
	       (shim_fd_kind(word) == SHIM_FD_CONN || shim_fd_kind(word) == SHIM_FD_PLAIN) &&
	       !shim_pins_are_closing(conn);
}

/* Locked.  -ENODATA: the number leads to something else than the connection, or is about to. */
static int control_held(struct shim_set *set, struct shim_conn *conn, int operation, int fd,
			struct epoll_event *event)
{
	int result;

	atomic_fetch_add(&set->members, 1);
	if (!stays(conn, fd))
		result = -ENODATA;
	else if (shim_set_is_shut(set)) /* closed meanwhile; the number may be another set's */
		result = -EBADF;
	else if (shim_set_defer(set, conn, operation, fd, event))
		result = 0;
	else
		result = control_now(set, conn, operation, fd, event);
	atomic_fetch_sub(&set->members, 1);
	return result;
}

/* The set is held.  -ENODATA: look anew what the number is. */
static __attribute__((hot)) int control(struct shim_set *set, int epfd, int operation, int fd,
					struct epoll_event *event)
{
	struct shim_conn *conn = set ? shim_hold(fd) : NULL;
	int result;

	if (!conn)
		return control_other(set, epfd, operation, fd, event);
	if (shim_set_enter(set)) {
		result = control_held(set, conn, operation, fd, event);
		shim_set_leave(set);
	} else {
		result = sys_epoll_ctl(epfd, operation, fd, event);
	}
	shim_let_go(conn);
	return result;
}

__attribute__((hot)) int shim_set_control(int epfd, int operation, int fd,
					  struct epoll_event *event)
{
	struct shim_set *set = shim_set_hold(epfd);
	int result = control(set, epfd, operation, fd, event);

	while (result == -ENODATA) { /* whoever closes is in the middle of it */
		sys_sched_yield();
		result = control(set, epfd, operation, fd, event);
	}
	shim_set_let_go(set);
	if (__builtin_expect((result == -ENOSPC || result == -ENOMEM) && shim_sets_show(), 0))
		return shim_set_control(epfd, operation, fd, event);
	return result;
}
