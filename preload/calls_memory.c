/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that take memory away: what was known to be there (core/reach.h) may not be there any more.
 *
 * Allocators make these calls while they start, before anything is bound: then the system call is
 * made here.
 */
#include <linux/io_uring.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "core/reach.h"
#include "core/sys.h"
#include "preload/real.h"
#include "preload/transfer.h"
#include "preload/uring.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

/* After the call: what is asked meanwhile must be asked again. */
static int changed(int result)
{
	shmipc_reach_changed();
	return result;
}

SHIM_EXPORT int munmap(void *at, size_t bytes)
{
	return changed(shim_real_calls.munmap ? shim_real_calls.munmap(at, bytes)
					      : (int)shim_edge(sys_munmap(at, bytes)));
}

SHIM_EXPORT int __munmap(void *at, size_t bytes)
{
	return munmap(at, bytes);
}

SHIM_EXPORT int mprotect(void *at, size_t bytes, int protection)
{
	return changed(shim_real_calls.mprotect
			       ? shim_real_calls.mprotect(at, bytes, protection)
			       : (int)shim_edge(sys_call3(SYS_mprotect, (long)at, (long)bytes,
							  protection)));
}

SHIM_EXPORT int __mprotect(void *at, size_t bytes, int protection)
{
	return mprotect(at, bytes, protection);
}

SHIM_EXPORT int pkey_mprotect(void *at, size_t bytes, int protection, int key)
{
	return changed(real.pkey_mprotect(at, bytes, protection, key));
}

/* A mapping takes the place of others only if it is told where. */
static void *mapped(void *at, int flags)
{
	if (flags & MAP_FIXED)
		shmipc_reach_changed();
	return at;
}

static void *map_raw(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return (void *)shim_edge(sys_mmap(at, bytes, protection, flags, fd, offset));
}

SHIM_EXPORT void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	void *result = shim_real_calls.mmap
			       ? shim_real_calls.mmap(at, bytes, protection, flags, fd, offset)
			       : map_raw(at, bytes, protection, flags, fd, offset);

	if (__builtin_expect(offset >= (off_t)IORING_OFF_CQ_RING, 0) && result != MAP_FAILED)
		shim_uring_mapped(fd, offset);
	return mapped(result, flags);
}

SHIM_EXPORT void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
	return mmap(at, bytes, protection, flags, fd, offset);
}

SHIM_EXPORT void *__mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return mmap(at, bytes, protection, flags, fd, offset);
}

SHIM_EXPORT void *mremap(void *at, size_t bytes, size_t new_bytes, int flags, ...)
{
	va_list arguments;
	void *to;

	va_start(arguments, flags);
	to = va_arg(arguments, void *);
	va_end(arguments);
	at = shim_real_calls.mremap
		     ? shim_real_calls.mremap(at, bytes, new_bytes, flags, to)
		     : (void *)shim_edge(sys_call6(SYS_mremap, (long)at, (long)bytes,
						   (long)new_bytes, flags, (long)to, 0));
	shmipc_reach_changed();
	return at;
}

SHIM_EXPORT int madvise(void *at, size_t bytes, int advice)
{
	int result = shim_real_calls.madvise ? shim_real_calls.madvise(at, bytes, advice)
					     : (int)shim_edge(sys_madvise(at, bytes, advice));

	if (advice == MADV_GUARD_INSTALL)
		shmipc_reach_changed();
	return result;
}

SHIM_EXPORT int __madvise(void *at, size_t bytes, int advice)
{
	return madvise(at, bytes, advice);
}

SHIM_EXPORT void *shmat(int id, const void *at, int flags)
{
	void *result = real.shmat(id, at, flags);

	if (flags & SHM_REMAP)
		shmipc_reach_changed();
	return result;
}

SHIM_EXPORT int shmdt(const void *at)
{
	return changed(real.shmdt(at));
}
