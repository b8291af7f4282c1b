/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a tracked connection, in either direction: what every read and write spelling comes down
 * to. */
#ifndef SHMIPC_PRELOAD_TRANSFER_H
#define SHMIPC_PRELOAD_TRANSFER_H

#include <errno.h>
#include <sys/uio.h>

#include "preload/conn.h"

enum { SHIM_IOV_MAX = 1024 };

/* As send/sendmsg and recv/recvmsg, with the libc contract: -1 and errno.  iov can be read (what it
 * points at is looked after); message: control data and address, or NULL. */
ssize_t shim_send(struct shim_conn *conn, int fd, const struct iovec *iov, size_t count, int flags,
		  struct msghdr *message);
ssize_t shim_receive(struct shim_conn *conn, int fd, const struct iovec *iov, size_t count,
		     int flags, struct msghdr *message);

/* As sendfile(), of an attached connection, from the offset `at`: bytes, or -1 and errno. */
ssize_t shim_send_file(struct shim_conn *conn, int fd, int file, off_t at, size_t count);

/* -errno to libc's form; success leaves errno alone. */
static inline ssize_t shim_edge(ssize_t result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

#endif
