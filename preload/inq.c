/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/inq.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/sys.h"
#include "preload/pointers.h"

#ifndef TCP_CM_INQ
#define TCP_CM_INQ 36 /* the option's own number */
#endif

/* The peer's end has come, not only a shutdown of ours.  A reset counts as one: in the kernel only
 * if an end came before it, but who is told 1 asks once more, and who is told 0 may wait. */
static bool has_ended(int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLRDHUP };
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info.tcpi_state);

	return sys_poll(&end, 1, 0) > 0 &&
	       sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 &&
	       info.tcpi_state != TCP_ESTABLISHED && info.tcpi_state != TCP_FIN_WAIT1 &&
	       info.tcpi_state != TCP_FIN_WAIT2;
}

/* Bytes behind an urgent mark are not pending, but one who is told of none waits for an edge. */
static bool is_at_mark(struct shim_conn *conn, int fd)
{
	int at_mark = 0;

	return !shmipc_receiver_follows_ring(&conn->rx) &&
	       sys_ioctl(fd, SIOCATMARK, &at_mark) == 0 && at_mark;
}

/* TCP counts the end as one more byte, also once it has been received. */
static int bytes_left(struct shim_conn *conn, int fd)
{
	size_t left = shmipc_receiver_pending(&conn->rx, fd, shim_conn_private(conn));

	if (left == 0 && is_at_mark(conn, fd))
		return 1;
	left = left > INT32_MAX - 1 ? INT32_MAX - 1 : left;
	return (int)left + has_ended(fd);
}

static struct cmsghdr *of_the_kernel(struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == IPPROTO_TCP && c->cmsg_type == TCP_CM_INQ &&
		    c->cmsg_len >= CMSG_LEN(sizeof(int)))
			return c;
	return NULL;
}

/* As the kernel does it: what has no room is cut off, and said to be. */
static void append(struct msghdr *message, size_t room, int left)
{
	size_t used = CMSG_ALIGN(message->msg_controllen);
	struct cmsghdr header = { CMSG_LEN(sizeof(left)), IPPROTO_TCP, TCP_CM_INQ };
	char whole[CMSG_SPACE(sizeof(left))] = { 0 };
	size_t most = room > used ? room - used : 0;

	if (!message->msg_control || most < sizeof(header)) {
		message->msg_flags |= MSG_CTRUNC;
		return;
	}
	if (most < header.cmsg_len) {
		message->msg_flags |= MSG_CTRUNC;
		header.cmsg_len = most;
	}
	memcpy(whole, &header, sizeof(header));
	memcpy(whole + sizeof(header), &left, sizeof(left));
	if (shim_pointer_is_bad_result((char *)message->msg_control + used, header.cmsg_len))
		return;
	memcpy((char *)message->msg_control + used, whole, header.cmsg_len);
	message->msg_controllen = used + (most < sizeof(whole) ? most : sizeof(whole));
}

void shim_inq_tell(struct shim_conn *conn, int fd, struct msghdr *message, size_t room)
{
	struct cmsghdr *told = NULL;
	int left;

	if (message->msg_controllen > 0 &&
	    !shim_pointer_is_bad_result(message->msg_control, message->msg_controllen))
		told = of_the_kernel(message);
	if (!told && (message->msg_flags & MSG_CTRUNC))
		return; /* the kernel has told as much as there was room for */
	if (told && !conn->rx.attached)
		return; /* there is nothing but what the kernel has */
	left = bytes_left(conn, fd);
	if (told)
		memcpy(CMSG_DATA(told), &left, sizeof(left));
	else
		append(message, room, left);
}
