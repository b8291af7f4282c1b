/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/sets_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "core/relaxing.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/conn.h"
#include "preload/waits.h"

struct shim_set *shim_sets;
static _Atomic int set_limit; /* sets at and above were never used */

int shim_sets_limit(void)
{
	return atomic_load(&set_limit);
}

enum { RENEWALS = 3 }; /* of an edge, while another thread reads */

int shim_sets_start(void)
{
	long at = sys_mmap(NULL, SHIM_SETS_MAX * sizeof(struct shim_set), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -4096)
		return (int)at;
	shim_sets = (struct shim_set *)at;
	shim_sets_may_rouse();
	return shim_registrations_start();
}

void shim_set_opened(int epfd)
{
	if (!shim_sets || (uint32_t)epfd >= SHIM_FD_MAX)
		return;
	for (uint32_t i = 0; i < SHIM_SETS_MAX; i++) {
		struct shim_set *set = &shim_sets[i];
		uint32_t used = 0;

		if (atomic_load(&set->used) ||
		    !atomic_compare_exchange_strong(&set->used, &used, 1))
			continue;
		while ((int)i >= atomic_load(&set_limit))
			atomic_fetch_add(&set_limit, 1);
		set->epfd = epfd;
		atomic_store(&set->numbers, 1);
		set->birth++;
		set->generation = shmipc_process_generation();
		set->strict = set->apart = shmipc_relaxing_is_forbidden();
		set->rousable = set->together = false;
		atomic_store(&set->kicked, false);
		atomic_store(&set->roused, false);
		atomic_store(&set->marked, false);
		atomic_store(&set->asleep, false);
		set->tagged = false;
		set->forked = false;
		set->lent = NULL;
		memset((void *)set->plain, 0, sizeof(set->plain));
		set->waits = set->quiet_looks = 0;
		set->look_every_ticks = 0;
		atomic_store(&set->waited, false);
		atomic_store(&set->sleepers, 0);
		atomic_store(&set->members, 0);
		set->shrink = (struct shim_shrink){ 0 };
		shmipc_spin_init(&set->spin);
		shmipc_spin_init(&set->glance);
		shim_registrations_init(&set->registrations);
		shim_fd_touch(epfd);
		shim_fd_set(epfd, shim_fd_make(SHIM_FD_SET, i));
		return;
	}
}

/* ---- one registration ---- */

void shim_set_renew_edge(struct shim_set *set, struct shim_registration *r)
{
	bool alone = shim_conn_private(r->conn);

	if (!(r->event.events & EPOLLET) || set->strict || r->conn->rx.foreign ||
	    !shmipc_relaxing_is_allowed()) {
		shmipc_receiver_readable(&r->conn->rx, r->fd, alone);
		return;
	}
	/* what kept a token there another thread may have read by now */
	for (int i = 0; i < RENEWALS; i++)
		if (!shmipc_receiver_drop_tokens(&r->conn->rx, r->fd, r->seen, alone) ||
		    shim_registration_has_news(r))
			return;
	/* and again, and again: then each message brings a token of its own until we arm anew */
	shmipc_receiver_strict(&r->conn->rx, true);
}

__attribute__((hot)) void shim_set_told(const struct shim_set *set, struct shim_registration *r)
{
	if ((r->event.events & EPOLLET) && (set->strict || r->conn->rx.foreign) &&
	    shim_registration_is_ours(r))
		shmipc_receiver_thin_out_tokens(&r->conn->rx, r->fd, shim_conn_private(r->conn));
	shim_registration_told(r);
}

static void arm(const struct shim_set *set, struct shim_registration *r)
{
	shmipc_receiver_arm(&r->conn->rx);
	r->armed = true;
	if (set->strict || r->conn->rx.foreign)
		shmipc_receiver_strict(&r->conn->rx, true);
	else if (atomic_load(&r->conn->rx.watchers) == 1) /* a second set may not have armed it */
		shmipc_receiver_relax(&r->conn->rx);
}

/* A sleep is about to begin, or is under way: the next bytes must bring a token. */
__attribute__((hot)) void shim_set_arm(struct shim_set *set, struct shim_registration *r)
{
	if (!(r->event.events & SHIM_SET_IN_EVENTS) || !shim_registration_is_ours(r) ||
	    (r->armed && set->strict))
		return;
	if (!r->armed)
		arm(set, r);
	/* armed already: of one that was cold room was told, and its edge may be used up */
	if (!shim_registration_has_news(r) && shmipc_receiver_has_tokens(&r->conn->rx))
		shim_set_renew_edge(set, r);
}

/* The kernel's own, once told, waits for nothing; one that epoll_ctl has set to nothing waits for a
 * hang-up still.  Where only we look, its events are dropped; others must find none: it leaves the
 * kernel's set until the application changes it. */
void shim_set_silence(struct shim_set *set, struct shim_registration *r)
{
	struct epoll_event none = { 0 };
	int result;

	r->disabled = true;
	shmipc_receiver_disturb(&r->conn->rx); /* a sleeper does not hear of it any more */
	if (r->stray) /* out of reach: its event is dropped when it comes */
		return;
	if (!set->strict && shmipc_relaxing_is_allowed()) {
		shim_registration_note_change(&set->registrations, r);
		if (atomic_load(&set->sleepers) > 0)
			shim_set_tell_kernel_of(set, r);
	} else if (!r->absent) {
		result = sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, r->fd, &none);
		r->absent = result == 0 || result == -ENOENT; /* a relative was told too */
		shim_registration_forget_change(&set->registrations, r);
	}
}

/* It counts no more. */
static __attribute__((hot)) void part(struct shim_set *set, struct shim_registration *r)
{
	shim_registration_disarm(r);
	shim_set_unwatch(set, r);
	atomic_fetch_sub(&r->conn->rx.watchers, 1);
	atomic_fetch_sub(&set->members, 1);
}

void shim_set_remove(struct shim_set *set, struct shim_registration *r)
{
	if (!r->ghost)
		part(set, r);
	shim_registration_remove(&set->registrations, r);
	shim_set_unkick(set);
}

void shim_set_bury(struct shim_set *set, struct shim_registration *r)
{
	part(set, r);
	shim_registration_become_ghost(&set->registrations, r);
	shim_set_unkick(set);
}

void shim_sets_settle(void)
{
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) || !set->kicked ||
		    !shim_set_enter(set))
			continue;
		shim_set_unkick(set);
		shim_set_leave(set);
	}
}

/* ---- strict ---- */

void shim_set_make_foreign(struct shim_set *set, struct shim_registration *r)
{
	struct shmipc_receiver *rx = &r->conn->rx;

	rx->foreign = SHMIPC_FOREIGN_WAITS;
	if (!shim_registration_is_ours(r))
		return;
	shmipc_receiver_strict(rx, true);
	/* the edge of a token that lies there may have been told already */
	if (shim_registration_needs_kick(r) &&
	    (!shmipc_receiver_has_tokens(rx) || (r->event.events & EPOLLET)))
		shim_set_kick(set);
	else if (shmipc_receiver_has_tokens(rx) && !shmipc_receiver_hint(rx))
		shmipc_receiver_readable(rx, r->fd, shim_conn_private(r->conn));
}

/* Locked. */
void shim_set_make_strict(struct shim_set *set)
{
	if (set->strict)
		return;
	shim_set_tell_kernel(set);
	set->strict = true;
	/* [together] then each becomes strict, which is a fence, and is looked at */
	shim_set_lie_alone(set);
	for (struct shim_registration *r = shim_registration_first(&set->registrations); r;
	     r = shim_registration_next(r)) {
		shim_set_unwatch(set, r);
		shim_set_make_foreign(set, r);
		if (r->disabled)
			shim_set_silence(set, r);
	}
	if (set->rousable && !set->kicked) /* nobody depends on it, and others may see the set */
		shim_set_stop_kick(set);
}

void shim_set_is_foreign(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);

	if (!set || set->strict)
		return;
	set = shim_set_enter_by(epfd);
	if (!set)
		return;
	shim_set_make_strict(set);
	shim_set_leave(set);
}

bool shim_set_is_doubtful(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);

	return set && (atomic_load(&set->members) > 0 || atomic_load(&set->marked));
}

/* No token that lies before bytes of the ring: it may be what wakes somebody who waits for them. */
static bool take_lone_tokens(struct shim_set *set)
{
	struct shim_registration *r = shim_registration_first(&set->registrations);
	bool any = false;

	for (; r; r = shim_registration_next(r)) {
		if (!shim_registration_wants_bytes(r) || shim_registration_has_news(r) ||
		    !shmipc_receiver_has_tokens(&r->conn->rx))
			continue;
		shmipc_receiver_readable(&r->conn->rx, r->fd, shim_conn_private(r->conn));
		any = true;
	}
	return any;
}

bool shim_set_clear(int epfd)
{
	struct shim_set *set = shim_set_is_doubtful(epfd) ? shim_set_enter_by(epfd) : NULL;
	bool any, was_kicked, was_roused;

	if (!set)
		return false;
	any = take_lone_tokens(set);
	was_kicked = set->kicked;
	if (was_kicked) /* another process may have been the last that held what it was for */
		shim_set_unkick(set);
	was_roused = atomic_load(&set->roused) && !set->together;
	if (was_roused) /* and has looked without asking the kernel */
		shim_set_kick_came(set);
	any |= (was_kicked && !set->kicked) || was_roused;
	shim_set_leave(set);
	return any;
}

void shim_set_is_given_away(int epfd)
{
	struct shim_set *set = shim_set_enter_by(epfd);

	if (!set)
		return;
	shim_set_make_strict(set);
	shim_set_untag_all(set);
	shim_set_leave(set);
}

void shim_sets_are_given_away(void)
{
	for (int i = 0; i < atomic_load(&set_limit); i++)
		if (atomic_load(&shim_sets[i].used))
			shim_set_is_given_away(shim_sets[i].epfd);
}

/* ---- fork ---- */

/* The locks stay ours until the copy is made: what they protect is whole in the child. */
void shim_sets_before_fork(void)
{
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];

		if (!atomic_load(&set->used) || !shim_set_enter(set))
			continue;
		shim_set_make_strict(set);
		set->forked = set->apart = true; /* whoever makes a tag is not alone any more */
		set->held_for_fork = true;
	}
}

void shim_sets_after_fork(void)
{
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];

		if (!set->held_for_fork)
			continue;
		set->held_for_fork = false;
		shim_set_leave(set);
	}
}

/* The sleepers and what they armed are the parent's; the registrations are ours too. */
void shim_sets_in_child(void)
{
	shim_set_lies_down(NULL);
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];
		struct shim_registration *r = shim_registration_first(&set->registrations);

		atomic_store(&set->lock.owner, 0);
		atomic_store(&set->sleepers, 0);
		shim_set_is_left_in_child(set);
		set->held_for_fork = set->together = false;
		atomic_store(&set->asleep, false);
		atomic_store(&set->roused, false);
		set->generation = shmipc_process_generation();
		for (; atomic_load(&set->used) && r; r = shim_registration_next(r)) {
			r->armed = false;
			atomic_fetch_add(&r->conn->rx.watchers, 1);
		}
	}
}

/* ---- changes ---- */

void shim_set_duplicated(int from, int to)
{
	struct shim_set *set = shim_set_enter_by(from);

	if (!set)
		return;
	shim_set_make_strict(set); /* whoever waits by it may do so where we do not see it */
	if (!shim_process_is_borrowed()) {
		atomic_fetch_add(&set->numbers, 1);
		shim_fd_touch(to);
		shim_fd_set(to, shim_fd_make(SHIM_FD_SET, (uint32_t)(set - shim_sets)));
	}
	shim_set_leave(set);
}

/* Locked.  It is known by another number from now on.  False: it has none. */
static bool goes_on(struct shim_set *set, int epfd)
{
	uint32_t word = shim_fd_make(SHIM_FD_SET, (uint32_t)(set - shim_sets));
	int other = 0;

	if (atomic_fetch_sub(&set->numbers, 1) == 1)
		return false;
	while (set->epfd == epfd && other < shim_fd_limit() && shim_fd_word(other) != word)
		other++;
	if (set->epfd == epfd)
		set->epfd = other;
	return true;
}

/* Born again as something else: the kernel has closed it unseen. */
void shim_set_number_lost(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);

	shim_fd_set(epfd, 0);
	if (!set || !shim_set_enter(set))
		return;
	goes_on(set, epfd);
	shim_set_leave(set);
}

void shim_set_closed(int epfd)
{
	uint32_t word = shim_fd_word(epfd);
	struct shim_set *set = shim_set_of(epfd);
	struct shim_registration *r;
	bool wakes;

	/* [hold]; what was put off dies with the kernel's set */
	if (!set || !shim_fd_forget(epfd, word)) /* another thread closes the same number */
		return;
	if (!shim_set_enter(set))
		return;
	if (goes_on(set, epfd)) {
		shim_set_leave(set);
		return;
	}
	if (atomic_load(&set->sleepers) > 0) /* for them it lives on, and we know it no more */
		shim_set_make_strict(set);
	/* others that hold it would be told for ever */
	wakes = atomic_load(&set->sleepers) > 0 && set->kicked && !set->forked;
	set->lent = NULL;
	if (set->forked) /* the kernel's set may live on: others have news of it */
		shim_set_forget_kick(set);
	while ((r = shim_registration_first(&set->registrations)))
		shim_set_remove(set, r);
	shim_set_stop_kick(set);
	if (wakes) { /* no token tells them, and we shall not */
		shim_set_kick(set);
		shim_set_forget_kick(set);
	}
	shim_set_shut(set);
	shim_set_leave(set);
	shim_set_give_back(set);
}

/* Also of one that is libc's own by now: a registration of before outlives its number there too. */
static int another_number(const struct shim_conn *conn, int than)
{
	const uint32_t index = shim_conn_index(conn);
	const uint32_t ours = shim_fd_make(SHIM_FD_CONN, index);
	const uint32_t plain = shim_fd_make(SHIM_FD_PLAIN, index);

	for (int fd = 0; fd < shim_fd_limit(); fd++)
		if (fd != than && (shim_fd_word(fd) == ours || shim_fd_word(fd) == plain))
			return fd;
	return -1;
}

/* A dup keeps the kernel's registration alive, under a number that is none; a forked child may hold
 * one too. */
static void lose_number(struct shim_set *set, struct shim_registration *r)
{
	int other = another_number(r->conn, r->fd);

	if (r->ghost) {
		shim_set_remove(set, r);
		return;
	}
	r->conn->rx.foreign = SHMIPC_FOREIGN_WAITS;
	if (shim_registration_is_ours(r))
		shmipc_receiver_strict(&r->conn->rx, true);
	if (other >= 0) {
		shim_registration_go_astray(&set->registrations, r, other);
		return;
	}
	if (set->kicked && set->forked && shim_registration_has_news(r)) {
		set->lent = r->conn;
		set->lent_birth = r->conn->birth;
	}
	shim_set_remove(set, r);
}

__attribute__((hot)) void shim_set_lose_number(struct shim_set *set, int fd)
{
	struct shim_registration *r;

	while ((r = shim_registration_at(&set->registrations, fd)))
		lose_number(set, r);
}

__attribute__((hot)) void shim_set_number_closed(int fd)
{
	atomic_thread_fence(memory_order_seq_cst); /* [number] */
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];
		struct shim_registration *r;

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) ||
		    (atomic_load_explicit(&set->members, memory_order_relaxed) == 0 &&
		     !shim_registration_changed(&set->registrations)) ||
		    !shim_set_enter(set))
			continue;
		r = shim_registration_by_fd(&set->registrations, fd);
		if (r) /* the number still stands for it */
			shim_set_tell_kernel_of(set, r);
		shim_set_lose_number(set, fd);
		shim_set_leave(set);
	}
}

void shim_sets_disarm(struct shim_conn *conn)
{
	for (int i = 0; i < atomic_load(&set_limit) && atomic_load(&conn->rx.watchers) > 0; i++) {
		struct shim_set *set = &shim_sets[i];

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) ||
		    atomic_load_explicit(&set->members, memory_order_relaxed) == 0 ||
		    !shim_set_enter(set))
			continue;
		for (struct shim_registration *r = shim_registration_first(&set->registrations); r;
		     r = shim_registration_next(r)) {
			if (r->conn != conn)
				continue;
			shim_registration_disarm(r);
			r->seen = 0; /* of a stream that is over */
		}
		shim_set_leave(set);
	}
}

uint32_t shim_sets_watching(const struct shim_conn *conn)
{
	uint32_t count = 0;

	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) ||
		    atomic_load_explicit(&set->members, memory_order_relaxed) == 0 ||
		    !shim_set_enter(set))
			continue;
		for (struct shim_registration *r = shim_registration_first(&set->registrations); r;
		     r = shim_registration_next(r))
			count += r->conn == conn && !r->ghost;
		shim_set_leave(set);
	}
	return count;
}

void shim_set_number_reborn(int fd, struct shim_conn *conn)
{
	if (atomic_load(&conn->rx.watchers) == 0)
		return;
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];
		struct shim_registration *r;

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) || !shim_set_enter(set))
			continue;
		r = shim_registration_first(&set->registrations);
		while (r && !(r->stray && r->number == fd && r->conn == conn))
			r = shim_registration_next(r);
		if (r)
			shim_registration_come_back(&set->registrations, r);
		shim_set_leave(set);
	}
}

void shim_sets_edge(struct shim_conn *conn)
{
	if (atomic_load(&conn->rx.watchers) == 0)
		return;
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];
		struct shim_registration *r;

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) || !shim_set_enter(set))
			continue;
		for (r = shim_registration_first(&set->registrations); r;
		     r = shim_registration_next(r)) {
			if (r->conn != conn || r->ghost || !(r->event.events & EPOLLET))
				continue;
			r->seen = shmipc_receiver_arrived(&conn->rx) - 1;
			r->hangup_told = false;
			shim_registration_make_hot(&set->registrations, r);
			if (atomic_load(&set->sleepers) > 0 && shim_registration_has_news(r))
				shim_set_kick(set);
		}
		shim_set_leave(set);
	}
}

__attribute__((hot)) bool shim_set_concerns_us(int epfd, bool may_sleep)
{
	struct shim_set *set = shim_set_of(epfd);

	/* strict: another process that shares the set may have made it ready */
	return set && (may_sleep || set->strict || set->tagged || set->marked ||
		       atomic_load_explicit(&set->members, memory_order_relaxed) > 0 ||
		       shim_registration_changed(&set->registrations));
}
