/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/dispatcher.h"

#include <signal.h>
#include <stddef.h>

static void *begin(void *argument)
{
	struct shmipc_dispatcher *dispatcher = argument;

	dispatcher->run(dispatcher->argument);
	return NULL;
}

int shmipc_dispatcher_start(struct shmipc_dispatcher *dispatcher, void (*run)(void *),
			    void *argument)
{
	sigset_t all, before;
	int error;

	dispatcher->run = run;
	dispatcher->argument = argument;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&dispatcher->thread, NULL, begin, dispatcher);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

void shmipc_dispatcher_join(struct shmipc_dispatcher *dispatcher)
{
	pthread_join(dispatcher->thread, NULL);
}
