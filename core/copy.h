/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memcpy() for copies that may be large and whose two places chance has chosen.
 *
 * From some KiB on libc copies by `rep movsb`.  Where the destination lies up to half a cache line
 * behind the source, modulo a page, AMD's Zen 3 takes 15 times as long for that: 2 GB/s instead of
 * 35 out of the nearest cache.  One pair of places in 130 lies so; and since a ring begins with a
 * page, and a large piece of malloc() 16 bytes behind one, some programs find it with each receive.
 * In pieces below libc's threshold it copies by vectors, which do not mind.
 */
#ifndef SHMIPC_CORE_COPY_H
#define SHMIPC_CORE_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	SHMIPC_COPY_PIECE_BYTES = 2048, /* the lowest threshold of any libc */
	SHMIPC_COPY_PAGE_BYTES = 4096,
	SHMIPC_COPY_NEAR_BYTES = 64,
};

static inline bool shmipc_copy_is_slow(const void *to, const void *from)
{
	size_t behind = ((uintptr_t)to - (uintptr_t)from) % SHMIPC_COPY_PAGE_BYTES;

	return behind > 0 && behind < SHMIPC_COPY_NEAR_BYTES;
}

void shmipc_copy_in_pieces(void *to, const void *from, size_t bytes);

/* The two do not overlap. */
static inline void shmipc_copy(void *to, const void *from, size_t bytes)
{
	if (__builtin_expect(bytes > SHMIPC_COPY_PIECE_BYTES && shmipc_copy_is_slow(to, from), 0))
		shmipc_copy_in_pieces(to, from, bytes);
	else
		memcpy(to, from, bytes);
}

#endif
