/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The application's signal handlers.
 *
 * The kernel calls ours, which calls the application's: at once where the thread is not in the
 * middle of something, else as soon as it is not (core/postpone.h).  What comes later comes from
 * the kernel again, with the same siginfo, on the stack and under the mask that the application
 * asked for; until then every signal of the thread is blocked, so one at most waits.  Faults are
 * never postponed.
 *
 * Handlers that were set by system call instructions, or before the shim was there, are not seen
 * before a sleep ends by one; then the kernel is asked whether it wants the call restarted.  One of
 * those that uses the very connection that it has interrupted gets EAGAIN.
 */
#ifndef SHMIPC_PRELOAD_HANDLERS_H
#define SHMIPC_PRELOAD_HANDLERS_H

void shim_handlers_start(void);
void shim_handlers_in_child(void);

/* rt_sigaction as the kernel has it; -errno. */
long shim_handlers_system_call(long signo, const void *action, void *old, long bytes);

#endif
