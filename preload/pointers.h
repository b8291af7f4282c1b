/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of the application that can never be mapped.
 *
 * The kernel says EFAULT where a look of our own would fault.  NULL, the first page and the
 * kernel's half of the addresses are caught here, which are the ones that programs pass; what is
 * merely unmapped now faults, as it does in memcpy(): to find out takes a system call, for each
 * call.
 */
#ifndef SHMIPC_PRELOAD_POINTERS_H
#define SHMIPC_PRELOAD_POINTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHIM_FIRST_PAGE_BYTES = 4096 };

static inline bool shim_pointer_is_bad(const void *pointer, size_t bytes)
{
	uintptr_t start = (uintptr_t)pointer;

	return start < SHIM_FIRST_PAGE_BYTES || start + bytes < start ||
	       (intptr_t)(start + bytes) < 0;
}

#endif
