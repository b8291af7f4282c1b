/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver and the real socket: tokens, LAST, the end, and the passing of cuts.  All of it
 * locked. */
#include "core/receiver.h"

#include <errno.h>

#include "core/cpu.h"
#include "core/gone.h"
#include "core/receiver_parts.h"
#include "core/sys.h"

enum {
	ASK_EVERY_US = 1000,   /* as often as a sender looks for a peer that was killed */
	PROBE_ROUNDS_MAX = 64, /* a peer that floods us with tokens harms itself only */
	DRAIN_TRIES = 2000, /* for a token that is promised and not yet there: its sender is in the
			       call */
	SETTLE_TRIES = 40,  /* the same when only tidiness is at stake */
	EDGE_TOKENS_KEPT = 2, /* of those that an edge-triggered reader leaves behind */
	EDGE_TOKENS_MANY = 16,
};

static uint32_t promised_tokens(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire);
}

static void set_taken(struct shmipc_receiver *r, uint32_t taken)
{
	atomic_store_explicit(&r->taken, taken, memory_order_relaxed);
	/* [taken] then a full fence, then the ring is looked at; pairs with
	 * shmipc_sender_outstanding() */
	atomic_store_explicit(&r->rx->tokens_taken, taken, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
}

void shmipc_receiver_socket_said(struct shmipc_receiver *r, ssize_t result)
{
	/* what is no word of this socket: another thread has just closed the number that was asked,
	 * and it may be another file by now */
	if (result == 0)
		r->eof = true;
	else if (result != -EAGAIN && result != -EINTR && !shmipc_io_is_foreign(result))
		r->pending_error = (int)-result;
	if (r->pending_error && r->sibling)
		r->sibling->kept_error = r->pending_error;
}

static void met_last(struct shmipc_receiver *r)
{
	r->last_seen = true;
	/* whatever was promised before LAST lies behind us, and nothing is promised until we pass
	 * the cut */
	set_taken(r, promised_tokens(r));
}

void shmipc_receiver_token_came(struct shmipc_receiver *r, char value)
{
	if (value == SHMIPC_TOKEN_LAST)
		met_last(r);
	else
		set_taken(r, r->taken + 1);
	shmipc_receiver_disturb(r);
}

/* Declared before it is removed: a sender that publishes after the declaration sends a new token,
 * one that published before is seen by our look at the ring.  So no sleeper behind us loses its
 * wake-up to our taking. */
__attribute__((hot)) int shmipc_receiver_take_token(struct shmipc_receiver *r, int fd, bool anyway)
{
	uint32_t taken = r->taken;
	char value;
	ssize_t n;

	set_taken(r, taken + 1);
	if (!anyway && shmipc_receiver_unread(r) > 0) {
		set_taken(r, taken);
		return -EBUSY;
	}
	r->in_kernel = true;
	n = sys_recvfrom(fd, &value, 1, MSG_DONTWAIT, NULL, NULL);
	if (n == 1 && value == SHMIPC_TOKEN_LAST)
		met_last(r);
	else if (n != 1)
		set_taken(r, taken);
	r->in_kernel = false;
	if (n == 1)
		shmipc_receiver_disturb(r); /* [together] only now: it may have come meanwhile */
	else
		shmipc_receiver_socket_said(r, n);
	return n == 1;
}

void shmipc_receiver_pass_cut(struct shmipc_receiver *r)
{
	uint32_t phase = shmipc_receiver_phase(r) + 1;

	r->last_seen = false;
	atomic_store_explicit(&r->phase, phase, memory_order_relaxed);
	atomic_store_explicit(&r->rx->phase, phase, memory_order_release);
}

/* What does the socket say beside promised tokens?  True: look again. */
static bool peek(struct shmipc_receiver *r, int fd)
{
	uint64_t now = shmipc_ticks(); /* what is seen is not older than that */
	char value;
	bool reported;
	ssize_t n;

	/* first: what is reported from here on is to be asked for again */
	reported = atomic_exchange_explicit(&r->reported, false, memory_order_relaxed);
	n = sys_recvfrom(fd, &value, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);
	if (n == -EAGAIN) {
		atomic_store_explicit(&r->asked_ticks, now, memory_order_relaxed);
		if (r->sibling && !shmipc_sender_must_ask(r->sibling))
			shmipc_sender_found_alive(r->sibling, now);
	}
	if (n != 1) {
		shmipc_receiver_socket_said(r, n);
		return false;
	}
	if (reported) /* of what lies behind this byte nothing is known yet */
		shmipc_receiver_was_reported(r);
	if (promised_tokens(r) == r->taken) {
		/* nobody promised it: better an error than a stream with a hole */
		if (value == SHMIPC_TOKEN_WAKE) {
			sys_recvfrom(fd, &value, 1, MSG_DONTWAIT, NULL, NULL);
			shmipc_receiver_disturb(r);
		} else {
			shmipc_receiver_socket_said(r, -ECONNRESET);
		}
	}
	return true;
}

/* When the kernel, asked by either direction, last knew of no end. */
static uint64_t alive_ticks(const struct shmipc_receiver *r)
{
	const uint64_t ticks = r->sibling ? shmipc_sender_alive(r->sibling) : 0;
	const uint64_t asked = atomic_load_explicit(&r->asked_ticks, memory_order_relaxed);

	return ticks > asked ? ticks : asked;
}

/* A server that receives until nothing is left would ask in vain after each request.  Relaxed:
 * whoever waits does so in our calls, which ask the kernel themselves and find its end (or note a
 * doubt), so only one that asks again without waiting hears late of a peer that was killed. */
__attribute__((hot)) bool shmipc_receiver_is_quiet(const struct shmipc_receiver *r)
{
	const uint32_t ends = SHMIPC_TX_FIN | SHMIPC_TX_RESET | SHMIPC_TX_CLOSED;
	const uint64_t alive = alive_ticks(r);

	return !shmipc_receiver_wants(r, SHMIPC_WANT_STRICT) && !r->shut && !r->last_seen &&
	       !atomic_load_explicit(&r->doubtful, memory_order_relaxed) &&
	       /* an edge that was told once, of bytes in the ring and of the end behind them */
	       !atomic_load_explicit(&r->reported, memory_order_relaxed) &&
	       !(atomic_load_explicit(&r->tx->flags, memory_order_acquire) & ends) &&
	       shmipc_is_newer_than_ends(alive) &&
	       shmipc_ticks() - alive < ASK_EVERY_US * shmipc_ticks_per_us();
}

__attribute__((hot)) bool shmipc_receiver_probe(struct shmipc_receiver *r, int fd, bool thorough)
{
	/* [empty] store head, fence, load tail; the sender stores tail, fences, loads head */
	atomic_thread_fence(memory_order_seq_cst);
	for (int round = 0; round < PROBE_ROUNDS_MAX; round++) {
		int took = 0;

		if (shmipc_receiver_unread(r) > 0)
			return true;
		if (r->last_seen) {
			shmipc_receiver_pass_cut(r);
			return true;
		}
		if (shmipc_receiver_at_end(r))
			return false;
		if (promised_tokens(r) != r->taken)
			took = shmipc_receiver_take_token(r, fd, false);
		if (took != 0) {
			/* what the kernel has told a wait was this token, or it will tell again */
			thorough = thorough && !shmipc_receiver_is_quiet(r);
			continue;
		}
		/* no token, or one that is promised and not yet there */
		if (!thorough)
			return false;
		if (!peek(r, fd) && !shmipc_receiver_at_end(r))
			return shmipc_receiver_unread(r) > 0;
	}
	return false;
}

/* An edge-triggered waiter that never empties the ring must go on getting edges, for which its
 * sender sends no more than EDGE_TOKENS_MAX tokens. */
static void thin_out(struct shmipc_receiver *r, int fd)
{
	const uint32_t outstanding = promised_tokens(r) - r->taken;

	if (outstanding <= EDGE_TOKENS_MANY || outstanding > 2 * EDGE_TOKENS_MANY)
		return;
	while (!r->last_seen && promised_tokens(r) - r->taken > EDGE_TOKENS_KEPT &&
	       shmipc_receiver_take_token(r, fd, true) == 1)
		;
}

__attribute__((hot)) void shmipc_receiver_settle_tokens(struct shmipc_receiver *r, int fd)
{
	if (promised_tokens(r) == r->taken || !shmipc_receiver_on_ring(r) || r->last_seen ||
	    shmipc_receiver_at_end(r))
		return;
	atomic_thread_fence(memory_order_seq_cst); /* [empty] */
	if (shmipc_receiver_unread(r) > 0) {
		thin_out(r, fd);
		return;
	}
	for (int i = 0; i < SETTLE_TRIES && promised_tokens(r) != r->taken && !r->last_seen; i++) {
		int took = shmipc_receiver_take_token(r, fd, false);

		if (took < 0 || shmipc_receiver_at_end(r))
			return;
		if (took == 0)
			shmipc_cpu_pause();
	}
}

/* [taken] Whoever reads `arrived` behind it has seen what brought no token, or it brings one. */
void shmipc_receiver_thin_out_tokens(struct shmipc_receiver *r, int fd, bool private_use)
{
	if (promised_tokens(r) - r->taken <= EDGE_TOKENS_MANY ||
	    !shmipc_receiver_lock(r, private_use))
		return;
	if (shmipc_receiver_on_ring(r) && !shmipc_receiver_at_end(r))
		thin_out(r, fd);
	shmipc_lock_drop(&r->lock, private_use);
}

/* A promise may be taken back, because the sender sees that it was forbidden, and payload follow at
 * once.  So first the byte, then the ledger: a sender takes back before it sends payload, so a byte
 * that was there while a token is still promised is that token. */
void shmipc_receiver_drain_ledger(struct shmipc_receiver *r, int fd)
{
	for (int i = 0; i < DRAIN_TRIES && !r->last_seen && promised_tokens(r) != r->taken; i++) {
		char value;
		ssize_t n = sys_recvfrom(fd, &value, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);

		if (n != 1)
			shmipc_receiver_socket_said(r, n);
		else if (promised_tokens(r) == r->taken)
			return;
		else if (shmipc_receiver_take_token(r, fd, true) == 1)
			continue;
		if (shmipc_receiver_at_end(r))
			return;
		shmipc_cpu_pause();
	}
}
