/* SPDX-License-Identifier: Apache-2.0 */
#include "core/status.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "core/memfd.h"
#include "core/sys.h"

static const char *const reason_names[SHMIPC_REASON_COUNT_OF] = {
	[SHMIPC_REASON_NONE] = "none",
	[SHMIPC_REASON_YOUNG] = "young",
	[SHMIPC_REASON_PEER_PLAIN] = "peer-plain",
	[SHMIPC_REASON_REMOTE] = "remote",
	[SHMIPC_REASON_TRANSLATED] = "translated",
	[SHMIPC_REASON_NAMESPACE] = "namespace",
	[SHMIPC_REASON_IDENTITY] = "identity",
	[SHMIPC_REASON_FOREIGN_USER] = "foreign-user",
	[SHMIPC_REASON_SHARED] = "shared",
	[SHMIPC_REASON_OPTION] = "option",
	[SHMIPC_REASON_COUNT] = "count",
	[SHMIPC_REASON_MEMORY] = "memory",
	[SHMIPC_REASON_DESCRIPTORS] = "descriptors",
	[SHMIPC_REASON_PROTOCOL] = "protocol",
	[SHMIPC_REASON_DOWNGRADE] = "downgrade",
	[SHMIPC_REASON_CLOSED] = "closed",
	[SHMIPC_REASON_STDIO] = "stdio",
	[SHMIPC_REASON_SYSTEM] = "system",
	[SHMIPC_REASON_LIMIT] = "limit",
};

const char *shmipc_reason_name(uint32_t reason)
{
	return reason < SHMIPC_REASON_COUNT_OF ? reason_names[reason] : "unknown";
}

const char *shmipc_state_name(uint32_t state)
{
	static const char *const names[] = { "candidate", "accelerated", "plain" };

	return state <= SHMIPC_STATE_PLAIN ? names[state] : "unknown";
}

static size_t table_bytes(uint32_t rows)
{
	return SHMIPC_PAGE_BYTES + rows * sizeof(struct shmipc_status_row);
}

enum {
	UNSEEN_ROWS_MIN = 64,
	UNSEEN_PART = 16, /* of the rows where there is no room for all */
};

/* fd < 0: of no file. */
static int map_table(struct shmipc_status *status, int fd, uint32_t rows, int protection)
{
	int flags = MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
	long at = sys_mmap(NULL, table_bytes(rows), protection, flags, fd, 0);

	if (at < 0 && at > -SHMIPC_PAGE_BYTES)
		return (int)at;
	status->header = (struct shmipc_status_header *)at;
	status->rows = (struct shmipc_status_row *)(at + SHMIPC_PAGE_BYTES);
	status->row_count = rows;
	return 0;
}

int shmipc_status_create(struct shmipc_status *status, int *fd_out)
{
	int fd = shmipc_memfd_create(SHMIPC_STATUS_NAME, table_bytes(SHMIPC_STATUS_ROWS));
	int error;

	if (fd < 0)
		return fd;
	error = map_table(status, fd, SHMIPC_STATUS_ROWS, PROT_READ | PROT_WRITE);
	if (error) {
		sys_close(fd);
		return error;
	}
	status->header->version = SHMIPC_STATUS_VERSION;
	status->header->row_count = SHMIPC_STATUS_ROWS;
	status->header->row_bytes = sizeof(struct shmipc_status_row);
	status->header->pid = (uint32_t)sys_getpid();
	status->header->magic = SHMIPC_STATUS_MAGIC;
	*fd_out = fd;
	return 0;
}

int shmipc_status_create_unseen(struct shmipc_status *status)
{
	int error = -ENOMEM;

	for (uint32_t rows = SHMIPC_STATUS_ROWS; error && rows >= UNSEEN_ROWS_MIN;
	     rows /= UNSEEN_PART)
		error = map_table(status, -1, rows, PROT_READ | PROT_WRITE);
	return error;
}

int shmipc_status_open(struct shmipc_status *status, int fd)
{
	uint64_t bytes;
	int error = shmipc_memfd_check(fd, &bytes);

	if (error)
		return error;
	if (bytes != table_bytes(SHMIPC_STATUS_ROWS))
		return -EPROTO;
	error = map_table(status, fd, SHMIPC_STATUS_ROWS, PROT_READ);
	if (error)
		return error;
	if (status->header->magic != SHMIPC_STATUS_MAGIC ||
	    status->header->version != SHMIPC_STATUS_VERSION ||
	    status->header->row_bytes != sizeof(struct shmipc_status_row)) {
		shmipc_status_close(status);
		return -EPROTO;
	}
	return 0;
}

void shmipc_status_close(struct shmipc_status *status)
{
	if (status->header)
		sys_munmap(status->header, table_bytes(status->row_count));
	status->header = NULL;
	status->rows = NULL;
}

__attribute__((hot)) struct shmipc_status_row *shmipc_status_take(struct shmipc_status *status,
								  uint32_t from)
{
	for (uint32_t n = 0; n < status->row_count; n++) {
		uint32_t i = (from + n) % status->row_count;
		struct shmipc_status_row *row = &status->rows[i];
		uint32_t used = atomic_load_explicit(&row->used, memory_order_relaxed);
		uint32_t touched;

		if (used & 1 || !atomic_compare_exchange_strong(&row->used, &used, used + 1))
			continue;
		touched = atomic_load(&status->header->rows_touched);
		while (touched <= i && !atomic_compare_exchange_weak(&status->header->rows_touched,
								     &touched, i + 1))
			;
		return row;
	}
	return NULL;
}

static void clear(_Atomic uint64_t *counters, size_t count)
{
	for (size_t i = 0; i < count; i++)
		atomic_store_explicit(&counters[i], 0, memory_order_relaxed);
}

_Static_assert(sizeof(struct shmipc_status_tx) == 6 * sizeof(uint64_t), "nothing but counters");
_Static_assert(sizeof(struct shmipc_status_rx) == 6 * sizeof(uint64_t), "nothing but counters");

/* Rows are cleaned when they are given back, so that nobody, neither the next owner nor an
 * observer, ever sees an old connection under a new generation: a row without a pid describes
 * nothing yet. */
__attribute__((hot)) void shmipc_status_give_back(struct shmipc_status_row *row)
{
	atomic_store_explicit(&row->pid, 0, memory_order_relaxed);
	atomic_store_explicit(&row->fd, 0, memory_order_relaxed);
	atomic_store_explicit(&row->state, 0, memory_order_relaxed);
	atomic_store_explicit(&row->reason, 0, memory_order_relaxed);
	atomic_store_explicit(&row->family, 0, memory_order_relaxed);
	atomic_store_explicit(&row->is_server, 0, memory_order_relaxed);
	atomic_store_explicit(&row->system_calls, 0, memory_order_relaxed);
	atomic_store_explicit(&row->socket_inode, 0, memory_order_relaxed);
	row->endpoint[0] = '\0'; /* the rest lies in a line that would be touched for nothing */
	clear((_Atomic uint64_t *)&row->tx, 6);
	clear((_Atomic uint64_t *)&row->rx, 6);
	atomic_fetch_add(&row->used, 1);
}
