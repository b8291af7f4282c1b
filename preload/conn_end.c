/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a connection: closed by its last holder, or left by a process that ends. */
#include "core/sys.h"
#include "preload/config.h"
#include "preload/conn_parts.h"
#include "preload/upgrade.h"
#include "preload/worth.h"

/* TCP: the kernel would have reset a connection that is closed with unread bytes; make it do so. */
static void close_with_unread(struct shim_conn *conn, int fd)
{
	const struct linger reset = { 1, 0 };

	shmipc_sender_finish(&conn->tx,
			     conn->tx.shut ? SHMIPC_TX_RESET | SHMIPC_TX_LATE : SHMIPC_TX_RESET);
	if (!conn->is_unix)
		sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

/* SO_LINGER {1,0}: the kernel resets, whatever was read. */
static bool is_closed_hard(const struct shim_conn *conn, int fd)
{
	struct linger linger = { 0, 0 };
	socklen_t bytes = sizeof(linger);

	return !conn->is_unix && sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &bytes) == 0 &&
	       linger.l_onoff && linger.l_linger == 0;
}

/* TCP, both directions ended in order: nothing is left to reset. */
static bool is_over(const struct shim_conn *conn)
{
	return !conn->is_unix && conn->tx.shut && conn->rx.attached &&
	       (atomic_load(&conn->rx.tx->flags) & SHMIPC_TX_FIN);
}

/* The peer must not take the end of what has come for the end of the stream. */
static bool is_cut_short(const struct shmipc_sender *s)
{
	return s->broken || shmipc_sender_owes(s);
}

void shim_conn_end_stream(struct shim_conn *conn, int fd)
{
	bool unread = shmipc_receiver_close(&conn->rx, fd), reset;

	shmipc_sender_serve_finally(&conn->tx, fd);
	reset = (unread || is_cut_short(&conn->tx) || is_closed_hard(conn, fd)) && !is_over(conn);
	if (reset)
		close_with_unread(conn, fd);
	shmipc_sender_end(&conn->tx, fd, SHMIPC_TX_FIN | SHMIPC_TX_CLOSED);
	if (!reset && is_cut_short(&conn->tx) && !is_over(conn)) /* by the last moment's helper */
		close_with_unread(conn, fd);
}

static __attribute__((hot)) void give_back(struct shim_conn *conn)
{
	if (conn->young)
		shim_worth_missed(conn);
	shim_upgrade_detach(conn);
	if (conn->row)
		shmipc_status_give_back(conn->row);
	conn->row = NULL;
	shim_conn_give_record_back(conn);
}

/* Never worth a ring, and nobody else can be inside: no lock, no rendezvous, no stream. */
__attribute__((hot)) bool shim_conn_end_young(struct shim_conn *conn)
{
	if (!conn->young || !shim_conn_private(conn))
		return false;
	give_back(conn);
	return true;
}

__attribute__((hot)) void shim_conn_end(struct shim_conn *conn, int fd)
{
	int session = conn->session;
	uint32_t stream = conn->stream;

	if (shim_conn_leave(conn) != 1) {
		shim_upgrade_release(session, stream);
		return;
	}
	if (conn->young) { /* no call is inside, and none was ever on a ring */
		give_back(conn);
		return;
	}
	if (fd < 0) {
		shmipc_sender_finish(&conn->tx, SHMIPC_TX_FIN | SHMIPC_TX_CLOSED);
		give_back(conn);
		return;
	}
	/* other processes may have died inside */
	shmipc_sender_lock(&conn->tx, fd, false);
	shmipc_receiver_lock(&conn->rx, false);
	if (shim_conn_is_attached(conn))
		shim_conn_end_stream(conn, fd);
	shmipc_lock_drop(&conn->rx.lock, false);
	shmipc_lock_drop(&conn->tx.lock, false);
	give_back(conn);
}

/* ---- exit ---- */

enum { EXIT_TRIES = 10, EXIT_NAP_NS = 500 * 1000 };

static void leave_at_exit(struct shim_conn *conn)
{
	uint32_t index = shim_conn_index(conn);
	int fd = 0;

	while (fd < shim_fd_limit() &&
	       (shim_fd_word(fd) == 0 || shim_fd_index(shim_fd_word(fd)) != index ||
		shim_fd_kind(shim_fd_word(fd)) == SHIM_FD_SET))
		fd++;
	if (fd == shim_fd_limit())
		return;
	shim_conn_log(conn, fd, "closed", true);
	shim_upgrade_abandon(conn);
	if (shim_conn_leave(conn) != 1)
		return;
	conn->pid = shim_process_id();
	atomic_store(&conn->used, SHIM_CONN_LEFT);
	if (!shim_conn_is_attached(conn))
		return;
	/* another thread, or the one that runs this as a signal handler, may be inside for long */
	for (int i = 0; i < EXIT_TRIES && atomic_load(&conn->tx.lock.owner) != 0; i++)
		sys_nanosleep(&(const struct timespec){ 0, EXIT_NAP_NS });
	if (atomic_load(&conn->tx.lock.owner) != 0) {
		shmipc_sender_finish(&conn->tx, SHMIPC_TX_FIN | SHMIPC_TX_CLOSED);
		return;
	}
	shmipc_sender_lock(&conn->tx, fd, false);
	shim_conn_end_stream(conn, fd);
	shmipc_lock_drop(&conn->tx.lock, false);
}

/* The numbers stay known: destructors that run after ours may still send. */
void shim_conn_exit_all(void)
{
	static _Atomic int done_by;

	if (!shim_config.enabled || shim_process_is_borrowed())
		return;
	if (atomic_exchange(&done_by, shim_process_id()) == shim_process_id())
		return;
	shim_conn_for_each_held(leave_at_exit);
	shim_upgrade_exit();
}
