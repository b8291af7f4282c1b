/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about an end, and how it is told. */
#include "core/receiver.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include "core/cpu.h"
#include "core/ending.h"
#include "core/receiver_parts.h"
#include "core/sys.h"

enum {
	CUTS_AT_ONCE_MAX = 8, /* an honest sender is never more than two ahead */
};

static bool kernel_says_readable(int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLIN | POLLRDHUP };

	return sys_poll(&real, 1, 0) > 0;
}

/* Locked. */
static bool is_readable(struct shmipc_receiver *r, int fd)
{
	for (int i = 0; i < CUTS_AT_ONCE_MAX; i++) {
		if (shmipc_receiver_on_ring(r)) {
			if (!shmipc_receiver_probe(r, fd, true))
				return shmipc_receiver_at_end(r);
			if (shmipc_receiver_on_ring(r))
				return true;
		} else if (shmipc_receiver_sender_ahead(r) && shmipc_receiver_before_cut(r) == 0) {
			shmipc_receiver_pass_cut(r);
		} else {
			return shmipc_receiver_at_end(r) || kernel_says_readable(fd);
		}
	}
	return true;
}

__attribute__((hot)) bool shmipc_receiver_readable(struct shmipc_receiver *r, int fd,
						   bool private_use)
{
	bool there;

	if (!r->broken && (!r->ready || r->stopped))
		return kernel_says_readable(fd);
	if (!shmipc_receiver_lock(r, private_use))
		return true;
	there = r->broken || is_readable(r, fd);
	shmipc_lock_drop(&r->lock, private_use);
	return there;
}

/* LAST stays: what came behind it, an urgent byte that TCP alone does not show for readable, may be
 * an edge that is still to be told, and from here on the sender sends no tokens. */
static bool token_is_next(struct shmipc_receiver *r, int fd)
{
	char value;
	ssize_t n = sys_recvfrom(fd, &value, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);

	if (n != 1)
		shmipc_receiver_socket_said(r, n);
	return n == 1 && value != SHMIPC_TOKEN_LAST;
}

/* [drop] Are there sleepers beside the one that asks, who must hear of these bytes?  They count
 * themselves, fence, and look at the ring before they sleep; we have seen the tail, fence, and look
 * at the count.  Whoever is not seen by us sees the bytes. */
static bool wakes_others(const struct shmipc_receiver *r)
{
	atomic_thread_fence(memory_order_seq_cst);
	return (atomic_load(&r->want->want) & SHMIPC_WANT_SLEEPERS) + atomic_load(&r->early) > 1;
}

enum drop { DROPPED, KEPT_FOR_NEWS, KEPT };

/* Locked.  The next token, which is there. */
static enum drop drop_token(struct shmipc_receiver *r, int fd, uint64_t seen)
{
	const uint32_t taken = r->taken;
	bool is_news, is_others;
	uint64_t tail;

	/* declared before it is taken, as everywhere: a tail that moves after this look brings a
	 * token */
	atomic_store(&r->rx->tokens_taken, taken + 1);
	atomic_thread_fence(memory_order_seq_cst);
	tail = atomic_load_explicit(&r->tx->tail, memory_order_acquire);
	is_news = tail != seen && tail != shmipc_receiver_head(r);
	is_others = tail != shmipc_receiver_head(r) && wakes_others(r);
	if (!is_news && !is_others)
		return shmipc_receiver_take_token(r, fd, true) == 1 ? DROPPED : KEPT;
	atomic_store(&r->rx->tokens_taken, taken);
	if (is_others)
		shmipc_receiver_strict(r, true);
	return is_news ? KEPT_FOR_NEWS : KEPT;
}

bool shmipc_receiver_drop_tokens(struct shmipc_receiver *r, int fd, uint64_t seen, bool private_use)
{
	enum drop drop = DROPPED;

	if (!r->ready || !shmipc_receiver_lock(r, private_use))
		return false;
	while (drop == DROPPED && shmipc_receiver_on_ring(r) && !r->last_seen &&
	       !shmipc_receiver_at_end(r) && shmipc_receiver_has_tokens(r) && token_is_next(r, fd))
		drop = drop_token(r, fd, seen);
	shmipc_lock_drop(&r->lock, private_use);
	return drop == KEPT_FOR_NEWS;
}

/* Nothing that a receive could return lies in the kernel, and nothing will before the sender cuts.
 */
static bool is_by_ring_alone(const struct shmipc_receiver *r)
{
	return shmipc_receiver_on_ring(r) && !r->last_seen && !shmipc_receiver_sender_ahead(r);
}

/* Locked.  Not one byte more than a receive would return now, and none less: who has read that many
 * (nginx) waits for an edge next, and the edges of what is already here are used up. */
static size_t count_pending(struct shmipc_receiver *r, int fd)
{
	uint64_t kernel, tokens, before = 0;
	int there = 0;

	/* first the phase, then the tail: what is published before a cut that comes now is an edge
	 * of its own */
	if (r->ready && !r->stopped && is_by_ring_alone(r))
		return (size_t)shmipc_receiver_unread(r);
	/* first the number, then the phase: what was there before a cut is payload */
	sys_ioctl(fd, FIONREAD, &there);
	kernel = there > 0 ? (uint64_t)there : 0;
	if (!r->ready || r->stopped)
		return (size_t)kernel;
	if (!shmipc_receiver_sender_ahead(r) && !r->last_seen)
		return shmipc_receiver_on_ring(r) ? (size_t)shmipc_receiver_unread(r)
						  : (size_t)kernel;
	if (!shmipc_receiver_on_ring(r)) {
		before = shmipc_receiver_before_cut(r);
		/* no way to the ring while kernel bytes before the cut are still under way */
		if (kernel < before)
			return (size_t)kernel;
	}
	/* behind the ring: tokens, LAST the last of them, then payload again */
	tokens = (uint32_t)(atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire) -
			    r->taken);
	kernel -= before;
	return (size_t)(before + shmipc_receiver_unread(r) +
			(kernel > tokens ? kernel - tokens : 0));
}

int64_t shmipc_receiver_besides_kernel(const struct shmipc_receiver *r)
{
	uint64_t ring;

	if (!r->attached)
		return r->former_besides;
	ring = shmipc_receiver_head(r) + (r->stopped ? 0 : shmipc_receiver_unread(r));
	return r->former_besides + (int64_t)ring - (int64_t)atomic_load(&r->tx->tokens_promised);
}

uint32_t shmipc_receiver_tokens_under_way(const struct shmipc_receiver *r, int fd)
{
	uint32_t promised;
	int there = 0;

	if (!r->ready || r->last_seen || !shmipc_receiver_on_ring(r) ||
	    shmipc_receiver_sender_ahead(r))
		return 0;
	promised = atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire) - r->taken;
	if (promised == 0 || promised > INT32_MAX || sys_ioctl(fd, FIONREAD, &there) < 0)
		return 0;
	return promised > (uint32_t)there ? promised - (uint32_t)there : 0;
}

__attribute__((hot)) bool shmipc_receiver_ring_is_far(const struct shmipc_receiver *r, int fd)
{
	uint64_t before;
	int there = 0;

	if (!r->ready || shmipc_receiver_on_ring(r) || !shmipc_receiver_sender_ahead(r))
		return false;
	before = shmipc_receiver_before_cut(r);
	return before > 0 && sys_ioctl(fd, FIONREAD, &there) == 0 && (uint64_t)there < before;
}

/* An urgent mark behind LAST: FIONREAD ends there.  All that has come does not, and until LAST is
 * passed nothing was read but what is counted. */
static bool hides_bytes(const struct shmipc_receiver *r, int fd, uint32_t tokens)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);

	return !r->is_unix && sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 &&
	       info.tcpi_bytes_received > atomic_load(&r->kernel_read) + r->taken + tokens;
}

bool shmipc_receiver_only_tokens(const struct shmipc_receiver *r, int fd)
{
	struct pollfd urgent = { .fd = fd, .events = POLLPRI };
	uint32_t tokens;
	int there = 0;

	if (!r->ready || !shmipc_receiver_on_ring(r))
		return false;
	if (!shmipc_receiver_sender_ahead(r) && !r->last_seen)
		return true;
	/* first the number: payload that comes later brings an edge of its own */
	if (sys_ioctl(fd, FIONREAD, &there) < 0)
		return false;
	tokens = atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire) - r->taken;
	if (r->last_seen ? there > 0 : (uint32_t)there > tokens)
		return false;
	/* an urgent byte behind LAST is not counted there */
	return sys_poll(&urgent, 1, 0) <= 0 && !hides_bytes(r, fd, tokens);
}

size_t shmipc_receiver_pending(struct shmipc_receiver *r, int fd, bool private_use)
{
	size_t pending;

	if (!shmipc_receiver_lock(r, private_use))
		return 0;
	pending = count_pending(r, fd);
	shmipc_lock_drop(&r->lock, private_use);
	return pending;
}

/* ---- the end of the stream ---- */

static enum shmipc_ending how_ended(const struct shmipc_receiver *r, int signs)
{
	uint32_t flags = r->attached ? atomic_load(&r->tx->flags) : 0;

	if (r->sibling)
		return shmipc_ending_of(r->sibling, signs);
	return flags & SHMIPC_TX_RESET ? SHMIPC_ENDING_LEFT_BYTES
	       : flags & SHMIPC_TX_FIN ? SHMIPC_ENDING_ORDERLY
				       : SHMIPC_ENDING_KERNEL;
}

static bool refuses_bytes(const struct shmipc_receiver *r)
{
	return r->sibling && shmipc_ending_refuses_bytes(r->sibling);
}

/* TCP, reset behind the peer's own end: no news to a receive. */
static bool is_broken_pipe(const struct shmipc_receiver *r, enum shmipc_ending ending)
{
	return ending == SHMIPC_ENDING_LEFT_BYTES && !refuses_bytes(r) && r->sibling &&
	       shmipc_ending_is_late(r->sibling);
}

/* An unread token has made it of an orderly end: a reset, or, where the end was heard before, the
 * broken pipe that answers a send as well. */
static bool is_made_by_token(const struct shmipc_receiver *r, int error, enum shmipc_ending ending)
{
	if (ending != SHMIPC_ENDING_ORDERLY || refuses_bytes(r))
		return false;
	return error == ECONNRESET || (error == EPIPE && r->sibling && !r->sibling->answered);
}

/* Locked.  error: pending, or 0; signs: of the real socket.  What the application is told now. */
static int tell_end(struct shmipc_receiver *r, int fd, int error, int signs)
{
	enum shmipc_ending ending;

	if (r->sibling)
		shmipc_ending_look_behind_shutdown(r->sibling, fd);
	if (r->sibling && !error) /* a token has met it */
		error = atomic_load(&r->sibling->kept_error);
	ending = how_ended(r, signs | (error ? POLLERR : 0));
	if (error) {
		if (r->pending_error) /* met where the bytes ended; SO_ERROR may come before them */
			r->eof = true;
		r->pending_error = 0;
		if (is_made_by_token(r, error, ending))
			error = 0;
	} else if (ending == SHMIPC_ENDING_LEFT_BYTES) {
		error = ECONNRESET;
	}
	if (shmipc_receiver_reset_told(r) || is_broken_pipe(r, ending))
		error = 0;
	if (error)
		r->reset_told = true;
	if (error && r->sibling)
		shmipc_ending_was_told(r->sibling, fd);
	return error;
}

/* The end of the bytes alone does not tell whether a Unix peer that has shut its direction, or
 * whose bytes we refuse, was killed: a HUP does. */
static int signs_of_end(const struct shmipc_receiver *r, int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };

	return r->is_unix && sys_poll(&real, 1, 0) > 0 ? real.revents : POLLRDHUP;
}

ssize_t shmipc_receiver_ended(struct shmipc_receiver *r, int fd)
{
	char value;
	ssize_t n = 0;

	/* an end that was told may be followed by a reset */
	if (r->eof && !r->pending_error)
		n = sys_recvfrom(fd, &value, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);
	if (n < 0)
		shmipc_receiver_socket_said(r, n);
	return -tell_end(r, fd, r->pending_error, signs_of_end(r, fd));
}

/* Not for bytes.  error: taken from the socket just now, or 0. */
static short look_for_end(struct shmipc_receiver *r, int fd, int error)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };
	uint64_t now = shmipc_ticks(); /* what is seen is not older than that */
	int n;

	/* first: what is reported from here on is to be asked for again */
	atomic_store_explicit(&r->reported, false, memory_order_relaxed);
	n = sys_poll(&real, 1, 0);
	if (n != 0 || error)
		shmipc_receiver_was_reported(r);
	else if (r->sibling)
		shmipc_sender_found_alive(r->sibling, now);
	return n < 0 ? 0 : real.revents;
}

bool shmipc_receiver_has_no_error(const struct shmipc_receiver *r)
{
	const struct shmipc_sender *s = r->sibling;

	return atomic_load_explicit(&r->ready, memory_order_acquire) && !r->pending_error &&
	       !r->eof && s && !s->swallowed && shmipc_sender_has_room(s) &&
	       shmipc_receiver_is_quiet(r);
}

int shmipc_receiver_take_error(struct shmipc_receiver *r, int fd, int error, bool private_use)
{
	struct pollfd real = { .fd = fd };

	if (!shmipc_receiver_judges_end(r) || !shmipc_receiver_lock(r, private_use))
		return error;
	if (error || !shmipc_receiver_is_quiet(r)) /* nginx asks before each send */
		real.revents = look_for_end(r, fd, error);
	error = tell_end(r, fd, r->pending_error ? r->pending_error : error, real.revents);
	if (!error && r->sibling &&
	    (r->sibling->swallowed || is_broken_pipe(r, how_ended(r, real.revents))) &&
	    !atomic_exchange(&r->sibling->pipe_told, true))
		error = EPIPE;
	shmipc_lock_drop(&r->lock, private_use);
	return error;
}

void shmipc_receiver_keep_error(struct shmipc_receiver *r, int error, bool private_use)
{
	if (!shmipc_receiver_lock(r, private_use))
		return;
	r->pending_error = error;
	r->reset_told = false;
	if (r->sibling)
		r->sibling->reset_told = false;
	shmipc_lock_drop(&r->lock, private_use);
}
