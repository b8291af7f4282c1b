/* SPDX-License-Identifier: Apache-2.0 */
#include "core/fdpass.h"

#include <errno.h>
#include <string.h>

#include "core/sys.h"

/* The union aligns the bytes as the kernel and CMSG_FIRSTHDR() expect them. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(SHMIPC_FDPASS_MAX * sizeof(int))];
};

ssize_t shmipc_fdpass_send(int channel_fd, const void *from, size_t bytes, const int *fds,
			   unsigned int fd_count)
{
	struct iovec part = { .iov_base = (void *)(uintptr_t)from, .iov_len = bytes };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control;
	struct cmsghdr *head;
	ssize_t sent;

	if (bytes == 0 || fd_count > SHMIPC_FDPASS_MAX)
		return -EINVAL;
	if (fd_count > 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
	}
	do
		sent = sys_sendmsg(channel_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent == -EINTR);
	return sent;
}

static void close_all(const int *fds, unsigned int fd_count)
{
	while (fd_count > 0)
		sys_close(fds[--fd_count]);
}

/*
 * Every descriptor that the kernel installed.  The walk is by hand and bounded by the control
 * buffer: more than SHMIPC_FDPASS_MAX do not fit in it, whatever headers they are spread over.
 */
static unsigned int collect(const struct msghdr *message, int fds[SHMIPC_FDPASS_MAX])
{
	const char *control = message->msg_control;
	size_t left = message->msg_controllen;
	unsigned int fd_count = 0;
	struct cmsghdr head;
	size_t at, step;

	while (left >= sizeof(head)) {
		memcpy(&head, control, sizeof(head));
		if (head.cmsg_len < sizeof(head) || head.cmsg_len > left)
			break;
		if (head.cmsg_level == SOL_SOCKET && head.cmsg_type == SCM_RIGHTS)
			for (at = CMSG_LEN(0);
			     at + sizeof(int) <= head.cmsg_len && fd_count < SHMIPC_FDPASS_MAX;
			     at += sizeof(int))
				memcpy(&fds[fd_count++], control + at, sizeof(int));
		step = CMSG_ALIGN(head.cmsg_len);
		if (step >= left)
			break;
		control += step;
		left -= step;
	}
	return fd_count;
}

ssize_t shmipc_fdpass_receive(int channel_fd, void *to, size_t bytes, int *fds,
			      unsigned int *fd_count)
{
	struct iovec part = { .iov_base = to, .iov_len = bytes };
	union control control;
	struct msghdr message;
	int received[SHMIPC_FDPASS_MAX];
	unsigned int room = *fd_count, count;
	ssize_t result;

	*fd_count = 0;
	if (bytes == 0)
		return -EINVAL;
	do {
		memset(&message, 0, sizeof(message));
		message.msg_iov = &part;
		message.msg_iovlen = 1;
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		result = sys_recvmsg(channel_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (result == -EINTR);
	if (result < 0)
		return result;
	count = collect(&message, received);
	if (count > room || message.msg_flags & MSG_CTRUNC) {
		close_all(received, count);
		/* cut short though there was room in the buffer: our own limit said no */
		return count <= room && count < SHMIPC_FDPASS_MAX ? -EMFILE : -EMSGSIZE;
	}
	memcpy(fds, received, count * sizeof(int));
	*fd_count = count;
	return result;
}
