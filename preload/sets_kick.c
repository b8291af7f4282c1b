/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waking sleepers of our own process: an eventfd that is always readable lies in the kernel's set
 * for as long as memory has something that no token tells of.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "core/sys.h"
#include "preload/conn.h"
#include "preload/sets_parts.h"

static _Atomic int kick_fd = -1;
_Atomic uint32_t shim_sets_kicked;
const char shim_set_kick_mark; /* its address is the data of our own registration */

void shim_sets_prepare(void)
{
	int none = -1;
	long fd;

	if (atomic_load(&kick_fd) >= 0)
		return;
	fd = sys_call3(SYS_eventfd2, 1, EFD_CLOEXEC | EFD_NONBLOCK, 0);
	if (fd < 0)
		return;
	fd = shim_fd_hide((int)fd);
	if (!atomic_compare_exchange_strong(&kick_fd, &none, (int)fd)) {
		shim_fd_unhide((int)fd);
		sys_close((int)fd);
	}
}

void shim_set_kick(struct shim_set *set)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = SHIM_SET_KICK_DATA };
	int error;

	if (set->kicked)
		return;
	shim_sets_prepare();
	if (atomic_load(&kick_fd) < 0)
		return;
	error = sys_epoll_ctl(set->epfd, EPOLL_CTL_ADD, atomic_load(&kick_fd), &event);
	if (error && error != -EEXIST)
		return; /* another time */
	set->kicked = true;
	atomic_fetch_add(&shim_sets_kicked, 1);
}

void shim_set_forget_kick(struct shim_set *set)
{
	if (!set->kicked)
		return;
	set->kicked = false;
	atomic_fetch_sub(&shim_sets_kicked, 1);
}

/* The handler may take the token that wakes for all, or look at some of them and leave them cold:
 * whatever it does finds each of them asleep alone, and none is sent a token less from here on. */
struct shim_set *shim_set_get_up(void)
{
	struct shim_set *set = atomic_load(&shim_set_together);

	if (!set || !shim_set_enter(set))
		return NULL;
	atomic_store(&shim_set_together, NULL);
	for (struct shim_registration *r = shim_registration_hot(&set->registrations); r;
	     r = shim_registration_next_hot(r))
		if (r->armed)
			shmipc_receiver_sleep_together(&r->conn->rx, 0);
	atomic_thread_fence(memory_order_seq_cst); /* [together] who looks sees the others' tails */
	shim_set_leave(set);
	return set;
}

/* The kernel's sleep may be still to come: what came before they got up may lie there without a
 * token. */
void shim_set_was_interrupted(struct shim_set *set)
{
	struct shim_registration *r;

	if (!shim_set_enter(set))
		return;
	r = shim_registration_hot(&set->registrations);
	while (r && !shim_registration_has_news(r))
		r = shim_registration_next_hot(r);
	if (r && !atomic_load(&set->closed))
		shim_set_kick(set);
	shim_set_leave(set);
}

void shim_set_stop_kick(struct shim_set *set)
{
	struct epoll_event event = { 0 };

	if (set->kicked)
		sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, atomic_load(&kick_fd), &event);
	shim_set_forget_kick(set);
}

/* Do others wait for what the set was kicked for? */
static bool is_lent(struct shim_set *set)
{
	struct shim_conn *conn = set->lent;

	if (!conn)
		return false;
	shim_conn_count_holders(conn);
	if (conn->birth == set->lent_birth && atomic_load(&conn->used) &&
	    atomic_load(&conn->holders) > 0)
		return true;
	set->lent = NULL;
	return false;
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
	for (int i = 0; i < shim_sets_limit(); i++) {
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
	if (!r && !is_lent(set))
		shim_set_stop_kick(set);
}
