/* SPDX-License-Identifier: Apache-2.0 */
/* read and write, send and recv, in all their spellings. */
#include <errno.h>
#include <stddef.h>

#include "preload/conn.h"
#include "preload/connecting.h"
#include "preload/downgrade.h"
#include "preload/pointers.h"
#include "preload/real.h"
#include "preload/transfer.h"
#include "preload/young.h"

/* The kernel's own limit of one transfer. */
static size_t clamp(size_t bytes)
{
	return bytes > SHMIPC_TRANSFER_MAX ? SHMIPC_TRANSFER_MAX : bytes;
}

static __attribute__((hot)) ssize_t receive_one(struct shim_conn *conn, int fd, void *to,
						size_t bytes, int flags)
{
	const struct iovec iov = { to, clamp(bytes) };
	ssize_t n;

	if (conn->young && shim_young_receive(conn, fd, to, bytes, flags, &n))
		return n;
	return shim_receive(conn, fd, &iov, 1, flags, NULL);
}

static __attribute__((hot)) ssize_t send_one(struct shim_conn *conn, int fd, const void *from,
					     size_t bytes, int flags)
{
	const struct iovec iov = { (void *)(uintptr_t)from, clamp(bytes) };
	ssize_t n;

	if (conn->young && shim_young_send(conn, fd, from, bytes, flags, &n))
		return n;
	return shim_send(conn, fd, &iov, 1, flags, NULL);
}

/* A read of nothing returns at once, a recv of nothing waits for bytes. */
static bool is_nothing(const struct iovec *iov, int count)
{
	if (count == 0 || shim_pointer_is_bad(iov, (size_t)count * sizeof(*iov)))
		return true; /* or the kernel knows the error */
	for (int i = 0; i < count; i++)
		if (iov[i].iov_len > 0)
			return false;
	return true;
}

SHIM_EXPORT ssize_t read(int fd, void *to, size_t bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn && bytes ? receive_one(conn, fd, to, bytes, 0) : real.read(fd, to, bytes);
}

SHIM_EXPORT ssize_t __read(int fd, void *to, size_t bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn && bytes ? receive_one(conn, fd, to, bytes, 0) : real.__read(fd, to, bytes);
}

/* Among libc's own: no cancellation point. */
SHIM_EXPORT ssize_t __read_nocancel(int fd, void *to, size_t bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn && bytes ? receive_one(conn, fd, to, bytes, 0)
			     : real.__read_nocancel(fd, to, bytes);
}

SHIM_EXPORT ssize_t __read_chk(int fd, void *to, size_t bytes, size_t room)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (!conn || !bytes)
		return real.__read_chk(fd, to, bytes, room);
	if (bytes > room)
		__chk_fail();
	return receive_one(conn, fd, to, bytes, 0);
}

SHIM_EXPORT ssize_t write(int fd, const void *from, size_t bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn ? send_one(conn, fd, from, bytes, 0) : real.write(fd, from, bytes);
}

SHIM_EXPORT ssize_t __write(int fd, const void *from, size_t bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn ? send_one(conn, fd, from, bytes, 0) : real.__write(fd, from, bytes);
}

SHIM_EXPORT ssize_t __write_nocancel(int fd, const void *from, size_t bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn ? send_one(conn, fd, from, bytes, 0) : real.__write_nocancel(fd, from, bytes);
}

SHIM_EXPORT __attribute__((hot)) ssize_t recv(int fd, void *to, size_t bytes, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn ? receive_one(conn, fd, to, bytes, flags) : real.recv(fd, to, bytes, flags);
}

SHIM_EXPORT ssize_t __recv(int fd, void *to, size_t bytes, int flags)
{
	return recv(fd, to, bytes, flags);
}

SHIM_EXPORT ssize_t __recv_chk(int fd, void *to, size_t bytes, size_t room, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (!conn)
		return real.__recv_chk(fd, to, bytes, room, flags);
	if (bytes > room)
		__chk_fail();
	return receive_one(conn, fd, to, bytes, flags);
}

SHIM_EXPORT __attribute__((hot)) ssize_t send(int fd, const void *from, size_t bytes, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn ? send_one(conn, fd, from, bytes, flags) : real.send(fd, from, bytes, flags);
}

SHIM_EXPORT ssize_t __send(int fd, const void *from, size_t bytes, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn ? send_one(conn, fd, from, bytes, flags) : real.__send(fd, from, bytes, flags);
}

/* ---- with an address: a connected stream reports none ---- */

/* As the kernel: the bytes have been taken when the address finds no place. */
static ssize_t receive_from(struct shim_conn *conn, int fd, void *to, size_t bytes, int flags,
			    struct sockaddr *address, socklen_t *address_bytes)
{
	bool has_place = address &&
			 !shim_pointer_is_bad_result(address_bytes, sizeof(*address_bytes));
	const struct iovec iov = { to, clamp(bytes) };
	struct msghdr message = {
		.msg_name = address,
		.msg_namelen = has_place ? *address_bytes : 0,
	};
	ssize_t n = shim_receive(conn, fd, &iov, 1, flags, address ? &message : NULL);

	if (n < 0 || !address)
		return n;
	if (!has_place)
		return shim_edge(-EFAULT);
	*address_bytes = message.msg_namelen;
	return n;
}

SHIM_EXPORT ssize_t recvfrom(int fd, void *restrict to, size_t bytes, int flags,
			     __SOCKADDR_ARG address, socklen_t *restrict address_bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn ? receive_from(conn, fd, to, bytes, flags, address.__sockaddr__, address_bytes)
		    : real.recvfrom(fd, to, bytes, flags, address, address_bytes);
}

SHIM_EXPORT ssize_t __recvfrom_chk(int fd, void *to, size_t bytes, size_t room, int flags,
				   struct sockaddr *address, socklen_t *address_bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (!conn)
		return real.__recvfrom_chk(fd, to, bytes, room, flags, address, address_bytes);
	if (bytes > room)
		__chk_fail();
	return receive_from(conn, fd, to, bytes, flags, address, address_bytes);
}

SHIM_EXPORT ssize_t sendto(int fd, const void *from, size_t bytes, int flags,
			   __CONST_SOCKADDR_ARG address, socklen_t address_bytes)
{
	struct shim_conn *conn = shim_conn_of(fd);
	const struct iovec iov = { (void *)(uintptr_t)from, clamp(bytes) };
	struct msghdr message = {
		.msg_name = (void *)(uintptr_t)address.__sockaddr__,
		.msg_namelen = address_bytes,
	};

	if (!conn && (flags & MSG_FASTOPEN))
		return shim_connecting_by_send(
			real.sendto(fd, from, bytes, flags, address, address_bytes), fd,
			address.__sockaddr__, address_bytes);
	if (!conn)
		return real.sendto(fd, from, bytes, flags, address, address_bytes);
	return shim_send(conn, fd, &iov, 1, flags,
			 address.__sockaddr__ && address_bytes ? &message : NULL);
}

/* ---- vectors ---- */

SHIM_EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (!conn || count < 0 || count > SHIM_IOV_MAX || is_nothing(iov, count))
		return real.readv(fd, iov, count);
	return shim_receive(conn, fd, iov, (size_t)count, 0, NULL);
}

/* An empty vector does not get as far as the socket, an empty buffer does. */
static bool is_sendable(const struct iovec *iov, int count)
{
	return count >= 0 && count <= SHIM_IOV_MAX && !is_nothing(iov, count);
}

SHIM_EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (!conn || !is_sendable(iov, count))
		return real.writev(fd, iov, count);
	return shim_send(conn, fd, iov, (size_t)count, 0, NULL);
}

/* Offset -1 means: as readv.  Any other offset is the kernel's ESPIPE.  Of the flags only
 * RWF_NOWAIT means something to a socket; what is unknown here is perhaps not to the kernel, which
 * then must have the bytes. */
static bool is_stream_vector(struct shim_conn *conn, int fd, off64_t offset, int flags)
{
	const int known = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;

	if (!conn || offset != -1)
		return false;
	if ((flags & ~known) != 0)
		shim_downgrade(conn, fd, SHMIPC_REASON_DOWNGRADE);
	return (flags & ~known) == 0;
}

static ssize_t read_vector(struct shim_conn *conn, int fd, const struct iovec *iov, int count,
			   int flags)
{
	return shim_receive(conn, fd, iov, (size_t)count, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0,
			    NULL);
}

static ssize_t write_vector(struct shim_conn *conn, int fd, const struct iovec *iov, int count,
			    int flags)
{
	return shim_send(conn, fd, iov, (size_t)count, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0, NULL);
}

static bool is_readable_vector(const struct iovec *iov, int count)
{
	return count >= 0 && count <= SHIM_IOV_MAX && !is_nothing(iov, count);
}

SHIM_EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return is_stream_vector(conn, fd, offset, flags) && is_readable_vector(iov, count)
		       ? read_vector(conn, fd, iov, count, flags)
		       : real.preadv2(fd, iov, count, offset, flags);
}

SHIM_EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int count, off64_t offset,
			       int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return is_stream_vector(conn, fd, offset, flags) && is_readable_vector(iov, count)
		       ? read_vector(conn, fd, iov, count, flags)
		       : real.preadv64v2(fd, iov, count, offset, flags);
}

SHIM_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return is_stream_vector(conn, fd, offset, flags) && is_sendable(iov, count)
		       ? write_vector(conn, fd, iov, count, flags)
		       : real.pwritev2(fd, iov, count, offset, flags);
}

SHIM_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off64_t offset,
				int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return is_stream_vector(conn, fd, offset, flags) && is_sendable(iov, count)
		       ? write_vector(conn, fd, iov, count, flags)
		       : real.pwritev64v2(fd, iov, count, offset, flags);
}
