/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/sys.h"
#include "preload/calls_syscall.h"

struct shim_real_calls shim_real_calls;

struct symbol {
	const char *name;
	size_t offset;
	bool optional;
};

static const struct symbol symbols[] = {
#define SYMBOL(name) { #name, offsetof(struct shim_real_calls, name), false },
#define SYMBOL_OPTIONAL(name) { #name, offsetof(struct shim_real_calls, name), true },
#include "preload/symbols.def"
#undef SYMBOL
#undef SYMBOL_OPTIONAL
};

/* ---- what a call gets that comes from inside our own dlsym(): an allocator that starts up ---- */

static ssize_t edge(ssize_t result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

static ssize_t raw_read(int fd, void *to, size_t bytes)
{
	return edge(sys_read(fd, to, bytes));
}

static ssize_t raw_write(int fd, const void *from, size_t bytes)
{
	return edge(sys_write(fd, from, bytes));
}

static int raw_openat(int directory, const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = va_arg(arguments, mode_t);
	va_end(arguments);
	return (int)edge(sys_openat(directory, path, flags, mode));
}

static int raw_close(int fd)
{
	return (int)edge(sys_close(fd));
}

static int raw_fcntl(int fd, int command, ...)
{
	va_list arguments;
	long argument;

	va_start(arguments, command);
	argument = va_arg(arguments, long);
	va_end(arguments);
	return (int)edge(sys_fcntl(fd, command, argument));
}

static int raw_prctl(int option, ...)
{
	va_list a;
	unsigned long v[4];

	va_start(a, option);
	for (int i = 0; i < 4; i++)
		v[i] = va_arg(a, unsigned long);
	va_end(a);
	return (int)edge(
		sys_call6(SYS_prctl, option, (long)v[0], (long)v[1], (long)v[2], (long)v[3], 0));
}

static void *raw_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return (void *)edge(sys_mmap(at, bytes, protection, flags, fd, offset));
}

static int raw_munmap(void *at, size_t bytes)
{
	return (int)edge(sys_munmap(at, bytes));
}

static int raw_mprotect(void *at, size_t bytes, int protection)
{
	return (int)edge(sys_call3(SYS_mprotect, (long)at, (long)bytes, protection));
}

static int raw_madvise(void *at, size_t bytes, int advice)
{
	return (int)edge(sys_madvise(at, bytes, advice));
}

static void *raw_mremap(void *at, size_t bytes, size_t new_bytes, int flags, ...)
{
	va_list arguments;
	void *to;

	va_start(arguments, flags);
	to = va_arg(arguments, void *);
	va_end(arguments);
	return (void *)edge(
		sys_call6(SYS_mremap, (long)at, (long)bytes, (long)new_bytes, flags, (long)to, 0));
}

static ssize_t refuse(void)
{
	errno = ENOSYS;
	return -1;
}

static void fill_with_raw_calls(struct shim_real_calls *calls)
{
	ssize_t (*refusal)(void) = refuse;

	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++)
		memcpy((char *)calls + symbols[i].offset, &refusal, sizeof(refusal));
	calls->read = raw_read;
	calls->write = raw_write;
	calls->openat = raw_openat;
	calls->close = raw_close;
	calls->fcntl = raw_fcntl;
	calls->fcntl64 = raw_fcntl;
	calls->prctl = raw_prctl;
	calls->mmap = raw_mmap;
	calls->munmap = raw_munmap;
	calls->mprotect = raw_mprotect;
	calls->madvise = raw_madvise;
	calls->mremap = raw_mremap;
}

/* volatile: glibc declares dlsym as a leaf function, and the compiler would drop the store around
 * it */
static __thread volatile int binding __attribute__((tls_model("initial-exec")));

void shim_real_bind(void)
{
	struct shim_real_calls calls;

	if (binding) {
		/* one thread, at start-up: the table is replaced as a whole when binding ends */
		fill_with_raw_calls(&shim_real_calls);
		return;
	}
	binding = 1;
	memset(&calls, 0, sizeof(calls));
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *found = dlsym(RTLD_NEXT, symbols[i].name);
		ssize_t (*refusal)(void) = refuse;

		if (found)
			memcpy((char *)&calls + symbols[i].offset, &found, sizeof(found));
		else
			memcpy((char *)&calls + symbols[i].offset, &refusal, sizeof(refusal));
	}
	shim_real_calls = calls;
	shim_vfork_bind(calls.vfork, calls.clone);
	shim_syscall_bind(calls.syscall);
	binding = 0;
}
