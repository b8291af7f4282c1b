/* SPDX-License-Identifier: Apache-2.0 */
/* What the status tables of this host say at one moment, copied into private memory. */
#ifndef SHMIPC_TOOLS_STAT_SNAPSHOT_H
#define SHMIPC_TOOLS_STAT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/status.h"

enum { PROGRAM_BYTES = 64 };

struct connection {
	pid_t pid; /* as this process sees it, also for a process in a container */
	int fd;
	bool is_server;
	bool stale; /* its process is gone, another one still holds the table */
	uint32_t state, reason, family;
	uint64_t socket_inode;
	char program[PROGRAM_BYTES];
	char endpoint[SHMIPC_STATUS_ENDPOINT_BYTES];
	/* the object whose system call instructions make each message wake; empty: none */
	char system_calls[SHMIPC_STATUS_OBJECT_BYTES];
	uint64_t ring_tx, ring_rx, kernel_tx, kernel_rx;
	uint64_t messages_tx, messages_rx;
	uint64_t tokens, cuts, overflow;
	uint64_t waits, spins_won, spins_lost;
};

struct snapshot {
	struct connection *connections; /* ordered by pid, then descriptor */
	size_t count;
	size_t room;
};

struct snapshot_filter {
	pid_t pid; /* 0 = all */
	bool stale_too;
};

/* 0 or -errno; free with snapshot_free() in either case. */
int snapshot_take(struct snapshot *snapshot, const struct snapshot_filter *filter);
void snapshot_free(struct snapshot *snapshot);

#endif
