/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/tcp_info.h"

#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>

#include "preload/conn.h"

static int64_t sent_besides(struct shim_conn *conn, int fd, bool *on_ring)
{
	bool alone = shim_conn_private(conn);
	int64_t bytes = 0;

	if (!shmipc_sender_lock(&conn->tx, fd, alone))
		return 0;
	bytes = shmipc_sender_besides_kernel(&conn->tx);
	*on_ring = shmipc_sender_on_ring(&conn->tx);
	shmipc_lock_drop(&conn->tx.lock, alone);
	return bytes;
}

static int64_t received_besides(struct shim_conn *conn)
{
	bool alone = shim_conn_private(conn);
	int64_t bytes;

	if (!shmipc_receiver_lock(&conn->rx, alone))
		return 0;
	bytes = shmipc_receiver_besides_kernel(&conn->rx);
	shmipc_lock_drop(&conn->rx.lock, alone);
	return bytes;
}

static bool has(socklen_t bytes, size_t field)
{
	return bytes >= field + sizeof(uint64_t);
}

void shim_tcp_info_complete(struct shim_conn *conn, int fd, void *value, socklen_t bytes)
{
	struct tcp_info info = { 0 };
	size_t known = bytes < sizeof(info) ? bytes : sizeof(info);
	bool on_ring = false;
	uint64_t sent = (uint64_t)sent_besides(conn, fd, &on_ring);

	memcpy(&info, value, known);
	if (has(bytes, offsetof(struct tcp_info, tcpi_bytes_received)))
		info.tcpi_bytes_received += (uint64_t)received_besides(conn);
	if (has(bytes, offsetof(struct tcp_info, tcpi_bytes_acked)))
		info.tcpi_bytes_acked += sent;
	if (has(bytes, offsetof(struct tcp_info, tcpi_bytes_sent))) {
		info.tcpi_bytes_sent += sent;
		/* what is in the ring has arrived; tokens may have been sent twice; the SYN is
		 * acknowledged too */
		if (on_ring)
			info.tcpi_bytes_acked = info.tcpi_bytes_sent - info.tcpi_bytes_retrans +
						!conn->is_server;
	}
	memcpy(value, &info, known);
}
