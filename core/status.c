/* SPDX-License-Identifier: Apache-2.0 */
#include "core/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>

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

static int map_table(struct shmipc_status *status, int fd, uint32_t rows, int protection)
{
	long at = sys_mmap(NULL, table_bytes(rows), protection, MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (at < 0 && at > -SHMIPC_PAGE_BYTES)
		return (int)at;
	status->header = (struct shmipc_status_header *)at;
	status->rows = (struct shmipc_status_row *)(at + SHMIPC_PAGE_BYTES);
	status->row_count = rows;
	return 0;
}

int shmipc_status_create(struct shmipc_status *status, int *fd_out)
{
	int fd = sys_memfd_create(SHMIPC_STATUS_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int error;

	if (fd < 0)
		return fd;
	error = sys_ftruncate(fd, (off_t)table_bytes(SHMIPC_STATUS_ROWS));
	if (!error)
		error = sys_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (!error)
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

int shmipc_status_open(struct shmipc_status *status, int fd)
{
	int seals = sys_fcntl(fd, F_GET_SEALS, 0);
	struct stat st;
	int error;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPROTO;
	error = sys_fstat(fd, &st);
	if (error)
		return error;
	if (st.st_size != (off_t)table_bytes(SHMIPC_STATUS_ROWS))
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

struct shmipc_status_row *shmipc_status_take(struct shmipc_status *status)
{
	for (uint32_t i = 0; i < status->row_count; i++) {
		struct shmipc_status_row *row = &status->rows[i];
		uint32_t used = atomic_load_explicit(&row->used, memory_order_relaxed);
		uint32_t touched;

		if (used & 1 || !atomic_compare_exchange_strong(&row->used, &used, used + 1))
			continue;
		touched = atomic_load(&status->header->rows_touched);
		while (touched <= i &&
		       !atomic_compare_exchange_weak(&status->header->rows_touched, &touched, i + 1))
			;
		return row;
	}
	return NULL;
}

void shmipc_status_give_back(struct shmipc_status_row *row)
{
	atomic_fetch_add(&row->used, 1);
}
