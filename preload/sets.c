/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/sets_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "core/sys.h"
#include "core/thread.h"
#include "preload/conn.h"
#include "preload/waits.h"

struct shim_set *shim_sets;
static _Atomic int set_limit; /* sets at and above were never used */
static _Atomic int kick_fd = -1;
_Atomic uint32_t shim_sets_kicked;
const char shim_set_kick_mark; /* its address is the data of our own registration */

int shim_sets_start(void)
{
	long at = sys_mmap(NULL, SHIM_SETS_MAX * sizeof(struct shim_set), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -4096)
		return (int)at;
	shim_sets = (struct shim_set *)at;
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
		set->birth++;
		set->strict = set->kicked = false;
		atomic_store(&set->lacks, false);
		atomic_store(&set->waited, false);
		atomic_store(&set->sleepers, 0);
		atomic_store(&set->closed, false);
		atomic_store(&set->members, 0);
		set->shrink = (struct shim_shrink){ 0 };
		shmipc_spin_init(&set->spin);
		shim_registrations_init(&set->registrations);
		shim_fd_touch(epfd);
		shim_fd_set(epfd, shim_fd_make(SHIM_FD_SET, i));
		return;
	}
}

/* ---- one registration ---- */

/* A sleep is about to begin, or is under way: the next bytes must bring a token. */
void shim_set_arm(struct shim_set *set, struct shim_registration *r)
{
	if (!(r->event.events & SHIM_SET_IN_EVENTS) || !shim_registration_is_ours(r) || r->armed)
		return;
	shmipc_receiver_arm(&r->conn->rx);
	r->armed = true;
	if (set->strict || r->conn->rx.foreign)
		shmipc_receiver_strict(&r->conn->rx, true);
	else if (atomic_load(&r->conn->rx.watchers) == 1) /* a second set may not have armed it */
		shmipc_receiver_relax(&r->conn->rx);
	if (!shim_registration_has_news(r) && shmipc_receiver_has_tokens(&r->conn->rx)) {
		bool alone = shim_conn_private(r->conn);

		if (r->event.events & EPOLLET && !set->strict && !r->conn->rx.foreign)
			shmipc_receiver_drop_tokens(&r->conn->rx, r->fd, r->seen, alone);
		else
			shmipc_receiver_readable(&r->conn->rx, r->fd, alone);
	}
}

/* The kernel's own, once told, waits for nothing; one that epoll_ctl has set to nothing waits for a
 * hang-up still.  Where only we look, its events are dropped; others must find none: it leaves the
 * kernel's set until the application changes it. */
void shim_set_silence(struct shim_set *set, struct shim_registration *r)
{
	struct epoll_event silent = { .events = EPOLLET | EPOLLONESHOT, .data = r->event.data };

	r->disabled = true;
	if (r->stray) /* out of reach: its event is dropped when it comes */
		return;
	if (!set->strict) {
		sys_epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &silent);
	} else if (!r->absent) {
		r->absent = sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, r->fd, &silent) == 0;
		atomic_store(&set->lacks, true);
	}
}

/* ---- waking sleepers of our own process ---- */

static void make_kick_fd(void)
{
	int none = -1;
	long fd = sys_call3(SYS_eventfd2, 1, EFD_CLOEXEC | EFD_NONBLOCK, 0);

	if (fd < 0)
		return;
	fd = shim_fd_hide((int)fd);
	if (!atomic_compare_exchange_strong(&kick_fd, &none, (int)fd)) {
		shim_fd_unhide((int)fd);
		sys_close((int)fd);
	}
}

/* Make the set ready in the kernel: an eventfd that always is becomes a member, until a wait takes
 * it out. */
static void kick(struct shim_set *set)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = SHIM_SET_KICK_DATA };

	if (set->kicked)
		return;
	if (atomic_load(&kick_fd) < 0)
		make_kick_fd();
	if (atomic_load(&kick_fd) < 0)
		return;
	sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, atomic_load(&kick_fd), &event);
	set->kicked = true;
	atomic_fetch_add(&shim_sets_kicked, 1);
}

static void stop_kick(struct shim_set *set)
{
	struct epoll_event event = { 0 };

	if (!set->kicked)
		return;
	sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, atomic_load(&kick_fd), &event);
	set->kicked = false;
	atomic_fetch_sub(&shim_sets_kicked, 1);
}

/* First the number by which sets are kicked from now on, then, set by set, those that are already:
 * whoever kicks or stops to kick does so under the set's lock. */
bool shim_sets_vacate(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = SHIM_SET_KICK_DATA };
	int copy;

	if (atomic_load(&kick_fd) != fd)
		return false;
	copy = sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return false;
	copy = shim_fd_hide(copy);
	atomic_store(&kick_fd, copy);
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];

		if (!atomic_load(&set->used) || !shim_set_enter(set))
			continue;
		sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, fd, &event);
		if (set->kicked)
			sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, copy, &event);
		shim_set_leave(set);
	}
	shim_fd_unhide(fd);
	return true;
}

/* Locked.  Ready only as long as something is there: others look at the set by the kernel alone. */
void shim_set_unkick(struct shim_set *set)
{
	struct shim_registration *r = shim_registration_first(&set->registrations);

	while (r && !shim_registration_has_news(r))
		r = shim_registration_next(r);
	if (!r)
		stop_kick(set);
}

static void remove_registration(struct shim_set *set, struct shim_registration *r)
{
	shim_registration_disarm(r);
	atomic_fetch_sub(&r->conn->rx.watchers, 1);
	atomic_fetch_sub(&set->members, 1);
	shim_registration_remove(&set->registrations, r);
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

/* Locked.  From now on the kernel's readiness is true: also for what is there already. */
static void make_foreign(struct shim_set *set, struct shim_registration *r)
{
	struct shmipc_receiver *rx = &r->conn->rx;

	rx->foreign = SHMIPC_FOREIGN_WAITS;
	if (!shim_registration_is_ours(r))
		return;
	shmipc_receiver_strict(rx, true);
	/* the edge of a token that lies there may have been told already */
	if (shim_registration_has_news(r) &&
	    (!shmipc_receiver_has_tokens(rx) || (r->event.events & EPOLLET)))
		kick(set);
	else if (shmipc_receiver_has_tokens(rx) && !shmipc_receiver_hint(rx))
		shmipc_receiver_readable(rx, r->fd, shim_conn_private(r->conn));
}

/* Locked. */
void shim_set_make_strict(struct shim_set *set)
{
	if (set->strict)
		return;
	set->strict = true;
	for (struct shim_registration *r = shim_registration_first(&set->registrations); r;
	     r = shim_registration_next(r)) {
		make_foreign(set, r);
		if (r->disabled)
			shim_set_silence(set, r);
	}
}

void shim_set_is_foreign(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);

	if (!set || set->strict || !shim_set_enter(set))
		return;
	shim_set_make_strict(set);
	shim_set_leave(set);
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
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];
		struct shim_registration *r = shim_registration_first(&set->registrations);

		atomic_store(&set->lock.owner, 0);
		atomic_store(&set->sleepers, 0);
		set->held_for_fork = false;
		for (; atomic_load(&set->used) && r; r = shim_registration_next(r)) {
			r->armed = false;
			atomic_fetch_add(&r->conn->rx.watchers, 1);
		}
	}
}

/* ---- changes ---- */

void shim_set_closed(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);
	struct shim_registration *r;

	if (!set)
		return;
	shim_fd_set(epfd, 0);
	if (!shim_set_enter(set))
		return;
	while ((r = shim_registration_first(&set->registrations)))
		remove_registration(set, r);
	stop_kick(set);
	shim_set_leave(set);
	atomic_store(&set->closed, true);
	if (atomic_load(&set->sleepers) == 0)
		shim_set_give_back(set);
}

static int another_number(const struct shim_conn *conn)
{
	for (int fd = 0; fd < shim_fd_limit(); fd++)
		if (shim_conn_of(fd) == conn)
			return fd;
	return -1;
}

/* A dup keeps the kernel's registration alive, under a number that is none; a forked child may hold
 * one too. */
static void lose_number(struct shim_set *set, struct shim_registration *r)
{
	int other = another_number(r->conn);

	r->conn->rx.foreign = SHMIPC_FOREIGN_WAITS;
	if (shim_registration_is_ours(r))
		shmipc_receiver_strict(&r->conn->rx, true);
	if (other >= 0)
		shim_registration_go_astray(&set->registrations, r, other);
	else
		remove_registration(set, r);
}

void shim_set_number_closed(int fd)
{
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &shim_sets[i];
		struct shim_registration *r;

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) ||
		    atomic_load_explicit(&set->members, memory_order_relaxed) == 0 ||
		    !shim_set_enter(set))
			continue;
		while ((r = shim_registration_at(&set->registrations, fd)))
			lose_number(set, r);
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
		     r = shim_registration_next(r))
			if (r->conn == conn)
				shim_registration_disarm(r);
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
			count += r->conn == conn;
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
			if (r->conn != conn || !(r->event.events & EPOLLET))
				continue;
			r->seen = shmipc_receiver_arrived(&conn->rx) - 1;
			shim_registration_make_hot(&set->registrations, r);
			if (atomic_load(&set->sleepers) > 0 && shim_registration_has_news(r))
				kick(set);
		}
		shim_set_leave(set);
	}
}

static void added(struct shim_set *set, struct shim_conn *conn, int fd,
		  const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_fd(&set->registrations, fd);

	if (!r) {
		r = shim_registration_add(&set->registrations, fd, event->data.u64);
		if (!r) {
			conn->rx.foreign = SHMIPC_FOREIGN_WAITS;
			if (conn->rx.ready)
				shmipc_receiver_strict(&conn->rx, true);
			return;
		}
		r->conn = conn;
		r->armed = false;
		atomic_fetch_add(&conn->rx.watchers, 1);
		atomic_fetch_add(&set->members, 1);
	} else {
		shim_registration_rehash(&set->registrations, r, event->data.u64);
	}
	r->event = *event;
	r->disabled = r->absent = false;
	r->quiet = 0;
	r->seen = shmipc_receiver_arrived(&conn->rx) - 1; /* what is there now is news */
	shim_registration_disarm(r);
	shim_registration_make_hot(&set->registrations, r);
	if (set->strict)
		make_foreign(set, r);
	else if (!atomic_load(&set->waited) && shim_registration_is_ours(r))
		shmipc_receiver_strict(&conn->rx, true); /* the set's own wait relaxes it */
	/* [add] the registration, then the sleepers; a wait counts itself, then looks for
	 * registrations */
	if (set->strict || atomic_load(&set->sleepers) > 0) {
		shim_set_arm(set, r);
		if (shim_registration_has_news(r) && !shmipc_receiver_has_tokens(&conn->rx))
			kick(set);
	}
}

/* ---- before the connection ---- */

/* nginx adds a socket to its set and then connects it.  What we were told of a number that is no
 * connection yet is kept until it becomes one, or is born again.  Written by whoever calls
 * epoll_ctl on the number; an application that does so from two threads at once for one number gets
 * what it gets. */
enum { EARLY_NONE = 0 };
#define EARLY_SEVERAL UINT32_MAX /* no enum: does not fit an int */

struct early {
	_Atomic uint32_t
		set; /* index + 1; EARLY_SEVERAL: more than one, or one that we do not know */
	uint32_t birth;
	struct epoll_event event;
};

static struct early early[SHIM_FD_MAX];

static void remember_early(struct shim_set *set, int operation, int fd,
			   const struct epoll_event *event)
{
	struct early *e = &early[fd];
	uint32_t index = set ? (uint32_t)(set - shim_sets) + 1 : EARLY_SEVERAL;
	uint32_t known = atomic_load_explicit(&e->set, memory_order_acquire);
	bool gone = known != EARLY_NONE && known != EARLY_SEVERAL && known != index &&
		    shim_sets[known - 1].birth != e->birth;

	if (operation == EPOLL_CTL_DEL) {
		if (known == index)
			atomic_store(&e->set, EARLY_NONE);
		return;
	}
	if (known != EARLY_NONE && known != index && !gone)
		index = EARLY_SEVERAL;
	e->event = *event;
	e->birth = set ? set->birth : 0;
	atomic_store_explicit(&e->set, index, memory_order_release);
}

void shim_set_forget_early(int fd)
{
	if ((uint32_t)fd < SHIM_FD_MAX &&
	    atomic_load_explicit(&early[fd].set, memory_order_relaxed))
		atomic_store(&early[fd].set, EARLY_NONE);
}

void shim_set_number_is_known(int fd)
{
	if ((uint32_t)fd < SHIM_FD_MAX)
		atomic_store(&early[fd].set, EARLY_SEVERAL);
}

void shim_set_adopt_early(struct shim_conn *conn, int fd)
{
	struct early *e = &early[fd];
	uint32_t known = atomic_load_explicit(&e->set, memory_order_acquire);
	struct shim_set *set = known == EARLY_NONE || known == EARLY_SEVERAL
				       ? NULL
				       : &shim_sets[known - 1];

	if (known == EARLY_SEVERAL)
		conn->rx.foreign = SHMIPC_FOREIGN_WAITS;
	if (!set || !shim_set_enter(set))
		return;
	if (set->birth == e->birth && atomic_load(&set->used) && !atomic_load(&set->closed))
		added(set, conn, fd, &e->event);
	shim_set_leave(set);
	atomic_store(&e->set, EARLY_NONE);
}

void shim_set_changed(int epfd, int operation, int fd, const struct epoll_event *event)
{
	struct shim_conn *conn = shim_conn_of(fd);
	struct shim_set *set = shim_set_of(epfd);
	struct shim_registration *r;

	if (shim_fd_kind(shim_fd_word(fd)) == SHIM_FD_SET && operation == EPOLL_CTL_ADD)
		shim_set_is_foreign(fd); /* nested */
	if (!conn) {
		if ((uint32_t)fd < SHIM_FD_MAX && shim_fd_word(fd) == 0)
			remember_early(set, operation, fd, event);
		return;
	}
	if (!set) {
		if (operation != EPOLL_CTL_DEL) {
			conn->rx.foreign = SHMIPC_FOREIGN_WAITS;
			if (conn->rx.ready)
				shmipc_receiver_strict(&conn->rx, true);
		}
		return;
	}
	if (!shim_set_enter(set))
		return;
	if (operation != EPOLL_CTL_DEL)
		added(set, conn, fd, event);
	else if ((r = shim_registration_by_fd(&set->registrations, fd)))
		remove_registration(set, r);
	shim_set_leave(set);
}

bool shim_set_lacks(int epfd, int fd)
{
	struct shim_set *set = shim_set_of(epfd);
	struct shim_registration *r;
	bool lacks;

	if (!set || !atomic_load_explicit(&set->lacks, memory_order_relaxed) ||
	    !shim_set_enter(set))
		return false;
	r = shim_registration_by_fd(&set->registrations, fd);
	lacks = r && r->absent;
	shim_set_leave(set);
	return lacks;
}

bool shim_set_concerns_us(int epfd, bool may_sleep)
{
	struct shim_set *set = shim_set_of(epfd);

	/* strict: another process that shares the set may have made it ready */
	return set && (may_sleep || set->strict ||
		       atomic_load_explicit(&set->members, memory_order_relaxed) > 0);
}
