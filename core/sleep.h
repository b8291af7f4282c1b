/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls in which a call of the application sleeps: cancellation points, as they are in libc.
 *
 * Only a process with several threads has somebody who cancels.  There the calling thread may be
 * cancelled at any moment inside the system call (that is how libc did it for decades), and `undo`
 * takes back what the sleeper has noted: it runs without any lock held.
 */
#ifndef SHMIPC_CORE_SLEEP_H
#define SHMIPC_CORE_SLEEP_H

/* Result of the system call, or -errno. */
long shmipc_sleep6(const long call[7], void (*undo)(void *argument), void *argument);

#define SHMIPC_SLEEP(undo, argument, number, a, b, c, d, e, f)                               \
	shmipc_sleep6((const long[7]){ (number), (long)(a), (long)(b), (long)(c), (long)(d), \
				       (long)(e), (long)(f) },                               \
		      (undo), (argument))

#endif
