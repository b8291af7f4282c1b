/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending a file: read straight into the ring, or by the kernel's own sendfile().
 *
 * The call's place in the file follows from what is left of it, so that a call that starts again
 * (sender.c) needs nothing to be taken back; the file's own position is the caller's to move.
 */
#include <errno.h>

#include "core/sender_parts.h"
#include "core/sleep.h"
#include "core/sys.h"

enum { SWALLOWED_BYTES = 4096 };

static off_t place(const struct shmipc_io *io)
{
	return io->file_end - (off_t)io->cursor.left;
}

ssize_t shmipc_sender_read_file(struct shmipc_sender *s, struct shmipc_io *io, size_t bytes)
{
	struct iovec pieces[2];
	int count = shmipc_ring_pieces(&s->ring, s->base, s->tail, bytes, pieces);
	ssize_t n;

	n = sys_preadv(io->file, pieces, count, place(io));
	if (n == -EINVAL) /* O_DIRECT, perhaps, which wants memory of another alignment */
		return -EAGAIN;
	if (n > 0)
		io->cursor.left -= (size_t)n;
	else
		io->file_is_over = true;
	return n;
}

ssize_t shmipc_sender_kernel_file(struct shmipc_io *io, void (*undo)(void *argument),
				  void *argument)
{
	off_t at = place(io);

	return SHMIPC_SLEEP(undo, argument, SYS_sendfile, io->fd, io->file, &at, io->cursor.left, 0,
			    0);
}

ssize_t shmipc_sender_swallow_file(struct shmipc_io *io)
{
	char unread[SWALLOWED_BYTES];
	size_t bytes = io->cursor.left < sizeof(unread) ? io->cursor.left : sizeof(unread);

	return sys_pread(io->file, unread, bytes, place(io));
}
