/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signal handlers wait while their thread is in the middle of something.
 *
 * A handler may use the connection whose call it has interrupted.  To the kernel a system call has
 * happened or it has not; here a thread may hold a lock, or have counted itself somewhere.  So each
 * such part is counted (`depth`), and whoever stands between the kernel and the application's
 * handlers (preload/handlers.c) lets one run only when the depth is 0, or hands it to us for later:
 * it sets `waiting`, blocks all signals of the thread, and shmipc_postpone_end() has it delivered.
 *
 * A wait is one such part from its first look on, so that a signal that comes while it spins ends
 * it as one does that comes while it sleeps: the spin is left (spin.c), and the sleep begins with
 * the signal (sleep.c).  So does the next sleep of the same part where one has ended for a reason
 * of our own, a nap that was over or a token, just when a handler ran: the application's call would
 * not have ended then, and the handler has to end it.
 *
 * Invariant: while a handler of the application runs, its thread holds no lock and has noted
 * nothing that it would not note while it sleeps in the kernel (sleep.h); what a sleeper has noted
 * is taken back when the handler jumps out.
 *
 * All words are the thread's own.  A handler that runs has found depth 0 and leaves it 0, so
 * depth++ and depth-- need not be atomic.
 */
#ifndef SHMIPC_CORE_POSTPONE_H
#define SHMIPC_CORE_POSTPONE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct shmipc_postpone {
	uint32_t depth;
	/* a signal has come in the middle; all are blocked until it is delivered */
	volatile bool waiting;
	bool interrupted; /* a handler without SA_RESTART has run since shmipc_sleep6() began */
	bool ran;	  /* any handler has, that we know of */
	bool carried;	  /* that sleep ended otherwise: the next one of this call begins with it */
	bool stayed_out;  /* a handler ended it before the kernel was entered */
	/* frame of the innermost handler that runs, or has been left by a jump; 0: none */
	uintptr_t handler_frame;
};

extern __thread struct shmipc_postpone shmipc_postpone __attribute__((tls_model("initial-exec")));

/* Once, before any other thread: how a postponed signal is delivered; and, of the handlers that do
 * not come by way of us, whether all ask for calls to be restarted (and there are some). */
void shmipc_postpone_use(void (*deliver)(void), bool (*unseen_restart)(void));
void shmipc_postpone_deliver(void);
void shmipc_postpone_over(void); /* the outermost part, if there is something to do about it */
bool shmipc_postpone_unseen_restart(void);

/* A forked child: what was held belongs to the parent, and the signal that waits too.  True: one
 * has waited, its mask is still to be restored. */
bool shmipc_postpone_in_child(void);

/* The application has handlers: between a system call that has taken something and the counting of
 * it, one may run. */
bool shmipc_postpone_expects_handlers(void);
void shmipc_postpone_expect_handlers(void);

/* Does a handler of the application run, which may have interrupted anything of libc?  Its frames
 * lie below ours; one that jumped away has left the stack above. */
static inline bool shmipc_postpone_in_handler(void)
{
	return shmipc_postpone.handler_frame != 0 &&
	       (uintptr_t)__builtin_frame_address(0) < shmipc_postpone.handler_frame;
}

static inline void shmipc_postpone_begin(void)
{
	shmipc_postpone.depth++;
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void shmipc_postpone_end(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	/* first the depth, then the look: from here on a signal is not postponed */
	if (--shmipc_postpone.depth > 0)
		return;
	atomic_signal_fence(memory_order_seq_cst);
	if (__builtin_expect(shmipc_postpone.waiting | shmipc_postpone.carried, 0))
		shmipc_postpone_over();
}

#endif
