/* SPDX-License-Identifier: Apache-2.0 */
#include "core/io.h"

#include <fcntl.h>
#include <stdint.h>

#include "core/sys.h"

bool shmipc_io_is_nonblocking(const struct shmipc_io *io)
{
	int status;

	if (io->flags & MSG_DONTWAIT)
		return true;
	status = sys_fcntl(io->fd, F_GETFL, 0);
	return status >= 0 && (status & O_NONBLOCK);
}

int shmipc_io_vector(const struct shmipc_io *io, size_t limit, struct iovec *out, int room)
{
	struct shmipc_cursor at = io->cursor;
	int count = 0;

	if (limit > at.left)
		limit = at.left;
	while (limit > 0 && count < room) {
		size_t here = at.iov->iov_len - at.offset;
		size_t n = here < limit ? here : limit;

		if (n > 0) {
			out[count].iov_base = (char *)at.iov->iov_base + at.offset;
			out[count].iov_len = n;
			count++;
		}
		limit -= n;
		at.offset = 0;
		at.iov++;
	}
	return count;
}

size_t shmipc_io_message(const struct shmipc_io *io, size_t limit, struct iovec *own, int room,
			 struct msghdr *message)
{
	size_t bytes = 0;

	if (limit >= io->cursor.left && io->cursor.offset == 0) {
		message->msg_iov = (struct iovec *)(uintptr_t)io->cursor.iov;
		message->msg_iovlen = io->cursor.count;
		return io->cursor.left;
	}
	message->msg_iov = own;
	message->msg_iovlen = (size_t)shmipc_io_vector(io, limit, own, room);
	for (size_t i = 0; i < message->msg_iovlen; i++)
		bytes += own[i].iov_len;
	return bytes;
}
