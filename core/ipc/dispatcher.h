/* SPDX-License-Identifier: Apache-2.0 */
/* The only place in core/ that makes a thread, and only for an application that asked for it
 * (shmipc_loop_start).  The shim is linked without it. */
#ifndef SHMIPC_CORE_IPC_DISPATCHER_H
#define SHMIPC_CORE_IPC_DISPATCHER_H

#include <pthread.h>

struct shmipc_dispatcher {
	pthread_t thread;
	void (*run)(void *argument);
	void *argument;
};

/* run(argument) in a thread of its own, in which all signals are blocked.  -errno. */
int shmipc_dispatcher_start(struct shmipc_dispatcher *dispatcher, void (*run)(void *argument),
			    void *argument);
void shmipc_dispatcher_join(struct shmipc_dispatcher *dispatcher);

#endif
