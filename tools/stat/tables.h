/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the status tables: every process that runs the shim holds one open as a memfd. */
#ifndef SHMIPC_TOOLS_STAT_TABLES_H
#define SHMIPC_TOOLS_STAT_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/status.h"

struct holder {
	pid_t pid;	  /* in our PID namespace */
	pid_t native_pid; /* in its own: what it writes into its rows */
};

/* Forked processes share one table, so a table has several holders. */
struct table {
	dev_t device;
	ino_t inode;
	struct shmipc_status status;
	struct holder *holders;
	size_t holder_count;
};

struct tables {
	struct table *list;
	size_t count;
};

/* Every table that this user may read.  Processes that vanish or refuse are passed over.
 * 0 or -errno (no /proc, no memory); free with tables_free() in either case. */
int tables_find(struct tables *tables);
void tables_free(struct tables *tables);

/* The holder that calls itself `native_pid`, or NULL. */
const struct holder *table_holder(const struct table *table, pid_t native_pid);

#endif
