/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends have agreed: the connection's directions get their rings. */
#include "core/sys.h"
#include "core/thread.h"
#include "preload/loaded.h"
#include "preload/sets.h"
#include "preload/upgrade_parts.h"
#include "preload/uring.h"

void shim_upgrade_attach(struct shim_conn *conn, int fd, int session, uint32_t stream)
{
	const struct shmipc_segment *segment = shim_session_segment(session);
	struct shmipc_stream_control *control = shmipc_segment_stream(segment, stream);
	unsigned int mine = conn->is_server ? 1 : 0;

	shim_options_take_over(conn, fd);
	conn->peer_name_bytes = sizeof(conn->peer_name);
	conn->cookie = shim_identity_cookie(fd);
	if (conn->is_unix || sys_getpeername(fd, &conn->peer_name, &conn->peer_name_bytes) < 0)
		conn->peer_name_bytes = 0;
	conn->session = session;
	conn->stream = stream;
	if (!shim_identity_seccomp_filtered()) {
		shmipc_membarrier_register();
		shim_sets_prepare();
	}
	shmipc_lock_take(&conn->tx.lock, false);
	shmipc_sender_attach(&conn->tx, &control->direction[mine], &control->direction[!mine],
			     shmipc_segment_ring(segment, stream, mine));
	conn->tx.woken = shim_session_woken(session);
	if (shim_options_sends_little(conn))
		shmipc_sender_sends_little(&conn->tx);
	shmipc_lock_drop(&conn->tx.lock, false);
	shmipc_lock_take(&conn->rx.lock, false);
	shmipc_receiver_attach(&conn->rx, &control->direction[!mine],
			       shmipc_segment_ring(segment, stream, !mine));
	shmipc_lock_drop(&conn->rx.lock, false);
	shim_uring_look(conn);
	shim_loaded_look(conn);
	atomic_store(&conn->state, SHMIPC_STATE_ATTACHED);
	if (conn->row)
		atomic_store(&conn->row->state, SHMIPC_STATE_ATTACHED);
	shim_conn_set_reason(conn, SHMIPC_REASON_NONE);
	shim_conn_log(conn, fd, "accelerated", false);
}

/* The other side has agreed to the stream of this rendezvous. */
int shim_upgrade_take_stream(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;
	enum shmipc_reason reason = shim_eligible_still(conn, fd);
	int session = u->session;
	uint32_t stream = u->stream;

	if (reason)
		return (int)reason;
	shim_rendezvous_drop(conn);
	shim_upgrade_attach(conn, fd, session, stream);
	return SHMIPC_REASON_NONE;
}
