/* SPDX-License-Identifier: Apache-2.0 */
/* What sets.c and sets_*.c share, and nobody else includes. */
#ifndef SHMIPC_PRELOAD_SETS_PARTS_H
#define SHMIPC_PRELOAD_SETS_PARTS_H

#include <stddef.h>

#include "core/sys.h"
#include "core/thread.h"
#include "preload/conn.h"
#include "preload/registrations.h"
#include "preload/sets.h"
#include "preload/shrink.h"

enum {
	SHIM_SETS_MAX = 1024,
	SHIM_SET_PLAIN_BUCKETS = 256,
	SHIM_SET_WAITS_COUNTED = 16, /* then it is worth it to put changes off */
	SHIM_SET_IN_EVENTS = EPOLLIN | EPOLLRDNORM,
	SHIM_SET_OUT_EVENTS = EPOLLOUT | EPOLLWRNORM,
	SHIM_SET_HANGUP_EVENTS = EPOLLERR | EPOLLHUP | EPOLLRDHUP,
};

struct shim_set {
	struct shmipc_lock lock;
	_Atomic uint32_t used;
	bool held_for_fork;
	_Atomic int epfd;	  /* one of its numbers */
	_Atomic uint32_t numbers; /* how many of this process */
	uint32_t birth;		  /* how often the record has been taken */
	uint32_t generation;	  /* of the process that speaks for it */
	_Atomic bool waited;	  /* by a call of ours: until then, who knows by whom */
	_Atomic bool kicked;	  /* the kernel's set holds our eventfd, and tells of it */
	/* it holds it in any case: a thread may be roused that sleeps for all that are hot */
	bool rousable;
	_Atomic bool
		marked; /* an event of the eventfd may be under way, as long as the set lives */
	_Atomic bool asleep; /* a thread is in the kernel, or on its way: all are armed for it */
	bool together;	     /* it does: on the rousing all of them depend */
	_Atomic bool roused; /* and nobody has heard of it yet, as far as is known */
	/* That is for other processes that hold the set, and this connection, which we have closed:
	 * theirs to take out. */
	struct shim_conn *lent;
	uint32_t lent_birth;
	_Atomic bool strict; /* others than one wait of ours may look at it */
	/* written by waits without the lock, each of which may lose what another one has just
	 * noted: then the kernel is asked a little earlier, or LOOK_MAX_US later */
	_Atomic uint32_t waits; /* how often, SHIM_SET_WAITS_COUNTED at the most */
	_Atomic uint32_t looks;
	_Atomic bool kernel_first; /* whose events get the room in the next wait */
	_Atomic uint32_t
		quiet_looks; /* questions to the kernel that brought nothing; sets_wait.c */
	_Atomic uint64_t looked_ticks;	   /* the last one */
	_Atomic uint64_t told_ticks;	   /* the last one whose answer was all that it knew */
	_Atomic uint64_t look_every_ticks; /* while it is quiet */
	_Atomic uint32_t sleepers;	   /* threads of ours in the kernel on this set */
	/* calls that hold the record, and SHIM_SET_CLOSED; lives longer than the set: sets_hold.c
	 */
	_Atomic uint32_t inside;
	_Atomic uint32_t members;
	bool forked; /* since it was made */
	bool apart;  /* others see the kernel's set who do not know our tags; sets_plain.c */
	_Atomic bool tagged; /* some registration has, or had, a tag of our making */
	_Atomic uint16_t plain[SHIM_SET_PLAIN_BUCKETS]; /* registrations of others, by data */
	struct shmipc_spin spin, glance;
	struct shim_shrink shrink;
	struct shim_registrations registrations;
};

#define SHIM_SET_CLOSED 0x80000000u /* no enum: does not fit an int */

extern struct shim_set *shim_sets;
extern const char shim_set_kick_mark; /* its address is the data of our own registration */

#define SHIM_SET_KICK_DATA ((uint64_t)(uintptr_t)&shim_set_kick_mark ^ 0x5b1d000000000000ULL)

static inline struct shim_set *shim_set_of(int epfd)
{
	uint32_t word = shim_fd_word(epfd);

	return shim_fd_kind(word) == SHIM_FD_SET ? &shim_sets[shim_fd_index(word)] : NULL;
}

static inline bool shim_set_enter(struct shim_set *set)
{
	return shmipc_lock_take(&set->lock, false) != SHMIPC_LOCK_REENTERED;
}

static inline void shim_set_leave(struct shim_set *set)
{
	shmipc_lock_drop(&set->lock, false);
}

static inline bool shim_registration_is_ours(const struct shim_registration *r)
{
	return shim_conn_is_attached(r->conn) && r->conn->rx.ready;
}

static inline bool shim_registration_wants_bytes(const struct shim_registration *r)
{
	return (r->event.events & SHIM_SET_IN_EVENTS) && !r->disabled && !r->ghost &&
	       shim_registration_is_ours(r);
}

/* Room to write of which it is to be told, by memory.  Of a sender that is not on a ring with room
 * the kernel's socket tells. */
static inline bool shim_registration_has_room(const struct shim_registration *r)
{
	return (r->event.events & SHIM_SET_OUT_EVENTS) && !r->disabled &&
	       (r->out == SHIM_OUT_DUE || !(r->event.events & EPOLLET)) &&
	       shim_registration_is_ours(r) && shmipc_sender_has_room(&r->conn->tx);
}

/* Bytes in the ring that this registration has not been told of (level: any).  An edge is made by
 * each arrival, also behind kernel bytes that are still unread: the kernel makes none for those
 * again. */
static inline bool shim_registration_has_news(const struct shim_registration *r)
{
	const struct shmipc_receiver *rx = &r->conn->rx;

	if (!shim_registration_wants_bytes(r))
		return false;
	if (!(r->event.events & EPOLLET))
		return shmipc_receiver_hint(rx);
	return shmipc_receiver_arrived(rx) != r->seen &&
	       (shmipc_receiver_hint(rx) || shmipc_receiver_holds_bytes(rx));
}

/* Bytes of which the kernel may know nothing.  Of an end it knows, and tells once where we would
 * make a second edge. */
static inline bool shim_registration_needs_kick(const struct shim_registration *r)
{
	return shim_registration_has_news(r) && shmipc_receiver_holds_bytes(&r->conn->rx);
}

/* A wait of ours would tell of it, without the kernel. */
static inline bool shim_registration_is_ready(const struct shim_set *set,
					      const struct shim_registration *r)
{
	return shim_registration_has_news(r) || (!set->strict && shim_registration_has_room(r));
}

static inline void shim_registration_told(struct shim_registration *r)
{
	r->quiet = 0;
	r->shutdowns = atomic_load_explicit(&r->conn->shutdowns, memory_order_relaxed);
	/* bytes of a ring that lies behind kernel bytes are news when it can be reached */
	r->seen = shmipc_receiver_ring_is_far(&r->conn->rx, r->fd)
			  ? UINT64_MAX
			  : shmipc_receiver_arrived(&r->conn->rx);
}

static inline void shim_registration_disarm(struct shim_registration *r)
{
	if (r->armed) {
		shmipc_receiver_disturb(&r->conn->rx); /* unless its sleeper itself is awake */
		shmipc_receiver_disarm(&r->conn->rx);
	}
	r->armed = false;
}

/* Told that there is room: an edge-triggered one is told again when there was none meanwhile, which
 * is so only behind a send by the kernel. */
static inline void shim_registration_told_room(struct shim_registration *r)
{
	r->out = shim_registration_is_ours(r) ? SHIM_OUT_TOLD : SHIM_OUT_EARLY;
	r->out_seen = atomic_load_explicit(&r->conn->tx.by_kernel, memory_order_relaxed);
}

static inline void shim_registration_told_end(struct shim_registration *r, uint32_t events)
{
	r->hangup_told |= (events & EPOLLHUP) && (r->event.events & (uint32_t)EPOLLET);
}

/* ---- sets_hold.c ---- */

/* The set of the number, locked, if the number still leads to it then; or NULL.  Until it is left
 * the number is not closed: whoever closes takes the word away, then enters. */
struct shim_set *shim_set_enter_by(int epfd);

/* A sleep has been left for good: it holds the set no more, and handlers wait for nothing. */
void shim_set_unpin(struct shim_set *set);

/* Locked.  Its last number is gone: nobody comes in any more. */
static inline void shim_set_shut(struct shim_set *set)
{
	atomic_fetch_or(&set->inside, SHIM_SET_CLOSED);
}

static inline bool shim_set_is_shut(const struct shim_set *set)
{
	return atomic_load(&set->inside) & SHIM_SET_CLOSED;
}

/* Behind it: the record is free, unless calls are inside, whose last one frees it. */
void shim_set_give_back(struct shim_set *set);
/* Forked: the other threads of the parent are not here. */
void shim_set_is_left_in_child(struct shim_set *set);

/* ---- sets.c; all locked ---- */

/* A sleep is about to begin, or is under way: the next bytes must bring a token. */
void shim_set_arm(struct shim_set *set, struct shim_registration *r);
/* Armed, told of all that is here, and the edge of a token that lies in the socket is used up: the
 * next bytes must bring another one. */
void shim_set_renew_edge(struct shim_set *set, struct shim_registration *r);
/* The application is told of all the bytes that are here. */
void shim_set_told(const struct shim_set *set, struct shim_registration *r);
/* Others than one wait of ours may look at it from now on. */
void shim_set_make_strict(struct shim_set *set);
/* A one-shot that has been told: silent in the kernel's set too, also when the peer hangs up. */
void shim_set_silence(struct shim_set *set, struct shim_registration *r);
/* The same for one registration: from now on the kernel's readiness is true, also for what is there
 * already. */
void shim_set_make_foreign(struct shim_set *set, struct shim_registration *r);
/* Gone, in memory / there, but still known as one that the kernel knows. */
void shim_set_remove(struct shim_set *set, struct shim_registration *r);
void shim_set_bury(struct shim_set *set, struct shim_registration *r);
/* The number is closed: what is registered by it is known by another one, or no more. */
void shim_set_lose_number(struct shim_set *set, int fd);
/* Sets at and above were never used. */
int shim_sets_limit(void);

/* ---- sets_kick.c; locked ---- */

/* Make the set ready in the kernel: an eventfd that always is becomes a member, until a wait takes
 * it out. */
void shim_set_kick(struct shim_set *set);
/* It was made ready by our own hand: only as long as something is there. */
void shim_set_unkick(struct shim_set *set);
/* It is taken out, whatever is there / it has gone with the set, or is another process's. */
void shim_set_stop_kick(struct shim_set *set);
void shim_set_forget_kick(struct shim_set *set);
/* The kernel has told of it. */
void shim_set_kick_came(struct shim_set *set);
/* At the start, before there are threads. */
void shim_sets_may_rouse(void);
/* Can a sleep in it be ended without its lock?  Once it can, it always can. */
bool shim_set_make_rousable(struct shim_set *set);
/* Who lies together lies alone from now on.  A fence and a look follow, if the thread goes on
 * sleeping. */
void shim_set_lie_alone(struct shim_set *set);
/* This thread is about to sleep there for all that are hot, or (NULL) is awake: for handlers. */
void shim_set_lies_down(struct shim_set *set);

/* ---- sets_control.c; locked ---- */

/* It is what the application has asked for.  NULL: the pool is used up. */
struct shim_registration *shim_set_register(struct shim_set *set, struct shim_conn *conn, int fd,
					    const struct epoll_event *event, uint64_t tag);
/* The kernel knows it, by this tag. */
struct shim_registration *shim_set_register_known(struct shim_set *set, struct shim_conn *conn,
						  int fd, const struct epoll_event *event,
						  uint64_t tag);

/* ---- sets_plain.c; locked where nothing else is said ---- */

/* Which data the kernel's set is to carry for a registration (NULL: a new one) whose data is this.
 */
uint64_t shim_set_tag_for(struct shim_set *set, const struct shim_registration *r, uint64_t data);
/* The kernel has taken it: a change that it refuses changes no data.  Any thread. */
void shim_set_tag_means(uint64_t tag, uint64_t data);
/* Others carry its tag, and nothing can be done about it. */
bool shim_set_is_blurred(struct shim_set *set, const struct shim_registration *r);
/* An event of the kernel's gets the application's data.  Whose it is; NULL: none of ours, or nobody
 * can say. */
struct shim_registration *shim_set_untag(struct shim_set *set, struct epoll_event *event);
/* Its tag was a registration's, and is none's any more. */
bool shim_set_comes_late(const struct epoll_event *event);
/* Not locked.  Events of memory's, which carry tags, get the application's data. */
void shim_set_untag_told(const struct shim_set *set, struct epoll_event *events, int n);
/* The registrations get the application's own data back, for good. */
void shim_set_untag_all(struct shim_set *set);

/* Not locked.  A number that is no connection is about to join with this data, or to change it:
 * which data the kernel's set is to carry / the kernel has refused. */
uint64_t shim_set_plain_joins(struct shim_set *set, int fd, uint64_t data);
void shim_set_plain_stays_out(struct shim_set *set, int fd, uint64_t data, uint64_t tag);
/* Not locked.  The kernel has done this; set: NULL, one that we do not know. */
void shim_set_remember_plain(struct shim_set *set, int operation, int fd,
			     const struct epoll_event *event, uint64_t tag);

/* ---- sets_merge.c; locked ---- */

/* events[0 .. n) come from memory and carry tags, as do events[n .. n + k) from the kernel, which
 * get the application's data.  Returns how many remain. */
int shim_set_merge(struct shim_set *set, struct epoll_event *events, int n, int k);

/* ---- sets_deferred.c; locked ---- */

/* epoll_ctl without the kernel.  False: the kernel must hear of it now. */
bool shim_set_defer(struct shim_set *set, struct shim_conn *conn, int operation, int fd,
		    const struct epoll_event *event);
/* The kernel hears what was put off: of one, which may be gone then / of all. */
void shim_set_tell_kernel_of(struct shim_set *set, struct shim_registration *r);
void shim_set_tell_kernel(struct shim_set *set);

/* ---- sets_watch.c; locked ---- */

/* It is new, or changed: does the set's own asking tell of its peer's end? */
void shim_set_watch(struct shim_set *set, const struct shim_registration *r);
/* Told of by memory: it may have been attached since it was registered. */
void shim_set_watch_late(struct shim_set *set, const struct shim_registration *r);
/* It is no longer the set's to tell. */
void shim_set_unwatch(const struct shim_set *set, const struct shim_registration *r);
/* The kernel has told something of it, in a question that is not yet noted. */
void shim_set_watch_told(const struct shim_set *set, const struct shim_registration *r);

/* Not locked.  What the kernel was told, or asked, at `ticks` it has answered with all that it
 * knew. */
static inline void shim_set_told_all(struct shim_set *set, uint64_t ticks)
{
	atomic_store_explicit(&set->told_ticks, ticks, memory_order_relaxed);
}

/* ---- sets_sleep.c; not locked ---- */

/* One call of the application.  It waits by its own number of the set, which may have several:
 * another thread may close the others, or this one. */
struct shim_set_wait {
	struct shim_set *set; /* held */
	int epfd;
	const sigset_t *mask;
	uint32_t process; /* that holds it, and counts its sleep: not a child of a handler's */
};

/* The kernel has been asked. */
static inline void shim_set_looked_at(struct shim_set *set, uint64_t ticks)
{
	atomic_store_explicit(&set->looked_ticks, ticks, memory_order_relaxed);
}

/* As epoll_pwait2.  sleeps: counted in set->sleepers, may be cancelled. */
int shim_set_ask_kernel(const struct shim_set_wait *wait, struct epoll_event *events, int room,
			uint64_t deadline_ns, bool sleeps);
/* What the kernel has answered to a question for `most` events is merged behind the first n: how
 * many of it remain.  It is asked again, a few times, where all of a full answer is dropped and
 * there is nothing else to tell, for what is true may lie behind that; *answered: the last answer,
 * or an error of the last question, behind which nothing remains. */
int shim_set_correct(const struct shim_set_wait *wait, struct epoll_event *events, int n, int most,
		     int *answered);
/* What is hot is armed for the sleep.  0: news came before it, or nothing that counts. */
int shim_set_sleep(const struct shim_set_wait *wait, struct epoll_event *events, int room,
		   uint64_t deadline_ns);
/* No registration of ours: the kernel's own wait, but another thread may add one meanwhile, and
 * must know that somebody sleeps. */
int shim_set_sleep_plain(const struct shim_set_wait *wait, struct epoll_event *events, int room,
			 uint64_t deadline_ns);

#endif
