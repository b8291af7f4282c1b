/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting on an epoll set: what the rings hold, what the kernel says, and sleeping until either has
 * something. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "core/cpu.h"
#include "core/crowd.h"
#include "core/gone.h"
#include "core/postpone.h"
#include "core/relaxing.h"
#include "core/sleep.h"
#include "preload/sets_parts.h"
#include "preload/waits.h"

enum {
	LOOKS_PER_KERNEL = 128, /* while spinning: every few us */
	QUIET_LOOKS = 32,	/* questions in vain after which the kernel is asked by time */
	LOOK_EVERY_US = 50,
	LOOK_MAX_US = 2000,
	LOOK_PART = 16,	 /* and not for more than this part of the time */
	SMALL_ROOM = 64, /* for events, which the kernel's answer and memory's may fill together */
};

/*
 * When is the kernel asked?
 *
 * It alone knows of plain descriptors, of ends, and of what memory does not hold.  So it is asked
 * in every wait, and its answer stands beside that of memory, until it has had nothing to add
 * QUIET_LOOKS times in a row; then, as long as memory has events for each wait, it is asked every
 * LOOK_EVERY_US, or more rarely where the question is dear because many changes have been put off
 * (sets_deferred.c), but at least every LOOK_MAX_US.  That bounds how long a descriptor of which
 * only the kernel knows can be kept waiting by others.  A wait with which memory has nothing
 * to do, and one under another signal mask, always asks; a sleep is a question.  Any answer, a
 * change of which the kernel has heard at once, and any end of a connection that shared memory
 * shows, bring back the first state.
 */
static __attribute__((hot)) bool kernel_is_due(const struct shim_set *set)
{
	return set->strict || set->quiet_looks < QUIET_LOOKS ||
	       !shmipc_is_newer_than_ends(set->looked_ticks) ||
	       shmipc_ticks() - set->looked_ticks >= set->look_every_ticks;
}

/* Its new value. */
static uint32_t raise_by_one(_Atomic uint32_t *count)
{
	uint32_t value = atomic_load_explicit(count, memory_order_relaxed) + 1;

	atomic_store_explicit(count, value, memory_order_relaxed);
	return value;
}

/* As far as is known yet. */
static void asked_in_vain(struct shim_set *set)
{
	if (set->quiet_looks < QUIET_LOOKS)
		raise_by_one(&set->quiet_looks);
}

static void looked(struct shim_set *set, uint64_t began)
{
	uint64_t now = shmipc_ticks(), rate = shmipc_ticks_per_us();
	uint64_t every = (now - began) * LOOK_PART;

	if (every < LOOK_EVERY_US * rate)
		every = LOOK_EVERY_US * rate;
	if (every > LOOK_MAX_US * rate)
		every = LOOK_MAX_US * rate;
	shim_set_looked_at(set, now);
	atomic_store_explicit(&set->look_every_ticks, every, memory_order_relaxed);
}

/* Reported from memory; the kernel's registration must know that a one-shot has been used. */
static void used_up(struct shim_set *set, struct shim_registration *r)
{
	if (r->event.events & EPOLLONESHOT)
		shim_set_silence(set, r);
}

/* All at once, not as far as the kernel's answer has room for it: an edge and a one-shot, and what
 * has ended, whose bytes, end and error the kernel tells together. */
static bool tells_all(const struct shim_registration *r)
{
	return (r->event.events & (EPOLLET | EPOLLONESHOT)) ||
	       shmipc_receiver_knows_end(&r->conn->rx);
}

/* Nothing can be added to a one-shot once it is told: while the kernel is asked, it tells. */
static bool is_told_with_kernel(const struct shim_registration *r, bool due)
{
	return due && (r->event.events & EPOLLONESHOT);
}

/* Each arrival is an edge of all that is true, and a one-shot and an end are told all that is true,
 * as by the kernel; else the kernel may add the rest.  *due: it must. */
static uint32_t what_else(const struct shim_registration *r, bool *due)
{
	const uint32_t asked = r->event.events & (SHIM_SET_OUT_EVENTS | EPOLLPRI | EPOLLRDHUP);
	bool has_room = shmipc_sender_has_room(&r->conn->tx);
	struct pollfd real = { .fd = r->fd, .events = (short)asked };
	uint32_t room, said;

	/* no end, and urgent bytes leave the ring */
	if (!is_told_with_kernel(r, *due) && shmipc_receiver_follows_ring(&r->conn->rx) &&
	    (!(asked & SHIM_SET_OUT_EVENTS) || has_room))
		return asked & SHIM_SET_OUT_EVENTS;
	*due = true;
	room = has_room ? asked & SHIM_SET_OUT_EVENTS : 0;
	if (!tells_all(r))
		return room;
	if (sys_poll(&real, 1, 0) <= 0)
		real.revents = 0;
	said = (uint32_t)real.revents | shim_wait_ask(r->conn, r->fd);
	said = shim_wait_hangup(r->conn, r->event.events, room | said);
	return said & (asked | EPOLLERR | EPOLLHUP);
}

/* Locked.  Nothing, or all that memory knows to be true.  *due: the kernel may know more. */
static uint32_t memory_says(const struct shim_set *set, const struct shim_registration *r,
			    bool *due)
{
	const struct shmipc_receiver *rx = &r->conn->rx;
	bool news = shim_registration_has_news(r);

	/* the kernel tells, of an end too, and nobody could say that it is the same */
	if (r->blurred && (shmipc_receiver_has_tokens(rx) || rx->eof || rx->pending_error))
		return 0;
	if (!news &&
	    (set->strict || is_told_with_kernel(r, *due) || !shim_registration_has_room(r)))
		return 0;
	return (news ? r->event.events & SHIM_SET_IN_EVENTS : 0) | what_else(r, due);
}

/* Locked.  What the hot ones have, by their tags. */
static int collect(struct shim_set *set, struct epoll_event *events, int room, bool *due)
{
	struct shim_registration *r = shim_registration_hot(&set->registrations), *next;
	const struct shim_registration
		*first = NULL; /* that we have told, now at the end of the line */
	int n = 0;

	for (; r && r != first && n < room; r = next) {
		uint32_t said = memory_says(set, r, due);

		next = shim_registration_next_hot(r);
		if (!said) {
			/* armed and nothing there: the kernel will tell */
			if (r->armed && !set->together) /* by a thread that looks at what is hot */
				shim_registration_make_cold(&set->registrations, r);
			continue;
		}
		events[n].events = said;
		events[n++].data.u64 = r->tag;
		if (said & SHIM_SET_IN_EVENTS) {
			shim_set_told(set, r);
			shim_set_watch_late(set, r);
		}
		if (said & SHIM_SET_OUT_EVENTS)
			shim_registration_told_room(r);
		shim_registration_told_end(r, said);
		r->quiet = 0;
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

/* What memory has told, and the kernel is to be asked beside that, without waiting. */
struct answer {
	int told;	/* events[0 .. told) are memory's, and carry tags */
	uint64_t began; /* when the kernel had been told what was put off */
	bool its_turn;	/* the kernel's events may have all the room */
};

/* Its events, at most so many, behind memory's.  How many of all there are, or an error. */
static __attribute__((hot)) int add_kernel(const struct shim_set_wait *wait,
					   struct epoll_event *events, const struct answer *answer,
					   int most)
{
	struct shim_set *set = wait->set;
	int n = answer->told, k = 0;
	int all = shim_set_ask_kernel(wait, events + n, most, 0, false);

	asked_in_vain(set);
	looked(set, answer->began);
	if (all > 0)
		k = shim_set_correct(wait, events, n, most, &all);
	if (all >= 0 &&
	    all < most) /* [watch] behind the merge, which takes out those that it told */
		shim_set_told_all(set, answer->began);
	return n > 0 || all >= 0 ? n + k : all;
}

static bool may_be_told_later(struct shim_set *set, const struct epoll_event *event)
{
	const struct shim_registration *r = shim_registration_by_tag(&set->registrations,
								     event->data.u64);

	return !r || !(r->event.events & (EPOLLET | EPOLLONESHOT));
}

/* Locked.  They come behind those that were left out in the next wait. */
static void go_behind(struct shim_set *set, const struct epoll_event *events, int told)
{
	for (int i = 0; i < told; i++) {
		struct shim_registration *r = shim_registration_by_tag(&set->registrations,
								       events[i].data.u64);

		if (r && r->hot)
			shim_registration_make_hot(&set->registrations, r);
	}
}

/* Of memory's events the last ones for which there is no room, and which are told again as long as
 * they are true; also others, if another thread has changed them meanwhile.  How many are left
 * out. */
static int leave_out(struct shim_set *set, struct epoll_event *events, int told, int n, int surplus)
{
	bool locked = shim_set_enter(set);
	int out = 0;

	for (int any = !locked; any <= 1; any++) {
		for (int i = told - out - 1; i >= 0 && out < surplus; i--) {
			if (!any && !may_be_told_later(set, &events[i]))
				continue;
			out++;
			memmove(&events[i], &events[i + 1],
				(size_t)(n - out - i) * sizeof(*events));
		}
	}
	if (!locked)
		return out;
	go_behind(set, events, told - out);
	shim_set_leave(set);
	return out;
}

/* The kernel's answer may hold what memory has told already.  So that this takes nobody's room, it
 * is asked for more than there is room for, and what is too much of memory's left out: but nothing
 * of what is told once, and, where it is not the kernel's turn, not all. */
static int add_kernel_beside(const struct shim_set_wait *wait, struct epoll_event *events,
			     struct answer *answer, int room)
{
	struct shim_set *set = wait->set;
	struct epoll_event both[2 * SMALL_ROOM];
	int n, told = answer->told, stays = 0;

	if (!shim_set_enter(set))
		return told;
	for (int i = 0; i < told; i++)
		stays += !may_be_told_later(set, &events[i]);
	shim_set_leave(set);
	if (stays == 0 && !answer->its_turn)
		stays = 1;
	memcpy(both, events, (size_t)told * sizeof(*events));
	n = add_kernel(wait, both, answer, room - stays);
	if (n > room) {
		answer->told -= leave_out(set, both, told, n, n - room);
		n = room;
	}
	memcpy(events, both, (size_t)n * sizeof(*events));
	return n;
}

/* The kernel's, every second time. */
static bool its_turn(struct shim_set *set)
{
	bool first = !atomic_load_explicit(&set->kernel_first, memory_order_relaxed);

	atomic_store_explicit(&set->kernel_first, first, memory_order_relaxed);
	return first;
}

/* Memory and, where it is due, the kernel, without waiting.  Neither may starve the other where the
 * room is short. */
static __attribute__((hot)) int look(const struct shim_set_wait *wait, struct epoll_event *events,
				     int room, bool sleeps_then)
{
	struct shim_set *set = wait->set;
	bool due = wait->mask || kernel_is_due(set);
	bool kernel_first = due && its_turn(set), asked = false;
	struct answer answer = { .its_turn = kernel_first };
	int n, most = room;

	if (!shim_set_enter(set))
		return -EINTR;
	if (kernel_first && room == 1) {
		shim_set_tell_kernel(set);
		answer.began = shmipc_ticks();
		shim_set_leave(set);
		n = add_kernel(wait, events, &answer, 1);
		if (n != 0)
			return n;
		asked = true;
		due = false; /* but for what memory wants to know */
		if (!shim_set_enter(set))
			return -EINTR;
	} else if (kernel_first) {
		most = room - 1;
	}
	n = answer.told = collect(set, events, most, &due);
	due = due || (n == 0 && !sleeps_then && !asked);
	if (due && n < room) {
		shim_set_tell_kernel(set);
		answer.began = shmipc_ticks();
	}
	shim_set_leave(set);
	if (due && n < room)
		n = n > 0 && room <= SMALL_ROOM ? add_kernel_beside(wait, events, &answer, room)
						: add_kernel(wait, events, &answer, room - n);
	shim_set_untag_told(set, events, answer.told);
	return n;
}

/* An epoll set is itself a descriptor that can be polled.  1 if there is something; 0; an error. */
static int poll_kernel(const struct shim_set_wait *wait)
{
	struct pollfd all = { .fd = wait->epfd, .events = POLLIN };

	return sys_poll(&all, 1, 0);
}

static __attribute__((hot)) bool hot_news(const struct shim_set *set)
{
	for (struct shim_registration *r = shim_registration_hot(&set->registrations); r;
	     r = shim_registration_next_hot(r))
		if (shim_registration_is_ready(set, r))
			return true;
	return false;
}

/* While spinning. */
static __attribute__((hot)) bool any_news(void *argument)
{
	const struct shim_set_wait *wait = argument;
	struct shim_set *set = wait->set;
	bool threads = !shmipc_single_threaded(), due, news;
	uint64_t now;
	int answer;

	due = raise_by_one(&set->looks) % LOOKS_PER_KERNEL == 0 && kernel_is_due(set);
	/* another one might close a connection under our eyes */
	if ((threads || due) && !shim_set_enter(set))
		return true;
	news = hot_news(set);
	if (due && !news)
		shim_set_tell_kernel(set);
	now = due ? shmipc_ticks() : 0;
	if (threads || due)
		shim_set_leave(set);
	if (news || !due)
		return news;
	shim_set_looked_at(set, now);
	answer = poll_kernel(wait);
	if (answer == 0) {
		asked_in_vain(set);
		shim_set_told_all(set, now);
	}
	if (answer <= 0)
		return false;
	set->quiet_looks = 0; /* ask what */
	return true;
}

/* Locked.  The end whose spin counts, or NULL: nobody spins. */
static __attribute__((hot)) const struct shmipc_receiver *spins_for(const struct shim_set *set)
{
	const struct shim_registration *hot = shim_registration_hot(&set->registrations);

	return hot && !set->strict && shim_registration_is_ours(hot) ? &hot->conn->rx : NULL;
}

/* Locked.  Of several peers one may answer while the kernel is asked, or at a glance. */
static bool has_several(const struct shim_set *set)
{
	struct shim_registration *hot = shim_registration_hot(&set->registrations);

	return hot && shim_registration_next_hot(hot);
}

/* Not locked, as no other thread is there: a spin comes before the sleep.  Nothing may be hot, or
 * only what has no ring yet. */
static bool spins_alone(const struct shim_set *set)
{
	return shmipc_single_threaded() && spins_for(set) &&
	       shmipc_crowd_may_yield(&shmipc_crowd) && !shmipc_spin_is_skipped(&set->spin, 0);
}

/* Memory has nothing, and no look at it comes before the sleep, which asks the kernel itself.  A
 * set that spins does not take the lock for this. */
static bool sleeps_at_once(struct shim_set *set)
{
	const struct shmipc_receiver *end;
	bool at_once;

	if (spins_alone(set) || !shim_set_enter(set))
		return false;
	end = spins_for(set);
	at_once = (!end || (!has_several(set) &&
			    shmipc_spin_is_skipped(&set->spin, atomic_load(&end->tx->cpu)))) &&
		  !hot_news(set);
	shim_set_leave(set);
	return at_once;
}

static bool spin(struct shim_set_wait *wait)
{
	struct shim_set *set = wait->set;
	const struct shmipc_receiver *end;
	struct shmipc_status_rx *count = NULL;
	enum shmipc_spin_result result;
	bool several = false;
	uint32_t cpu = 0;

	if (set->strict || !shim_set_enter(set))
		return false;
	end = spins_for(set);
	if (end) {
		count = end->count;
		cpu = atomic_load(&end->tx->cpu);
		several = has_several(set);
	}
	shim_set_leave(set);
	if (!count)
		return false;
	result = shmipc_spin_until(&set->spin, any_news, wait, cpu);
	if (result == SHMIPC_SPIN_WON)
		shmipc_count(&count->spins_won, 1);
	else if (result == SHMIPC_SPIN_LOST)
		shmipc_count(&count->spins_lost, 1);
	else if (several)
		result = shmipc_spin_glance(&set->glance, any_news, wait);
	return result == SHMIPC_SPIN_WON;
}

static bool has_nothing_of_ours(const struct shim_set *set)
{
	return atomic_load_explicit(&set->members, memory_order_relaxed) == 0 &&
	       !shim_registration_changed(&set->registrations);
}

/* A signal has ended the wait before anybody was asked.  Its handler may have closed the set. */
static int look_after_all(const struct shim_set_wait *wait, struct epoll_event *events, int room)
{
	int n = 0;

	if (shim_set_of(wait->epfd) == wait->set)
		n = look(wait, events, room, false);
	return n ? n : -EINTR;
}

/* A wait without a limit has found nothing: another thread has closed the set meanwhile. */
static int without_set(int n, uint64_t deadline_ns)
{
	return n == 0 && deadline_ns == SHIM_WAIT_FOR_EVER ? -EINTR : n;
}

/* Postponed.  Sleeps once in any case, however late it is by now, unless `looked`: we have, and
 * there is no mask under which a signal may wait. */
static int wait_for_news(struct shim_set_wait *wait, struct epoll_event *events, int room,
			 uint64_t deadline_ns, bool looked)
{
	int n = 0;

	for (; n == 0 && shim_set_of(wait->epfd) == wait->set &&
	       (!looked || !shim_wait_is_over(deadline_ns));
	     looked = true) {
		if (!spin(wait)) {
			n = shim_set_sleep(wait, events, room, deadline_ns);
			if (n == -EINTR && shmipc_sleep_was_no_call())
				return look_after_all(wait, events, room);
			if (n != 0)
				return n;
		}
		n = look(wait, events, room, true);
	}
	return without_set(n, deadline_ns);
}

/* A wait of no time looks at no signal: one that came while we were busy ends it as little as what
 * is ready does not wait for one. */
static int first_look(const struct shim_set_wait *wait, struct epoll_event *events, int room,
		      bool sleeps)
{
	int n = look(wait, events, room, sleeps);

	if (n != -EINTR || !wait->mask || !shmipc_sleep_was_no_call())
		return n;
	n = look_after_all(wait, events, room);
	return n == -EINTR && !sleeps ? 0 : n;
}

/* Held. */
static int wait_by(struct shim_set_wait *wait, struct epoll_event *events, int room,
		   const struct timespec *timeout)
{
	struct shim_set *set = wait->set;
	bool sleeps = !timeout || timeout->tv_sec > 0 || timeout->tv_nsec > 0, has_looked;
	uint64_t deadline_ns = SHIM_WAIT_FOR_EVER;
	int n = 0;

	atomic_store_explicit(&set->waited, true, memory_order_relaxed);
	if (set->waits < SHIM_SET_WAITS_COUNTED)
		raise_by_one(&set->waits);
	if (has_nothing_of_ours(set)) {
		deadline_ns = shim_wait_deadline(timeout);
		n = shim_set_sleep_plain(wait, events, room, deadline_ns);
		if (n != 0 || shim_set_of(wait->epfd) != set || shim_wait_is_over(deadline_ns))
			return without_set(n, deadline_ns);
	}
	/* a set that always finds something sleeps seldom */
	if (__builtin_expect(!shmipc_relaxing_is_allowed(), 0))
		shmipc_relaxing_settle();
	has_looked = !sleeps || !sleeps_at_once(set);
	if (has_looked)
		n = first_look(wait, events, room, sleeps);
	if (n != 0 || !sleeps) /* the clock is not asked where nothing waits */
		return n;
	if (deadline_ns == SHIM_WAIT_FOR_EVER)
		deadline_ns = shim_wait_deadline(timeout);
	return wait_for_news(wait, events, room, deadline_ns, has_looked && !wait->mask);
}

__attribute__((hot)) int shim_set_wait(struct shim_set *set, int epfd, struct epoll_event *events,
				       int room, const struct timespec *timeout,
				       const sigset_t *mask)
{
	struct shim_set_wait wait = { set, epfd, mask, shmipc_process_generation() };
	int n = wait_by(&wait, events, room, timeout);

	if (wait.process == shmipc_process_generation())
		shim_set_let_go(set);
	else
		shmipc_postpone_end();
	return n;
}
