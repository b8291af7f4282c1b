/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that tell of the end of a process.  It may have been a peer, and the application may ask
 * its socket at once: what was seen of it before, while it lived, is not answered any more.
 */
#include "core/gone.h"
#include "preload/real.h"

static pid_t heard(pid_t pid)
{
	if (pid > 0)
		shmipc_heard_of_an_end();
	return pid;
}

SHIM_EXPORT pid_t wait(int *status)
{
	return heard(real.wait(status));
}

SHIM_EXPORT pid_t __wait(int *status)
{
	return heard(real.__wait(status));
}

SHIM_EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
	return heard(real.waitpid(pid, status, options));
}

SHIM_EXPORT pid_t __waitpid(pid_t pid, int *status, int options)
{
	return heard(real.__waitpid(pid, status, options));
}

SHIM_EXPORT pid_t wait3(int *status, int options, struct rusage *usage)
{
	return heard(real.wait3(status, options, usage));
}

SHIM_EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	return heard(real.wait4(pid, status, options, usage));
}

SHIM_EXPORT int waitid(idtype_t kind, id_t id, siginfo_t *info, int options)
{
	int result = real.waitid(kind, id, info, options);

	if (result == 0)
		shmipc_heard_of_an_end();
	return result;
}
