/* SPDX-License-Identifier: Apache-2.0 */
/* A system call around whoever interposes libc: by libc's own syscall(), taken from libc itself. No
 * instruction in the program does it, for a program that holds one is looked upon with other eyes
 * (tests/bare_instruction.c). */
#ifndef TESTS_BARE_CALL_H
#define TESTS_BARE_CALL_H

#include <dlfcn.h>
#include <errno.h>

/* The result, or -errno. */
static inline long bare_call(long number, long a, long b, long c, long d, long e, long f)
{
	static union {
		void *object;
		long (*function)(long, ...);
	} call;
	int error = errno;
	long result;

	if (!call.object)
		call.object = dlsym(dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD), "syscall");
	result = call.function(number, a, b, c, d, e, f);
	if (result == -1)
		result = -errno;
	errno = error;
	return result;
}

#endif
