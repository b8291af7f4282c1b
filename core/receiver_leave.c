/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the ring no more: on the way to a program without the shim, or to the close. */
#include "core/receiver.h"

#include <errno.h>

#include "core/cpu.h"
#include "core/receiver_parts.h"
#include "core/sys.h"
#include "core/thread.h"

enum {
	CUTTING_TRIES = 20000, /* a sender inside its cut stays there for nanoseconds, unless it
				  lost its processor */
	CUTTING_PAUSES = 1000,
};

bool shmipc_receiver_tell_sender(struct shmipc_receiver *r, uint32_t bits)
{
	atomic_fetch_or(&r->want->want, bits);
	shmipc_membarrier();
	atomic_fetch_or(&r->want->want, SHMIPC_WANT_FENCE);
	atomic_thread_fence(memory_order_seq_cst); /* [stop] */
	for (int i = 0; i < CUTTING_TRIES; i++) {
		if (!(atomic_load(&r->tx->flags) & SHMIPC_TX_CUTTING))
			return true;
		if (i < CUTTING_PAUSES)
			shmipc_cpu_pause();
		else
			sys_sched_yield();
	}
	return false;
}

/* After this the sender promises no token and makes no cut to the ring that it has not made
 * already. */
static void forbid(struct shmipc_receiver *r, uint32_t bits)
{
	shmipc_receiver_tell_sender(r, bits);
	if (!shmipc_receiver_on_ring(r) && shmipc_receiver_sender_ahead(r) &&
	    shmipc_receiver_before_cut(r) == 0)
		shmipc_receiver_pass_cut(r);
}

void shmipc_receiver_ask_to_leave(struct shmipc_receiver *r, bool private_use)
{
	if (!r->attached || !shmipc_receiver_lock(r, private_use))
		return;
	if (r->ready)
		atomic_fetch_or(&r->want->want, SHMIPC_WANT_LEAVE);
	else
		r->attached = false; /* never consented: the sender never leaves the kernel */
	shmipc_lock_drop(&r->lock, private_use);
}

/* Locked.  No stop: the sender leaves the ring with LAST, this end reads on by the rules.  Tokens
 * flow again; none is missing meanwhile, because the socket is readable in all the states that come
 * here. */
static void leave_instead(struct shmipc_receiver *r)
{
	r->stopped = false;
	atomic_fetch_or(&r->want->want, SHMIPC_WANT_LEAVE);
	atomic_fetch_and(&r->want->want, ~(uint32_t)(SHMIPC_WANT_STOP | SHMIPC_WANT_STOPPED));
}

/* Locked, STOPPED has been said: nothing of the ring may be read any more, unless the sender proves
 * to have left it with LAST.  Either it saw STOPPED before it sent LAST, or we see LAST promised.
 * True: no token and no LAST is under way or lies in the socket. */
static bool is_settled(struct shmipc_receiver *r, int fd)
{
	if (shmipc_receiver_on_ring(r)) {
		shmipc_receiver_drain_ledger(r, fd);
		if (r->last_seen && shmipc_receiver_unread(r) > 0) {
			leave_instead(r);
			return false;
		}
		if (r->last_seen)
			shmipc_receiver_pass_cut(r);
		return !shmipc_receiver_has_tokens(r) || shmipc_receiver_at_end(r);
	}
	for (int i = 0; i < CUTTING_TRIES && shmipc_receiver_has_tokens(r); i++) {
		if (shmipc_receiver_two_ahead(r)) {
			leave_instead(r);
			return false;
		}
		shmipc_cpu_pause();
	}
	return !shmipc_receiver_has_tokens(r);
}

/* Locked, STOP has been said, so tokens are promised no more.  Those that lie behind unread payload
 * stay where they are. */
static bool may_stop(struct shmipc_receiver *r)
{
	if (shmipc_receiver_on_ring(r))
		return !r->last_seen || shmipc_receiver_unread(r) == 0;
	if (!shmipc_receiver_sender_ahead(r))
		return true;
	for (int i = 0; i < CUTTING_TRIES && shmipc_receiver_has_tokens(r); i++)
		shmipc_cpu_pause(); /* a promise may still be taken back */
	return !shmipc_receiver_has_tokens(r);
}

/* Locked. */
static void try_to_stop(struct shmipc_receiver *r, int fd)
{
	if (!r->stopped) {
		forbid(r, SHMIPC_WANT_STOP);
		if (!may_stop(r)) {
			leave_instead(r);
			return;
		}
		r->stopped = true;
		atomic_fetch_or(&r->want->want, SHMIPC_WANT_STOPPED);
		/* [stopped] pairs with promise() in shmipc_sender_cut_to_kernel() */
		atomic_thread_fence(memory_order_seq_cst);
	}
	r->unsettled = !is_settled(r, fd) && r->stopped;
}

bool shmipc_receiver_stop(struct shmipc_receiver *r, int fd, bool private_use)
{
	bool done;

	if (!r->attached)
		return true;
	if (!shmipc_receiver_lock(r, private_use))
		return false;
	if (!r->ready)
		r->attached = false; /* never consented: the sender never leaves the kernel */
	else if (!r->broken && (!r->stopped || r->unsettled))
		try_to_stop(r, fd);
	done = !r->ready || (r->stopped && !r->unsettled && !r->broken &&
			     (shmipc_receiver_unread(r) == 0 || !(atomic_load(&r->tx->phase) & 1)));
	shmipc_lock_drop(&r->lock, private_use);
	return done;
}

bool shmipc_receiver_settle_stop(struct shmipc_receiver *r, int fd)
{
	if (r->unsettled)
		try_to_stop(r, fd);
	if (r->unsettled) /* better an error than a foreign byte */
		r->broken = true;
	return r->stopped;
}

bool shmipc_receiver_is_stranded(const struct shmipc_receiver *r, int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };

	if (!r->attached || !r->ready || shmipc_receiver_unread(r) == 0)
		return false;
	/* flags before phase: a sender that serves a stop does it before it says FIN */
	if (!(atomic_load(&r->tx->flags) & SHMIPC_TX_FIN) &&
	    (sys_poll(&real, 1, 0) <= 0 || !real.revents))
		return false;
	return !r->stopped || (atomic_load(&r->tx->phase) & 1);
}

void shmipc_receiver_go_on(struct shmipc_receiver *r, int fd, bool private_use)
{
	if (!shmipc_receiver_is_stranded(r, fd) || !shmipc_receiver_lock(r, private_use))
		return;
	r->stopped = r->unsettled = false;
	shmipc_receiver_take_peek_offset(r, fd);
	shmipc_lock_drop(&r->lock, private_use);
}

bool shmipc_receiver_is_entangled(const struct shmipc_receiver *r)
{
	return r->attached && r->ready && (!r->stopped || r->unsettled || r->broken) &&
	       !(r->eof && shmipc_receiver_unread(r) == 0);
}

void shmipc_receiver_send_ring(struct shmipc_receiver *r, int socket)
{
	for (;;) {
		uint64_t head = shmipc_receiver_head(r), unread = shmipc_receiver_unread(r);
		/* after the tail: base moves only while the ring is empty */
		uint64_t base = atomic_load_explicit(&r->tx->base, memory_order_relaxed);
		struct iovec pieces[2];
		int count = shmipc_ring_pieces(&r->ring, base, head, (size_t)unread, pieces);
		struct msghdr message = { .msg_iov = pieces, .msg_iovlen = (size_t)count };
		ssize_t n;

		if (count == 0)
			return;
		r->in_kernel = true; /* until it is counted: no heir of ours sends it again */
		n = sys_sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			atomic_store_explicit(&r->head, head + (uint64_t)n, memory_order_relaxed);
			atomic_store_explicit(&r->rx->head, head + (uint64_t)n,
					      memory_order_release);
			r->former_besides -= n; /* the kernel counts them from now on */
		}
		atomic_signal_fence(memory_order_seq_cst);
		r->in_kernel = false;
		if (n <= 0)
			return;
	}
}

void shmipc_receiver_help(struct shmipc_receiver *r, int peer_socket, bool private_use)
{
	if (!r->ready || !shmipc_receiver_lock(r, private_use))
		return;
	if (r->stopped && !r->unsettled && !r->broken) {
		/* [help] we say HELPING, fence, look for SERVING; the sender says SERVING, fences,
		 * looks for HELPING: never both at work */
		atomic_fetch_or(&r->want->want, SHMIPC_WANT_HELPING);
		atomic_thread_fence(memory_order_seq_cst);
		if ((atomic_load(&r->tx->phase) & 1) &&
		    !(atomic_load(&r->tx->flags) & (SHMIPC_TX_SERVING | SHMIPC_TX_FIN)))
			shmipc_receiver_send_ring(r, peer_socket);
		atomic_fetch_and(&r->want->want, ~(uint32_t)SHMIPC_WANT_HELPING);
	}
	shmipc_lock_drop(&r->lock, private_use);
}

int shmipc_receiver_leave_ring(struct shmipc_receiver *r, int fd, bool private_use)
{
	if (!r->attached || !r->ready)
		return 0;
	return shmipc_receiver_stop(r, fd, private_use) ? 0 : -EAGAIN;
}

bool shmipc_receiver_close(struct shmipc_receiver *r, int fd)
{
	if (!r->attached || !r->ready)
		return false;
	/* [close] forbid, then drain: pairs with promise() in sender_cut.c */
	forbid(r, SHMIPC_WANT_CLOSED);
	if (r->stopped)
		return false;
	if (shmipc_receiver_on_ring(r))
		shmipc_receiver_drain_ledger(r, fd);
	return shmipc_receiver_unread(r) > 0;
}
