/* SPDX-License-Identifier: Apache-2.0 */
/* MSG_PEEK: a look at what comes next, wherever it is. */
#include <errno.h>

#include "core/receiver_parts.h"
#include "core/sys.h"

enum {
	KERNEL_IOV = 64,
	SCRATCH_BYTES = 16 * 1024,
	SCRATCHES = 64, /* so far reaches what is looked over, and SO_PEEK_OFF */
};

/* Room for bytes that nobody looks at.  Returns the number of pieces. */
static size_t look_over(struct iovec pieces[SCRATCHES], size_t bytes)
{
	static char scratch[SCRATCH_BYTES];
	size_t count = 0;

	for (; bytes > 0 && count < SCRATCHES; count++) {
		pieces[count] = (struct iovec){ scratch,
						bytes < SCRATCH_BYTES ? bytes : SCRATCH_BYTES };
		bytes -= pieces[count].iov_len;
	}
	return count;
}

/* An error that it takes off the socket is told where the bytes end. */
static ssize_t look_at_socket(struct shmipc_receiver *r, int fd, struct msghdr *message)
{
	ssize_t n = sys_recvmsg(fd, message, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && !shmipc_receiver_is_about_the_call(n))
		shmipc_receiver_socket_said(r, n);
	return n;
}

/* Kernel bytes behind LAST, looked at over `before` bytes of payload and the tokens. */
static ssize_t peek_behind_last(struct shmipc_receiver *r, struct shmipc_io *io, uint64_t before)
{
	char last = SHMIPC_TOKEN_LAST;
	struct iovec iov[SCRATCHES + 1 + KERNEL_IOV];
	struct msghdr message = { .msg_iov = iov };
	uint32_t tokens = atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire) -
			  r->taken;
	uint64_t skip = before + tokens;
	ssize_t n;

	if (r->last_seen)
		skip = 0;
	else if (tokens == 0 || skip > SCRATCHES * SCRATCH_BYTES)
		return 0;
	if (skip > 0) {
		message.msg_iovlen = look_over(iov, (size_t)skip - 1);
		iov[message.msg_iovlen++] = (struct iovec){ &last, 1 };
	}
	message.msg_iovlen += (size_t)shmipc_io_vector(io, io->cursor.left,
						       iov + message.msg_iovlen, KERNEL_IOV);
	if (io->message) {
		message.msg_control = io->message->msg_control;
		message.msg_controllen = io->control_room;
	}
	n = look_at_socket(r, io->fd, &message);
	/* what rides there is told to a look that has no room left for its bytes, too */
	if (n < (ssize_t)skip || last != SHMIPC_TOKEN_LAST ||
	    (n == (ssize_t)skip && io->cursor.left > 0))
		return 0;
	shmipc_cursor_skip(&io->cursor, (size_t)n - skip);
	if (io->message) {
		io->message->msg_namelen = 0;
		io->message->msg_controllen = message.msg_controllen;
		io->message->msg_flags = message.msg_flags;
		io->message_filled = true;
	}
	return n - (ssize_t)skip;
}

/* The kernel's look at bytes before the ring goes on, over what it has no room for, to the next
 * descriptor: does that ride on a byte behind the ring? */
static bool control_rides_behind(struct shmipc_receiver *r, const struct shmipc_io *io)
{
	struct iovec iov[SCRATCHES];
	struct msghdr message = { .msg_iov = iov };
	uint64_t before;

	if (shmipc_receiver_on_ring(r) || !shmipc_receiver_two_ahead(r))
		return false;
	before = shmipc_receiver_before_cut(r);
	if (before + 1 > SCRATCHES * SCRATCH_BYTES)
		return false;
	/* a look ends with the bytes on which a descriptor rides */
	message.msg_iovlen = look_over(iov, (size_t)before + 1);
	return look_at_socket(r, io->fd, &message) > (ssize_t)before;
}

/* A Unix stream's: it tells what rides on the next bytes that have any, however far they are. */
static bool wants_control(const struct shmipc_receiver *r, const struct shmipc_io *io)
{
	return r->is_unix && io->message && io->control_room > 0 &&
	       !shmipc_receiver_has_control(r, io);
}

/* `look` is a copy of `io` that has seen more, and has filled the same message. */
static void tell_what_rode(struct shmipc_io *io, const struct shmipc_io *look)
{
	io->message_filled = look->message_filled;
	io->control_dropped = look->control_dropped;
}

/* The ring behind `before` kernel bytes that have been looked at, and what lies behind it. */
static ssize_t peek_over_ring(struct shmipc_receiver *r, struct shmipc_io *look, uint64_t before)
{
	ssize_t n = 0, more = look->cursor.left > 0 ? shmipc_receiver_copy_ring(r, look) : 0;

	n += more > 0 ? more : 0;
	if (shmipc_receiver_two_ahead(r) && (look->cursor.left > 0 || wants_control(r, look)))
		n += peek_behind_last(r, look, before);
	return n;
}

/* All that lies in a row: by the kernel, in the ring, and by the kernel again. */
static ssize_t peek_at_all(struct shmipc_receiver *r, struct shmipc_io *io)
{
	const bool rides_behind = wants_control(r, io) && control_rides_behind(r, io);
	struct shmipc_io look = *io;
	ssize_t n = -EAGAIN;

	r->seen_tail = shmipc_receiver_head(
		r);	  /* all that is there, not what was there last time */
	if (rides_behind) /* told once, with the bytes behind the ring */
		io->control_room = 0;
	while (shmipc_receiver_step(r, io, &n))
		;
	io->control_room = look.control_room;
	if (rides_behind)
		io->message_filled = false;
	if (n <= 0 || (io->cursor.left == 0 && !wants_control(r, io)))
		return n;
	if (shmipc_receiver_has_control(r, io) &&
	    (io->control_room > 0 || !control_rides_behind(r, io)))
		return n;
	if (shmipc_receiver_on_ring(r) && (r->last_seen || shmipc_receiver_sender_ahead(r)))
		return n + peek_behind_last(r, io, 0);
	if (!shmipc_receiver_on_ring(r) && shmipc_receiver_sender_ahead(r) &&
	    ((uint64_t)n == shmipc_receiver_before_cut(r) || io->cursor.left == 0)) {
		look.cursor = io->cursor;
		n += peek_over_ring(r, &look, shmipc_receiver_before_cut(r));
		tell_what_rode(io, &look);
	}
	return n;
}

/* ---- SO_PEEK_OFF ---- */

int shmipc_receiver_peek_offset(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->peek_from, memory_order_relaxed) - 1;
}

void shmipc_receiver_set_peek_offset(struct shmipc_receiver *r, int offset)
{
	atomic_store_explicit(&r->peek_from, offset < 0 ? 0 : offset + 1, memory_order_relaxed);
}

__attribute__((hot)) void shmipc_receiver_peeked_less(struct shmipc_receiver *r, size_t taken)
{
	int offset = shmipc_receiver_peek_offset(r);

	if (offset > 0)
		shmipc_receiver_set_peek_offset(r,
						(size_t)offset > taken ? offset - (int)taken : 0);
}

void shmipc_receiver_leave_peek_offset(struct shmipc_receiver *r, int fd)
{
	int offset = shmipc_receiver_peek_offset(r);

	if (offset < 0)
		return;
	sys_setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset));
	shmipc_receiver_set_peek_offset(r, -1);
}

void shmipc_receiver_take_peek_offset(struct shmipc_receiver *r, int fd)
{
	const int none = -1;
	socklen_t bytes = sizeof(int);
	int offset;

	if (sys_getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &bytes) < 0 || offset < 0)
		return;
	sys_setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof(none));
	shmipc_receiver_set_peek_offset(r, offset);
}

bool shmipc_receiver_was_peeked(const struct shmipc_receiver *r)
{
	return shmipc_receiver_peek_offset(r) > 0;
}

/* The bytes before the offset go where nobody looks.  How many there are, those too. */
static ssize_t look_from(struct shmipc_receiver *r, const struct shmipc_io *io,
			 struct shmipc_io *seen, size_t offset)
{
	struct iovec iov[SCRATCHES + KERNEL_IOV];
	struct shmipc_io look = *io;
	size_t count = look_over(iov, offset);
	ssize_t n;

	count += (size_t)shmipc_io_vector(io, io->cursor.left, iov + count, KERNEL_IOV);
	shmipc_cursor_init(&look.cursor, iov, count);
	n = peek_at_all(r, &look);
	tell_what_rode(seen, &look);
	return n;
}

/* Behind bytes that nobody takes an end shows on the socket only. */
static bool end_is_near(const struct shmipc_receiver *r, int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLRDHUP };

	return shmipc_receiver_at_end(r) || sys_poll(&end, 1, 0) > 0;
}

static ssize_t peek_from(struct shmipc_receiver *r, struct shmipc_io *io, size_t offset)
{
	struct shmipc_io seen = *io;
	ssize_t n = look_from(r, io, &seen, offset);
	bool ended = n >= 0 && (size_t)n <= offset && end_is_near(r, io->fd);

	if (ended) /* what came before the end is here now */
		n = look_from(r, io, &seen, offset);
	if (n < 0)
		return n;
	if ((size_t)n <= offset)
		return ended ? -ESHUTDOWN : -EAGAIN;
	tell_what_rode(io, &seen);
	shmipc_cursor_skip(&io->cursor, (size_t)n - offset);
	return n - (ssize_t)offset;
}

static ssize_t peek_once(struct shmipc_receiver *r, struct shmipc_io *io)
{
	int offset = shmipc_receiver_peek_offset(r);

	return offset > 0 ? peek_from(r, io, (size_t)offset) : peek_at_all(r, io);
}

/* ---- MSG_PEEK with MSG_WAITALL: nobody tells us when there is enough, so look now and then ----
 */

/* `n` is there. */
static ssize_t peek_until_full(struct shmipc_receiver *r, struct shmipc_io *io,
			       const struct shmipc_cursor *start, ssize_t n)
{
	struct shmipc_receiver_wait wait = { 0 };

	while (n > 0 && (size_t)n < start->left && !end_is_near(r, io->fd) &&
	       !shmipc_io_is_nonblocking(io)) {
		ssize_t error, before = n;

		shmipc_postpone_begin(); /* as in sleep_for_more() */
		shmipc_lock_drop(&r->lock, io->private_use);
		error = shmipc_receiver_nap(r, io, &wait);
		shmipc_io_follow(io);
		shmipc_receiver_lock(r, io->private_use);
		shmipc_io_follow(io);
		shmipc_postpone_end();
		io->cursor = *start;
		n = peek_once(r, io);
		if (error || n < before || r->broken)
			break;
	}
	return n;
}

ssize_t shmipc_receiver_peek(struct shmipc_receiver *r, struct shmipc_io *io, bool waitall)
{
	const struct shmipc_cursor start = io->cursor;
	ssize_t n = peek_once(r, io);

	if (n > 0 && waitall && !r->is_unix) /* there a look never waits for more */
		n = peek_until_full(r, io, &start, n);
	if (n > 0 && shmipc_receiver_peek_offset(r) >= 0)
		shmipc_receiver_set_peek_offset(r, shmipc_receiver_peek_offset(r) + (int)n);
	return n;
}
