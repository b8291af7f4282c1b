/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The shim opens the log anew for each line, perhaps under another user: so the file is writable
 * for all, in a directory of ours, which is neither sticky nor guessable.  And when the directory
 * is gone, a process that outlives the command cannot make the file again.
 */
static int make_file(struct capture *capture)
{
	const char *wanted = getenv("TMPDIR");
	char place[PATH_MAX];
	int fd;

	if (!wanted || !*wanted || !realpath(wanted, place) ||
	    strlen(place) > CAPTURE_PATH_BYTES - 32)
		strcpy(place, "/tmp");
	snprintf(capture->directory, sizeof(capture->directory), "%.200s/shmipc-run.XXXXXX", place);
	if (!mkdtemp(capture->directory))
		return -errno;
	snprintf(capture->path, sizeof(capture->path), "%s/log", capture->directory);
	fd = open(capture->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	fchmod(fd, 0622);
	chmod(capture->directory, 0711);
	capture->file = fdopen(fd, "r");
	return capture->file ? 0 : -ENOMEM;
}

static int redirect(const struct capture *capture)
{
	const char *level = capture->user_log && strncmp(capture->user_log, "debug", 5) == 0
				    ? "debug"
				    : "info";
	char value[sizeof(capture->path) + 8];

	snprintf(value, sizeof(value), "%s:%s", level, capture->path);
	return setenv("SHMIPC_LOG", value, 1) ? -errno : 0;
}

static void remove_file(struct capture *capture)
{
	if (capture->path[0])
		unlink(capture->path);
	if (capture->directory[0])
		rmdir(capture->directory);
}

int capture_start(struct capture *capture)
{
	const char *inherited = getenv("SHMIPC_LOG");
	int error;

	*capture = (struct capture){ .user_log = inherited ? strdup(inherited) : NULL };
	error = make_file(capture);
	if (!error)
		error = redirect(capture);
	if (error) {
		fprintf(stderr, "shmipc-run: cannot make a log in %s: %s\n", capture->directory,
			strerror(-error));
		remove_file(capture);
		capture_free(capture);
	}
	return error;
}

static void deliver(const struct capture *capture)
{
	const char *colon = strchr(capture->user_log, ':');
	FILE *to = colon ? fopen(colon + 1, "ae") : stderr;
	char line[4096];

	if (!to) {
		fprintf(stderr, "shmipc-run: cannot open %s: %s\n", colon ? colon + 1 : "",
			strerror(errno));
		return;
	}
	while (fgets(line, sizeof(line), capture->file))
		fputs(line, to);
	if (to != stderr)
		fclose(to);
	rewind(capture->file);
}

void capture_stop(struct capture *capture)
{
	remove_file(capture);
	if (capture->user_log && *capture->user_log && strncmp(capture->user_log, "off", 3) != 0)
		deliver(capture);
}

void capture_free(struct capture *capture)
{
	if (capture->file)
		fclose(capture->file);
	free(capture->user_log);
	*capture = (struct capture){ .file = NULL };
}
