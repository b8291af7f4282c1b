/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's log, caught in a file of ours while the command runs. */
#ifndef SHMIPC_TOOLS_RUN_CAPTURE_H
#define SHMIPC_TOOLS_RUN_CAPTURE_H

#include <stdio.h>

enum { CAPTURE_PATH_BYTES = 256 }; /* the shim takes paths of up to 511 bytes */

struct capture {
	char directory[CAPTURE_PATH_BYTES];
	char path[CAPTURE_PATH_BYTES + 8];
	FILE *file;
	char *user_log; /* what SHMIPC_LOG was, or NULL */
};

/* Points SHMIPC_LOG to the file.  0, or -errno after one line on standard error. */
int capture_start(struct capture *capture);

/* Takes the file away and delivers what the user's own SHMIPC_LOG asked for; the file stays
 * readable. */
void capture_stop(struct capture *capture);
void capture_free(struct capture *capture);

#endif
