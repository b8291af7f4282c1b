/* SPDX-License-Identifier: Apache-2.0 */
/* What sender.c and sender_cut.c share, and nobody else includes.  All of it wants the lock held.
 */
#ifndef SHMIPC_CORE_SENDER_PARTS_H
#define SHMIPC_CORE_SENDER_PARTS_H

#include <errno.h>

#include "core/sender.h"

/* What the holder of the lock is in the middle of: whoever takes the lock over from a dead owner
 * must know. */
enum shmipc_sender_doing {
	SHMIPC_SENDER_IDLE = 0,
	SHMIPC_SENDER_IN_TOKEN = 1, /* a token is promised; was it sent? LAST heals the ledger */
	SHMIPC_SENDER_IN_CUT = 2,   /* not decidable */
};

static inline void shmipc_sender_doing(struct shmipc_sender *s, enum shmipc_sender_doing what)
{
	atomic_store_explicit(&s->doing, (uint32_t)what, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* death knows program order only */
}

/* The consumer's position: foreign, so read once, never believed beyond [head, tail]. */
static inline uint64_t shmipc_sender_load_head(struct shmipc_sender *s)
{
	/* [head:acq] the consumer has copied everything below; pairs with [head:rel] in receiver.c
	 */
	uint64_t head = atomic_load_explicit(&s->rx->head, memory_order_acquire);
	uint64_t known = atomic_load_explicit(&s->head, memory_order_relaxed);

	if (head - known > s->tail - known)
		return known;
	atomic_store_explicit(&s->head, head, memory_order_relaxed);
	return head;
}

/* ---- sender.c ---- */

static inline bool shmipc_sender_lock_for(struct shmipc_sender *s, struct shmipc_io *io)
{
	if (!shmipc_sender_lock(s, io->fd, io->private_use))
		return false;
	shmipc_io_follow(io);
	return true;
}

/* Is it gone?  The real socket is asked now, and how the peer ended is judged. */
bool shmipc_sender_look_for_peer(struct shmipc_sender *s, int fd, uint64_t now_ticks);

/* What the kernel has said of the end it says once. */
static inline void shmipc_sender_note_told(struct shmipc_sender *s, ssize_t n)
{
	if (n == -ECONNRESET)
		s->reset_told = true;
	if (n == -EPIPE)
		s->pipe_told = true;
}

/* The kernel has said it to a call of ours, or to one that has done a part and tells of that: it is
 * for the application's next call. */
static inline void shmipc_sender_keep_reset(struct shmipc_sender *s, ssize_t n)
{
	if (n == -ECONNRESET)
		atomic_store(&s->kept_error, ECONNRESET);
}

/* ---- sender_room.c ---- */

/* At attach, and after a restart of the whole end: the next byte begins the lead. */
void shmipc_sender_begin(struct shmipc_sender *s);

/* Before `bytes` are put: may the ring start again at its beginning? */
void shmipc_sender_restart(struct shmipc_sender *s, size_t bytes);

static inline void shmipc_sender_maybe_restart(struct shmipc_sender *s, size_t bytes)
{
	if (__builtin_expect(s->tail + bytes > s->restart_at, 0))
		shmipc_sender_restart(s, bytes);
}

/* Before `bytes` are put, behind the restart: the pages for them. */
void shmipc_sender_ask_for_pages(struct shmipc_sender *s, uint64_t end_offset);

static inline void shmipc_sender_warm(struct shmipc_sender *s, size_t bytes)
{
	if (__builtin_expect(s->tail + bytes - s->base > s->warm_to, 0))
		shmipc_sender_ask_for_pages(s, s->tail + bytes - s->base);
}

/* ---- sender_cut.c ---- */

/* Tokens, and LAST, that the receiver has not declared taken. */
static inline uint32_t shmipc_sender_outstanding(const struct shmipc_sender *s)
{
	/* [taken] The receiver declares a token taken before it removes it, and removes it only if
	 * the ring is still empty after that: so either we see it taken here and send another, or
	 * it sees our tail and leaves the token where it is. */
	return s->tokens - atomic_load_explicit(&s->rx->tokens_taken, memory_order_seq_cst);
}

/* The receiver wants something: see what, after a full fence, and ring.  0; -EPIPE: it reads no
 * more; other errors: what the dead socket said. */
int shmipc_sender_wake(struct shmipc_sender *s, int fd, uint64_t tail_before);

/* Phase even: go over to the ring if everything allows it. */
bool shmipc_sender_cut_to_ring(struct shmipc_sender *s, int fd);

/* Phase odd: go over to the kernel.  -EAGAIN: LAST found no room. */
int shmipc_sender_cut_to_kernel(struct shmipc_sender *s, int fd);

/* The receiver has stopped reading the ring: what it has not read goes by the kernel. */
int shmipc_sender_serve_stop(struct shmipc_sender *s, int fd);

/* The part of a stopped ring that still has to go by the kernel.  0 when all is gone. */
int shmipc_sender_resend(struct shmipc_sender *s, int fd, int flags);

/* ---- sender_file.c: calls whose bytes come from a file ---- */

/* Read the next bytes (<= room in the ring) to where the ring's next bytes lie.  How many have
 * come; 0 at the end of the file: then the call is over.  -EAGAIN: the file cannot be read to
 * there, the kernel has to move the rest, or to say why it cannot. */
ssize_t shmipc_sender_read_file(struct shmipc_sender *s, struct shmipc_io *io, size_t bytes);

/* The rest of the call by the kernel's own sendfile(); may sleep, and be left by `undo`. */
ssize_t shmipc_sender_kernel_file(struct shmipc_io *io, void (*undo)(void *argument),
				  void *argument);

/* How many bytes the kernel's sendfile() hands to the socket before it looks how that is: what lies
 * in as many pages as go together.  0 at the end of the file, or why it cannot be read. */
ssize_t shmipc_sender_first_of_file(const struct shmipc_io *io, bool *has_more);

/* Nothing comes from the file: the kernel says so, or why, and does not look at the socket. */
bool shmipc_sender_file_is_refused(const struct shmipc_io *io, ssize_t *result);

#endif
