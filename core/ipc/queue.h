/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction's IO queue: a ring of 12-byte elements that say "stream so has a message there".
 *
 *			 x86-64		aligned (arm64; version 4 everywhere)
 *	u32 capacity	 0		0
 *	u32 working	20		4
 *	i64 head	 4		8	written by the consumer alone
 *	i64 tail	12		16	written by the producer alone
 *	elements	24		24	u32 stream, u32 offset, u32 status
 *
 * Invariant: 0 <= tail - head <= capacity; element n lies in slot n % capacity.
 *
 * On x86-64 the counters are not aligned to their size, and of the second ring they may straddle a
 * cache line.  But they are aligned to four bytes, and for "how far apart are they" their low
 * halves do.  So this code touches 32-bit words only, which no processor tears: each side counts
 * its own position privately in 64 bits and publishes the low half, and once in 2^32 elements the
 * high half after it.  In between the peer sees a counter that lags by 2^32: "empty" or "full",
 * and looks again.
 *
 * working = 1: the consumer is awake and will look at the ring again by itself.
 *	producer: write tail, fence, working 0 -> 1 by compare-and-swap: who succeeds wakes it
 *	consumer: working = 0, fence, look at tail once more, then sleep
 * The two fences make one of them see the other's store: no wake-up is lost.
 */
#ifndef SHMIPC_CORE_IPC_QUEUE_H
#define SHMIPC_CORE_IPC_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum shmipc_queue_layout {
	SHMIPC_QUEUE_X86 = 0,
	SHMIPC_QUEUE_ALIGNED = 1,
#if defined(__x86_64__)
	SHMIPC_QUEUE_NATIVE = SHMIPC_QUEUE_X86
#else
	SHMIPC_QUEUE_NATIVE = SHMIPC_QUEUE_ALIGNED
#endif
};

enum {
	SHMIPC_QUEUE_CAPACITY_MAX = 1 << 24,
	SHMIPC_QUEUE_HEADER_BYTES = 24,
	SHMIPC_QUEUE_ELEMENT_BYTES = 12
};

struct shmipc_queue_element {
	uint32_t stream;
	uint32_t offset;
	uint32_t status;
};

struct shmipc_queue {
	_Atomic uint32_t *elements;
	_Atomic uint32_t *working;
	_Atomic uint32_t *own;	 /* low half of the counter that this side writes */
	_Atomic uint32_t *other; /* low half of the peer's */
	uint32_t capacity;
	uint32_t slot;	   /* of the next element that this side writes or reads */
	uint64_t position; /* this side's counter */
	uint32_t seen;	   /* the peer's, as last read */
};

/* Bytes of a mapping of two queues. */
static inline uint64_t shmipc_queue_mapping_bytes(uint32_t capacity)
{
	return 2 * (SHMIPC_QUEUE_HEADER_BYTES + (uint64_t)SHMIPC_QUEUE_ELEMENT_BYTES * capacity);
}

/* Creator: writes the headers of both queues into zeroed memory. */
void shmipc_queue_format(void *base, uint32_t capacity);

/* Both sides; `at` is the start of one queue of `bytes` bytes.  -EPROTO: it cannot be one. */
int shmipc_queue_attach(struct shmipc_queue *queue, void *at, uint64_t bytes,
			enum shmipc_queue_layout layout, bool producer);

/* Producer: 1 when there is room for an element, 0 when full, -EPROTO as below. */
int shmipc_queue_has_room(struct shmipc_queue *queue);
/* Producer.  -EAGAIN: full.  -EPROTO: the consumer's counter is impossible. */
int shmipc_queue_put(struct shmipc_queue *queue, const struct shmipc_queue_element *element);
/* Producer, after put: does the consumer have to be woken? */
bool shmipc_queue_must_wake(struct shmipc_queue *queue);
/* Producer: has the consumer taken everything? */
bool shmipc_queue_is_drained(const struct shmipc_queue *queue);
/* Producer, when the consumer is dead: takes its oldest element back.  False: there is none. */
bool shmipc_queue_take_back(struct shmipc_queue *queue, struct shmipc_queue_element *out);

/* Consumer: how many elements there are.  -EPROTO: the producer's counter is impossible. */
int64_t shmipc_queue_available(struct shmipc_queue *queue);
/* Consumer: the n-th of them, read once; n < available. */
struct shmipc_queue_element shmipc_queue_look(const struct shmipc_queue *queue, uint32_t n);
/* Consumer: the first n are done with. */
void shmipc_queue_consume(struct shmipc_queue *queue, uint32_t n);
/* Consumer: will look again by itself. */
void shmipc_queue_stay_awake(struct shmipc_queue *queue);
/* Consumer: wants to be woken.  False: something came meanwhile, and it is awake again. */
bool shmipc_queue_rest(struct shmipc_queue *queue);

/* Consumer: is there something?  One load; for spinning. */
static inline bool shmipc_queue_has_any(const struct shmipc_queue *queue)
{
	return atomic_load_explicit(queue->other, memory_order_relaxed) !=
	       (uint32_t)queue->position;
}

#endif
