/* SPDX-License-Identifier: Apache-2.0 */
/* Payload from the real socket: no more of it than the sender's next cut allows, and all of it
 * counted.  All of it locked, but for a call that may sleep. */
#include "core/receiver.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "core/receiver_parts.h"
#include "core/sleep.h"
#include "core/sys.h"

static ssize_t receive_bytes(const struct shmipc_io *io, const struct iovec *iov, int flags,
			     struct shmipc_sleeper *sleeper)
{
	if (sleeper)
		return SHMIPC_SLEEP(shmipc_receiver_undo_plain, sleeper, SYS_recvfrom, io->fd,
				    iov->iov_base, iov->iov_len, flags, 0, 0);
	return sys_recvfrom(io->fd, iov->iov_base, iov->iov_len, flags, NULL, NULL);
}

/* sleeper: the call may sleep, and be cancelled; or NULL. */
static ssize_t kernel_receive(struct shmipc_io *io, bool is_unix, size_t limit, int extra_flags,
			      struct shmipc_sleeper *sleeper)
{
	struct iovec iov[SHMIPC_RECEIVER_KERNEL_IOV];
	struct msghdr message = { 0 };
	ssize_t n;

	if (io->message) {
		message = *io->message;
		message.msg_controllen = io->control_room;
	}
	shmipc_io_message(io, limit, iov, SHMIPC_RECEIVER_KERNEL_IOV, &message);
	/* the kernel reads a message header byte by byte: spare it where there is nothing in it;
	 * of a Unix stream it tells whether a descriptor rode on the bytes */
	if (!io->message && message.msg_iovlen == 1 &&
	    (!is_unix || (sleeper && !(io->flags & MSG_WAITALL))))
		return receive_bytes(io, message.msg_iov, io->flags | extra_flags, sleeper);
	if (sleeper)
		n = SHMIPC_SLEEP(shmipc_receiver_undo_plain, sleeper, SYS_recvmsg, io->fd, &message,
				 io->flags | extra_flags, 0, 0, 0);
	else
		n = sys_recvmsg(io->fd, &message, io->flags | extra_flags);
	if (n >= 0 && io->message) {
		io->message->msg_controllen = message.msg_controllen;
		io->message->msg_flags = message.msg_flags;
		io->message->msg_namelen = message.msg_namelen;
		io->message_filled = true;
	} else if (n >= 0) {
		io->control_dropped |= (message.msg_flags & MSG_CTRUNC) != 0;
	}
	return n;
}

void shmipc_receiver_count_kernel(struct shmipc_receiver *r, size_t bytes)
{
	uint64_t total = atomic_fetch_add(&r->kernel_read, bytes) + bytes, published;

	atomic_fetch_add_explicit(&r->count->kernel_bytes, bytes, memory_order_relaxed);
	if (!r->attached)
		return;
	do { /* another thread's number, that is larger, stays */
		published = total;
		atomic_store(&r->rx->kernel_read, published);
		total = atomic_load(&r->kernel_read);
	} while (total != published);
}

/* A read of the socket that every count must follow: in_kernel tells whoever inherits the lock. */
ssize_t shmipc_receiver_counted_receive(struct shmipc_receiver *r, struct shmipc_io *io,
					size_t limit, int extra_flags,
					struct shmipc_sleeper *sleeper)
{
	ssize_t n = kernel_receive(io, r->is_unix, limit, extra_flags, sleeper);

	if (n <= 0)
		return n;
	shmipc_cursor_skip(&io->cursor, (size_t)n < io->cursor.left ? (size_t)n : io->cursor.left);
	if (io->flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE))
		return n;
	shmipc_receiver_count_kernel(r, (size_t)n);
	return n;
}

/* A receive ends before urgent data, even if it was to wait for all. */
bool shmipc_receiver_is_at_mark(const struct shmipc_receiver *r, int fd)
{
	int at_mark = 0;

	return !shmipc_receiver_on_ring(r) && sys_ioctl(fd, SIOCATMARK, &at_mark) == 0 && at_mark;
}

/* At an urgent mark FIONREAD says 0, whatever lies behind it. */
static ssize_t count_behind_mark(const struct shmipc_receiver *r, int fd)
{
	/* TCP counts without copying */
	ssize_t n = r->is_unix ? 1
			       : sys_recvfrom(fd, NULL, INT_MAX,
					      MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC, NULL, NULL);

	return n > 0 ? n : 1;
}

/* A receive that finds the end, or an error, passes a mark before it.  Behind our own SHUT_RD bytes
 * may follow the next moment, which this call must not take: the kernel passes the mark first, and
 * takes no byte that it cannot store. */
static void pass_last_mark(const struct shmipc_receiver *r, int fd)
{
	static const char read_only = 0;

	if (shmipc_receiver_is_at_mark(r, fd))
		sys_recvfrom(fd, (void *)(uintptr_t)&read_only, 1, MSG_DONTWAIT, NULL, NULL);
}

/* Phase even.  How many bytes may be taken: what was there before the phase was read is payload. 0:
 * the cut is reached.  -EAGAIN, or -ESHUTDOWN for the end and for errors, which are noted. */
static ssize_t kernel_limit(struct shmipc_receiver *r, int fd, bool peek)
{
	for (bool again = false;; again = true) {
		int there = 0;
		char value;
		ssize_t n;

		if (sys_ioctl(fd, FIONREAD, &there) < 0)
			there = 0;
		if (shmipc_receiver_sender_ahead(r)) {
			uint64_t limit = shmipc_receiver_before_cut(r);

			return limit < SSIZE_MAX ? (ssize_t)limit : SSIZE_MAX;
		}
		if (there > 0)
			return there;
		if (shmipc_receiver_at_end(r) && (again || !shmipc_receiver_is_at_mark(r, fd)))
			return -ESHUTDOWN;
		n = sys_recvfrom(fd, &value, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);
		if (shmipc_io_is_foreign(n))
			return n;
		/* the end is the end only if the sender did not cut before it: look once more */
		if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) {
			shmipc_receiver_socket_said(r, n);
			if (!peek)
				pass_last_mark(r, fd);
		} else if (n < 0)
			/* a receive passes the mark; a direction that was urgent never cuts again
			 */
			return shmipc_receiver_is_at_mark(r, fd) && !shmipc_receiver_sender_ahead(r)
				       ? 1
				       : -EAGAIN;
		else if (again) {
			n = count_behind_mark(r, fd);
			if (!shmipc_receiver_sender_ahead(r))
				return n;
		}
	}
}

/* Errors that say nothing of the stream. */
bool shmipc_receiver_is_about_the_call(ssize_t n)
{
	return n == -EFAULT || n == -EMSGSIZE || n == -ENOMEM || n == -ENOBUFS ||
	       shmipc_io_is_foreign(n);
}

ssize_t shmipc_receiver_take_from_kernel(struct shmipc_receiver *r, struct shmipc_io *io)
{
	ssize_t limit = kernel_limit(r, io->fd, io->flags & MSG_PEEK);
	size_t most;
	ssize_t n;

	if (limit <= 0)
		return limit;
	most = (size_t)limit < io->cursor.left ? (size_t)limit : io->cursor.left;
	r->in_kernel = true;
	n = shmipc_receiver_counted_receive(r, io, most, MSG_DONTWAIT, NULL);
	r->in_kernel = false;
	if (n > 0 || shmipc_receiver_is_about_the_call(n))
		return n;
	shmipc_receiver_socket_said(r, n);
	return shmipc_receiver_at_end(r) ? -ESHUTDOWN : -EAGAIN;
}
