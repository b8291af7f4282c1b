/* SPDX-License-Identifier: Apache-2.0 */
#include "supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture.h"
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

int supervise(char **command)
{
	struct sigaction chld_before;
	struct capture capture;
	sigset_t watched, before;
	int status = EXIT_OWN_FAILURE;
	pid_t child;

	if (capture_start(&capture))
		return EXIT_OWN_FAILURE;
	watched_signals(&watched);
	sigprocmask(SIG_BLOCK, &watched, &before);
	/* where SIGCHLD is ignored the kernel would reap the child, and its status, unseen */
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, &chld_before);
	child = fork();
	if (child == 0) {
		sigaction(SIGCHLD, &chld_before, NULL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		_exit(execute(command));
	}
	if (child < 0)
		fprintf(stderr, "shmipc-run: cannot fork: %s\n", strerror(errno));
	else
		status = wait_for(child, &watched);
	capture_stop(&capture);
	if (child > 0)
		summary_print(capture.file, stderr);
	capture_free(&capture);
	return status;
}
