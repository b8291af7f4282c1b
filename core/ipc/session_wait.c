/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for a session.
 *
 * Whoever waits first leads: it looks at the receive queue for a while, then sleeps on the socket;
 * it hands out whatever comes, for whomever.  The others sleep on words of their own.  Invariants:
 *	- somebody who waits is the leader, or there is a dispatcher, or a leader was just woken
 *	  (pass_on): so arrivals are noticed;
 *	- before the leader sleeps it has said that it rests (session_rest), so the peer wakes it;
 *	- whoever waits is in the list of waiters whenever he is without the lock, but for a leader
 *	  that sleeps, and does not fall asleep once his word is set: what another thread takes in
 *	  for somebody who still looks at the queue is not overslept;
 *	- another thread that takes something in for the leader, or ends its wait, kicks it; so does
 *	  one that reads the socket meanwhile: it may have taken the wake-up that was meant for the
 *	  leader, after which the peer sends none;
 *	- likewise who has read the socket of a session with a loop lets it rest (settle).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "core/cpu.h"
#include "core/ipc/session.h"
#include "core/sys.h"

enum {
	LOOK_AT_SOCKET_EVERY = 64, /* waits, while the queue alone keeps us busy */
	NOTE_MAGIC = 0x53480000,
	NOTE_MAGIC_MASK = (int)0xffff0000,
	EAGER_STEPS = 32, /* of wait_room(): the peer is probably at work */
	UNKICKED_NS = 10 * 1000 * 1000,
	STEP_MIN_NS = 20 * 1000,
	STEP_MAX_NS = 1000 * 1000
};

/* ---- spinning ------------------------------------------------------------------------------- */

struct look {
	_Atomic uint32_t *tail, *word;
	uint32_t position;
};

static bool tail_has_moved(void *argument)
{
	const struct look *look = argument;

	return atomic_load_explicit(look->tail, memory_order_relaxed) != look->position ||
	       atomic_load_explicit(look->word, memory_order_relaxed);
}

/* Is the peer a libshmipc?  A server knows by the names, a client by the server's note. */
static bool peer_is_ours(struct shmipc_session *s, uint32_t *note_out)
{
	bool client = s->role == SHMIPC_ROLE_CLIENT;

	if (!client && !s->peer_is_ours)
		return false;
	*note_out = atomic_load_explicit(
		shmipc_pool_note(s->pool, client ? SHMIPC_POOL_MAPPER : SHMIPC_POOL_CREATOR),
		memory_order_relaxed);
	if (client && !s->peer_is_ours)
		s->peer_is_ours = (*note_out & (uint32_t)NOTE_MAGIC_MASK) == NOTE_MAGIC;
	return s->peer_is_ours;
}

bool shmipc_session_may_spin(struct shmipc_session *s)
{
	uint32_t note;

	return s->config->values.spin_us > 0 && peer_is_ours(s, &note);
}

static void note_cpu(struct shmipc_session *s, uint32_t cpu)
{
	_Atomic uint32_t *note = shmipc_pool_note(
		s->pool, s->role == SHMIPC_ROLE_CLIENT ? SHMIPC_POOL_CREATOR : SHMIPC_POOL_MAPPER);
	uint32_t value = NOTE_MAGIC | (cpu & 0xffff);

	if (atomic_load_explicit(note, memory_order_relaxed) != value)
		atomic_store_explicit(note, value, memory_order_relaxed);
}

/* Looks at the queue instead of sleeping.  False: nothing came, or it is not worth it. */
static bool spin(struct shmipc_session *s, struct shmipc_waiter *self)
{
	struct look look = { s->receive.other, &self->word, (uint32_t)s->receive.position };
	struct shmipc_spin state = s->spin;
	enum shmipc_spin_result result;
	uint32_t note;

	if (s->config->values.spin_us == 0 || !peer_is_ours(s, &note))
		return false;
	s->awake++;
	shmipc_queue_stay_awake(&s->receive);
	note_cpu(s, shmipc_spin_cpu());
	shmipc_mutex_unlock(&s->lock);
	result = shmipc_spin_for(&state, tail_has_moved, &look, note & 0xffff,
				 s->config->values.spin_us);
	shmipc_mutex_lock(&s->lock);
	s->awake--;
	s->spin = state;
	if (result == SHMIPC_SPIN_WON)
		s->metrics.spins_won++;
	return result == SHMIPC_SPIN_WON;
}

/* ---- sleeping ------------------------------------------------------------------------------- */

void shmipc_session_kick(struct shmipc_session *s)
{
	uint64_t one = 1;

	if (s->wake_fd >= 0)
		sys_write(s->wake_fd, &one, sizeof(one));
}

static void enlist(struct shmipc_session *s, struct shmipc_waiter *self)
{
	atomic_store_explicit(&self->word, 0, memory_order_relaxed);
	self->sleeps = false;
	self->next = s->waiters;
	s->waiters = self;
}

static void delist(struct shmipc_session *s, struct shmipc_waiter *self)
{
	struct shmipc_waiter **at = &s->waiters;

	while (*at != self)
		at = &(*at)->next;
	*at = self->next;
}

static void wake(struct shmipc_waiter *waiter)
{
	atomic_store_explicit(&waiter->word, 1, memory_order_relaxed);
	if (waiter->sleeps)
		shmipc_word_wake(&waiter->word);
}

/* Before a sleep, listed: is there still nothing to do? */
static bool may_sleep(struct shmipc_session *s, struct shmipc_waiter *self)
{
	return !spin(s, self) && !s->ended &&
	       !atomic_load_explicit(&self->word, memory_order_relaxed) && shmipc_session_rest(s);
}

void shmipc_session_notify(struct shmipc_session *s, const void *object)
{
	for (struct shmipc_waiter *w = s->waiters; w; w = w->next)
		if (w->object == object)
			wake(w);
	if (s->leader_sleeps && s->leader->object == object)
		shmipc_session_kick(s);
}

void shmipc_session_notify_all(struct shmipc_session *s)
{
	for (struct shmipc_waiter *w = s->waiters; w; w = w->next)
		wake(w);
	if (s->leader_sleeps)
		shmipc_session_kick(s);
}

/* Alone in the process and for as long as it takes: one system call, the same as for a socket. */
static void sleep_in_receive(struct shmipc_session *s)
{
	size_t room;
	void *to = shmipc_session_input(s, &room);
	ssize_t n;

	shmipc_mutex_unlock(&s->lock);
	n = sys_recvfrom(s->fd, to, room, 0, NULL, NULL);
	shmipc_mutex_lock(&s->lock);
	s->looks = 0;
	shmipc_session_got(s, n);
}

static void poll_until(struct pollfd *fds, nfds_t count, uint64_t deadline_ns)
{
	struct timespec left, *timeout = NULL;

	if (deadline_ns != SHMIPC_NEVER) {
		uint64_t now = shmipc_clock_ns();
		uint64_t ns = deadline_ns > now ? deadline_ns - now : 0;

		left.tv_sec = (time_t)(ns / 1000000000u);
		left.tv_nsec = (long)(ns % 1000000000u);
		timeout = &left;
	}
	sys_ppoll(fds, count, timeout, NULL);
}

static void sleep_in_poll(struct shmipc_session *s, uint64_t deadline_ns)
{
	struct pollfd fds[2] = { { .fd = s->fd, .events = POLLIN },
				 { .fd = s->wake_fd, .events = POLLIN } };
	uint64_t count, soon;

	/* the kernel had no descriptor by which others could kick it: it looks for itself */
	if (s->wake_fd < 0 && (soon = shmipc_deadline_after(UNKICKED_NS)) < deadline_ns)
		deadline_ns = soon;
	/* the leader sends what others could not: nobody else may be left to do it */
	if (s->out_first)
		fds[0].events |= POLLOUT;
	s->leader_sleeps = true;
	shmipc_mutex_unlock(&s->lock);
	poll_until(fds, 2, deadline_ns);
	shmipc_mutex_lock(&s->lock);
	s->leader_sleeps = false;
	if (fds[1].revents)
		sys_read(s->wake_fd, &count, sizeof(count));
	if (fds[0].revents & ~POLLOUT && !s->ended)
		shmipc_session_read(s);
	if (fds[0].revents & POLLOUT)
		shmipc_session_pump(s);
}

static void lead(struct shmipc_session *s, struct shmipc_waiter *self, uint64_t deadline_ns)
{
	bool sleeps;

	s->leader = self;
	enlist(s, self);
	sleeps = may_sleep(s, self);
	delist(s, self);
	if (!sleeps) {
		s->leader = NULL;
		return;
	}
	s->metrics.sleeps++;
	if (deadline_ns == SHMIPC_NEVER && shmipc_single_threaded() && !s->out_first) {
		sleep_in_receive(s);
	} else {
		if (s->wake_fd < 0)
			s->wake_fd = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		sleep_in_poll(s, deadline_ns);
	}
	s->leader = NULL;
	if (!s->ended)
		shmipc_queue_stay_awake(&s->receive);
}

/* Listed. */
static void sleep_on_word(struct shmipc_session *s, struct shmipc_waiter *self,
			  uint64_t deadline_ns)
{
	self->sleeps = true;
	shmipc_mutex_unlock(&s->lock);
	shmipc_word_wait(&self->word, 0, deadline_ns);
	shmipc_mutex_lock(&s->lock);
	self->sleeps = false;
}

static void follow(struct shmipc_session *s, struct shmipc_waiter *self, uint64_t deadline_ns)
{
	enlist(s, self);
	sleep_on_word(s, self, deadline_ns);
	delist(s, self);
}

/* There is a thread that takes in; before it has to, we look for ourselves. */
static void follow_dispatcher(struct shmipc_session *s, struct shmipc_waiter *self,
			      uint64_t deadline_ns)
{
	struct shmipc_follower follower = { .word = &self->word };

	enlist(s, self);
	if (shmipc_loop_follow(s->loop, &follower)) {
		if (may_sleep(s, self)) {
			s->metrics.sleeps++;
			sleep_on_word(s, self, deadline_ns);
		}
		shmipc_loop_unfollow(s->loop, &follower);
	}
	delist(s, self);
}

/* In a callback of a loop that is awake for this session: it looks at queue and socket again, and
 * rests, before it sleeps or is left (loop.c), so nobody here has to. */
static bool is_in_awake_loop(const struct shmipc_session *s)
{
	return s->loop && shmipc_loop_is_here(s->loop) && s->awake_in_loop.listed;
}

void shmipc_session_settle(struct shmipc_session *s)
{
	if (s->loop && !is_in_awake_loop(s))
		while (!s->ended && !shmipc_session_rest(s))
			shmipc_session_harvest(s);
}

/* Somebody else has to lead now; and a loop that sleeps has to be woken for what comes. */
static void pass_on(struct shmipc_session *s)
{
	shmipc_session_settle(s);
	if (!s->leader && !s->ended && s->waiters)
		wake(s->waiters);
}

static void take_in(struct shmipc_session *s)
{
	if (++s->looks >= LOOK_AT_SOCKET_EVERY && !s->leader_sleeps && !s->ended)
		shmipc_session_read(s);
	shmipc_session_harvest(s);
}

int shmipc_session_wait(struct shmipc_session *s, const void *object, bool (*ready)(void *),
			void *argument, uint64_t deadline_ns)
{
	struct shmipc_waiter self = { .object = object };
	int result = 0;

	for (;;) {
		take_in(s);
		if (s->news) { /* the wait may be long, and the owner should know now */
			shmipc_session_deliver(s);
			shmipc_mutex_lock(&s->lock);
		}
		if (ready(argument))
			break;
		if (deadline_ns == SHMIPC_NOWAIT) {
			if (!is_in_awake_loop(s)) {
				shmipc_session_read(s);
				shmipc_session_harvest(s);
			}
			result = ready(argument) ? 0 : -EAGAIN;
			break;
		}
		if (deadline_ns != SHMIPC_NEVER && shmipc_clock_ns() >= deadline_ns) {
			result = -ETIMEDOUT;
			break;
		}
		if (s->loop && shmipc_loop_has_other_thread(s->loop))
			follow_dispatcher(s, &self, deadline_ns);
		else if (s->leader)
			follow(s, &self, deadline_ns);
		else
			lead(s, &self, deadline_ns);
	}
	pass_on(s);
	return result;
}

void shmipc_session_wait_room(struct shmipc_session *s, uint32_t *patience, bool socket_too,
			      uint64_t deadline_ns)
{
	struct pollfd wait = { .fd = s->fd,
			       .events = (short)(POLLIN | (socket_too ? POLLOUT : 0)) };
	uint64_t step = STEP_MIN_NS, until = shmipc_clock_ns();

	if ((*patience)++ < EAGER_STEPS) {
		shmipc_mutex_unlock(&s->lock);
		sys_sched_yield();
		shmipc_mutex_lock(&s->lock);
	} else {
		for (uint32_t i = EAGER_STEPS + 1; i < *patience && step < STEP_MAX_NS; i += 4)
			step *= 2;
		until += step;
		/* who sleeps on the socket would be woken in our stead by every message */
		if (s->leader_sleeps)
			wait.events &= POLLOUT;
		shmipc_mutex_unlock(&s->lock);
		poll_until(&wait, 1, until < deadline_ns ? until : deadline_ns);
		shmipc_mutex_lock(&s->lock);
	}
	if (!s->ended && wait.revents & ~POLLOUT)
		shmipc_session_read(s);
	shmipc_session_harvest(s);
	shmipc_session_pump(s);
	shmipc_session_settle(s);
}
