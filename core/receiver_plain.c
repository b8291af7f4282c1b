/* SPDX-License-Identifier: Apache-2.0 */
/* A stream that is the kernel's alone: its own call receives, and we say what we know of the end.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "core/ending.h"
#include "core/postpone.h"
#include "core/receiver_parts.h"
#include "core/sys.h"
#include "core/thread.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_INQ
#define SO_INQ 84 /* Linux 6.17, Unix sockets */
#endif

/* [stop] It says that it cuts, fences, looks for LEAVE; we have said LEAVE, fence, look whether it
 * is cutting, and then at the phase: what it has not cut by now it never will. */
bool shmipc_receiver_sender_has_left(const struct shmipc_receiver *r)
{
	if (!shmipc_receiver_wants(r, SHMIPC_WANT_LEAVE) || r->broken ||
	    (r->sibling && shmipc_sender_owes(r->sibling)))
		return false;
	atomic_thread_fence(memory_order_seq_cst);
	return !(atomic_load(&r->tx->flags) & SHMIPC_TX_CUTTING) &&
	       !shmipc_receiver_sender_ahead(r);
}

/* ---- what the application is told ---- */

/* The kernel's, unless a token that a killed peer left unread has made it of an orderly end. */
static ssize_t tell_reset(struct shmipc_receiver *r, int fd)
{
	if (r->sibling)
		shmipc_ending_look_behind_shutdown(r->sibling, fd);
	if (r->sibling && shmipc_ending_of(r->sibling, POLLERR) == SHMIPC_ENDING_ORDERLY &&
	    !shmipc_ending_refuses_bytes(r->sibling))
		return 0;
	r->reset_told = true;
	if (r->sibling)
		r->sibling->reset_told = true;
	return -ECONNRESET;
}

/* The kernel's too: of bytes that a killed peer left unread in the ring it knows nothing. */
static ssize_t end_of_plain(struct shmipc_receiver *r, int fd, bool private_use)
{
	ssize_t n;

	if (!shmipc_receiver_judges_end(r) || !shmipc_receiver_lock(r, private_use))
		return 0;
	n = shmipc_receiver_ended(r, fd);
	shmipc_lock_drop(&r->lock, private_use);
	return n;
}

ssize_t shmipc_receiver_judge_plain(struct shmipc_receiver *r, int fd, bool private_use, ssize_t n)
{
	if (n == -ECONNRESET)
		return tell_reset(r, fd);
	return n == 0 ? end_of_plain(r, fd, private_use) : n;
}

/* Fewer bytes than were waited for.  A time-out, a signal, a descriptor that rides on them, another
 * writer or an urgent mark ends a call too, and then the error stays, or bytes do. */
static bool has_met_end(const struct shmipc_receiver *r, int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };
	int there = 0;

	return sys_poll(&real, 1, 0) > 0 && (real.revents & (POLLRDHUP | POLLERR)) == POLLRDHUP &&
	       sys_ioctl(fd, FIONREAD, &there) == 0 && there == 0 &&
	       !shmipc_receiver_is_at_mark(r, fd);
}

void shmipc_receiver_forget_error(struct shmipc_receiver *r, int fd, bool private_use)
{
	if (r->is_unix && shmipc_receiver_judges_end(r) && has_met_end(r, fd))
		end_of_plain(r, fd, private_use);
}

/* ---- receive ---- */

/* Some option makes control data of all bytes: that it found no room says nothing. */
static bool labels_bytes(int fd)
{
	static const int names[] = { SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD, SO_INQ };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int value = 0;
		socklen_t bytes = sizeof(value);

		if (sys_getsockopt(fd, SOL_SOCKET, names[i], &value, &bytes) == 0 && value)
			return true;
	}
	return false;
}

static bool carried_descriptor(const struct shmipc_io *io)
{
	struct msghdr *message = io->message;
	bool no_room = io->control_dropped || (message && (message->msg_flags & MSG_CTRUNC));

	for (struct cmsghdr *c = message ? CMSG_FIRSTHDR(message) : NULL; c;
	     c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			return true;
	return no_room && !labels_bytes(io->fd);
}

/* Has the call, which returned n bytes, waited for more? */
static bool is_short(const struct shmipc_receiver *r, const struct shmipc_io *io, size_t room,
		     ssize_t n)
{
	size_t target = io->flags & MSG_WAITALL ? room : shmipc_receiver_low_water(r, room);

	return n > 0 && (size_t)n < target && !(io->flags & (MSG_PEEK | MSG_OOB));
}

ssize_t shmipc_receiver_receive_plain(struct shmipc_receiver *r, struct shmipc_io *io)
{
	struct shmipc_sleeper sleeper = { r, io, shmipc_process_generation() };
	const size_t room = io->cursor.left;
	bool may_end = room > 0 && !(io->flags & (MSG_OOB | MSG_ERRQUEUE));
	ssize_t n;
	int fd;

	if (r->stopped || !r->ready)
		shmipc_receiver_leave_peek_offset(r, io->fd);
	shmipc_postpone_begin(); /* no handler finds bytes that are taken and not counted */
	atomic_fetch_add(&r->kernel_readers, 1);
	shmipc_lock_drop(&r->lock, io->private_use);
	shmipc_io_follow(io);
	do {
		fd = io->fd;
		n = shmipc_receiver_counted_receive(r, io, room, 0, &sleeper);
	} while (shmipc_io_missed(io, n));
	shmipc_io_follow(io);
	/* an end may be another file's, if a handler has closed the number */
	if ((n < 0 || may_end) && !(n == 0 && io->fd != fd))
		n = shmipc_receiver_judge_plain(r, io->fd, io->private_use, n);
	if (is_short(r, io, room, n) && !carried_descriptor(io))
		shmipc_receiver_forget_error(r, io->fd, io->private_use);
	if (n > 0 && !(io->flags & (MSG_PEEK | MSG_OOB)))
		shmipc_receiver_peeked_less(r, (size_t)n);
	shmipc_process_uncount(&r->kernel_readers, sleeper.process);
	shmipc_postpone_end();
	return n;
}
