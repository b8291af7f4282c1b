/* SPDX-License-Identifier: Apache-2.0 */
/* One call of the application on a stream: what it passed, and how far we are. */
#ifndef SHMIPC_CORE_IO_H
#define SHMIPC_CORE_IO_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "core/postpone.h"
#include "core/ring.h"

struct shmipc_io {
	int fd;		  /* the number that the application used; any dup of the real socket */
	int flags;	  /* MSG_*, as passed */
	bool private_use; /* one thread, never shared: locks are plain stores, sleeps may consume */
	struct shmipc_cursor cursor;
	/* sending: the bytes are those of `file` before file_end, and the cursor only counts them
	 */
	bool from_file;
	bool part;	   /* of it is done: the next handler ends it, none restarts it */
	bool file_is_over; /* sender_file.c's own: its end came before the count */
	int file;
	off_t file_end;
	struct msghdr *message; /* control and name of sendmsg/recvmsg, or NULL */
	size_t control_room;	/* receiver.c's own: room for control data that the caller gave */
	bool control_dropped; /* receiver.c's own: descriptors came with the bytes, without room */
	bool message_filled;  /* receiver.c's own: the kernel has answered in *message */
	/* the number may be closed by another thread meanwhile: a duplicate of it, plus 1, is found
	 * here; NULL: cannot happen.  Who closes writes it, waits until the lock of each direction
	 * has been free, and closes: whoever follows when it has taken the lock has a number that
	 * is good as long as it holds it. */
	const _Atomic int *moved;
	/* other than 0: this end is held by others too, since a signal handler forked while the
	 * call slept; NULL: cannot happen */
	const _Atomic uint32_t *shared;
	void (*release)(void *argument); /* the thread is cancelled inside the call; or NULL */
	void *release_argument;
};

static inline void shmipc_io_skip(struct shmipc_io *io, size_t bytes)
{
	if (io->from_file)
		io->cursor.left -= bytes;
	else
		shmipc_cursor_skip(&io->cursor, bytes);
}

/* After a sleep, before the next system call; and before and after a lock is taken. */
static inline void shmipc_io_follow(struct shmipc_io *io)
{
	int moved = io->moved ? atomic_load_explicit(io->moved, memory_order_acquire) : 0;

	if (__builtin_expect(moved != 0, 0))
		io->fd = moved - 1;
	if (io->private_use && io->shared &&
	    atomic_load_explicit(io->shared, memory_order_relaxed) != 0)
		io->private_use = false;
}

/* After -EBADF: another thread has closed the number in this moment, and a duplicate is there.
 * Where a handler of this thread has run, it was that, and the call is not restarted. */
static inline bool shmipc_io_was_moved(struct shmipc_io *io)
{
	int fd = io->fd;

	shmipc_io_follow(io);
	return io->fd != fd && !shmipc_postpone.ran;
}

/* A call that takes no lock may read the number, and another thread close it and get it for
 * something else, before the kernel looks at it; or a handler does, and the kernel goes on by the
 * new one.  A connected socket never says any of these. */
static inline bool shmipc_io_is_foreign(ssize_t result)
{
	return result == -EBADF || result == -ENOTSOCK || result == -ENOTCONN || result == -EINVAL;
}

static inline bool shmipc_io_missed(struct shmipc_io *io, ssize_t result)
{
	return shmipc_io_is_foreign(result) && shmipc_io_was_moved(io);
}

/* A send that only the kernel can serve, in its place among the bytes. */
static inline bool shmipc_io_wants_kernel(const struct shmipc_io *io)
{
	return (io->flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) ||
	       (io->message && (io->message->msg_controllen > 0 || io->message->msg_namelen > 0));
}

static inline void shmipc_io_release(const struct shmipc_io *io)
{
	if (io->release)
		io->release(io->release_argument);
}

/* The open file description's O_NONBLOCK as it is now (another process may share and change it),
 * or MSG_DONTWAIT in this call. */
bool shmipc_io_is_nonblocking(const struct shmipc_io *io);

/* The rest of the cursor as an iovec array for a system call, at most `limit` bytes and `room`
 * elements. Returns the number of elements. */
int shmipc_io_vector(const struct shmipc_io *io, size_t limit, struct iovec *out, int room);

/* For a system call on `limit` bytes: the application's own array where all of it is meant (a
 * message must stay one message), else a part of it, copied to `room` elements at `own`.  Returns
 * the bytes that the array stands for. */
size_t shmipc_io_message(const struct shmipc_io *io, size_t limit, struct iovec *own, int room,
			 struct msghdr *message);

#endif
