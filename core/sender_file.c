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

/* The pipe through which sendfile() moves a file takes so many of its pages at a time. */
enum { PIPE_PAGES = 16, PAGE_BYTES = 4096 };

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
	if (n <
	    0) /* O_DIRECT wants memory of another alignment, a directory has an error of its own */
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

ssize_t shmipc_sender_first_of_file(const struct shmipc_io *io, bool *has_more)
{
	char unread[PAGE_BYTES], more;
	struct iovec pieces[PIPE_PAGES + 1];
	off_t at = place(io);
	size_t first = PAGE_BYTES - (size_t)(at % PAGE_BYTES), left = io->cursor.left, bytes = 0;
	int count = 0;
	ssize_t n;

	for (; count < PIPE_PAGES && bytes < left; count++) {
		size_t page = count == 0 ? first : PAGE_BYTES;

		if (page > left - bytes)
			page = left - bytes;
		pieces[count] = (struct iovec){ unread, page };
		bytes += page;
	}
	if (bytes < left)
		pieces[count++] = (struct iovec){ &more, 1 };
	n = sys_preadv(io->file, pieces, count, at);
	*has_more = n > (ssize_t)bytes;
	return *has_more ? (ssize_t)bytes : n;
}

bool shmipc_sender_file_is_refused(const struct shmipc_io *io, ssize_t *result)
{
	bool has_more;
	off_t at = place(io);

	if (!io->from_file || shmipc_sender_first_of_file(io, &has_more) > 0)
		return false;
	*result = sys_call6(SYS_sendfile, io->fd, io->file, (long)&at, (long)io->cursor.left, 0, 0);
	return true;
}
