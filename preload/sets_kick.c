/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waking sleepers of our own process: an eventfd that is always readable lies in the kernel's set
 * for as long as memory has something that no token tells of (a kick), or a thread sleeps there
 * whose token another one has taken (rousing).
 *
 * A set in which a thread of several sleeps for many connections has it as a member for good, with
 * no events wanted; to want some wakes it, which needs no lock: of a number that means something
 * else by now the kernel knows no such member.  Kicks are begun and ended under the set's lock, and
 * none ends while somebody lies there, so no rousing is undone before it is heard.
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

/* The kernel's set tells of the eventfd, or does not. */
static int control_kick(int epfd, int operation, bool tells)
{
	struct epoll_event event = { .events = tells ? EPOLLIN : 0,
				     .data.u64 = SHIM_SET_KICK_DATA };

	return sys_epoll_ctl(epfd, operation, atomic_load(&kick_fd), &event);
}

/* Not locked.  If the number means another set by now, that one is told to look. */
static void rouse(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);

	control_kick(epfd, EPOLL_CTL_MOD, true);
	if (set) /* behind it: whoever ends it in between hears of it once more */
		atomic_store(&set->roused, true);
}

void shim_sets_may_rouse(void)
{
	shmipc_receiver_rouse = rouse;
}

bool shim_set_make_rousable(struct shim_set *set)
{
	if (set->rousable)
		return true;
	shim_sets_prepare();
	if (set->kicked || atomic_load(&kick_fd) < 0 ||
	    control_kick(set->epfd, EPOLL_CTL_ADD, false) != 0)
		return false; /* lies with nobody */
	set->rousable = true;
	atomic_store(&set->marked, true);
	return true;
}

void shim_set_kick(struct shim_set *set)
{
	int error;

	if (set->kicked)
		return;
	shim_sets_prepare();
	if (atomic_load(&kick_fd) < 0)
		return;
	atomic_store(&set->marked, true);
	error = control_kick(set->epfd, set->rousable ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, true);
	if (error == -ENOENT) { /* another process that holds the set has taken it out */
		set->rousable = false;
		error = control_kick(set->epfd, EPOLL_CTL_ADD, true);
	}
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

/* Where this thread sleeps for all that are hot. */
static __thread struct shim_set *lying_in __attribute__((tls_model("initial-exec")));

__attribute__((hot)) void shim_set_lies_down(struct shim_set *set)
{
	lying_in = set;
	atomic_signal_fence(memory_order_seq_cst); /* handlers of this thread */
}

void shim_set_lie_alone(struct shim_set *set)
{
	set->together = false;
	for (struct shim_registration *r = shim_registration_hot(&set->registrations); r;
	     r = shim_registration_next_hot(r))
		if (r->armed)
			shmipc_receiver_get_up(&r->conn->rx);
}

/* The handler may take the token that wakes for all, or look at some of them and leave them cold:
 * whatever it does finds each of them asleep alone, and none is sent a token less from here on. */
struct shim_set *shim_set_get_up(void)
{
	struct shim_set *set = lying_in;

	if (!set || !shim_set_enter(set))
		return NULL;
	lying_in = NULL;
	shim_set_lie_alone(set);
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
	if (r && !shim_set_is_shut(set))
		shim_set_kick(set);
	shim_set_leave(set);
}

void shim_set_stop_kick(struct shim_set *set)
{
	bool tells = atomic_exchange(&set->roused, false) || set->kicked;

	if (tells)
		control_kick(set->epfd, set->rousable ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, false);
	shim_set_forget_kick(set);
}

void shim_set_kick_came(struct shim_set *set)
{
	if (shim_set_of(set->epfd) != set) /* closed: the number may be another set's */
		return;
	if (set->kicked) {
		shim_set_unkick(set);
		return;
	}
	/* who is roused has not heard of it; in a set that others hold it may be theirs */
	if (set->together || !set->rousable || (set->forked && !atomic_load(&set->roused)))
		return;
	atomic_store(&set->roused, false);
	control_kick(set->epfd, EPOLL_CTL_MOD, false);
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
	struct epoll_event none = { 0 };
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
		sys_epoll_ctl(set->epfd, EPOLL_CTL_DEL, fd, &none);
		/* who lies there may have been roused by the former number */
		if (set->kicked || set->rousable)
			set->rousable = control_kick(set->epfd, EPOLL_CTL_ADD,
						     set->kicked || set->together) == 0 &&
					set->rousable;
		shim_set_leave(set);
	}
	shim_fd_unhide(fd);
	return true;
}

/* Locked.  Ready only as long as something is there: others look at the set by the kernel alone. */
__attribute__((hot)) void shim_set_unkick(struct shim_set *set)
{
	if (set->together || (!set->kicked && !atomic_load(&set->roused)))
		return;
	if (!shim_registration_find_newsy(&set->registrations, shim_registration_has_news) &&
	    !is_lent(set))
		shim_set_stop_kick(set);
}
