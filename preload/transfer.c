/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/transfer.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/un.h>

#include "core/postpone.h"
#include "core/restart.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/downgrade.h"
#include "preload/inq.h"
#include "preload/pins.h"
#include "preload/pointers.h"
#include "preload/sets.h"
#include "preload/upgrade.h"

static bool has_bad_buffer(const struct iovec *iov, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (shim_pointer_is_outside(iov[i].iov_base, iov[i].iov_len))
			return true;
	return false;
}

static __attribute__((hot)) int prepare(struct shim_conn *conn, struct shmipc_io *io,
					const struct iovec *iov, size_t count)
{
	int error;

	if (count > SHIM_IOV_MAX)
		return io->message ? -EMSGSIZE : -EINVAL;
	io->private_use = shim_conn_private(conn);
	io->shared = &conn->shared;
	error = shmipc_cursor_init(&io->cursor, iov, count);
	return !error && has_bad_buffer(iov, count) ? -EFAULT : error;
}

static void unpin(void *conn)
{
	shim_unpin(conn);
}

/* Another thread may cancel this one or close the number, a signal handler close it or jump away.
 * Handlers wait from here to leave(), but for sleeps, which take the pin back if they are left. */
static __attribute__((noinline)) int enter(struct shim_conn *conn, struct shmipc_io *io)
{
	pthread_testcancel();
	shmipc_postpone_begin();
	if (!shim_pin_for_use(conn, io->fd)) {
		shmipc_postpone_end();
		return -EBADF;
	}
	io->moved = shim_pins_moved(conn);
	io->release = unpin;
	io->release_argument = conn;
	return 0;
}

static inline void leave(const struct shmipc_io *io)
{
	if (!io->release)
		return;
	shmipc_io_release(io);
	shmipc_postpone_end();
}

/* On a TCP connection the kernel reads the address that a program gives to sendto() and does
 * nothing with it, unless it opens the connection.  What it would refuse stays in the message and
 * goes to it, as does every address for a Unix socket. */
static void drop_ignored_name(const struct shim_conn *conn, int flags, struct msghdr *message)
{
	if (conn->is_unix || (flags & MSG_FASTOPEN) ||
	    message->msg_namelen > sizeof(struct sockaddr_storage) ||
	    shim_pointer_is_bad(message->msg_name, message->msg_namelen))
		return;
	message->msg_name = NULL;
	message->msg_namelen = 0;
}

static inline ssize_t send_prepared(struct shim_conn *conn, struct shmipc_io *io)
{
	int fd = io->fd;
	ssize_t n;

	if (shim_conn_is_attached(conn) &&
	    (!conn->tx.settled || atomic_load_explicit(&conn->tx.count_lost, memory_order_relaxed)))
		shim_upgrade_settle_tx(conn, fd);
	n = shmipc_sender_send(&conn->tx, io);
	if (__builtin_expect(shmipc_restart_is_offered(&conn->tx, &conn->rx), 0))
		shim_upgrade_again(conn, fd);
	if (!shim_conn_is_attached(conn) && n > 0 && io->fd == fd)
		shim_upgrade_sent(conn, fd, (size_t)n);
	leave(io);
	return shim_edge(n);
}

__attribute__((hot)) ssize_t shim_send(struct shim_conn *conn, int fd, const struct iovec *iov,
				       size_t count, int flags, struct msghdr *message)
{
	struct shmipc_io io = { .fd = fd, .flags = flags, .message = message };
	int error = prepare(conn, &io, iov, count);

	if (__builtin_expect(message && message->msg_namelen > 0, 0))
		drop_ignored_name(conn, flags, message);
	if (!error && shim_pins_wanted())
		error = enter(conn, &io);
	if (error)
		return shim_edge(error);
	if (flags & (MSG_OOB | MSG_ZEROCOPY))
		shim_retire(conn, fd, SHMIPC_REASON_DOWNGRADE);
	return send_prepared(conn, &io);
}

ssize_t shim_send_file(struct shim_conn *conn, int fd, int file, off_t at, size_t count)
{
	struct shmipc_io io = { .fd = fd, .from_file = true, .file = file };
	int error = 0;

	io.private_use = shim_conn_private(conn);
	io.shared = &conn->shared;
	io.cursor.left = count < SHMIPC_TRANSFER_MAX ? count : SHMIPC_TRANSFER_MAX;
	io.file_end = at + (off_t)io.cursor.left;
	if (shim_pins_wanted())
		error = enter(conn, &io);
	return error ? shim_edge(error) : send_prepared(conn, &io);
}

/* Bytes of a Unix stream carry the name to which their sender is bound, if it is. */
static void name_the_sender(int fd, struct msghdr *message, socklen_t room)
{
	struct sockaddr_un name;
	socklen_t bytes = sizeof(name);

	if (sys_getpeername(fd, &name, &bytes) < 0 || bytes <= sizeof(name.sun_family))
		return;
	memcpy(message->msg_name, &name, room < bytes ? room : bytes);
	message->msg_namelen = bytes;
}

__attribute__((hot)) ssize_t shim_receive(struct shim_conn *conn, int fd, const struct iovec *iov,
					  size_t count, int flags, struct msghdr *message)
{
	struct shmipc_io io = { .fd = fd, .flags = flags, .message = message };
	int error = prepare(conn, &io, iov, count);
	size_t asked = io.cursor.left;
	socklen_t name_room = 0;
	ssize_t n;

	if (!error && shim_pins_wanted())
		error = enter(conn, &io);
	if (error)
		return shim_edge(error);
	if (shim_conn_is_attached(conn)) {
		if (!conn->rx.ready)
			shim_upgrade_settle_rx(conn, fd);
		shmipc_sender_serve(&conn->tx, fd, io.private_use);
	}
	if (__builtin_expect(message && message->msg_name, 0))
		name_room = message->msg_namelen;
	n = shmipc_receiver_receive(&conn->rx, &io);
	if (__builtin_expect(atomic_load_explicit(&conn->options.late, memory_order_relaxed), 0))
		shim_options_limit_receive(conn, io.fd);
	if (__builtin_expect(atomic_load_explicit(&shim_sets_kicked, memory_order_relaxed) > 0, 0))
		shim_sets_settle();
	if (__builtin_expect(name_room > 0, 0) && conn->is_unix && message->msg_namelen == 0 &&
	    (n > 0 || (n == 0 && asked == 0 && !conn->rx.eof)))
		name_the_sender(io.fd, message, name_room);
	if (__builtin_expect(message && n >= 0 && shim_inq_is_wanted(conn, flags), 0))
		shim_inq_tell(conn, io.fd, message, io.control_room);
	if (__builtin_expect(shmipc_restart_is_offered(&conn->tx, &conn->rx), 0))
		shim_upgrade_again(conn, fd);
	if (!shim_conn_is_attached(conn) && n >= 0 && !(flags & MSG_PEEK) && io.fd == fd)
		shim_upgrade_received(conn, fd, (size_t)n);
	leave(&io);
	return shim_edge(n);
}
