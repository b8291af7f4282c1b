/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/sets.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "core/sleep.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/conn.h"
#include "preload/registrations.h"
#include "preload/waits.h"

enum {
	SETS_MAX = 1024,
	QUIET_SLEEPS_MAX = 8, /* sleeps without news after which a registration is left armed */
	LOOKS_PER_KERNEL = 128, /* while spinning: every few us */
	IN_EVENTS = EPOLLIN | EPOLLRDNORM,
	HANGUP_EVENTS = EPOLLERR | EPOLLHUP | EPOLLRDHUP,
};

struct shim_set {
	struct shmipc_lock lock;
	_Atomic uint32_t used;
	int epfd;
	bool strict;		   /* others than one wait of ours may look at it */
	bool kicked;		   /* the kernel's set holds our eventfd */
	uint32_t looks;
	bool kernel_first;	   /* whose events get the room in the next wait */
	_Atomic uint32_t sleepers; /* threads of ours in the kernel on this set */
	_Atomic uint32_t members;
	struct shmipc_spin spin;
	struct shim_registrations registrations;
};

static struct shim_set *sets;
static _Atomic int set_limit; /* sets at and above were never used */
static _Atomic int kick_fd = -1;
_Atomic uint32_t shim_sets_kicked;
static const char kick_mark; /* its address is the data of our own registration */

#define KICK_DATA ((uint64_t)(uintptr_t)&kick_mark ^ 0x5b1d000000000000ULL)

int shim_sets_start(void)
{
	long at = sys_mmap(NULL, SETS_MAX * sizeof(struct shim_set), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -4096)
		return (int)at;
	sets = (struct shim_set *)at;
	return shim_registrations_start();
}

static struct shim_set *set_of(int epfd)
{
	uint32_t word = shim_fd_word(epfd);

	return shim_fd_kind(word) == SHIM_FD_SET ? &sets[shim_fd_index(word)] : NULL;
}

static bool enter(struct shim_set *set)
{
	return shmipc_lock_take(&set->lock, false) != SHMIPC_LOCK_REENTERED;
}

static void leave(struct shim_set *set)
{
	shmipc_lock_drop(&set->lock, false);
}

void shim_set_opened(int epfd)
{
	if (!sets || (uint32_t)epfd >= SHIM_FD_MAX)
		return;
	for (uint32_t i = 0; i < SETS_MAX; i++) {
		struct shim_set *set = &sets[i];
		uint32_t used = 0;

		if (atomic_load(&set->used) || !atomic_compare_exchange_strong(&set->used, &used, 1))
			continue;
		while ((int)i >= atomic_load(&set_limit))
			atomic_fetch_add(&set_limit, 1);
		set->epfd = epfd;
		set->strict = set->kicked = false;
		atomic_store(&set->sleepers, 0);
		atomic_store(&set->members, 0);
		shmipc_spin_init(&set->spin);
		shim_registrations_init(&set->registrations);
		shim_fd_touch(epfd);
		shim_fd_set(epfd, shim_fd_make(SHIM_FD_SET, i));
		return;
	}
}

/* ---- one registration ---- */

static bool is_ours(const struct shim_registration *r)
{
	return shim_conn_is_attached(r->conn) && r->conn->rx.ready;
}

static bool wants_bytes(const struct shim_registration *r)
{
	return (r->event.events & IN_EVENTS) && !r->disabled && is_ours(r);
}

/* Bytes in the ring that this registration has not been told of (level: any). */
static bool has_news(const struct shim_registration *r)
{
	if (!wants_bytes(r) || !shmipc_receiver_hint(&r->conn->rx))
		return false;
	return !(r->event.events & EPOLLET) || shmipc_receiver_arrived(&r->conn->rx) != r->seen;
}

static void told(struct shim_registration *r)
{
	r->quiet = 0;
	r->seen = shmipc_receiver_arrived(&r->conn->rx);
}

static void disarm(struct shim_registration *r)
{
	if (r->armed)
		shmipc_receiver_disarm(&r->conn->rx);
	r->armed = false;
}

/* A sleep is about to begin, or is under way: the next bytes must bring a token. */
static void arm(struct shim_set *set, struct shim_registration *r)
{
	if (!(r->event.events & IN_EVENTS) || !is_ours(r) || r->armed)
		return;
	shmipc_receiver_arm(&r->conn->rx);
	r->armed = true;
	if (set->strict || r->conn->rx.foreign)
		shmipc_receiver_strict(&r->conn->rx, true);
	else if (atomic_load(&r->conn->rx.watchers) == 1) /* a second set may not have armed it */
		shmipc_receiver_relax(&r->conn->rx);
	if (!has_news(r) && shmipc_receiver_has_tokens(&r->conn->rx)) {
		bool alone = shim_conn_private(r->conn);

		if (r->event.events & EPOLLET && !set->strict && !r->conn->rx.foreign)
			shmipc_receiver_drop_tokens(&r->conn->rx, r->fd, r->seen, alone);
		else
			shmipc_receiver_readable(&r->conn->rx, r->fd, alone);
	}
}

static void remove_registration(struct shim_set *set, struct shim_registration *r)
{
	disarm(r);
	atomic_fetch_sub(&r->conn->rx.watchers, 1);
	atomic_fetch_sub(&set->members, 1);
	shim_registration_remove(&set->registrations, r);
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

/* Make the set ready in the kernel: an eventfd that always is becomes a member, until a wait takes it out. */
static void kick(struct shim_set *set)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = KICK_DATA };

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

/* Locked.  Ready only as long as something is there: others look at the set by the kernel alone. */
static void unkick(struct shim_set *set)
{
	struct shim_registration *r = shim_registration_first(&set->registrations);

	while (r && !has_news(r))
		r = shim_registration_next(r);
	if (!r)
		stop_kick(set);
}

void shim_sets_settle(void)
{
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &sets[i];

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) || !set->kicked || !enter(set))
			continue;
		unkick(set);
		leave(set);
	}
}

/* ---- strict ---- */

/* Locked.  From now on the kernel's readiness is true: also for what is there already. */
static void make_foreign(struct shim_set *set, struct shim_registration *r)
{
	struct shmipc_receiver *rx = &r->conn->rx;

	rx->foreign = true;
	if (!is_ours(r))
		return;
	shmipc_receiver_strict(rx, true);
	if (!shmipc_receiver_has_tokens(rx)) {
		if (has_news(r))
			kick(set);
	} else if (!shmipc_receiver_hint(rx)) {
		shmipc_receiver_readable(rx, r->fd, shim_conn_private(r->conn));
	}
}

/* Locked. */
static void make_strict(struct shim_set *set)
{
	if (set->strict)
		return;
	set->strict = true;
	for (struct shim_registration *r = shim_registration_first(&set->registrations); r;
	     r = shim_registration_next(r))
		make_foreign(set, r);
}

void shim_set_is_foreign(int epfd)
{
	struct shim_set *set = set_of(epfd);

	if (!set || set->strict || !enter(set))
		return;
	make_strict(set);
	leave(set);
}

void shim_sets_before_fork(void)
{
	for (int i = 0; i < atomic_load(&set_limit); i++)
		if (atomic_load(&sets[i].used))
			shim_set_is_foreign(sets[i].epfd);
}

/* ---- changes ---- */

void shim_set_closed(int epfd)
{
	struct shim_set *set = set_of(epfd);
	struct shim_registration *r;

	if (!set)
		return;
	shim_fd_set(epfd, 0);
	if (!enter(set))
		return;
	while ((r = shim_registration_first(&set->registrations)))
		remove_registration(set, r);
	stop_kick(set);
	leave(set);
	atomic_store(&set->used, 0);
}

void shim_set_number_closed(int fd)
{
	for (int i = 0; i < atomic_load(&set_limit); i++) {
		struct shim_set *set = &sets[i];
		struct shim_registration *r;

		if (!atomic_load_explicit(&set->used, memory_order_relaxed) ||
		    atomic_load_explicit(&set->members, memory_order_relaxed) == 0 || !enter(set))
			continue;
		r = shim_registration_by_fd(&set->registrations, fd);
		if (r) {
			/* a dup keeps the kernel's registration alive, under a number that is none */
			r->conn->rx.foreign = true;
			if (is_ours(r))
				shmipc_receiver_strict(&r->conn->rx, true);
			remove_registration(set, r);
		}
		leave(set);
	}
}

static void added(struct shim_set *set, struct shim_conn *conn, int fd, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_fd(&set->registrations, fd);

	if (!r) {
		r = shim_registration_add(&set->registrations, fd, event->data.u64);
		if (!r) {
			conn->rx.foreign = true;
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
	r->disabled = false;
	r->quiet = 0;
	r->seen = shmipc_receiver_arrived(&conn->rx) - 1; /* what is there now is news */
	disarm(r);
	shim_registration_make_hot(&set->registrations, r);
	if (set->strict)
		make_foreign(set, r);
	/* [add] the registration, then the sleepers; a wait counts itself, then looks for registrations */
	if (set->strict || atomic_load(&set->sleepers) > 0) {
		arm(set, r);
		if (has_news(r) && !shmipc_receiver_has_tokens(&conn->rx))
			kick(set);
	}
}

void shim_set_changed(int epfd, int operation, int fd, const struct epoll_event *event)
{
	struct shim_conn *conn = shim_conn_of(fd);
	struct shim_set *set = set_of(epfd);
	struct shim_registration *r;

	if (shim_fd_kind(shim_fd_word(fd)) == SHIM_FD_SET && operation == EPOLL_CTL_ADD)
		shim_set_is_foreign(fd); /* nested */
	if (!conn)
		return;
	if (!set) {
		if (operation != EPOLL_CTL_DEL) {
			conn->rx.foreign = true;
			if (conn->rx.ready)
				shmipc_receiver_strict(&conn->rx, true);
		}
		return;
	}
	if (!enter(set))
		return;
	if (operation != EPOLL_CTL_DEL)
		added(set, conn, fd, event);
	else if ((r = shim_registration_by_fd(&set->registrations, fd)))
		remove_registration(set, r);
	leave(set);
}

bool shim_set_concerns_us(int epfd, bool may_sleep)
{
	struct shim_set *set = set_of(epfd);

	return set && (may_sleep || atomic_load_explicit(&set->members, memory_order_relaxed) > 0);
}

/* ---- waiting ---- */

/* Reported from memory; the kernel's registration must know that a one-shot has been used. */
static void used_up(struct shim_set *set, struct shim_registration *r)
{
	struct epoll_event silent = { .events = EPOLLET | EPOLLONESHOT, .data = r->event.data };

	if (!(r->event.events & EPOLLONESHOT))
		return;
	r->disabled = true;
	sys_epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &silent);
}

/* Locked.  What the rings of the hot ones hold. */
static int collect(struct shim_set *set, struct epoll_event *events, int room)
{
	struct shim_registration *r = shim_registration_hot(&set->registrations), *next;
	const struct shim_registration *first = NULL; /* that we have told, now at the end of the line */
	int n = 0;

	for (; r && r != first && n < room; r = next) {
		next = shim_registration_next_hot(r);
		if (!has_news(r)) {
			/* armed and nothing there: the kernel will tell */
			if (r->armed)
				shim_registration_make_cold(&set->registrations, r);
			continue;
		}
		events[n].events = r->event.events & IN_EVENTS;
		/* each arrival is an edge of all that is true, as in the kernel */
		if ((r->event.events & (EPOLLET | EPOLLOUT)) == (EPOLLET | EPOLLOUT) &&
		    shmipc_sender_on_ring(&r->conn->tx))
			events[n].events |= EPOLLOUT;
		events[n++].data = r->event.data;
		told(r);
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

/* Locked.  The kernel says that there is something to read: is that so?  Several registrations may carry the same
 * data; the application cannot tell them apart either. */
static bool input_is_true(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations, event->data.u64);
	bool known = false, is_true = false;

	for (; r; r = shim_registration_same_data(r)) {
		if (!is_ours(r) || !(r->event.events & IN_EVENTS)) {
			is_true = true;
			continue;
		}
		known = true;
		if (!set->strict)
			disarm(r);
		shim_registration_make_hot(&set->registrations, r);
		if (has_news(r)) {
			is_true = true;
			told(r);
		} else if (shim_wait_is_true(r->conn, r->fd)) {
			/* payload by the kernel, the end, or bytes of the ring that an edge was reported for */
			bool by_ring = shmipc_receiver_arrived(&r->conn->rx) == r->seen &&
				       atomic_load(&r->conn->rx.phase) & 1 && !r->conn->rx.eof &&
				       !r->conn->rx.pending_error;

			is_true |= !((r->event.events & EPOLLET) && by_ring);
			told(r);
		}
		if (is_true && (r->event.events & EPOLLONESHOT))
			r->disabled = true; /* the kernel has done the same */
	}
	return is_true || !known;
}

/* Dropped although one-shot: the kernel must tell again. */
static void rearm_dropped(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations, event->data.u64);

	for (; r; r = shim_registration_same_data(r)) {
		struct epoll_event again = r->event;

		if ((r->event.events & EPOLLONESHOT) && !r->disabled)
			sys_epoll_ctl(set->epfd, EPOLL_CTL_MOD, r->fd, &again);
	}
}

static bool is_silenced(struct shim_set *set, const struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations, event->data.u64);

	return r && r->disabled && !shim_registration_same_data(r);
}

static void correct_hangup(struct shim_set *set, struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_data(&set->registrations, event->data.u64);

	if (r && is_ours(r) && !shim_registration_same_data(r))
		event->events = shim_wait_hangup(r->conn, r->event.events, event->events);
}

/* Locked.  events[0 .. n) come from memory, events[n .. n + k) from the kernel.  Returns how many remain. */
static int merge(struct shim_set *set, struct epoll_event *events, int n, int k)
{
	int out = n;

	for (int i = n; i < n + k; i++) {
		struct epoll_event event = events[i];
		int same = 0;

		if (event.data.u64 == KICK_DATA) {
			unkick(set);
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
		if ((event.events & IN_EVENTS) && !(event.events & HANGUP_EVENTS) &&
		    !input_is_true(set, &event)) {
			event.events &= ~(uint32_t)IN_EVENTS;
			if (event.events == 0) {
				rearm_dropped(set, &event);
				continue;
			}
		}
		events[out++] = event;
	}
	return out;
}

/* Cancelled in its sleep. */
static void undo_sleep(void *argument)
{
	struct shim_set *set = argument;

	atomic_fetch_sub(&set->sleepers, 1);
}

static long kernel_wait(struct shim_set *set, const long call[7], bool sleeps)
{
	if (sleeps)
		return shmipc_sleep6(call, undo_sleep, set);
	return sys_call6(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
}

/* As epoll_pwait2.  sleeps: counted in set->sleepers, may be cancelled. */
static int ask_kernel(struct shim_set *set, struct epoll_event *events, int room, uint64_t deadline_ns,
		      const sigset_t *mask, bool sleeps)
{
	struct timespec left = shim_wait_left(deadline_ns);
	const long new_call[7] = { SYS_epoll_pwait2, set->epfd, (long)events, room,
				   deadline_ns == SHIM_WAIT_FOR_EVER ? 0 : (long)&left, (long)mask, 8 };
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
static int add_kernel(struct shim_set *set, struct epoll_event *events, int n, int room, const sigset_t *mask)
{
	int k = ask_kernel(set, events + n, room - n, 0, mask, false);

	if (k <= 0)
		return n > 0 ? n : k;
	if (!enter(set))
		return n;
	n = merge(set, events, n, k);
	leave(set);
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
	if (!enter(set))
		return -EINTR;
	n = collect(set, events, kernel_first && room > 1 ? room - 1 : room);
	leave(set);
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
		if (has_news(r))
			return true;
	return false;
}

static bool any_news(void *argument)
{
	struct shim_set *set = argument;
	bool threads = !shmipc_single_threaded(), news;

	if (threads && !enter(set)) /* another one might close a connection under our eyes */
		return true;
	news = hot_news(set);
	if (threads)
		leave(set);
	return news || (++set->looks % LOOKS_PER_KERNEL == 0 && kernel_has_events(set));
}

static bool spin(struct shim_set *set)
{
	const struct shim_registration *hot;
	struct shmipc_status_rx *count = NULL;
	enum shmipc_spin_result result;
	uint32_t cpu = 0;

	if (set->strict || !enter(set))
		return false;
	hot = shim_registration_hot(&set->registrations);
	if (hot && is_ours(hot)) {
		count = hot->conn->rx.count;
		cpu = atomic_load(&hot->conn->rx.tx->cpu);
	}
	leave(set);
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
		if (is_ours(r))
			shmipc_sender_serve(&r->conn->tx, r->fd, shim_conn_private(r->conn));
		arm(set, r);
		if (has_news(r))
			news = true;
		else if (shmipc_sender_owes(&r->conn->tx))
			*owing = true;
		else if (set->strict || ++r->quiet > QUIET_SLEEPS_MAX)
			shim_registration_make_cold(&set->registrations, r);
	}
	return news;
}

/* Awake again: whoever has had news lately needs no token, we look at it ourselves.  What is cold stays armed. */
static void disarm_hot(struct shim_set *set)
{
	struct shim_registration *r = shim_registration_hot(&set->registrations);

	for (; r && !set->strict; r = shim_registration_next_hot(r))
		disarm(r);
}

static int sleep_in_kernel(struct shim_set *set, struct epoll_event *events, int room, uint64_t deadline_ns,
			   const sigset_t *mask)
{
	bool news, owing = false;
	int n = 0;

	if (!enter(set))
		return -EINTR;
	if (atomic_fetch_add(&set->sleepers, 1) > 0)
		make_strict(set); /* two threads in one set */
	news = arm_hot(set, &owing);
	leave(set);
	if (!news)
		n = ask_kernel(set, events, room, owing ? shim_wait_soon(deadline_ns) : deadline_ns, mask, true);
	if (!enter(set)) {
		atomic_fetch_sub(&set->sleepers, 1);
		return n;
	}
	atomic_fetch_sub(&set->sleepers, 1);
	disarm_hot(set);
	if (n > 0)
		n = merge(set, events, 0, n);
	leave(set);
	return n;
}

/* No registration of ours: the kernel's own wait, but another thread may add one meanwhile, and must know that
 * somebody sleeps. */
static int sleep_plain(struct shim_set *set, struct epoll_event *events, int room, uint64_t deadline_ns,
		       const sigset_t *mask)
{
	int n = 0;

	if (atomic_fetch_add(&set->sleepers, 1) > 0)
		shim_set_is_foreign(set->epfd);
	if (atomic_load(&set->members) == 0) /* [add] */
		n = ask_kernel(set, events, room, deadline_ns, mask, true);
	atomic_fetch_sub(&set->sleepers, 1);
	if (n > 0 && (atomic_load(&set->members) > 0 || set->kicked) && enter(set)) {
		n = merge(set, events, 0, n);
		leave(set);
	}
	return n;
}

int shim_set_wait(int epfd, struct epoll_event *events, int room, uint64_t deadline_ns, const sigset_t *mask)
{
	struct shim_set *set = set_of(epfd);
	int n = 0;

	if (!shmipc_single_threaded())
		pthread_testcancel();
	if (atomic_load_explicit(&set->members, memory_order_relaxed) == 0) {
		n = sleep_plain(set, events, room, deadline_ns, mask);
		if (n != 0 || (deadline_ns != SHIM_WAIT_FOR_EVER && shim_wait_now_ns() >= deadline_ns))
			return n;
	}
	n = look(set, events, room, mask);
	while (n == 0 && (deadline_ns == SHIM_WAIT_FOR_EVER || shim_wait_now_ns() < deadline_ns)) {
		if (!spin(set)) {
			n = sleep_in_kernel(set, events, room, deadline_ns, mask);
			if (n != 0)
				return n;
		}
		n = look(set, events, room, mask);
	}
	return n;
}
