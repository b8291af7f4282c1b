/* SPDX-License-Identifier: Apache-2.0 */
/* Attached: how many bytes went by the kernel before?  Only then may a direction leave it. */
#include <errno.h>

#include "preload/identity.h"
#include "preload/upgrade.h"

/* TCP: the kernel's own counters, which also see what was moved behind our back.  Unix: what we
 * counted. */
static int exact_count(struct shim_conn *conn, int fd, bool sent, uint64_t *bytes)
{
	struct shim_tcp_counters counters;
	int error;

	if (conn->is_unix) {
		if (sent ? atomic_load(&conn->tx.count_lost) : atomic_load(&conn->rx.count_lost))
			return -ENOMSG;
		*bytes = sent ? atomic_load(&conn->tx.kernel_bytes)
			      : atomic_load(&conn->rx.kernel_read);
		return 0;
	}
	error = shim_identity_tcp_counters(fd, !conn->is_server, &counters);
	if (error)
		return error;
	if (counters.state != SHIM_TCP_ESTABLISHED)
		return -ENOTCONN;
	*bytes = sent ? counters.sent : counters.received;
	return 0;
}

void shim_upgrade_settle_tx(struct shim_conn *conn, int fd)
{
	struct shmipc_sender *s = &conn->tx;
	bool alone = shim_conn_private(conn);
	uint64_t bytes;

	if (!shmipc_sender_lock(s, fd, alone))
		return;
	if ((!s->settled || atomic_load(&s->count_lost)) && !s->no_more_ring &&
	    atomic_load(&s->kernel_senders) == 0) {
		/* once there were tokens, the kernel's counters count those too */
		int error = s->phase > 0 ? -ENOMSG : exact_count(conn, fd, true, &bytes);

		if (!error) {
			atomic_store(&s->kernel_bytes, bytes);
			atomic_store(&s->count_lost, false);
			s->settled = true;
		} else if (error != -EAGAIN) {
			s->no_more_ring = true;
		}
	}
	shmipc_lock_drop(&s->lock, alone);
}

void shim_upgrade_settle_rx(struct shim_conn *conn, int fd)
{
	struct shmipc_receiver *r = &conn->rx;
	bool alone = shim_conn_private(conn);
	uint64_t bytes;

	if (!shmipc_receiver_lock(r, alone))
		return;
	if (r->attached && !r->ready && !r->stopped && atomic_load(&r->kernel_readers) == 0) {
		int error = exact_count(conn, fd, false, &bytes);

		if (!error) {
			shmipc_receiver_take_peek_offset(r, fd);
			shmipc_receiver_consent(r, bytes);
		} else if (error != -EAGAIN)
			r->stopped = true;
	}
	shmipc_lock_drop(&r->lock, alone);
}
