/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/rest.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "core/socket_room.h"
#include "core/sys.h"
#include "preload/downgrade.h"

enum {
	SOCKET_REST_BYTES = 48 * 1024, /* fits any socket buffer; more goes into a file, which
					  cannot end in a reset */
	PIECE_BYTES = 16 * 1024,
	KEPT_BYTES_MAX = 64 * 1024 * 1024,
	IDLE_TRIES = 400, /* naps without a byte */
	IDLE_NAP_NS = 500 * 1000,
};

bool shim_rest_peer_is_gone(const struct shim_conn *conn, int fd)
{
	struct pollfd real = { .fd = fd, .events = 0 };

	return (atomic_load(&conn->rx.tx->flags) & SHMIPC_TX_CLOSED) ||
	       (sys_poll(&real, 1, 0) > 0 && (real.revents & (POLLHUP | POLLERR)));
}

bool shim_rest_may_write(const struct shim_conn *conn)
{
	const struct shmipc_sender *s = &conn->tx;

	return s->shut || s->gone ||
	       !(shmipc_sender_on_ring(s) || shmipc_sender_owes(s) || s->broken);
}

bool shim_rest_is_for_writing(const struct shim_conn *conn, int fd)
{
	return shim_rest_peer_is_gone(conn, fd) || !shim_rest_may_write(conn);
}

static int write_all(int to, const char *from, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = sys_write(to, from + done, bytes - done);

		if (n < 0 && n != -EINTR)
			return (int)n;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* ---- reading to the end ---- */

static ssize_t next_bytes(struct shim_conn *conn, int fd, char *piece)
{
	const struct iovec room = { piece, PIECE_BYTES };
	struct shmipc_io io = { .fd = fd,
				.flags = MSG_DONTWAIT,
				.private_use = shim_conn_private(conn) };

	shmipc_cursor_init(&io.cursor, &room, 1);
	return shmipc_receiver_receive(&conn->rx, &io);
}

/* Into the file: 0 at the end of the stream, or the error that it ended with; -EAGAIN: it goes on.
 * *bytes = 0 and -EALREADY: nothing is wrong with the socket after all. */
static int read_to_end(struct shim_conn *conn, int fd, int file, size_t *bytes)
{
	const struct timespec nap = { 0, IDLE_NAP_NS };
	char piece[PIECE_BYTES];
	int idle = 0;

	*bytes = 0;
	while (idle < IDLE_TRIES && *bytes < KEPT_BYTES_MAX) {
		ssize_t n = next_bytes(conn, fd, piece);
		int error = n > 0 ? write_all(file, piece, (size_t)n) : 0;

		if (error)
			return error;
		if (n > 0) {
			*bytes += (size_t)n;
			idle = 0;
			continue;
		}
		if (n != -EAGAIN && n != -EINTR)
			return (int)n;
		if (*bytes == 0 &&
		    shmipc_receiver_leave_ring(&conn->rx, fd, shim_conn_private(conn)) == 0)
			return -EALREADY;
		idle++;
		sys_nanosleep(&nap);
	}
	return -EAGAIN;
}

/* ---- what stands for the socket ---- */

/* `bytes` of the file, then the end, or a reset.  Writing fails, as to a connection that is gone.
 */
static int as_socket(int file, size_t bytes, bool reset)
{
	struct shmipc_socket_room as_it_was = { 0 };
	char piece[PIECE_BYTES];
	int ends[2];
	int error = sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);

	if (error)
		return error;
	shmipc_socket_room_make(ends[1], bytes, &as_it_was);
	for (size_t done = 0; done < bytes && !error; done += sizeof(piece)) {
		ssize_t n = sys_pread(file, piece, sizeof(piece), (off_t)done);

		error = n < 0 ? (int)n : write_all(ends[1], piece, (size_t)n);
	}
	if (error == -EAGAIN && reset) /* a reset has no duty to bring all that was sent */
		error = 0;
	/* closed with a byte unread */
	if (reset)
		sys_write(ends[0], "", 1);
	sys_close(ends[1]);
	sys_fcntl(ends[0], F_SETFL, 0);
	if (!error)
		return ends[0];
	sys_close(ends[0]);
	return error;
}

static int as_file(int file)
{
	sys_fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);
	sys_call3(SYS_lseek, file, 0, SEEK_SET);
	return file;
}

static int rest(struct shim_conn *conn, int fd)
{
	int file = sys_memfd_create("shmipc-rest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int result = -EALREADY, end;
	size_t bytes;

	if (file < 0)
		return as_socket(-1, 0, true);
	end = read_to_end(conn, fd, file, &bytes);
	if (end != -EALREADY && end != 0 && end != -ECONNRESET)
		result = as_socket(-1, 0, true);
	else if (end != -EALREADY && (bytes <= SOCKET_REST_BYTES || end != 0))
		result = as_socket(file, bytes, end != 0);
	else if (end != -EALREADY)
		return as_file(file);
	sys_close(file);
	return result;
}

/* A server closes its own number a moment after the fork. */
static bool is_left_to_us(struct shim_conn *conn)
{
	const struct timespec nap = { 0, IDLE_NAP_NS };

	for (int i = 0; i < IDLE_TRIES && !shim_process_is_borrowed(); i++) {
		shim_conn_count_holders(conn);
		if (atomic_load(&conn->holders) <= 1)
			return true;
		sys_nanosleep(&nap);
	}
	return false;
}

int shim_rest_of(struct shim_conn *conn, int fd, enum shim_rest_use use)
{
	shim_downgrade(conn, fd, SHMIPC_REASON_DOWNGRADE);
	if (!shim_conn_is_attached(conn))
		return -1;
	if (!shim_rest_may_write(conn))
		return as_socket(-1, 0, true);
	if (!shmipc_receiver_is_stranded(&conn->rx, fd) && !shmipc_receiver_is_entangled(&conn->rx))
		return -1;
	if (use == SHIM_REST_WRITTEN)
		return shim_rest_peer_is_gone(conn, fd) ? as_socket(-1, 0, true) : -1;
	/* who inherits it by chance must not take bytes from its parent */
	if (use == SHIM_REST_INHERITED && !is_left_to_us(conn))
		return as_socket(-1, 0, true);
	return rest(conn, fd);
}
