/* SPDX-License-Identifier: Apache-2.0 */
/* Threads, children, programs. */
#include "tests/differential/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- a second thread ---- */

static pthread_t second;

static void *second_main(void *argument)
{
	actor_serve(argument);
	actor_free(argument);
	return NULL;
}

static void do_thread(struct actor *actor, const struct words *words)
{
	(void)words;
	errno = pthread_create(&second, NULL, second_main, actor_new(CHANNEL_FIRST + 1));
	say_result(actor, "thread", errno ? -1 : 0);
}

static void do_join(struct actor *actor, const struct words *words)
{
	(void)words;
	errno = pthread_join(second, NULL);
	say_result(actor, "join", errno ? -1 : 0);
}

/* ---- a child that goes on with what it inherits ---- */

static pid_t child;

static void child_main(void)
{
	struct actor *actor = actor_new(CHANNEL_FIRST + 2);

	prctl(PR_SET_PDEATHSIG, 0);
	close(CHANNEL_FIRST);
	close(CHANNEL_FIRST + 1);
	actor_serve(actor);
	exit(0);
}

static void do_fork(struct actor *actor, const struct words *words)
{
	bool plain = strcmp(word(words, 1), "_Fork") == 0;

	child = plain ? _Fork() : fork();
	if (child == 0)
		child_main();
	say_result(actor, "fork", child > 0 ? 0 : -1);
}

static void say_status(struct actor *actor, const char *name, int status)
{
	if (WIFSIGNALED(status))
		say(actor, "%s=killed by %d", name, WTERMSIG(status));
	else
		say(actor, "%s=%d", name, WEXITSTATUS(status));
}

static void do_wait(struct actor *actor, const struct words *words)
{
	int status = 0;

	(void)words;
	if (waitpid(child, &status, 0) < 0)
		say_result(actor, "wait", -1);
	else
		say_status(actor, "wait", status);
}

/* exit HOW: exit, _exit or kill.  Nothing is answered. */
static void do_exit(struct actor *actor, const struct words *words)
{
	const char *how = word(words, 1);

	(void)actor;
	if (strcmp(how, "kill") == 0)
		raise(SIGKILL);
	if (strcmp(how, "_exit") == 0)
		_exit(7);
	exit(5);
}

/* ---- another program: this one, with the connection as its input or output ---- */

static char *const empty[] = { NULL };

static pid_t by_spawn(char *const *command, int from, int to, char *const *environment)
{
	posix_spawn_file_actions_t actions;
	pid_t pid = -1;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, from, to);
	errno = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, command, environment);
	posix_spawn_file_actions_destroy(&actions);
	return pid;
}

static pid_t by_fork(char *const *command, int from, int to, char *const *environment, bool v)
{
	pid_t pid = v ? vfork() : fork();

	if (pid == 0) {
		dup2(from, to);
		execve("/proc/self/exe", command, environment);
		_exit(127);
	}
	return pid;
}

static pid_t start(const char *how, char *const *command, int from, int to,
		   char *const *environment)
{
	if (strcmp(how, "spawn") == 0)
		return by_spawn(command, from, to, environment);
	return by_fork(command, from, to, environment, strcmp(how, "vfork") == 0);
}

/* program_put SLOT HOW same|empty BYTES SEED: it writes them to the connection. */
static void do_program_put(struct actor *actor, const struct words *words)
{
	char *command[] = { (char *)"worker", (char *)"put", words->at[4], words->at[5], NULL };
	char *const *environment = strcmp(word(words, 3), "same") == 0 ? environ : empty;
	int status = 0;
	pid_t pid = start(word(words, 2), command, slot_fd(word(words, 1)), 1, environment);

	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		say_result(actor, "program", -1);
	else
		say_status(actor, "program", status);
}

/* program_get SLOT HOW same|empty BYTES: it reads them from the connection; what it has read it
 * gives to a pipe. */
static void do_program_get(struct actor *actor, const struct words *words)
{
	char *command[] = { (char *)"worker", (char *)"get", words->at[4], NULL };
	char *const *environment = strcmp(word(words, 3), "same") == 0 ? environ : empty;
	int ends[2], saved = fcntl(1, F_DUPFD_CLOEXEC, 100), status = 0;
	struct hash hash;
	ssize_t n = 0, got = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	dup2(ends[1], 1);
	pid = start(word(words, 2), command, slot_fd(word(words, 1)), 0, environment);
	dup2(saved, 1);
	close(saved);
	close(ends[1]);
	while (got < BUFFER_BYTES &&
	       (n = read(ends[0], actor->in + got, BUFFER_BYTES - (size_t)got)) > 0)
		got += n;
	close(ends[0]);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		say_result(actor, "program", -1);
	else
		say_status(actor, "program", status);
	hash_start(&hash);
	hash_add(&hash, actor->in, (size_t)got);
	say(actor, " bytes=%zd hash=%08x", got, hash_end(&hash));
}

const struct call process_calls[] = {
	{ "thread", do_thread },
	{ "join", do_join },
	{ "fork", do_fork },
	{ "wait", do_wait },
	{ "exit", do_exit },
	{ "program_put", do_program_put },
	{ "program_get", do_program_get },
	{ NULL, NULL },
};
