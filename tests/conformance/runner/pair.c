/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the two ends of a case once, each in its own process, and collects what they left. */
#include "tests/conformance/runner/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ENV_MAX = 512, SYNC_IN_FD = 3, SYNC_OUT_FD = 4, LEAK_GRACE_MS = 300 };

struct end {
	const char *role;
	bool shim;
	int sync_in;
	int sync_out;
	pid_t pid; /* 0 when reaped */
	int status;
	char out_path[RUN_PATH_MAX + 16];
	char err_path[RUN_PATH_MAX + 16];
};

static char *read_text(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t size = 0, n;
	FILE *to = open_memstream(&text, &size);
	char chunk[4096];

	if (f) {
		while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
			fwrite(chunk, 1, n, to);
		fclose(f);
	}
	fclose(to);
	return text;
}

/* The caller's own settings must not leak into a plain end. */
static char **make_environment(const struct run_options *o, const struct end *e, const char *folder)
{
	static char *list[ENV_MAX + 8];
	static char preload[RUN_PATH_MAX + 32], log[RUN_PATH_MAX + 64];
	size_t n = 0;

	for (char **v = environ; *v && n < ENV_MAX; v++) {
		if (strncmp(*v, "SHMIPC_", 7) != 0 && strncmp(*v, "LD_PRELOAD=", 11) != 0)
			list[n++] = *v;
	}
	if (e->shim) {
		static char endpoints[] = "SHMIPC_ENDPOINTS=tcp:*,unix:*";
		static char after[] = "SHMIPC_UPGRADE_AFTER=2";

		snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", o->preload);
		snprintf(log, sizeof(log), "SHMIPC_LOG=info:%s/log", folder);
		list[n++] = preload;
		list[n++] = log;
		list[n++] = endpoints;
		list[n++] = after;
	}
	list[n] = NULL;
	return list;
}

static void redirect(const char *path, int fd)
{
	int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (file < 0 || dup2(file, fd) < 0)
		_exit(127);
}

/* In the child: descriptors 0 to 4 and nothing else. */
static void become_end(const struct run_options *o, const struct job *job, const struct end *e,
		       const char *folder)
{
	char address[RUN_PATH_MAX];
	char *argv[] = { (char *)(uintptr_t)o->cases_path,
			 (char *)(uintptr_t) "--case",
			 (char *)(uintptr_t)job->name,
			 (char *)(uintptr_t) "--role",
			 (char *)(uintptr_t)e->role,
			 (char *)(uintptr_t) "--family",
			 (char *)(uintptr_t)job->family,
			 (char *)(uintptr_t) "--address",
			 address,
			 (char *)(uintptr_t) "--mode",
			 (char *)(uintptr_t)job->mode,
			 NULL };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int in = fcntl(e->sync_in, F_DUPFD_CLOEXEC, 20);
	int out = fcntl(e->sync_out, F_DUPFD_CLOEXEC, 20);
	sigset_t none;

	if (strcmp(job->family, "tcp") == 0)
		snprintf(address, sizeof(address), "127.0.0.1");
	else
		snprintf(address, sizeof(address), "%s/socket", folder);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* an interrupted runner leaves nothing */
	dup2(null, 0);
	redirect(e->out_path, 1);
	redirect(e->err_path, 2);
	dup2(in, SYNC_IN_FD);
	dup2(out, SYNC_OUT_FD);
	close_range(SYNC_OUT_FD + 1, ~0U, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	execve(o->cases_path, argv, make_environment(o, e, folder));
	_exit(127);
}

static void start_end(const struct run_options *o, const struct job *job, struct end *e,
		      const char *folder)
{
	snprintf(e->out_path, sizeof(e->out_path), "%s/%s.out", folder, e->role);
	snprintf(e->err_path, sizeof(e->err_path), "%s/%s.err", folder, e->role);
	e->pid = fork();
	if (e->pid == 0)
		become_end(o, job, e, folder);
	if (e->pid < 0) {
		perror("conformance: fork");
		exit(3);
	}
	setpgid(e->pid, e->pid);
	close(e->sync_in);
	close(e->sync_out);
}

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Reaps until both ends are gone or the time is up; SIGCHLD is blocked. True when both are gone. */
static bool reap_until(struct end *ends, long end_ms)
{
	sigset_t child;
	int status;
	pid_t pid;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	for (;;) {
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			for (int i = 0; i < 2; i++) {
				if (ends[i].pid == pid) {
					ends[i].pid = 0;
					ends[i].status = status;
				}
			}
		}
		if (!ends[0].pid && !ends[1].pid)
			return true;
		long left = end_ms - now_ms();
		if (left <= 0)
			return false;
		struct timespec t = { left / 1000, (left % 1000) * 1000000 };
		sigtimedwait(&child, NULL, &t);
	}
}

/* Orphans of the ends are ours (subreaper): whatever does not end soon has leaked. */
static int reap_leaked(const pid_t *groups)
{
	long end = now_ms() + LEAK_GRACE_MS;
	int leaked = 0;

	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0)
			return leaked;
		if (pid > 0)
			continue;
		if (now_ms() >= end) {
			siginfo_t any;

			for (int i = 0; i < 2; i++)
				kill(-groups[i], SIGKILL);
			memset(&any, 0, sizeof(any));
			while (waitid(P_ALL, 0, &any, WEXITED) == 0)
				leaked++;
			return leaked;
		}
		usleep(5000);
	}
}

static void add_section(FILE *to, const struct end *e)
{
	char *out = read_text(e->out_path);
	char *err = read_text(e->err_path);

	fprintf(to, "[%s]\n%s", e->role, out);
	if (*err)
		fprintf(to, "[%s stderr]\n%s\n", e->role, err);
	if (e->pid)
		fprintf(to, "still running at the deadline\n");
	else if (WIFSIGNALED(e->status))
		fprintf(to, "killed by SIG%s\n", sigabbrev_np(WTERMSIG(e->status)));
	else
		fprintf(to, "exit %d\n", WEXITSTATUS(e->status));
	free(out);
	free(err);
}

/* Empties the folder; counts the files that no end was entitled to leave. */
static int clean_folder(const char *folder)
{
	static const char *const known[] = { ".",	   "..",	 "server.out", "server.err",
					     "client.out", "client.err", "log",	       "socket" };
	DIR *dir = opendir(folder);
	struct dirent *entry;
	int strangers = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		bool is_known = false;

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			is_known = is_known || strcmp(entry->d_name, known[i]) == 0;
		strangers += !is_known;
		unlinkat(dirfd(dir), entry->d_name, 0);
	}
	closedir(dir);
	return strangers;
}

void pair_run(const struct run_options *o, const struct job *job, const struct pairing *pairing,
	      const char *folder, struct outcome *out)
{
	struct end ends[2] = { { .role = "server", .shim = pairing->server_shim },
			       { .role = "client", .shim = pairing->client_shim } };
	char log_path[RUN_PATH_MAX + 16];
	int to_client[2], to_server[2];
	pid_t groups[2];
	size_t size;
	FILE *to;

	memset(out, 0, sizeof(*out));
	clean_folder(folder);
	if (pipe2(to_client, O_CLOEXEC) < 0 || pipe2(to_server, O_CLOEXEC) < 0) {
		perror("conformance: pipe");
		exit(3);
	}
	ends[0].sync_in = to_server[0];
	ends[0].sync_out = to_client[1];
	ends[1].sync_in = to_client[0];
	ends[1].sync_out = to_server[1];
	for (int i = 0; i < 2; i++) {
		start_end(o, job, &ends[i], folder);
		groups[i] = ends[i].pid;
	}
	out->timed_out = !reap_until(ends, now_ms() + (long)o->deadline_s * 1000);
	to = open_memstream(&out->transcript, &size);
	if (out->timed_out) {
		/* Those that still run keep their pid, so that the transcript says so. */
		for (int i = 0; i < 2; i++)
			kill(-groups[i], SIGKILL);
	}
	int leaked = reap_leaked(groups);
	out->leaked_children = out->timed_out ? 0 : leaked;
	for (int i = 0; i < 2; i++)
		add_section(to, &ends[i]);
	fclose(to);
	snprintf(log_path, sizeof(log_path), "%s/log", folder);
	out->log = read_text(log_path);
	out->leaked_files = clean_folder(folder);
}

void outcome_free(struct outcome *out)
{
	free(out->transcript);
	free(out->log);
}
