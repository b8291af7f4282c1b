/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sleep.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "core/postpone.h"
#include "core/sys.h"
#include "core/thread.h"

static long call_now(const long call[7])
{
	return sys_call6(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
}

static long call_cancellable(const long call[7])
{
	long result;
	int type;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	result = call_now(call);
	pthread_setcanceltype(type, NULL);
	return result;
}

/* Those are never restarted after a handler, whatever it asks for. */
static bool is_wait(long number)
{
	return number == SYS_ppoll || number == SYS_epoll_pwait || number == SYS_epoll_pwait2 ||
	       number == SYS_futex || number == SYS_nanosleep;
}

/* A signal that came while we were busy comes now, as if we slept already; and what came at the end
 * of this call's last sleep and did not end it, ends this one.  True: so it is. */
static bool signal_ends(long number)
{
	if (__builtin_expect(shmipc_postpone.waiting, 0))
		shmipc_postpone_deliver();
	return shmipc_postpone.interrupted || (shmipc_postpone.ran && is_wait(number));
}

/* The place of the flags among the arguments of a call that moves bytes; 0: there is none. */
static int flags_at(long number)
{
	if (number == SYS_sendto || number == SYS_recvfrom)
		return 4;
	return number == SYS_sendmsg || number == SYS_recvmsg ? 3 : 0;
}

/* To the kernel a signal that is pending ends a sleep; it keeps no call from what can be done
 * without one, and a call that never sleeps does not look at it. */
static long call_awake(const long call[7])
{
	long awake[7], result;
	int flags = flags_at(call[0]);

	if (!flags)
		return -EINTR;
	memcpy(awake, call, sizeof(awake));
	awake[flags] |= MSG_DONTWAIT;
	result = call_now(awake);
	if (result != -EAGAIN || (call[flags] & MSG_DONTWAIT) ||
	    (sys_fcntl((int)call[1], F_GETFL, 0) & O_NONBLOCK))
		return result;
	return -EINTR;
}

static long call_asleep(const long call[7])
{
	return shmipc_single_threaded() ? call_now(call) : call_cancellable(call);
}

__attribute__((hot)) __attribute__((noinline)) long
shmipc_sleep6(const long call[7], void (*undo)(void *argument), void *argument)
{
	struct _pthread_cleanup_buffer buffer;
	uint32_t depth = shmipc_postpone.depth;
	bool stays_out;
	long result;

	_pthread_cleanup_push(&buffer, undo, argument);
	if (!shmipc_postpone.carried)
		shmipc_postpone.ran = shmipc_postpone.interrupted = false;
	shmipc_postpone.carried = false;
	shmipc_postpone.depth = 0; /* from here on a handler runs at once */
	atomic_signal_fence(memory_order_seq_cst);
	stays_out = signal_ends(call[0]);
	result = stays_out ? call_awake(call) : call_asleep(call);
	atomic_signal_fence(memory_order_seq_cst);
	shmipc_postpone.depth = depth;
	shmipc_postpone.carried = depth > 0 && result != -EINTR && shmipc_postpone.ran;
	shmipc_postpone.stayed_out = stays_out; /* last: a handler may have slept meanwhile */
	_pthread_cleanup_pop(&buffer, 0);
	return result;
}

bool shmipc_sleep_restarts(void)
{
	if (!shmipc_postpone.ran)
		return shmipc_postpone_unseen_restart();
	return !shmipc_postpone.interrupted;
}

bool shmipc_sleep_was_no_call(void)
{
	return shmipc_postpone.stayed_out;
}
