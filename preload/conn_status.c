/* SPDX-License-Identifier: Apache-2.0 */
/* What can be seen of a connection from outside: its row in the status table, its lines in the log.
 */
#include <fcntl.h>
#include <string.h>

#include "core/sys.h"
#include "preload/config.h"
#include "preload/conn_parts.h"
#include "preload/log.h"

static struct shmipc_status status;
static _Atomic int status_fd = -1;
static _Atomic uint32_t status_state; /* 0 not tried, 1 being made, 2 there, 3 not to be had */

static void make_status_table(void)
{
	uint32_t untried = 0;
	int fd;

	if (!atomic_compare_exchange_strong(&status_state, &untried, 1))
		return;
	if (shmipc_status_create(&status, &fd) == 0) {
		fd = shim_fd_hide(fd);
		atomic_store(&status_fd, fd);
	} else if (shmipc_status_create_unseen(&status) < 0) {
		atomic_store(&status_state, 3);
		return;
	}
	sys_readlink("/proc/self/exe", status.header->command, sizeof(status.header->command) - 1);
	atomic_store(&status_state, 2);
}

/* Observers find the table by any number. */
bool shim_conn_status_vacate(int fd)
{
	int copy, held = fd;

	if (atomic_load(&status_fd) != fd)
		return false;
	copy = sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return false;
	copy = shim_fd_hide(copy);
	if (!atomic_compare_exchange_strong(&status_fd, &held, copy)) {
		shim_fd_unhide(copy);
		sys_close(copy);
		return false;
	}
	shim_fd_unhide(fd);
	return true;
}

__attribute__((hot)) void shim_conn_fill_row(struct shim_conn *conn, int fd,
					     const struct shim_verdict *verdict)
{
	struct shmipc_status_row *row;

	if (atomic_load(&status_state) == 0)
		make_status_table();
	row = atomic_load(&status_state) == 2 ? shmipc_status_take(&status, shim_conn_index(conn))
					      : NULL;
	conn->row = row;
	if (!row)
		return;
	atomic_store_explicit(&row->fd, fd, memory_order_relaxed);
	atomic_store_explicit(&row->state, SHMIPC_STATE_CANDIDATE, memory_order_relaxed);
	atomic_store_explicit(&row->reason, SHMIPC_REASON_YOUNG, memory_order_relaxed);
	atomic_store_explicit(&row->family, verdict->family, memory_order_relaxed);
	atomic_store_explicit(&row->is_server, conn->is_server, memory_order_relaxed);
	memcpy(row->endpoint, verdict->text, verdict->text_bytes);
	conn->tx.count = &row->tx;
	conn->rx.count = &row->rx;
	/* last: an observer passes over pid 0 */
	atomic_store_explicit(&row->pid, (uint32_t)shim_process_id(), memory_order_release);
}

/* The first object that was found in the family of processes stands for all. */
void shim_conn_show_system_calls(struct shim_conn *conn, const char *object)
{
	if (!conn->row)
		return;
	if (!status.header->object[0])
		strncpy(status.header->object, object, sizeof(status.header->object) - 1);
	atomic_store(&conn->row->system_calls, 1);
}

__attribute__((hot)) void shim_conn_log(const struct shim_conn *conn, int fd, const char *event,
					bool with_counts)
{
	const struct shmipc_status_row *row = conn->row;
	const char *role = conn->is_server ? "server" : "client";
	const char *endpoint = row ? row->endpoint : "?";
	uint32_t reason = row ? atomic_load(&row->reason) : 0;

	if (shim_log_level < SHIM_LOG_INFO)
		return;
	if (!with_counts) {
		if (reason)
			shim_log(SHIM_LOG_INFO,
				 "pid=%d fd=%d endpoint=%s role=%s event=%s reason=%s",
				 sys_getpid(), fd, endpoint, role, event,
				 shmipc_reason_name(reason));
		else
			shim_log(SHIM_LOG_INFO, "pid=%d fd=%d endpoint=%s role=%s event=%s",
				 sys_getpid(), fd, endpoint, role, event);
		return;
	}
	shim_log(SHIM_LOG_INFO,
		 "pid=%d fd=%d endpoint=%s role=%s event=%s state=%s%s%s ring_tx=%lu ring_rx=%lu "
		 "kernel_tx=%lu kernel_rx=%lu tokens=%lu sleeps=%lu spins_won=%lu spins_lost=%lu",
		 sys_getpid(), fd, endpoint, role, event,
		 shmipc_state_name(atomic_load(&conn->state)), reason ? " reason=" : "",
		 reason ? shmipc_reason_name(reason) : "",
		 (unsigned long)atomic_load(&conn->tx.count->ring_bytes),
		 (unsigned long)atomic_load(&conn->rx.count->ring_bytes),
		 (unsigned long)atomic_load(&conn->tx.count->kernel_bytes),
		 (unsigned long)atomic_load(&conn->rx.count->kernel_bytes),
		 (unsigned long)atomic_load(&conn->tx.count->tokens),
		 (unsigned long)atomic_load(&conn->rx.count->waits),
		 (unsigned long)atomic_load(&conn->rx.count->spins_won),
		 (unsigned long)atomic_load(&conn->rx.count->spins_lost));
}

void shim_conn_set_reason(struct shim_conn *conn, enum shmipc_reason reason)
{
	if (conn->row)
		atomic_store(&conn->row->reason, (uint32_t)reason);
}
