/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System call instructions in loaded code.
 *
 * On x86-64 their two bytes also occur by chance, in displacements, immediate operands and
 * constants, about once in 250 KB.  Such a pair counts
 *  - inside a function that the unwinders' table knows: if walking the function from its beginning
 *    arrives exactly at it, or if the walk meets bytes that are no instruction and the pair looks
 *    like one by the next rule;
 *  - elsewhere: if within the bytes before it the number of a call is put into eax, and walking
 *    from there arrives exactly at it.
 * Elsewhere instructions have one length: what looks like one is one.
 */
#ifndef SHMIPC_PRELOAD_SYSTEM_CALLS_H
#define SHMIPC_PRELOAD_SYSTEM_CALLS_H

#include "preload/frames.h"

/* The first pair of bytes that begins in [from, to) and may be one; `to` where there is none. Reads
 * no further than `limit`, the end of the segment. */
uintptr_t shim_system_call_next(uintptr_t from, uintptr_t to, uintptr_t limit);

/* Is the pair at `at`, in a segment [low, high), one? */
bool shim_system_call_is_at(const struct shim_frames *frames, uintptr_t at, uintptr_t low,
			    uintptr_t high);

#endif
