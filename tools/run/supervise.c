/* SPDX-License-Identifier: Apache-2.0 */
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"
#include "summary.h"

static const int forwarded[] = { SIGINT,  SIGTERM, SIGHUP,   SIGQUIT, SIGUSR1,
				 SIGUSR2, SIGALRM, SIGWINCH, SIGCONT };

int execute(char **command)
{
	int error;

	execvp(command[0], command);
	error = errno;
	fprintf(stderr, "shmipc-run: cannot run '%s': %s\n", command[0], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
}

/* Signals are taken one by one with sigwaitinfo(), so that no handler races with the child's end.
 */
static void watched_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(set, forwarded[i]);
}

static int wait_for(pid_t child, const sigset_t *watched)
{
	siginfo_t info;
	int status;

	for (;;) {
		int signal = sigwaitinfo(watched, &info);

		if (signal == SIGCHLD && waitpid(child, &status, WNOHANG) == child)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		/* what the terminal sends reaches the child without us */
		if (signal > 0 && signal != SIGCHLD && info.si_code <= 0)
			kill(child, signal);
	}
}

/*
 * The shim writes its log to a file of ours; what the user wanted to see of it follows at the end.
 * `user_log` is the user's own LEVEL[:PATH], or NULL.
 */
static FILE *redirect_log(const char *user_log, char *path, size_t path_bytes)
{
	const char *directory = getenv("TMPDIR");
	const char *level = user_log && strncmp(user_log, "debug", 5) == 0 ? "debug" : "info";
	char *value;
	FILE *file;
	int fd;

	snprintf(path, path_bytes, "%s/shmipc-run.XXXXXX",
		 directory && *directory ? directory : "/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "shmipc-run: cannot make %s: %s\n", path, strerror(errno));
		return NULL;
	}
	file = fdopen(fd, "r");
	if (!file || asprintf(&value, "%s:%s", level, path) < 0) {
		fprintf(stderr, "shmipc-run: no memory\n");
		unlink(path);
		return NULL;
	}
	setenv("SHMIPC_LOG", value, 1);
	free(value);
	return file;
}

static void pass_on_log(FILE *log, const char *user_log)
{
	const char *colon = user_log ? strchr(user_log, ':') : NULL;
	FILE *to = stderr;
	char line[4096];

	if (!user_log || !*user_log || strncmp(user_log, "off", 3) == 0)
		return;
	if (colon)
		to = fopen(colon + 1, "ae");
	if (!to) {
		fprintf(stderr, "shmipc-run: cannot open %s: %s\n", colon + 1, strerror(errno));
		return;
	}
	while (fgets(line, sizeof(line), log))
		fputs(line, to);
	if (to != stderr)
		fclose(to);
	rewind(log);
}

int supervise(char **command)
{
	const char *inherited = getenv("SHMIPC_LOG");
	char *user_log = inherited ? strdup(inherited) : NULL;
	char path[4096];
	FILE *log = redirect_log(user_log, path, sizeof(path));
	struct sigaction chld_before;
	sigset_t watched, before;
	int status;
	pid_t child;

	if (!log)
		return EXIT_OWN_FAILURE;
	watched_signals(&watched);
	sigprocmask(SIG_BLOCK, &watched, &before);
	/* where SIGCHLD is ignored the kernel would reap the child, and its status, behind our back
	 */
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, &chld_before);
	child = fork();
	if (child == 0) {
		sigaction(SIGCHLD, &chld_before, NULL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		_exit(execute(command));
	}
	if (child < 0) {
		fprintf(stderr, "shmipc-run: cannot fork: %s\n", strerror(errno));
		status = EXIT_OWN_FAILURE;
	} else {
		status = wait_for(child, &watched);
	}
	unlink(path);
	pass_on_log(log, user_log);
	if (child > 0)
		summary_print(log, stderr);
	fclose(log);
	free(user_log);
	return status;
}
