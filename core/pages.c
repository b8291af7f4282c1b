/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pages.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "core/sys.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Set once, by whoever finds out; a look that misses it asks the kernel in vain. */
static _Atomic bool unknown;

static void populate(void *at, size_t bytes, int advice)
{
	if (atomic_load_explicit(&unknown, memory_order_relaxed))
		return;
	if (sys_madvise(at, bytes, advice) == -EINVAL)
		atomic_store_explicit(&unknown, true, memory_order_relaxed);
}

void shmipc_pages_for_writing(void *at, size_t bytes)
{
	populate(at, bytes, MADV_POPULATE_WRITE);
}

void shmipc_pages_for_reading(void *at, size_t bytes)
{
	populate(at, bytes, MADV_POPULATE_READ);
}
