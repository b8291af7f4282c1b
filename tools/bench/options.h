/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHMIPC_TOOLS_BENCH_OPTIONS_H
#define SHMIPC_TOOLS_BENCH_OPTIONS_H

#include "tools/bench/output.h"

struct bench_command {
	struct bench_options options;
	enum bench_format format;
	const char *output; /* NULL: stdout.  Otherwise the text table goes to stdout as well */
	bool quiet;	    /* ... unless this is set */
	bool list;
};

/* Does not return on a bad argument (one line on stderr, exit status 2), --help and --version. */
void options_parse(struct bench_command *command, int argc, char **argv);

#endif
