/* SPDX-License-Identifier: Apache-2.0 */
/* recvmsg and sendmsg, one at a time and many at once. */
#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "core/cpu.h"
#include "preload/conn.h"
#include "preload/connecting.h"
#include "preload/handover.h"
#include "preload/pointers.h"
#include "preload/real.h"
#include "preload/transfer.h"
#include "preload/waits.h"

enum { MESSAGES_MAX = 1024 /* in one sendmmsg(), as in the kernel */ };

static bool has_bad_vector(const struct msghdr *message)
{
	return message->msg_iovlen <= SHIM_IOV_MAX &&
	       shim_pointer_is_bad(message->msg_iov, message->msg_iovlen * sizeof(struct iovec));
}

static ssize_t receive_message(struct shim_conn *conn, int fd, struct msghdr *message, int flags)
{
	if (shim_pointer_is_bad_result(message, sizeof(*message)) || has_bad_vector(message))
		return shim_edge(-EFAULT);
	if (message->msg_iovlen > SHIM_IOV_MAX)
		return shim_edge(-EMSGSIZE);
	if ((int)message->msg_namelen < 0)
		return shim_edge(-EINVAL);
	return shim_receive(conn, fd, message->msg_iov, message->msg_iovlen, flags, message);
}

SHIM_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);
	ssize_t n = conn ? receive_message(conn, fd, message, flags)
			 : real.recvmsg(fd, message, flags);

	if (n >= 0)
		shim_handover_received(message);
	return n;
}

static ssize_t send_message(struct shim_conn *conn, int fd, const struct msghdr *message, int flags)
{
	struct msghdr copy;

	if (shim_pointer_is_bad(message, sizeof(*message)) || has_bad_vector(message))
		return shim_edge(-EFAULT);
	if (message->msg_iovlen > SHIM_IOV_MAX)
		return shim_edge(-EMSGSIZE);
	shim_handover_sent(message);
	copy = *message;
	return shim_send(conn, fd, message->msg_iov, message->msg_iovlen, flags, &copy);
}

SHIM_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (conn)
		return send_message(conn, fd, message, flags);
	if (shim_pointer_is_bad(message, sizeof(*message)))
		return real.sendmsg(fd, message, flags);
	shim_handover_sent(message);
	if (flags & MSG_FASTOPEN)
		return shim_connecting_by_send(real.sendmsg(fd, message, flags), fd,
					       message->msg_name, message->msg_namelen);
	return real.sendmsg(fd, message, flags);
}

/* ---- many at once ---- */

static int receive_plain_messages(int fd, struct mmsghdr *messages, unsigned int count, int flags,
				  struct timespec *timeout)
{
	int n = real.recvmmsg(fd, messages, count, flags, timeout);

	for (int i = 0; i < n; i++)
		shim_handover_received(&messages[i].msg_hdr);
	return n;
}

/* One after the other, until one fails or the time is over, which is looked at only in between.
 * How many; *error is that of the one that failed, or 0. */
static unsigned int receive_messages(int fd, struct mmsghdr *messages, unsigned int count,
				     int flags, uint64_t deadline_ns, int *error)
{
	unsigned int done = 0;

	while (done < count) {
		struct mmsghdr *message = &messages[done];
		ssize_t n = recvmsg(fd, &message->msg_hdr, flags & ~MSG_WAITFORONE);

		if (n < 0) {
			*error = errno;
			break;
		}
		message->msg_len = (unsigned int)n;
		done++;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if ((deadline_ns != SHIM_WAIT_FOR_EVER && shmipc_clock_ns() >= deadline_ns) ||
		    (message->msg_hdr.msg_flags & MSG_OOB))
			break;
	}
	return done;
}

/* An error that waits is told before any bytes are. */
static int waiting_error(int fd)
{
	int error = 0;
	socklen_t bytes = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0 ? 0 : error;
}

SHIM_EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
			 struct timespec *timeout)
{
	struct shim_conn *conn = shim_conn_of(fd);
	uint64_t deadline_ns = SHIM_WAIT_FOR_EVER;
	int error = 0, saved = errno;
	unsigned int done;

	if (!conn)
		return receive_plain_messages(fd, messages, count, flags, timeout);
	if (timeout && shim_pointer_is_bad_result(timeout, sizeof(*timeout)))
		return (int)shim_edge(-EFAULT);
	if (timeout && (timeout->tv_sec < 0 || (uint64_t)timeout->tv_nsec >= 1000000000u))
		return (int)shim_edge(-EINVAL);
	if (timeout)
		deadline_ns = shim_wait_deadline(timeout);
	if (!(flags & MSG_ERRQUEUE))
		error = waiting_error(fd);
	if (error)
		return (int)shim_edge(-error);
	done = receive_messages(fd, messages, count, flags, deadline_ns, &error);
	if (done == 0 && error)
		return (int)shim_edge(-error);
	errno = saved;
	if (timeout && done > 0 && deadline_ns != SHIM_WAIT_FOR_EVER)
		*timeout = shim_wait_left(deadline_ns);
	if (error == ECONNRESET && shim_conn_is_attached(conn)) /* it is told by the next call */
		shmipc_receiver_keep_error(&conn->rx, error, shim_conn_private(conn));
	return (int)done;
}

static int send_plain_messages(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
	int n;

	for (unsigned int i = 0; i < count && i < MESSAGES_MAX; i++) {
		if (shim_pointer_is_bad(&messages[i], sizeof(messages[i])))
			break;
		shim_handover_sent(&messages[i].msg_hdr);
	}
	n = real.sendmmsg(fd, messages, count, flags);
	if (flags & MSG_FASTOPEN && n > 0)
		shim_connecting_by_send(messages[0].msg_len, fd, messages[0].msg_hdr.msg_name,
					messages[0].msg_hdr.msg_namelen);
	return n;
}

static size_t bytes_asked(const struct msghdr *message)
{
	size_t total = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		total += message->msg_iov[i].iov_len;
	return total;
}

static int send_messages(struct shim_conn *conn, int fd, struct mmsghdr *messages,
			 unsigned int count, int flags)
{
	int saved = errno;
	unsigned int done = 0;

	while (done < count && done < MESSAGES_MAX) {
		struct mmsghdr *message = &messages[done];
		ssize_t n = shim_pointer_is_bad_result(message, sizeof(*message))
				    ? shim_edge(-EFAULT)
				    : send_message(conn, fd, &message->msg_hdr, flags);

		if (n < 0 && done == 0)
			return -1;
		if (n < 0)
			break;
		message->msg_len = (unsigned int)n;
		done++;
		if ((size_t)n < bytes_asked(&message->msg_hdr))
			break;
	}
	errno = saved;
	return (int)done;
}

SHIM_EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
	struct shim_conn *conn = shim_conn_of(fd);

	return conn ? send_messages(conn, fd, messages, count, flags)
		    : send_plain_messages(fd, messages, count, flags);
}

/* Among libc's own: the resolver's name for it. */
SHIM_EXPORT int __sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
	return sendmmsg(fd, messages, count, flags);
}
