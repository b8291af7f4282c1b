/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New processes and new programs.
 *
 * fork is seen by pthread_atfork handlers (startup.c), which daemon() and forkpty() run too; only
 * its failure needs a hook.  A program that is exec'ed starts without our tables: what it inherits
 * goes back to the kernel first.
 */
#include <errno.h>
#include <stddef.h>
#include <linux/seccomp.h>
#include <stdlib.h>

#include "preload/bequest.h"
#include "preload/config.h"
#include "preload/conn.h"
#include "preload/handover.h"
#include "preload/identity.h"
#include "preload/real.h"
#include "preload/sets.h"
#include "preload/spawn.h"
#include "preload/upgrade.h"

extern char **environ;

static pid_t forked(pid_t pid)
{
	int saved = errno;

	shim_conn_forked(pid);
	errno = saved;
	return pid;
}

SHIM_EXPORT pid_t fork(void)
{
	return forked(real.fork());
}

SHIM_EXPORT pid_t __fork(void)
{
	return forked(real.__fork());
}

/* Runs no handler of pthread_atfork(); ours must run all the same, or two processes would use one
 * record without locks. */
SHIM_EXPORT pid_t _Fork(void)
{
	pid_t pid;

	shim_conn_before_fork();
	pid = real._Fork();
	if (pid == 0)
		shim_conn_in_child();
	else
		shim_conn_after_fork();
	return forked(pid);
}

/* ---- exec ---- */

static void before_exec(char *const environment[])
{
	if (!shim_config.enabled)
		return;
	/* the program may inherit one.  A child on our memory may have closed these numbers: what
	 * is noted stays its parent's to tell */
	if (!shim_process_is_borrowed()) {
		shim_sets_show();
		shim_upgrade_exit(); /* should exec fail, the next connections meet anew */
	}
	shim_handover_exec();
	shim_bequest_leave(environment);
	shim_conn_before_exec();
}

static int failed(int result)
{
	int saved = errno;

	shim_bequest_withdraw();
	shim_conn_exec_failed();
	errno = saved;
	return result;
}

SHIM_EXPORT int execve(const char *path, char *const arguments[], char *const environment[])
{
	before_exec(environment);
	return failed(real.execve(path, arguments, environment));
}

SHIM_EXPORT int execv(const char *path, char *const arguments[])
{
	before_exec(environ);
	return failed(real.execv(path, arguments));
}

SHIM_EXPORT int execvp(const char *file, char *const arguments[])
{
	before_exec(environ);
	return failed(real.execvp(file, arguments));
}

SHIM_EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[])
{
	before_exec(environment);
	return failed(real.execvpe(file, arguments, environment));
}

SHIM_EXPORT int fexecve(int fd, char *const arguments[], char *const environment[])
{
	before_exec(environment);
	return failed(real.fexecve(fd, arguments, environment));
}

SHIM_EXPORT int execveat(int fd, const char *path, char *const arguments[],
			 char *const environment[], int flags)
{
	before_exec(environment);
	return failed(real.execveat(fd, path, arguments, environment, flags));
}

/* ---- exec with a list of arguments: they are gathered on the stack, as POSIX wants of a call that
 * may follow fork() in a threaded process ---- */

enum { ARGUMENTS_MAX = 4096 };

/* Fills vector (ARGUMENTS_MAX + 1 places); false: too many. */
static bool gather(char **vector, const char *first, va_list arguments)
{
	size_t i = 0;

	vector[i] = (char *)(uintptr_t)first;
	while (vector[i]) {
		if (++i > ARGUMENTS_MAX)
			return false;
		vector[i] = va_arg(arguments, char *);
	}
	return true;
}

static int too_many(void)
{
	errno = E2BIG;
	return -1;
}

SHIM_EXPORT int execl(const char *path, const char *first, ...)
{
	char *vector[ARGUMENTS_MAX + 1];
	va_list arguments;
	bool fits;

	va_start(arguments, first);
	fits = gather(vector, first, arguments);
	va_end(arguments);
	return fits ? execv(path, vector) : too_many();
}

SHIM_EXPORT int execlp(const char *file, const char *first, ...)
{
	char *vector[ARGUMENTS_MAX + 1];
	va_list arguments;
	bool fits;

	va_start(arguments, first);
	fits = gather(vector, first, arguments);
	va_end(arguments);
	return fits ? execvp(file, vector) : too_many();
}

SHIM_EXPORT int execle(const char *path, const char *first, ...)
{
	char *vector[ARGUMENTS_MAX + 1];
	char **environment = environ;
	va_list arguments;
	bool fits;

	va_start(arguments, first);
	fits = gather(vector, first, arguments);
	if (fits)
		environment = va_arg(arguments, char **);
	va_end(arguments);
	return fits ? execve(path, vector, environment) : too_many();
}

/* ---- children that run no handler ---- */

SHIM_EXPORT int posix_spawn(pid_t *restrict pid, const char *restrict path,
			    const posix_spawn_file_actions_t *restrict actions,
			    const posix_spawnattr_t *restrict attributes,
			    char *const arguments[restrict], char *const environment[restrict])
{
	shim_spawn_before(actions);
	return real.posix_spawn(pid, path, actions, attributes, arguments, environment);
}

SHIM_EXPORT int posix_spawnp(pid_t *restrict pid, const char *restrict file,
			     const posix_spawn_file_actions_t *restrict actions,
			     const posix_spawnattr_t *restrict attributes,
			     char *const arguments[restrict], char *const environment[restrict])
{
	shim_spawn_before(actions);
	return real.posix_spawnp(pid, file, actions, attributes, arguments, environment);
}

/* At this place others may have stood that were never destroyed. */
SHIM_EXPORT int posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions)
{
	shim_spawn_done(actions);
	return real.posix_spawn_file_actions_init(actions);
}

/* A connection that is to become one of the child's descriptors. */
SHIM_EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int from,
						 int to)
{
	int result = real.posix_spawn_file_actions_adddup2(
		actions, shim_spawn_duplicates(actions, from, to), to);

	if (result == 0 && from != to)
		shim_spawn_closes(actions, to, to);
	return result;
}

SHIM_EXPORT int posix_spawn_file_actions_addclose(posix_spawn_file_actions_t *actions, int fd)
{
	int result = real.posix_spawn_file_actions_addclose(actions, fd);

	if (result == 0)
		shim_spawn_closes(actions, fd, fd);
	return result;
}

SHIM_EXPORT int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *restrict actions,
						 int fd, const char *restrict path, int flags,
						 mode_t mode)
{
	int result = real.posix_spawn_file_actions_addopen(actions, fd, path, flags, mode);

	if (result == 0)
		shim_spawn_closes(actions, fd, fd);
	return result;
}

SHIM_EXPORT int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions,
							 int from)
{
	int result = real.posix_spawn_file_actions_addclosefrom_np(actions, from);

	if (result == 0)
		shim_spawn_closes(actions, from, INT32_MAX);
	return result;
}

SHIM_EXPORT int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions)
{
	shim_spawn_done(actions);
	return real.posix_spawn_file_actions_destroy(actions);
}

SHIM_EXPORT int system(const char *command)
{
	shim_spawn_before(NULL);
	return real.system(command);
}

SHIM_EXPORT FILE *popen(const char *command, const char *type)
{
	shim_spawn_before(NULL);
	return real.popen(command, type);
}

/* ---- the process itself ---- */

SHIM_EXPORT int prctl(int option, ...)
{
	unsigned long v[4];
	va_list arguments;

	va_start(arguments, option);
	for (int i = 0; i < 4; i++)
		v[i] = va_arg(arguments, unsigned long);
	va_end(arguments);
	/* the second comes before a filter that is installed by the system call itself, as
	 * libseccomp does */
	if (option == PR_SET_SECCOMP || option == PR_SET_NO_NEW_PRIVS)
		shim_identity_seccomp_installed();
	if (option == PR_SET_SECCOMP)
		shim_handover_all();
	return real.prctl(option, v[0], v[1], v[2], v[3]);
}

SHIM_EXPORT int unshare(int flags)
{
	if ((flags & CLONE_FILES) && shim_config.enabled && shim_process_shares_numbers())
		shim_handover_all();
	return real.unshare(flags);
}

SHIM_EXPORT void _exit(int status)
{
	shim_conn_exit_all();
	real._exit(status);
	__builtin_unreachable();
}

SHIM_EXPORT void _Exit(int status)
{
	shim_conn_exit_all();
	real._Exit(status);
	__builtin_unreachable();
}
