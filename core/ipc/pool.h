/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The buffer mapping: lists of free slices that two processes share without a lock.
 *
 * Layout (little endian, written by its creator once):
 *	0   u16 list count, u16 reserved, u32 bytes used by the lists
 *	8   the lists, one behind the other, ascending by slice capacity: 36 bytes of header, then
 *	    slices of 20 bytes of header and `capacity` bytes of payload
 *
 * A list is a queue: slices are taken at its head and given back at its tail.  Words that both
 * sides write: size, head, tail (atomically), next and flags of the last free slice (by whoever
 * moved the tail past it), and one byte that two libshmipc take turns by (pool.c).  The last slice
 * is never handed out, so head and tail never meet.  A slice that was taken belongs to one process
 * alone, until it is given back or sent.
 *
 * The words need not be aligned: where slices are no multiples of 4, as Go allows on x86-64 alone,
 * the headers behind them are not either.  There a locked instruction takes such a word in one
 * piece, if slowly; a plain load of one that crosses a line of the cache may find half of the old
 * value and half of the new one.  So what a plain load finds wrong in a word that others change is
 * asked again.
 *
 * Nothing in the mapping is trusted.  Geometry is checked once and kept in private memory, each
 * offset read from the mapping is checked before it is followed, and `held` (private) says which
 * slices this process owns: a slice that comes a second time is a lie of the peer's.
 */
#ifndef SHMIPC_CORE_IPC_POOL_H
#define SHMIPC_CORE_IPC_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shmipc.h"

enum {
	SHMIPC_POOL_LISTS_MAX = 100, /* none has less than one percent */
	SHMIPC_SLICE_HEADER_BYTES = 20,
	SHMIPC_SLICE_HAS_NEXT = 1, /* `next` means something */
	SHMIPC_SLICE_IN_USE = 2
};

enum shmipc_pool_side { SHMIPC_POOL_CREATOR = 0, SHMIPC_POOL_MAPPER = 1 };

struct shmipc_pool_list {
	uint32_t header; /* offsets from the start of the mapping */
	uint32_t region; /* of the first slice's header */
	uint32_t stride;
	uint32_t capacity;
	uint32_t count;
	uint32_t first; /* number of its first slice among all slices */
};

struct shmipc_pool {
	uint8_t *base;
	uint32_t bytes;
	uint32_t list_count;
	uint32_t slice_count;
	enum shmipc_pool_side side;
	_Atomic uint8_t *held; /* of each slice: 1 = this process owns it */
	struct shmipc_pool_list lists[SHMIPC_POOL_LISTS_MAX];
};

/* A slice that this process owns. */
struct shmipc_slice {
	uint32_t offset; /* of its header; 0 is no slice */
	uint32_t list;
};

/* What the peer wrote into a slice's header, read once and checked. */
struct shmipc_slice_content {
	struct shmipc_slice slice;
	uint32_t start, bytes;
	uint32_t next; /* offset of the next slice of the message, 0 = none */
};

/* Creator.  The classes need not be sorted.  -EINVAL: not a valid configuration for so many bytes.
 * The memory must be zeroed. */
int shmipc_pool_format(struct shmipc_pool *pool, void *base, uint32_t bytes,
		       const struct shmipc_slice_class *classes, uint32_t class_count);

/* Mapper.  -EPROTO: what lies there is no pool, or its words are not aligned as this processor
 * needs them. */
int shmipc_pool_attach(struct shmipc_pool *pool, void *base, uint32_t bytes);

/* Frees the private part only. */
void shmipc_pool_detach(struct shmipc_pool *pool);

/* -ENOBUFS: the list has none to spare (or the peer has destroyed it). */
int shmipc_pool_take(struct shmipc_pool *pool, uint32_t list, struct shmipc_slice *out);
void shmipc_pool_give(struct shmipc_pool *pool, struct shmipc_slice slice);

/* Becomes the owner of the slice that the peer says is at `offset`.  -EPROTO: it cannot be. */
int shmipc_pool_adopt(struct shmipc_pool *pool, uint32_t offset, struct shmipc_slice_content *out);

/* Writes the header of a slice that is to be sent; next: offset of the next one, 0 = the last. */
void shmipc_pool_seal(struct shmipc_pool *pool, struct shmipc_slice slice, uint32_t bytes,
		      uint32_t next);
/* Ownership goes to the peer. */
void shmipc_pool_disown(struct shmipc_pool *pool, struct shmipc_slice slice);

/* Smallest list whose slices hold `bytes`; list_count if none does. */
uint32_t shmipc_pool_list_for(const struct shmipc_pool *pool, size_t bytes);

/* Payload bytes: of all slices; of those that are in no free list. */
uint64_t shmipc_pool_capacity(const struct shmipc_pool *pool);
uint64_t shmipc_pool_in_use(const struct shmipc_pool *pool);
/* Slices that both sides together have not given back, by the counters in the mapping. */
int64_t shmipc_pool_outstanding(const struct shmipc_pool *pool);

static inline uint8_t *shmipc_slice_payload(const struct shmipc_pool *pool,
					    struct shmipc_slice slice)
{
	return pool->base + slice.offset + SHMIPC_SLICE_HEADER_BYTES;
}

/* The words that two libshmipc of one mapping tell each other in the unused end of the first
 * list's header: whose it is, and where it runs. */
_Atomic uint32_t *shmipc_pool_note(const struct shmipc_pool *pool, enum shmipc_pool_side side);

#endif
