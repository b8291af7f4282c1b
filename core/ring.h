/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte ring: one producer, one consumer, in memory that both map.
 *
 * A ring is a lead, a few hundred bytes, and a loop: a byte at position p lies at offset p - base.
 * Offsets below lead_bytes lie in the lead, all others in the loop, (offset - lead_bytes) mod
 * ring_bytes.  base moves only while the ring is empty: then the producer can start again at the
 * lead, so a request/response connection keeps touching the same few lines, and never the loop's
 * memory.
 *
 * Positions are 64-bit and never wrap in practice.
 * Invariants (shmipc_ring_check):  base <= head <= tail,  tail - head <= ring_bytes.  So of what is
 * unread no two bytes lie in one place: the lead is passed once after each move of base.
 * Who writes: tail and base the producer, head the consumer.
 * Progress: wait-free on both sides.  A peer that dies or lies leaves at worst wrong bytes in this
 * ring.
 *
 * Nothing here publishes: the callers (sender.c, receiver.c) own the ordering.
 */
#ifndef SHMIPC_CORE_RING_H
#define SHMIPC_CORE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/reach.h"

struct shmipc_ring {
	unsigned char *loop;
	uint64_t ring_bytes; /* of the loop: a power of two; private copy, validated */
	unsigned char *lead;
	uint64_t lead_bytes;
};

/* A place in an iovec array that moves as bytes are copied. */
struct shmipc_cursor {
	const struct iovec *iov;
	size_t count;
	size_t offset; /* within iov[0] */
	size_t left;   /* bytes from here to the end */
};

enum { SHMIPC_TRANSFER_MAX = 0x7ffff000 /* bytes in one call: the kernel's own limit */ };

/* Start at the first byte of `iov`; of more than SHMIPC_TRANSFER_MAX bytes the rest does not count.
 * -EINVAL for an element that would be negative. */
int shmipc_cursor_init(struct shmipc_cursor *cursor, const struct iovec *iov, size_t count);
/* Step over `bytes` (<= left) without copying. */
void shmipc_cursor_skip(struct shmipc_cursor *cursor, size_t bytes);

/* The next `bytes` (<= left) can be copied from there or, SHMIPC_REACH_WRITE, to there. */
bool shmipc_cursor_reaches(const struct shmipc_cursor *cursor, size_t bytes, enum shmipc_reach how);

/* Bytes that lie between the two positions, clamped to what the ring can hold.  A foreign index
 * that claims more than the ring holds yields ring_bytes; one that runs backwards yields 0. */
static inline uint64_t shmipc_ring_used(const struct shmipc_ring *ring, uint64_t head,
					uint64_t tail)
{
	uint64_t used = tail - head;

	if ((int64_t)used < 0)
		return 0;
	return used > ring->ring_bytes ? ring->ring_bytes : used;
}

bool shmipc_ring_check(const struct shmipc_ring *ring, uint64_t base, uint64_t head, uint64_t tail);

/* Copy `bytes` from the cursor to positions [position, position + bytes), or from there to the
 * cursor. The caller has made sure that the range is inside the ring.  The cursor moves on. */
void shmipc_ring_put(const struct shmipc_ring *ring, uint64_t base, uint64_t position,
		     struct shmipc_cursor *from, size_t bytes);
void shmipc_ring_get(const struct shmipc_ring *ring, uint64_t base, uint64_t position,
		     struct shmipc_cursor *to, size_t bytes);

/* The (at most two) pieces of memory that hold the range; returns how many.  For handing ring bytes
 * to a system call without copying. */
int shmipc_ring_pieces(const struct shmipc_ring *ring, uint64_t base, uint64_t position,
		       size_t bytes, struct iovec pieces[2]);

#endif
