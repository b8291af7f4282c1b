/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfork: the child runs on the parent's stack and memory until it calls exec or _exit, so no C
 * function can stand around the call.  The entry point only notes that such children exist (their
 * close() is not ours, see shim_process_is_borrowed()) and jumps on; libc's vfork sees the
 * application's own return address.
 */
#include "preload/conn.h"
#include "preload/real.h"

/* Named by the assembler below: external, hidden by the link. */
extern _Atomic uint32_t shim_vfork_seen;
extern pid_t (*shim_vfork_target)(void);
pid_t shim_vfork_unbound(void);

_Atomic uint32_t shim_vfork_seen;
pid_t (*shim_vfork_target)(void) = shim_vfork_unbound;

/* Before the symbols are bound; fork() is a lawful vfork(). */
__attribute__((used)) pid_t shim_vfork_unbound(void)
{
	return real.fork();
}

void shim_vfork_bind(pid_t (*target)(void))
{
	shim_vfork_target = target;
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
	".size __vfork, .-__vfork\n");
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
	".size __vfork, .-__vfork\n");
#endif
