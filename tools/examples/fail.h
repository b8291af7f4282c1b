/* SPDX-License-Identifier: Apache-2.0 */
/* What the examples do about errors: say so and end. */
#ifndef SHMIPC_TOOLS_EXAMPLES_FAIL_H
#define SHMIPC_TOOLS_EXAMPLES_FAIL_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* error: a result of the library, negative if it failed. */
static inline void need(ssize_t error, const char *what)
{
	if (error >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror((int)-error));
	exit(1);
}

static inline void need_usage(bool ok, const char *usage)
{
	if (ok)
		return;
	fprintf(stderr, "usage: %s\n", usage);
	exit(2);
}

#endif
