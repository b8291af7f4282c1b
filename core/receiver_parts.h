/* SPDX-License-Identifier: Apache-2.0 */
/* What the receiver's files share, and nobody else includes. */
#ifndef SHMIPC_CORE_RECEIVER_PARTS_H
#define SHMIPC_CORE_RECEIVER_PARTS_H

#include "core/receiver.h"

static inline uint64_t shmipc_receiver_head(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->head, memory_order_relaxed);
}

static inline uint32_t shmipc_receiver_phase(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->phase, memory_order_relaxed);
}

static inline bool shmipc_receiver_on_ring(const struct shmipc_receiver *r)
{
	return shmipc_receiver_phase(r) & 1;
}

static inline uint64_t shmipc_receiver_unread(const struct shmipc_receiver *r)
{
	/* [tail:acq] pairs with [tail:rel] in sender.c */
	return shmipc_ring_used(&r->ring, shmipc_receiver_head(r),
				atomic_load_explicit(&r->tx->tail, memory_order_acquire));
}

/* The sender has made a cut that we have not passed.  It may be two ahead; it is one behind between
 * LAST and its store of the phase; anything else is a lie and counts as no cut. */
static inline bool shmipc_receiver_sender_ahead(const struct shmipc_receiver *r)
{
	/* [phase:acq] pairs with [phase:rel] in sender_cut.c: `cut` is valid */
	uint32_t ahead = atomic_load_explicit(&r->tx->phase, memory_order_acquire) -
			 shmipc_receiver_phase(r);

	return ahead == 1 || ahead == 2;
}

/* It has gone to the ring and back again. */
static inline bool shmipc_receiver_two_ahead(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->tx->phase, memory_order_acquire) -
		       shmipc_receiver_phase(r) ==
	       2;
}

/* Kernel bytes before the ring begins; when the sender is ahead and we are not on the ring. */
static inline uint64_t shmipc_receiver_before_cut(const struct shmipc_receiver *r)
{
	uint64_t cut = atomic_load_explicit(&r->tx->cut, memory_order_relaxed);
	uint64_t read = atomic_load_explicit(&r->kernel_read, memory_order_relaxed);

	return cut > read ? cut - read : 0;
}

static inline bool shmipc_receiver_wants(const struct shmipc_receiver *r, uint32_t bits)
{
	return atomic_load_explicit(&r->want->want, memory_order_relaxed) & bits;
}

/* An end that never read the ring may have sent by one: what the peer left of that the kernel does
 * not know. */
static inline bool shmipc_receiver_judges_end(const struct shmipc_receiver *r)
{
	return r->attached || (r->sibling && r->sibling->attached);
}

/* What a receive of so many bytes waits for. */
static inline size_t shmipc_receiver_low_water(const struct shmipc_receiver *r, size_t bytes)
{
	int set = atomic_load_explicit(&r->low_water, memory_order_relaxed);

	if (__builtin_expect(set <= 1, 1))
		return bytes ? 1 : 0;
	return (size_t)set < bytes ? (size_t)set : bytes;
}

/* The kernel will give no more bytes. */
static inline bool shmipc_receiver_at_end(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->eof, memory_order_relaxed) ||
	       atomic_load_explicit(&r->pending_error, memory_order_relaxed);
}

/* ---- receiver.c, locked but where it says not ---- */

/* One step towards the next byte.  True: take another; else *result is bytes, -EAGAIN or
 * -ESHUTDOWN. */
bool shmipc_receiver_step(struct shmipc_receiver *r, struct shmipc_io *io, ssize_t *result);

/* Control data belongs to the bytes that came with it: no receive goes further. */
bool shmipc_receiver_has_control(const struct shmipc_receiver *r, const struct shmipc_io *io);

/* What the ring holds, by MSG_PEEK. */
ssize_t shmipc_receiver_copy_ring(struct shmipc_receiver *r, struct shmipc_io *io);

/* ---- receiver_plain.c ---- */

/* Locked, ready, not on the ring.  Asked to leave it, the sender has, for good, or never was there;
 * and our own owes nothing that a wait would have to serve. */
bool shmipc_receiver_sender_has_left(const struct shmipc_receiver *r);

/* A Unix stream that was on a ring and is the kernel's alone again.  Its sender was asked to leave
 * because of an option that only the kernel can honour: which bytes belong together (SO_PASSCRED:
 * those of one writer, however often it sends) nobody else knows. */
static inline bool shmipc_receiver_is_left(const struct shmipc_receiver *r)
{
	return !shmipc_receiver_on_ring(r) && r->is_unix && shmipc_receiver_sender_has_left(r);
}

/* Not locked.  The kernel's own call has returned n: is that what the application is told? */
ssize_t shmipc_receiver_judge_plain(struct shmipc_receiver *r, int fd, bool private_use, ssize_t n);

/* Not locked.  The kernel's own call has returned a part of what it waits for.  Of a Unix stream it
 * forgets an error that it meets behind that: so do we, also one that the kernel does not know. */
void shmipc_receiver_forget_error(struct shmipc_receiver *r, int fd, bool private_use);

/* Takes the lock away.  The kernel's own call, counted. */
ssize_t shmipc_receiver_receive_plain(struct shmipc_receiver *r, struct shmipc_io *io);

/* ---- receiver_kernel.c, locked ---- */

enum { SHMIPC_RECEIVER_KERNEL_IOV = 64 }; /* pieces of a vector that one call of ours takes */

/* A read of the socket that every count must follow: in_kernel tells whoever inherits the lock.
 * sleeper: the call may sleep, and be cancelled, and holds no lock; or NULL. */
struct shmipc_sleeper;
ssize_t shmipc_receiver_counted_receive(struct shmipc_receiver *r, struct shmipc_io *io,
					size_t limit, int extra_flags,
					struct shmipc_sleeper *sleeper);

/* Not locked.  So many bytes of payload have been read by the kernel. */
void shmipc_receiver_count_kernel(struct shmipc_receiver *r, size_t bytes);

/* Phase even.  Bytes; 0: the cut is reached.  -EAGAIN, or -ESHUTDOWN for the end and for errors,
 * which are noted. */
ssize_t shmipc_receiver_take_from_kernel(struct shmipc_receiver *r, struct shmipc_io *io);

/* A receive ends before urgent data, even if it was to wait for all. */
bool shmipc_receiver_is_at_mark(const struct shmipc_receiver *r, int fd);

/* Errors that say nothing of the stream. */
bool shmipc_receiver_is_about_the_call(ssize_t n);

/* ---- receiver_look.c; locked ---- */

/* Is the call, or the descriptor, nonblocking?  Not asked of the kernel every time. */
bool shmipc_receiver_is_nonblocking(struct shmipc_receiver *r, const struct shmipc_io *io);

/* ---- receiver_peek.c ---- */

/* Locked.  As a step, with nothing taken; waits for all of it if it may. */
ssize_t shmipc_receiver_peek(struct shmipc_receiver *r, struct shmipc_io *io, bool waitall);

/* Locked.  Bytes have been taken: SO_PEEK_OFF follows. */
void shmipc_receiver_peeked_less(struct shmipc_receiver *r, size_t taken);

/* There are bytes, but all have been peeked at: nobody tells of more. */
bool shmipc_receiver_was_peeked(const struct shmipc_receiver *r);

/* ---- receiver_socket.c; all locked ---- */

/* Note what the kernel said instead of a byte: 0 the end, or -errno. */
void shmipc_receiver_socket_said(struct shmipc_receiver *r, ssize_t result);

/* A byte of a ring phase has come off the socket without being declared before. */
void shmipc_receiver_token_came(struct shmipc_receiver *r, char value);

/* Take one promised token, if the ring is empty or `anyway`.  1 taken, 0 not there yet or the end,
 * -EBUSY: the ring is not empty any more. */
int shmipc_receiver_take_token(struct shmipc_receiver *r, int fd, bool anyway);

/* The sender's cut lies behind us. */
void shmipc_receiver_pass_cut(struct shmipc_receiver *r);

/* On the ring, which is empty: take tokens off, see whether LAST, the end or an error has come.
 * True: something to read or another phase, look again.  Not `thorough`: a sleep on the socket
 * follows, which finds the end and the errors. */
bool shmipc_receiver_probe(struct shmipc_receiver *r, int fd, bool thorough);

/* Nothing can have come to the socket but what the peer's words tell of, or the end of a peer that
 * was killed since it was asked last, a moment ago. */
bool shmipc_receiver_is_quiet(const struct shmipc_receiver *r);

/* After a read: in strict mode the kernel's readiness must end with the last byte. */
void shmipc_receiver_settle_tokens(struct shmipc_receiver *r, int fd);

/* Forbid has been said (STOP or CLOSED): take off the socket what was promised before. */
void shmipc_receiver_drain_ledger(struct shmipc_receiver *r, int fd);

/* ---- receiver_leave.c; locked ---- */

/* Stopped: has the last of what was promised come off the socket?  If it does not come, only an
 * error can follow.  False: it was LAST, so the ring is read after all. */
bool shmipc_receiver_settle_stop(struct shmipc_receiver *r, int fd);

/* Sets bits of `want`.  True: the sender has seen them, or will before it does anything that it
 * announces by CUTTING; false: it is still inside something of that kind. */
bool shmipc_receiver_tell_sender(struct shmipc_receiver *r, uint32_t bits);

/* HELPING has been said: what the ring holds goes by the sender's socket, as far as there is room.
 */
void shmipc_receiver_send_ring(struct shmipc_receiver *r, int socket);

/* ---- receiver_end.c; locked ---- */

/* The end of the stream, as the kernel would have told it: 0 or -errno. */
ssize_t shmipc_receiver_ended(struct shmipc_receiver *r, int fd);

/* ---- receiver_wait.c ---- */

/* Who sleeps, for the case that the thread is cancelled. */
struct shmipc_sleeper {
	struct shmipc_receiver *r;
	const struct shmipc_io *io;
	uint32_t process; /* its generation, when the call was counted */
};

/* argument: struct shmipc_sleeper; one that was counted in kernel_readers */
void shmipc_receiver_undo_plain(void *argument);

struct shmipc_receiver_wait {
	uint32_t taken;	  /* tokens, when the call began */
	bool judged;	  /* whether this call shows that the application waits here */
	bool here;	  /* it does */
	bool slept;	  /* once, under the kernel's own time limit */
	bool part;	  /* of what it wants is here: the next handler ends it, none restarts it */
	bool known;	  /* is there a time limit? */
	uint64_t started; /* ticks, at the first sleep */
	uint64_t deadline_ns; /* 0: none */
};

/* It has slept.  Has the call a time limit? */
bool shmipc_receiver_is_timed(struct shmipc_io *io, struct shmipc_receiver_wait *wait);

/* Nothing there: sleep until there may be.  0, -EINTR, or -EAGAIN for a receive time-out. */
ssize_t shmipc_receiver_wait(struct shmipc_receiver *r, struct shmipc_io *io,
			     struct shmipc_receiver_wait *wait);

/* There are bytes, but none that is asked for: look again in a moment.  0, or as above. */
ssize_t shmipc_receiver_nap(struct shmipc_receiver *r, struct shmipc_io *io,
			    struct shmipc_receiver_wait *wait);

/* A receiver that has not slept for long spares the sender tokens and fences. */
void shmipc_receiver_calm_down(struct shmipc_receiver *r);

#endif
