/* SPDX-License-Identifier: Apache-2.0 */
#include "environment.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char shim_name[] = "libshmipc_shim.so";

/* The directory that this program lies in. */
static int own_directory(char directory[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", directory, PATH_MAX - 1);
	char *slash;

	if (n < 0)
		return -errno;
	directory[n] = '\0';
	slash = strrchr(directory, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return 0;
}

/* Beside this program (a build tree) or in ../lib (an installed one). */
static int find_shim(char shim[PATH_MAX])
{
	static const char *const places[] = { "", "/../lib", "/../lib64" };
	char directory[PATH_MAX], candidate[2 * PATH_MAX];
	int error = own_directory(directory);

	if (error) {
		fprintf(stderr, "shmipc-run: cannot read /proc/self/exe: %s\n", strerror(-error));
		return error;
	}
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(candidate, sizeof(candidate), "%s%s/%s", directory, places[i], shim_name);
		if (realpath(candidate, shim))
			return 0;
	}
	fprintf(stderr, "shmipc-run: %s is neither in %s nor in %s/../lib\n", shim_name, directory,
		directory);
	return -ENOENT;
}

static int set(const char *name, const char *value)
{
	if (setenv(name, value, 1) == 0)
		return 0;
	fprintf(stderr, "shmipc-run: cannot set %s: %s\n", name, strerror(errno));
	return -errno;
}

static int preload(const char *shim)
{
	const char *others = getenv("LD_PRELOAD");
	char *list;
	int error;

	if (strpbrk(shim, ": ")) { /* the dynamic linker knows no way to quote them */
		fprintf(stderr,
			"shmipc-run: a path with a space or a colon cannot be preloaded: %s\n",
			shim);
		return -EINVAL;
	}
	if (!others || !*others)
		return set("LD_PRELOAD", shim);
	if (asprintf(&list, "%s:%s", shim, others) < 0)
		return -ENOMEM;
	error = set("LD_PRELOAD", list);
	free(list);
	return error;
}

int environment_prepare(const struct options *options)
{
	const char *inherited = getenv("SHMIPC_ENDPOINTS");
	char shim[PATH_MAX];
	int error = find_shim(shim);

	if (!error)
		error = preload(shim);
	if (!error && options->endpoints)
		error = set("SHMIPC_ENDPOINTS", options->endpoints);
	else if (!error && (!inherited || !*inherited))
		error = set("SHMIPC_ENDPOINTS", "tcp:*,unix:*");
	if (!error && options->log)
		error = set("SHMIPC_LOG", options->log);
	if (!error && options->spin_us)
		error = set("SHMIPC_SPIN_US", options->spin_us);
	return error;
}
