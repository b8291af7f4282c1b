/* SPDX-License-Identifier: Apache-2.0 */
/* syscall() with a number that concerns descriptors: as the entry point of that name. */
#ifndef SHMIPC_PRELOAD_CALLS_SYSCALL_H
#define SHMIPC_PRELOAD_CALLS_SYSCALL_H

enum { SHIM_SYSCALLS = 512 };

/* By number: not 0 if shim_syscall() wants it. */
extern const unsigned char shim_syscall_is_ours[SHIM_SYSCALLS];

/* With syscall()'s contract.  Words that the caller did not pass may be anything. */
long shim_syscall(long number, long a, long b, long c, long d, long e, long f);

/* syscall_entry.c: libc's own, to which everything else goes. */
void shim_syscall_bind(long (*target)(long number, ...));
long shim_syscall_pass(long number, long a, long b, long c, long d, long e, long f);

#endif
