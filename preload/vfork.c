/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfork: the child runs on the parent's stack and memory until it calls exec or _exit, so no C
 * function can stand around the call.  The entry point only notes that such children exist (their
 * close() is not ours, see shim_process_is_borrowed()) and jumps on; libc's vfork sees the
 * application's own return address.  clone() may make such a child too (CLONE_VM without
 * CLONE_THREAD), and has arguments on the stack: the same way.  A clone() that copies the memory is
 * a fork, and runs what fork runs.
 */
#include <errno.h>

#include "preload/conn.h"
#include "preload/real.h"

/* Named by the assembler below: external, hidden by the link. */
extern _Atomic uint32_t shim_vfork_seen;
extern pid_t (*shim_vfork_target)(void);
pid_t shim_vfork_unbound(void);

extern int (*shim_clone_target)(int (*)(void *), void *, int, void *, ...);
int shim_clone_copying(int (*function)(void *), void *stack, int flags, void *argument,
		       pid_t *parent_tid, void *tls, pid_t *child_tid);
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

struct beginning {
	int (*function)(void *);
	void *argument;
};

/* In the child, whose copy of the parent's stack holds the beginning. */
static int begin(void *argument)
{
	const struct beginning *beginning = argument;

	shim_conn_in_child();
	return beginning->function(beginning->argument);
}

/* Jumped to: the arguments lie where the caller put them; those that it did not pass are passed on
 * as they are. */
__attribute__((used)) int shim_clone_copying(int (*function)(void *), void *stack, int flags,
					     void *argument, pid_t *parent_tid, void *tls,
					     pid_t *child_tid)
{
	struct beginning beginning = { function, argument };
	int pid;

	if (!function || !stack) /* the kernel is not asked */
		return shim_clone_target(function, stack, flags, argument, parent_tid, tls,
					 child_tid);
	shim_conn_before_fork();
	pid = shim_clone_target(begin, stack, flags, &beginning, parent_tid, tls, child_tid);
	shim_conn_after_fork();
	shim_conn_forked(pid);
	return pid;
}

void shim_vfork_bind(pid_t (*target)(void),
		     int (*clone_target)(int (*)(void *), void *, int, void *, ...))
{
	shim_vfork_target = target;
	shim_clone_target = clone_target;
}

__attribute__((hot)) bool shim_vfork_was_used(void)
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
	"	testl $0x100, %edx\n" /* CLONE_VM */
	"	jz shim_clone_copying\n"
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
	"	tbnz w2, #8, 1f\n" /* CLONE_VM */
	"	b shim_clone_copying\n"
	"1:	mov w16, #1\n"
	"	adrp x17, shim_vfork_seen\n"
	"	str w16, [x17, :lo12:shim_vfork_seen]\n"
	"	adrp x17, shim_clone_target\n"
	"	ldr x16, [x17, :lo12:shim_clone_target]\n"
	"	br x16\n"
	".size clone, .-clone\n");
#endif
