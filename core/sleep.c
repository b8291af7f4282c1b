/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sleep.h"

#include <pthread.h>
#include <stddef.h>

#include "core/sys.h"
#include "core/thread.h"

static long call_now(const long call[7])
{
	return sys_call6(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
}

long shmipc_sleep6(const long call[7], void (*undo)(void *argument), void *argument)
{
	long result;
	int type;

	if (shmipc_single_threaded())
		return call_now(call);
	pthread_cleanup_push(undo, argument);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	result = call_now(call);
	pthread_setcanceltype(type, NULL);
	pthread_cleanup_pop(0);
	return result;
}
