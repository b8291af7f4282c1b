/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls in which a call of the application sleeps: cancellation points, as they are in libc,
 * and places where signal handlers run at once (postpone.h).
 *
 * The calling thread may be cancelled at any moment inside the system call (that is how libc did it
 * for decades), and a handler may jump out of it.  Then `undo` takes back what the sleeper has
 * noted.  It runs without any lock held, hence: nobody sleeps here with a lock.
 */
#ifndef SHMIPC_CORE_SLEEP_H
#define SHMIPC_CORE_SLEEP_H

#include <pthread.h>
#include <stdbool.h>

/* glibc's, exported and declared nowhere.  Unlike what pthread_cleanup_push() makes of it, such a
 * buffer is also run by a longjmp() that leaves its frame. */
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer,
				  void (*routine)(void *argument), void *argument);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute);

/* Result of the system call, or -errno. */
long shmipc_sleep6(const long call[7], void (*undo)(void *argument), void *argument);

/* After -EINTR: every handler that ran asks for calls to be restarted (SA_RESTART); or, where none
 * ran that we know of, every one that may have.  For sleeps of ours that the kernel does not
 * restart itself, in place of one that it would. */
bool shmipc_sleep_restarts(void);

/* After -EINTR of this thread's last sleep: a signal that had come before has ended it, and the
 * kernel has not been asked at all.  Where it has something, a wait is not interrupted. */
bool shmipc_sleep_was_no_call(void);

#define SHMIPC_SLEEP(undo, argument, number, a, b, c, d, e, f)                               \
	shmipc_sleep6((const long[7]){ (number), (long)(a), (long)(b), (long)(c), (long)(d), \
				       (long)(e), (long)(f) },                               \
		      (undo), (argument))

#endif
