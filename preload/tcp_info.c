/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/tcp_info.h"

#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>

#include "core/sys.h"
#include "preload/conn.h"

enum { RECEIVED_TRIES = 4 };

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

/* What the kernel has counted, asked anew between two looks at what must be added to it: a token
 * that arrives meanwhile is in one of them only. */
static uint64_t ask_received(struct shmipc_receiver *r, int fd, uint64_t kernel)
{
	uint32_t under_way = shmipc_receiver_tokens_under_way(r, fd);
	int64_t besides = shmipc_receiver_besides_kernel(r);

	for (int i = 0; i < RECEIVED_TRIES; i++) {
		struct tcp_info now = { 0 };
		socklen_t bytes = sizeof(now);
		uint32_t under_way_before = under_way;
		int64_t besides_before = besides;

		if (sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &now, &bytes) == 0)
			kernel = now.tcpi_bytes_received;
		under_way = shmipc_receiver_tokens_under_way(r, fd);
		besides = shmipc_receiver_besides_kernel(r);
		if (under_way == under_way_before && besides == besides_before)
			break;
	}
	return kernel + (uint64_t)besides + under_way;
}

static uint64_t received(struct shim_conn *conn, int fd, uint64_t kernel)
{
	bool alone = shim_conn_private(conn);

	if (!shmipc_receiver_lock(&conn->rx, alone))
		return kernel;
	kernel = ask_received(&conn->rx, fd, kernel);
	shmipc_lock_drop(&conn->rx.lock, alone);
	return kernel;
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
		info.tcpi_bytes_received = received(conn, fd, info.tcpi_bytes_received);
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
