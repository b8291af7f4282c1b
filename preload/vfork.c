/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfork: the child runs on the parent's stack and memory until it calls exec or _exit, so no C
 * function can stand around the call.  The entry point only notes that such children exist (their
 * close() is not ours, see shim_process_is_borrowed()) and jumps on; libc's vfork sees the
 * application's own return address.  clone() may make such a child too (CLONE_VM without
 * CLONE_THREAD), and has arguments on the stack: the same way.
 */
#include <errno.h>

#include "preload/conn.h"
#include "preload/real.h"

/* Named by the assembler below: external, hidden by the link. */
extern _Atomic uint32_t shim_vfork_seen;
extern pid_t (*shim_vfork_target)(void);
pid_t shim_vfork_unbound(void);

extern int (*shim_clone_target)(int (*)(void *), void *, int, void *, ...);
int shim_clone_unbound(int (*function)(void *), void *stack, int flags, void *argument, ...);

_Atomic uint32_t shim_vfork_seen;
int (*shim_clone_target)(int (*)(void *), void *, int, void *, ...) = shim_clone_unbound;
pid_t (*shim_vfork_target)(void) = shim_vfork_unbound;

/* Before the symbols are bound; fork() is a lawful vfork(). */
__attribute__((used)) pid_t shim_vfork_unbound(void)
{
	return real.fork();
}

/* Nobody clones before the constructors. */
__attribute__((used)) int shim_clone_unbound(int (*function)(void *), void *stack, int flags,
					     void *argument, ...)
{
	(void)function;
	(void)stack;
	(void)flags;
	(void)argument;
	errno = ENOSYS;
	return -1;
}

void shim_vfork_bind(pid_t (*target)(void),
		     int (*clone_target)(int (*)(void *), void *, int, void *, ...))
{
	shim_vfork_target = target;
	shim_clone_target = clone_target;
}

bool shim_vfork_was_used(void)
{
	return atomic_load_explicit(&shim_vfork_seen, memory_order_relaxed) != 0;
}

#if defined(__x86_64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	".globl __vfork\n"
	".type __vfork, @function\n"
	"vfork:\n"
	"__vfork:\n"
	"	endbr64\n"
	"	movl $1, shim_vfork_seen(%rip)\n"
	"	jmp *shim_vfork_target(%rip)\n"
	".size vfork, .-vfork\n"
	".size __vfork, .-__vfork\n"
	".globl clone\n"
	".type clone, @function\n"
	"clone:\n"
	"	endbr64\n"
	"	movl $1, shim_vfork_seen(%rip)\n"
	"	jmp *shim_clone_target(%rip)\n"
	".size clone, .-clone\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, %function\n"
	".globl __vfork\n"
	".type __vfork, %function\n"
	"vfork:\n"
	"__vfork:\n"
	"	mov w16, #1\n"
	"	adrp x17, shim_vfork_seen\n"
	"	str w16, [x17, :lo12:shim_vfork_seen]\n"
	"	adrp x17, shim_vfork_target\n"
	"	ldr x16, [x17, :lo12:shim_vfork_target]\n"
	"	br x16\n"
	".size vfork, .-vfork\n"
	".size __vfork, .-__vfork\n"
	".globl clone\n"
	".type clone, %function\n"
	"clone:\n"
	"	mov w16, #1\n"
	"	adrp x17, shim_vfork_seen\n"
	"	str w16, [x17, :lo12:shim_vfork_seen]\n"
	"	adrp x17, shim_clone_target\n"
	"	ldr x16, [x17, :lo12:shim_clone_target]\n"
	"	br x16\n"
	".size clone, .-clone\n");
#endif
