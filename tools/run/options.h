/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHMIPC_TOOLS_RUN_OPTIONS_H
#define SHMIPC_TOOLS_RUN_OPTIONS_H

#include <stdbool.h>

enum {
	EXIT_USAGE = 2,
	EXIT_OWN_FAILURE = 125, /* as env(1) and timeout(1) have them */
	EXIT_CANNOT_EXECUTE = 126,
	EXIT_NOT_FOUND = 127,
};

struct options {
	const char *endpoints; /* NULL: from the environment, or the default */
	const char *log;       /* NULL: from the environment, or none */
	const char *spin_us;   /* NULL: from the environment, or the shim's default */
	bool stats;
	char **command; /* NULL-terminated, at least one word */
};

/* Prints one line and exits with EXIT_USAGE if the arguments make no sense. */
void options_parse(struct options *options, int argc, char **argv);

#endif
