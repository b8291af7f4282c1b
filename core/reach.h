/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Can the application's memory be touched?
 *
 * The kernel answers EFAULT to a bad address; a copy of our own would fault.  So before bytes are
 * copied the pages are looked up in a table of those that are known to be there; of a page that is
 * not in it the kernel is asked once, by a system call that touches one word of it and changes
 * nothing.  A page in use costs one comparison.
 *
 * The table may only be wrong in one direction, and only for a page that the process has itself
 * taken away meanwhile: calls that unmap or protect say so (shmipc_reach_changed(), the shim
 * intercepts them); what libc unmaps by itself, as free() does with a large buffer, is found out
 * when the table is forgotten, which happens every so many messages.
 *
 * Any thread may write any entry at any time: each is one word and says everything about its page.
 */
#ifndef SHMIPC_CORE_REACH_H
#define SHMIPC_CORE_REACH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shmipc_reach {
	SHMIPC_REACH_READ = 0,
	SHMIPC_REACH_WRITE = 1, /* and read */
};

enum {
	SHMIPC_REACH_PAGE_BITS = 12, /* the smallest page there is */
	/* known at the same time, 128 MiB: whoever cycles through a large buffer asks once, too;
	 * one touched line for every 32 KiB in use */
	SHMIPC_REACH_SLOT_BITS = 15,
	SHMIPC_REACH_PAGES = 1 << SHMIPC_REACH_SLOT_BITS,
	SHMIPC_REACH_AGE_BITS = 18,
	SHMIPC_REACH_MESSAGES = 65536,
};

/* page number | age of the table | enum shmipc_reach */
extern _Atomic uint64_t shmipc_reach_table[SHMIPC_REACH_PAGES];
extern _Atomic uint32_t shmipc_reach_age;

/* The pages that are not known. */
bool shmipc_reach_ask(uintptr_t start, size_t bytes, enum shmipc_reach how);

/* What the table knew may not be true any more. */
void shmipc_reach_changed(void);

/* After message number so many of an end. */
static inline void shmipc_reach_grow_old(uint64_t messages)
{
	if (__builtin_expect(messages % SHMIPC_REACH_MESSAGES == 0, 0))
		shmipc_reach_changed();
}

static inline uint64_t shmipc_reach_entry(uintptr_t page, uint32_t age, enum shmipc_reach how)
{
	return (uint64_t)page << (SHMIPC_REACH_AGE_BITS + 1) |
	       (uint64_t)(age & ((1u << SHMIPC_REACH_AGE_BITS) - 1)) << 1 | (uint64_t)how;
}

/* What lies together has slots of its own each.  Where such a piece of 128 MiB begins is chosen by
 * its number: threads have their stacks 8 MiB apart, their parts of malloc()'s memory 64 MiB, and
 * what one of them uses is at the same place in each. */
static inline _Atomic uint64_t *shmipc_reach_slot(uintptr_t page)
{
	uint64_t piece = (uint64_t)page >> SHMIPC_REACH_SLOT_BITS;
	uint64_t begin = piece * UINT64_C(0x9e3779b97f4a7c15) >> (64 - SHMIPC_REACH_SLOT_BITS);

	return &shmipc_reach_table[(page ^ begin) % SHMIPC_REACH_PAGES];
}

static inline bool shmipc_reach_knows(uintptr_t page, uint32_t age, enum shmipc_reach how)
{
	uint64_t entry = atomic_load_explicit(shmipc_reach_slot(page), memory_order_relaxed);

	return entry == shmipc_reach_entry(page, age, SHMIPC_REACH_WRITE) ||
	       (how == SHMIPC_REACH_READ &&
		entry == shmipc_reach_entry(page, age, SHMIPC_REACH_READ));
}

/* Can all of it be touched?  Nothing always can. */
static inline bool shmipc_reach(const void *pointer, size_t bytes, enum shmipc_reach how)
{
	uintptr_t start = (uintptr_t)pointer;
	uint32_t age = atomic_load_explicit(&shmipc_reach_age, memory_order_relaxed);
	uintptr_t end = start + bytes - 1; /* the last byte */

	if (__builtin_expect(bytes == 0, 0))
		return true;
	if (__builtin_expect(end < start, 0))
		return false;
	for (uintptr_t page = start >> SHMIPC_REACH_PAGE_BITS;
	     page <= end >> SHMIPC_REACH_PAGE_BITS; page++)
		if (__builtin_expect(!shmipc_reach_knows(page, age, how), 0))
			return shmipc_reach_ask(start, bytes, how);
	return true;
}

#endif
