/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses that the application passes.
 *
 * The kernel says EFAULT where a look of our own would fault.  What an entry point must look at by
 * itself (headers, vectors, results) is asked for here first; the payload is looked after where it
 * is copied (core/reach.h).
 */
#ifndef SHMIPC_PRELOAD_POINTERS_H
#define SHMIPC_PRELOAD_POINTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/reach.h"

/* Cannot be read. */
static inline bool shim_pointer_is_bad(const void *pointer, size_t bytes)
{
	return !shmipc_reach(pointer, bytes, SHMIPC_REACH_READ);
}

/* Cannot be written. */
static inline bool shim_pointer_is_bad_result(const void *pointer, size_t bytes)
{
	return !shmipc_reach(pointer, bytes, SHMIPC_REACH_WRITE);
}

/* Lies where no program has memory: the kernel refuses such a vector as a whole, however many bytes
 * there are for it. */
static inline bool shim_pointer_is_outside(const void *pointer, size_t bytes)
{
	uintptr_t start = (uintptr_t)pointer;

	return start + bytes < start || (intptr_t)(start + bytes) < 0;
}

#endif
