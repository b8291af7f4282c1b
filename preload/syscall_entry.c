/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscall(): the entry point.
 *
 * A call that is of no interest must reach the kernel with its six words as they are, and some
 * (clone, but for one that is a fork) on a stack on which no frame of ours may lie: so the entry is
 * assembler that looks the number up and jumps, to libc's own or to shim_syscall()
 * (calls_syscall.c), whose arguments lie where the caller put them.  Before the symbols are bound,
 * as when an allocator starts, it makes the system call itself.
 */
#include <errno.h>

#include "preload/calls_syscall.h"
#include "preload/real.h"

/* Named by the assembler below: external, hidden by the link. */
extern long (*shim_syscall_target)(long number, ...);
long shim_syscall_unbound(long number, ...);
long shim_syscall_failed(long result);

long (*shim_syscall_target)(long number, ...) = shim_syscall_unbound;

void shim_syscall_bind(long (*target)(long number, ...))
{
	shim_syscall_target = target;
}

long shim_syscall_pass(long number, long a, long b, long c, long d, long e, long f)
{
	return shim_syscall_target(number, a, b, c, d, e, f);
}

__attribute__((used)) long shim_syscall_failed(long result)
{
	errno = (int)-result;
	return -1;
}

#if defined(__x86_64__)
__asm__(".text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	"	endbr64\n"
	"	cmpq $512, %rdi\n" /* SHIM_SYSCALLS */
	"	jae 1f\n"
	"	leaq shim_syscall_is_ours(%rip), %rax\n"
	"	cmpb $0, (%rax,%rdi)\n"
	"	jne shim_syscall\n"
	"	cmpq $56, %rdi\n" /* SYS_clone, */
	"	jne 1f\n"
	"	testq %rdx, %rdx\n" /* on this stack, */
	"	jnz 1f\n"
	"	testl $0x100, %esi\n" /* without CLONE_VM */
	"	jz shim_syscall\n"
	"1:	jmp *shim_syscall_target(%rip)\n"
	".size syscall, .-syscall\n"
	".globl shim_syscall_unbound\n"
	".type shim_syscall_unbound, @function\n"
	"shim_syscall_unbound:\n"
	"	endbr64\n"
	"	movq %rdi, %rax\n"
	"	movq %rsi, %rdi\n"
	"	movq %rdx, %rsi\n"
	"	movq %rcx, %rdx\n"
	"	movq %r8, %r10\n"
	"	movq %r9, %r8\n"
	"	movq 8(%rsp), %r9\n"
	"	syscall\n"
	"	cmpq $-4095, %rax\n"
	"	jae 2f\n"
	"	ret\n"
	"2:	movq %rax, %rdi\n"
	"	jmp shim_syscall_failed\n"
	".size shim_syscall_unbound, .-shim_syscall_unbound\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl syscall\n"
	".type syscall, %function\n"
	"syscall:\n"
	"	cmp x0, #512\n" /* SHIM_SYSCALLS */
	"	b.hs 1f\n"
	"	adrp x16, shim_syscall_is_ours\n"
	"	add x16, x16, :lo12:shim_syscall_is_ours\n"
	"	ldrb w17, [x16, x0]\n"
	"	cbnz w17, 3f\n"
	"	cmp x0, #220\n" /* SYS_clone, */
	"	b.ne 1f\n"
	"	cbnz x2, 1f\n"	   /* on this stack, */
	"	tbnz w1, #8, 1f\n" /* without CLONE_VM */
	"3:	b shim_syscall\n"
	"1:	adrp x16, shim_syscall_target\n"
	"	ldr x16, [x16, :lo12:shim_syscall_target]\n"
	"	br x16\n"
	".size syscall, .-syscall\n"
	".globl shim_syscall_unbound\n"
	".type shim_syscall_unbound, %function\n"
	"shim_syscall_unbound:\n"
	"	mov x8, x0\n"
	"	mov x0, x1\n"
	"	mov x1, x2\n"
	"	mov x2, x3\n"
	"	mov x3, x4\n"
	"	mov x4, x5\n"
	"	mov x5, x6\n"
	"	svc 0\n"
	"	cmn x0, #4095\n"
	"	b.cs 2f\n"
	"	ret\n"
	"2:	b shim_syscall_failed\n"
	".size shim_syscall_unbound, .-shim_syscall_unbound\n");
#endif
