/* SPDX-License-Identifier: Apache-2.0 */
/* The sender's tokens and its cuts between kernel and ring. */
#include "core/sender.h"

#include <errno.h>
#include <linux/sock_diag.h>

#include "core/cpu.h"
#include "core/ending.h"
#include "core/sender_parts.h"
#include "core/sys.h"
#include "core/thread.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

enum {
	EDGE_TOKENS_MAX = 32, /* unread tokens of an edge-triggered waiter that never reads */
	TOKEN_ROOM_BYTES = 16 * 1024,
	VERIFY_WAIT_US = 200,
	FINALLY_TRIES = 20, /* without any progress */
	FINALLY_WAIT_MS = 100,
	HELPER_TRIES = 60000, /* a receiver that helps waits for nothing, but may be stopped */
	HELPER_NAP_NS = 500 * 1000,
};

/* ---- tokens ---- */

/* Promise first, then look whether the other end is leaving: it forbids first, then drains what was
 * promised
 * ([close] in receiver_leave.c), so no token is left behind unread. */
static __attribute__((hot)) uint32_t promise(struct shmipc_sender *s)
{
	shmipc_sender_doing(s, SHMIPC_SENDER_IN_TOKEN);
	s->tokens++;
	atomic_store_explicit(&s->tx->tokens_promised, s->tokens, memory_order_seq_cst);
	return atomic_load_explicit(&s->want->want, memory_order_seq_cst);
}

static void take_promise_back(struct shmipc_sender *s)
{
	s->tokens--;
	atomic_store_explicit(&s->tx->tokens_promised, s->tokens, memory_order_seq_cst);
}

static bool is_passing(ssize_t result)
{
	return result == -EAGAIN || result == -ENOBUFS || result == -ENOMEM || result == -EINTR;
}

/* 1; 0 when it was forbidden, or the socket has no room just now: then the token is owed. */
static __attribute__((hot)) int send_token(struct shmipc_sender *s, int fd)
{
	const char value = SHMIPC_TOKEN_WAKE;
	const uint64_t now = shmipc_ticks();
	uint32_t want = promise(s);
	ssize_t n;

	if (want &
	    SHMIPC_WANT_STOP) /* also if closed since: a program without the shim may read on */
		n = 0;
	else if (want & SHMIPC_WANT_CLOSED)
		n = -EPIPE;
	else
		n = sys_sendto(fd, &value, 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	if (n == 1)
		shmipc_count(&s->count->tokens, 1);
	else
		take_promise_back(s);
	/* a Unix socket takes nothing for one that is gone; that it still sends this does not say
	 */
	if (n == 1 && s->is_unix)
		atomic_store_explicit(&s->looked_ticks, now, memory_order_relaxed);
	s->token_owed = is_passing(n);
	shmipc_sender_keep_reset(s, n);
	shmipc_sender_doing(s, SHMIPC_SENDER_IDLE);
	return is_passing(n) ? 0 : (int)n;
}

/*
 * [together] A set sleeps for many connections at once.  A token to one of them ends the sleep, and
 * whoever wakes looks at them all: the others need none.
 *
 * Such a sleeper gives each sleep a number of its own, and writes it beside `want` when all tokens
 * that it takes before it sleeps are taken; then fence, then a last look at all rings.  So if we
 * find a number here, behind our fence, either it is that of a sleep which has not ended, or its
 * sleeper is awake, or it sees our tail in that last look.  `woken` is written when a token lies in
 * the socket of a connection with that number: in the receiving socket, for such a connection has
 * nothing unread in it that could keep a token on our side.  Whoever takes it off there, but for
 * the sleeper, or keeps the sleeper from hearing of it, looks at `lies_in` behind that, and ends
 * the sleep (shmipc_receiver_disturb).  The sleeper wrote `lies_in` before the number, we read the
 * number before we sent the token: so who takes it sees `lies_in`, or the sleep has ended.  Only
 * for a sleeper that is the only one, and relaxed; and not where the token is also to ask whether
 * the peer still lives.
 */
static uint64_t sleep_together(const struct shmipc_sender *s, uint32_t want)
{
	if (!s->woken || s->half_closed || (want & ~(uint32_t)SHMIPC_WANT_FENCE) != 1)
		return 0;
	return atomic_load_explicit(&s->want->sleep, memory_order_acquire);
}

static int wake_sleepers(struct shmipc_sender *s, int fd, uint32_t want)
{
	uint64_t sleep = sleep_together(s, want);
	int n;

	if (sleep && atomic_load_explicit(s->woken, memory_order_relaxed) == sleep)
		return 0;
	n = send_token(s, fd);
	if (sleep && n == 1)
		atomic_store_explicit(s->woken, sleep, memory_order_relaxed);
	return n < 0 ? n : 0;
}

void shmipc_sender_nudge(struct shmipc_sender *s, int fd)
{
	/* a token can only be told from payload on the ring's side of a cut */
	if (s->attached && !s->broken &&
	    (shmipc_sender_on_ring(s) || shmipc_sender_cut_to_ring(s, fd)))
		send_token(s, fd);
}

__attribute__((hot)) int shmipc_sender_wake(struct shmipc_sender *s, int fd, uint64_t tail_before)
{
	uint32_t want, outstanding;

	/* [sleep] store tail, fence, load want; the receiver stores want, fences, loads tail.
	 * [empty] the same for head against tail. */
	atomic_thread_fence(memory_order_seq_cst);
	want = atomic_load_explicit(&s->want->want, memory_order_relaxed);
	if (want & SHMIPC_WANT_STOP)
		return 0;
	if (want & SHMIPC_WANT_CLOSED)
		return -EPIPE;
	outstanding = shmipc_sender_outstanding(s);
	if (!(want & (SHMIPC_WANT_STRICT | SHMIPC_WANT_SLEEPERS)) && !s->half_closed)
		return 0;
	if (outstanding == 0)
		return wake_sleepers(s, fd, want);
	if (!(want & SHMIPC_WANT_STRICT))
		return 0;
	if (shmipc_sender_load_head(s) >= tail_before || s->token_owed ||
	    ((want & SHMIPC_WANT_EDGE) && outstanding < EDGE_TOKENS_MAX))
		return wake_sleepers(s, fd, want);
	return 0;
}

bool shmipc_sender_must_ask(const struct shmipc_sender *s)
{
	uint32_t flags;

	if (!s->attached || s->is_unix || s->gone || s->shut || !shmipc_sender_on_ring(s))
		return false;
	flags = atomic_load_explicit(&s->reverse->flags, memory_order_relaxed);
	return (flags & SHMIPC_TX_FIN) && !(flags & SHMIPC_TX_CLOSED);
}

void shmipc_sender_ask(struct shmipc_sender *s, int fd)
{
	if (s->attached && !s->gone && !s->shut && !s->broken && shmipc_sender_on_ring(s) &&
	    shmipc_sender_unread(s) > 0 && shmipc_sender_outstanding(s) == 0)
		send_token(s, fd);
}

/* ---- cuts ---- */

/* [stop] [untangle] say that we are cutting, fence, look what the receiver wants; it says STOP, or
 * STOPPED, fences, waits until nobody is cutting, and looks: one of the two sees the other */
static __attribute__((hot)) uint32_t begin_cut(struct shmipc_sender *s)
{
	atomic_fetch_or(&s->tx->flags, SHMIPC_TX_CUTTING);
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&s->want->want, memory_order_relaxed);
}

static __attribute__((hot)) void end_cut(struct shmipc_sender *s)
{
	atomic_fetch_and(&s->tx->flags, ~(uint32_t)SHMIPC_TX_CUTTING);
}

static bool token_would_fit(const struct shmipc_sender *s, int fd)
{
	uint32_t memory[SK_MEMINFO_VARS] = { 0 };
	socklen_t bytes = sizeof(memory);
	uint32_t queued;

	if (sys_getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &bytes) < 0)
		return false;
	queued = s->is_unix ? memory[SK_MEMINFO_WMEM_ALLOC] : memory[SK_MEMINFO_WMEM_QUEUED];
	return queued + TOKEN_ROOM_BYTES <= memory[SK_MEMINFO_SNDBUF];
}

/* A Unix socket has no counters of its own against which ours could be checked.  But when its queue
 * is empty, the receiver has read exactly what we have sent; if the two counts differ then,
 * somebody has moved bytes behind the back of one of us (raw system calls), and the direction stays
 * by the kernel. */
static bool counts_agree(struct shmipc_sender *s, int fd)
{
	uint32_t memory[SK_MEMINFO_VARS];
	socklen_t bytes = sizeof(memory);
	uint64_t patience = 0, start = shmipc_ticks();

	if (!s->is_unix || s->verified)
		return true;
	/* a fast sender never finds the queue empty by chance: now and then it waits for that */
	s->verifications++;
	if ((s->verifications & (s->verifications - 1)) == 0 && s->verifications >= 16)
		patience = VERIFY_WAIT_US * shmipc_ticks_per_us();
	do {
		if (sys_getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &bytes) < 0)
			return false;
		if (memory[SK_MEMINFO_WMEM_ALLOC] == 0 &&
		    atomic_load_explicit(&s->rx->kernel_read, memory_order_acquire) ==
			    atomic_load(&s->kernel_bytes))
			s->verified = true;
	} while (!s->verified && shmipc_ticks() - start < patience);
	return s->verified;
}

__attribute__((hot)) bool shmipc_sender_cut_to_ring(struct shmipc_sender *s, int fd)
{
	uint32_t want;

	if (!s->settled || s->no_more_ring || s->head < s->resend_to)
		return false;
	if (atomic_load_explicit(&s->rx->phase, memory_order_acquire) != s->phase ||
	    !atomic_load_explicit(&s->want->ready, memory_order_acquire))
		return false;
	/* first whether a call is inside, then whether one has left without its count */
	if (atomic_load(&s->kernel_senders) != 0 || atomic_load(&s->count_lost) ||
	    !counts_agree(s, fd))
		return false;
	/* A token must find room behind the payload if somebody may wait whom we do not see.  A
	 * waiter that we do see sleeps only when it has read all payload; and a full queue must not
	 * keep a fast sender off the ring. */
	if (atomic_load_explicit(&s->want->want, memory_order_relaxed) &
		    (SHMIPC_WANT_STRICT | SHMIPC_WANT_SLEEPERS) &&
	    !token_would_fit(s, fd))
		return false;
	shmipc_sender_doing(s, SHMIPC_SENDER_IN_CUT);
	want = begin_cut(s);
	if (!(want & (SHMIPC_WANT_STOP | SHMIPC_WANT_LEAVE | SHMIPC_WANT_CLOSED))) {
		atomic_store_explicit(&s->tx->cut, atomic_load(&s->kernel_bytes),
				      memory_order_relaxed);
		s->phase++;
		/* [phase:rel] publishes cut; pairs with [phase:acq] in receiver_parts.h */
		atomic_store_explicit(&s->tx->phase, s->phase, memory_order_release);
		shmipc_count(&s->count->cuts, 1);
	}
	end_cut(s);
	shmipc_sender_doing(s, SHMIPC_SENDER_IDLE);
	return shmipc_sender_on_ring(s);
}

static void leave(struct shmipc_sender *s)
{
	s->phase++;
	atomic_store_explicit(&s->tx->phase, s->phase, memory_order_release);
	shmipc_count(&s->count->cuts, 1);
	s->token_owed = false;
}

static bool is_helped(const struct shmipc_sender *s)
{
	return atomic_load(&s->want->want) & SHMIPC_WANT_HELPING;
}

/* An end that the receiver has not announced is that of one that was killed. */
static bool helper_has_died(const struct shmipc_sender *s, int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };

	return (atomic_load(&s->want->want) & SHMIPC_WANT_FAILED) ||
	       (sys_poll(&real, 1, 0) > 0 && real.revents &&
		!(atomic_load(&s->reverse->flags) & SHMIPC_TX_FIN));
}

/* A receiver may be sending for us, by a copy of our socket (receiver_leave.c,
 * receiver_untangle.c): one at a time.  False: it died half way, and what has been sent? */
static bool wait_for_helper(struct shmipc_sender *s, int fd)
{
	const struct timespec nap = { 0, HELPER_NAP_NS };

	for (int i = 0; i < HELPER_TRIES && is_helped(s) && !helper_has_died(s, fd); i++)
		sys_nanosleep(&nap);
	if (is_helped(s))
		s->broken = true;
	return !s->broken;
}

/* From now on nobody helps us. */
static void serve_alone(struct shmipc_sender *s, int fd)
{
	do {
		atomic_fetch_or(&s->tx->flags, SHMIPC_TX_SERVING);
		atomic_thread_fence(memory_order_seq_cst); /* [help] */
		if (!is_helped(s))
			return;
		atomic_fetch_and(&s->tx->flags, ~(uint32_t)SHMIPC_TX_SERVING);
	} while (wait_for_helper(s, fd));
}

/* The receiver has declared where it stopped, and no token is under way or will be: the kernel's
 * stream is clean without LAST. */
static void leave_stopped(struct shmipc_sender *s, int fd)
{
	serve_alone(s, fd);
	shmipc_sender_load_head(s);
	s->resend_to = s->tail;
	s->owing = s->head < s->resend_to;
	s->no_more_ring = true;
	leave(s);
}

/* Nobody will read either way; the kernel gives the error.  Of what the ring holds it knows
 * nothing: judged as long as we are on it. */
static void last_found_no_reader(struct shmipc_sender *s, uint32_t want)
{
	s->no_more_ring = true;
	if (!(want & SHMIPC_WANT_CLOSED))
		shmipc_ending_of(s, POLLERR);
}

/* LAST is in the socket before the phase says so: whoever sees the phase finds LAST.  It stands in
 * the ledger like a token: a receiver that stops or closes finds it there.  Behind a shutdown
 * nothing follows, and LAST would find the socket closed: we stay. */
int shmipc_sender_cut_to_kernel(struct shmipc_sender *s, int fd)
{
	const char last = SHMIPC_TOKEN_LAST;
	uint32_t want;
	ssize_t n;

	/* by another thread, while this one's call waited for room: no end of the peer's */
	if (s->shut)
		return 0;
	begin_cut(s);
	want = promise(s);
	shmipc_sender_doing(s, SHMIPC_SENDER_IN_CUT);
	if (want & SHMIPC_WANT_STOPPED) {
		take_promise_back(s);
		end_cut(s);
		leave_stopped(s, fd);
		shmipc_sender_doing(s, SHMIPC_SENDER_IDLE);
		return s->broken ? -ECONNRESET : 0;
	}
	n = (want & SHMIPC_WANT_CLOSED) || s->gone
		    ? -EPIPE
		    : sys_sendto(fd, &last, 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	if (n != 1)
		take_promise_back(s);
	shmipc_sender_keep_reset(s, n);
	if (!is_passing(n)) {
		if (n != 1)
			last_found_no_reader(s, want);
		leave(s);
	}
	end_cut(s);
	shmipc_sender_doing(s, SHMIPC_SENDER_IDLE);
	return is_passing(n) ? -EAGAIN : 0;
}

int shmipc_sender_downgrade(struct shmipc_sender *s, int fd)
{
	int error = 0;

	s->no_more_ring = true;
	if (s->shut) /* nothing follows, and LAST would find the socket closed */
		return 0;
	if (s->broken)
		return -ECONNRESET;
	if (shmipc_sender_on_ring(s))
		error = shmipc_sender_cut_to_kernel(s, fd);
	/* before whatever others send on this socket */
	if (!error)
		error = shmipc_sender_resend(s, fd, MSG_DONTWAIT);
	if (is_passing(error))
		return -EAGAIN;
	return s->broken ? error : 0; /* a dead socket: the kernel says so to whoever sends */
}

/* ---- a receiver that stops ---- */

int shmipc_sender_resend(struct shmipc_sender *s, int fd, int flags)
{
	while (s->head < s->resend_to && !s->broken) {
		struct iovec pieces[2];
		int count = shmipc_ring_pieces(&s->ring, s->base, s->head,
					       (size_t)(s->resend_to - s->head), pieces);
		struct msghdr message = { .msg_iov = pieces, .msg_iovlen = (size_t)count };
		ssize_t n;

		shmipc_sender_doing(s, SHMIPC_SENDER_IN_CUT);
		n = sys_sendmsg(fd, &message, flags | MSG_NOSIGNAL);
		if (n > 0) {
			s->resent += (uint64_t)n;
			s->head += (uint64_t)n;
			atomic_fetch_add(&s->kernel_bytes, (uint64_t)n);
			s->owing = s->head < s->resend_to;
		}
		shmipc_sender_doing(s, SHMIPC_SENDER_IDLE);
		if (n < 0)
			return (int)n;
	}
	return s->broken ? -ECONNRESET : 0;
}

int shmipc_sender_serve_stop(struct shmipc_sender *s, int fd)
{
	if (s->shut) /* the kernel takes nothing more: the ring is the receiver's to salvage */
		return 0;
	if (shmipc_sender_on_ring(s)) {
		shmipc_sender_doing(s, SHMIPC_SENDER_IN_CUT);
		leave_stopped(s, fd);
		shmipc_sender_doing(s, SHMIPC_SENDER_IDLE);
	} else if (!wait_for_helper(s, fd)) {
		return -ECONNRESET;
	}
	s->no_more_ring = true;
	return shmipc_sender_resend(s, fd, MSG_DONTWAIT);
}

/* ---- by the kernel ---- */

/* No call that is inside passes a cut: at its end the phase is what it was at its beginning. */
static bool has_left_ring(const struct shmipc_sender *s)
{
	return s->attached && s->phase > 0 && !shmipc_sender_on_ring(s);
}

/* [untangle] count ourselves, fence, look for HELPING; the receiver says it, fences, and waits
 * until nobody is counted. */
static int count_in(struct shmipc_sender *s, int fd)
{
	for (;;) {
		atomic_fetch_add(&s->tx->kernel_senders, 1);
		atomic_thread_fence(memory_order_seq_cst);
		if (!is_helped(s))
			return 0;
		atomic_fetch_sub(&s->tx->kernel_senders, 1);
		if (!wait_for_helper(s, fd))
			return -ECONNRESET;
	}
}

int shmipc_sender_enter_kernel(struct shmipc_sender *s, int fd)
{
	if (has_left_ring(s) && count_in(s, fd) < 0)
		return -ECONNRESET;
	atomic_fetch_add(&s->kernel_senders, 1);
	return 0;
}

void shmipc_sender_leave_kernel(struct shmipc_sender *s, uint32_t generation)
{
	if (has_left_ring(s))
		shmipc_process_uncount(&s->tx->kernel_senders, generation);
	shmipc_process_uncount(&s->kernel_senders, generation);
}

/* Nobody counts what others send: one of them may be inside at any time. */
void shmipc_sender_lose_count(struct shmipc_sender *s, int fd)
{
	if (s->shut || (s->is_unix && shmipc_sender_is_closed_for(s)))
		return;
	atomic_store(&s->count_lost, true);
	if (!s->attached)
		return;
	/* [untangle] as a count that stays raised */
	atomic_fetch_or(&s->tx->flags, SHMIPC_TX_OTHERS);
	atomic_thread_fence(memory_order_seq_cst);
	wait_for_helper(s, fd);
}

void shmipc_sender_serve_locked(struct shmipc_sender *s, int fd)
{
	if (!s->attached || s->broken)
		return;
	if (atomic_load(&s->want->want) & SHMIPC_WANT_STOPPED)
		shmipc_sender_serve_stop(s, fd);
	else if (s->token_owed && shmipc_sender_on_ring(s))
		send_token(s, fd);
}

void shmipc_sender_serve_finally(struct shmipc_sender *s, int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLOUT };
	int error = 0;

	if (!s->attached || s->broken || s->shut)
		return;
	shmipc_sender_serve_locked(s, fd);
	for (int i = 0; i < FINALLY_TRIES && s->head < s->resend_to; i++) {
		uint64_t head = s->head;

		sys_poll(&real, 1, FINALLY_WAIT_MS);
		error = shmipc_sender_resend(s, fd, MSG_DONTWAIT);
		if (error && !is_passing(error))
			return;
		if (s->head != head)
			i = -1;
	}
}

void shmipc_sender_end(struct shmipc_sender *s, int fd, uint32_t flags)
{
	if (!s->attached)
		return;
	shmipc_sender_serve_finally(s, fd);
	/* once shut, FIN has been said already, and nothing is served that could be waited for */
	while ((begin_cut(s) & SHMIPC_WANT_HELPING) && !s->broken && !s->shut) {
		end_cut(s);
		shmipc_sender_serve_finally(s, fd);
	}
	shmipc_sender_finish(s, flags);
	end_cut(s);
}

__attribute__((hot)) bool shmipc_sender_has_to_serve(const struct shmipc_sender *s)
{
	return s->attached && ((atomic_load_explicit(&s->want->want, memory_order_relaxed) &
				SHMIPC_WANT_STOPPED) ||
			       s->token_owed || shmipc_sender_owes(s));
}

__attribute__((hot)) void shmipc_sender_serve(struct shmipc_sender *s, int fd, bool private_use)
{
	if (!shmipc_sender_has_to_serve(s) || !shmipc_sender_lock(s, fd, private_use))
		return;
	shmipc_sender_serve_locked(s, fd);
	shmipc_lock_drop(&s->lock, private_use);
}

/* ---- a holder of the lock that died ---- */

void shmipc_sender_recover(struct shmipc_sender *s, int fd)
{
	uint32_t doing = atomic_load_explicit(&s->doing, memory_order_relaxed);

	if (!s->attached)
		return;
	end_cut(s);
	if (doing == SHMIPC_SENDER_IN_CUT) {
		s->broken = true;
		return;
	}
	/* it may have copied without publishing: the private words are the truth */
	atomic_store_explicit(&s->tx->base, s->base, memory_order_relaxed);
	atomic_store_explicit(&s->tx->tail, s->tail, memory_order_release);
	if (doing != SHMIPC_SENDER_IN_TOKEN || !shmipc_sender_on_ring(s))
		return;
	/* promised, but sent? LAST sets the ledger right on both sides */
	if (shmipc_sender_cut_to_kernel(s, fd) < 0)
		s->broken = true;
}
