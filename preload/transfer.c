/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/transfer.h"

#include <errno.h>

#include "core/sys.h"
#include "preload/downgrade.h"
#include "preload/upgrade.h"

ssize_t shim_edge(ssize_t result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

/* The kernel says EFAULT where a copy of our own would fault.  Addresses that can never be mapped are caught here; a
 * buffer that is truly unmapped faults as it does in memcpy(). */
static bool is_bad_buffer(const struct iovec *iov, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uintptr_t start = (uintptr_t)iov[i].iov_base;

		if (iov[i].iov_len > 0 && (start < 4096 || start + iov[i].iov_len < start ||
					   (intptr_t)(start + iov[i].iov_len) < 0))
			return true;
	}
	return false;
}

static int prepare(struct shim_conn *conn, struct shmipc_io *io, const struct iovec *iov, size_t count)
{
	if (count > SHIM_IOV_MAX)
		return io->message ? -EMSGSIZE : -EINVAL;
	if (is_bad_buffer(iov, count))
		return -EFAULT;
	io->private_use = shim_conn_private(conn);
	return shmipc_cursor_init(&io->cursor, iov, count);
}

ssize_t shim_send(struct shim_conn *conn, int fd, const struct iovec *iov, size_t count, int flags,
		  struct msghdr *message)
{
	struct shmipc_io io = { .fd = fd, .flags = flags, .message = message };
	int error = prepare(conn, &io, iov, count);
	ssize_t n;

	if (error)
		return shim_edge(error);
	if (flags & (MSG_OOB | MSG_ZEROCOPY))
		shim_downgrade(conn, fd, SHMIPC_REASON_DOWNGRADE);
	if (shim_conn_is_attached(conn) && !conn->tx.settled)
		shim_upgrade_settle_tx(conn, fd);
	n = shmipc_sender_send(&conn->tx, &io);
	if (!shim_conn_is_attached(conn) && n > 0)
		shim_upgrade_sent(conn, fd, (size_t)n);
	return shim_edge(n);
}

ssize_t shim_receive(struct shim_conn *conn, int fd, const struct iovec *iov, size_t count, int flags,
		     struct msghdr *message)
{
	struct shmipc_io io = { .fd = fd, .flags = flags, .message = message };
	int error = prepare(conn, &io, iov, count);
	ssize_t n;

	if (error)
		return shim_edge(error);
	if (shim_conn_is_attached(conn)) {
		if (!conn->rx.ready)
			shim_upgrade_settle_rx(conn, fd);
		shmipc_sender_serve(&conn->tx, fd, io.private_use);
	}
	n = shmipc_receiver_receive(&conn->rx, &io);
	if (!shim_conn_is_attached(conn) && n >= 0 && !(flags & MSG_PEEK))
		shim_upgrade_received(conn, fd, (size_t)n);
	return shim_edge(n);
}
