/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving: bytes from wherever the next one is. */
#include "core/pages.h"
#include "core/receiver.h"

#include <errno.h>
#include <linux/futex.h>

#include "core/ending.h"
#include "core/postpone.h"
#include "core/receiver_parts.h"
#include "core/sys.h"
#include "core/thread.h"

enum {
	CHUNK_BYTES = 16 *
		      1024, /* consumed at a time: the producer gets room while we still copy */
	CALM_STREAK = 256, /* receives without a sleep before the sender is spared tokens and fences
			    */
};

__attribute__((hot)) void shmipc_receiver_init(struct shmipc_receiver *r, bool is_unix)
{
	*r = (struct shmipc_receiver){ .is_unix = is_unix };
	r->count = &r->uncounted;
	shmipc_spin_init(&r->spin);
	shmipc_spin_init(&r->glance);
}

void shmipc_receiver_attach(struct shmipc_receiver *r, struct shmipc_direction *direction,
			    struct shmipc_ring ring)
{
	r->rx = &direction->rx;
	r->want = &direction->wait;
	r->tx = &direction->tx;
	r->ring = ring;
	r->warm_to = (uint32_t)ring.lead_bytes;
	r->given_back = 0;
	atomic_store(&r->want->sleep, 0);
	/* waiters may be asleep in the kernel already: tokens for everything until we know better
	 */
	atomic_store(&r->want->want, SHMIPC_WANT_STRICT | SHMIPC_WANT_EDGE | SHMIPC_WANT_FENCE);
	r->attached = true;
}

void shmipc_receiver_consent(struct shmipc_receiver *r, uint64_t kernel_read)
{
	atomic_store(&r->kernel_read, kernel_read);
	/* for counts_agree() in sender_cut.c */
	atomic_store_explicit(&r->rx->kernel_read, kernel_read, memory_order_release);
	r->ready = true;
	atomic_store_explicit(&r->want->ready, 1, memory_order_release);
}

/* ---- from the ring; locked ---- */

/* A sender that sleeps for room is woken when there is room worth a wake-up. */
static __attribute__((noinline)) void ring_bell(struct shmipc_receiver *r)
{
	if (!atomic_load_explicit(&r->tx->space_wanted, memory_order_relaxed) ||
	    shmipc_receiver_unread(r) > r->ring.ring_bytes / 4 * 3)
		return;
	atomic_fetch_add(&r->rx->space_bell, 1);
	sys_futex(&r->rx->space_bell, FUTEX_WAKE, 1, NULL);
}

/* Behind the tail: of the bytes before it, wherever they begin. */
static inline void note_base(struct shmipc_receiver *r)
{
	uint64_t base = atomic_load_explicit(&r->tx->base, memory_order_relaxed);
	uint32_t given_back;

	if (base == r->seen_base)
		return;
	r->seen_base = base;
	given_back = atomic_load_explicit(&r->tx->flags, memory_order_relaxed) /
		     SHMIPC_TX_GIVEN_BACK;
	if (__builtin_expect(given_back != r->given_back, 0)) {
		r->given_back = given_back;
		r->warm_to = (uint32_t)r->ring.lead_bytes;
	}
}

/* Unread bytes, of those that we know of; the sender's line is looked at when they are used up. */
static inline uint64_t known_unread(struct shmipc_receiver *r)
{
	uint64_t head = shmipc_receiver_head(r);
	uint64_t unread = r->seen_tail - head;

	if (unread > 0 && unread <= r->ring.ring_bytes)
		return unread;
	unread = shmipc_receiver_unread(r);
	r->seen_tail = head + unread;
	/* after the tail: base moves only while the ring is empty, so this is the one of these
	 * bytes */
	note_base(r);
	return unread;
}

/* All that is unread of the pages that are new to us; the sender has filled them. */
static void ask_for_pages(struct shmipc_receiver *r)
{
	const uint64_t unread_to = r->seen_tail - r->seen_base - r->ring.lead_bytes;
	uint64_t from = r->warm_to - r->ring.lead_bytes,
		 to = (unread_to + SHMIPC_PAGE_BYTES - 1) & ~(uint64_t)(SHMIPC_PAGE_BYTES - 1);

	if (r->warm_to == UINT32_MAX)
		return;
	if (to >= r->ring.ring_bytes) {
		to = r->ring.ring_bytes;
		r->warm_to = UINT32_MAX;
	} else {
		r->warm_to = (uint32_t)(to + r->ring.lead_bytes);
	}
	if (from < to) /* else a peer that lies */
		shmipc_pages_for_reading(r->ring.loop + from, (size_t)(to - from));
}

/* Copies what lies at `position`. */
static inline void get(struct shmipc_receiver *r, uint64_t position, struct shmipc_cursor *to,
		       size_t bytes)
{
	if (__builtin_expect(position + bytes - r->seen_base > r->warm_to, 0))
		ask_for_pages(r);
	shmipc_ring_get(&r->ring, r->seen_base, position, to, bytes);
}

/* Bytes, or -EFAULT: the application's memory is not there, nothing is taken. */
static __attribute__((hot)) ssize_t take_from_ring(struct shmipc_receiver *r, struct shmipc_io *io,
						   uint64_t unread)
{
	uint64_t head = shmipc_receiver_head(r);
	uint64_t eighth = r->ring.ring_bytes / 8;
	size_t want = io->cursor.left < unread ? io->cursor.left : (size_t)unread;
	size_t done = 0;
	bool discard = (io->flags & MSG_TRUNC) && !r->is_unix; /* TCP: count, do not copy */

	while (done < want) {
		size_t n = want - done < CHUNK_BYTES ? want - done : CHUNK_BYTES;

		if (!discard && !shmipc_cursor_reaches(&io->cursor, n, SHMIPC_REACH_WRITE)) {
			if (done == 0)
				return -EFAULT;
			break;
		}
		if (discard)
			shmipc_cursor_skip(&io->cursor, n);
		else
			get(r, head + done, &io->cursor, n);
		done += n;
		if (io->flags & MSG_PEEK)
			continue;
		atomic_store_explicit(&r->head, head + done, memory_order_relaxed);
		/* [head:rel] gives the room back; pairs with [head:acq] in sender.c */
		atomic_store_explicit(&r->rx->head, head + done, memory_order_release);
		if (((head + done) ^ (head + done - n)) & ~(eighth - 1))
			ring_bell(r);
	}
	if (!(io->flags & MSG_PEEK)) {
		shmipc_count(&r->count->ring_bytes, done);
		shmipc_count(&r->count->ring_messages, 1);
		shmipc_reach_grow_old(r->count->ring_messages);
		atomic_store_explicit(&r->streak,
				      atomic_load_explicit(&r->streak, memory_order_relaxed) + 1,
				      memory_order_relaxed);
	}
	return (ssize_t)done;
}

/* ---- one step after the other; locked ---- */

enum take { TAKE_MORE, TAKE_DONE };

/* One step: from wherever the next byte is.  *result as for recv; -EAGAIN: nothing now; -ESHUTDOWN:
 * nothing ever. */
static __attribute__((hot)) enum take take_step(struct shmipc_receiver *r, struct shmipc_io *io,
						bool probe, ssize_t *result)
{
	/* first the end, then the ring: what was published before the end is seen */
	bool at_end = shmipc_receiver_at_end(r);
	uint64_t unread;

	if (!shmipc_receiver_on_ring(r)) {
		*result = shmipc_receiver_take_from_kernel(r, io);
		if (*result != 0)
			return TAKE_DONE;
		shmipc_receiver_pass_cut(r);
		return TAKE_MORE;
	}
	atomic_thread_fence(memory_order_acquire);
	unread = known_unread(r);
	if (unread > 0) {
		*result = take_from_ring(r, io, unread);
		return TAKE_DONE;
	}
	*result = at_end && !r->last_seen ? -ESHUTDOWN : -EAGAIN;
	if (at_end && !r->last_seen)
		return TAKE_DONE;
	if (!probe && !r->last_seen && !shmipc_receiver_sender_ahead(r))
		return TAKE_DONE;
	if (shmipc_receiver_probe(r, io->fd, !shmipc_receiver_is_quiet(r)))
		return TAKE_MORE;
	if (shmipc_receiver_at_end(r))
		*result = -ESHUTDOWN;
	return TAKE_DONE;
}

bool shmipc_receiver_has_control(const struct shmipc_receiver *r, const struct shmipc_io *io)
{
	return r->is_unix && (io->control_dropped || (io->message && io->message_filled &&
						      (io->message->msg_controllen > 0 ||
						       (io->message->msg_flags & MSG_CTRUNC))));
}

/* Nothing more that could be had without entering the kernel in vain. */
static bool is_enough(const struct shmipc_receiver *r, const struct shmipc_io *io)
{
	if (io->cursor.left == 0)
		return true;
	if (shmipc_receiver_has_control(r, io))
		return true;
	if (shmipc_receiver_sender_ahead(r) || r->last_seen)
		return false;
	return shmipc_receiver_on_ring(r) ? shmipc_receiver_unread(r) == 0
					  : io->cursor.count <= SHMIPC_RECEIVER_KERNEL_IOV;
}

/* Everything that can be had now, over cuts.  Bytes, -ESHUTDOWN at the end, -EAGAIN; -ESTALE,
 * unless the call has begun: it is the kernel's from here on. */
static ssize_t take(struct shmipc_receiver *r, struct shmipc_io *io, bool probe, bool begun)
{
	ssize_t total = 0, n = -EAGAIN;

	for (;;) {
		if (!begun && total == 0 && shmipc_receiver_is_left(r))
			return -ESTALE;
		if (take_step(r, io, probe, &n) == TAKE_MORE) {
			if (total > 0 && shmipc_receiver_is_at_mark(r, io->fd))
				break;
			continue;
		}
		if (n <= 0)
			break;
		total += n;
		if (is_enough(r, io))
			break;
		probe = false;
	}
	return total > 0 ? total : n;
}

bool shmipc_receiver_step(struct shmipc_receiver *r, struct shmipc_io *io, ssize_t *result)
{
	return take_step(r, io, true, result) == TAKE_MORE;
}

ssize_t shmipc_receiver_copy_ring(struct shmipc_receiver *r, struct shmipc_io *io)
{
	uint64_t unread = known_unread(r);

	return unread > 0 ? take_from_ring(r, io, unread) : 0;
}

/* ---- receive ---- */

/* The message header of a result that the kernel did not give. */
static void fill_header(const struct shmipc_io *io)
{
	if (!io->message || io->message_filled)
		return;
	if (io->message->msg_name)
		io->message->msg_namelen = 0;
	io->message->msg_controllen = 0;
	io->message->msg_flags = io->flags & MSG_CMSG_CLOEXEC;
}

/* A nonblocking receive found nothing.  If no wait that we know watches this end, the application
 * may wait by means that we cannot see: from now on tokens for everything.  True: bytes came
 * meanwhile. */
static bool nothing_there(struct shmipc_receiver *r)
{
	if (atomic_load_explicit(&r->watchers, memory_order_relaxed) > 0)
		return false;
	if (atomic_load_explicit(&r->polled, memory_order_relaxed)) {
		/* the application waits for this one by calls of ours */
		atomic_store_explicit(&r->polled, false, memory_order_relaxed);
		return false;
	}
	r->unseen = true;
	r->own_waits = 0;
	shmipc_receiver_strict(r, true);
	return shmipc_receiver_hint(r);
}

void shmipc_receiver_recover(struct shmipc_receiver *r)
{
	if (!r->attached)
		return;
	if (r->in_kernel)
		r->broken = true;			   /* taken, but counted? */
	if (shmipc_receiver_wants(r, SHMIPC_WANT_HELPING)) /* the sender waits for that */
		atomic_fetch_or(&r->want->want, SHMIPC_WANT_FAILED);
	atomic_store_explicit(&r->rx->head, shmipc_receiver_head(r), memory_order_release);
	atomic_store_explicit(&r->rx->phase, shmipc_receiver_phase(r), memory_order_release);
	atomic_store(&r->rx->tokens_taken, r->taken);
}

/* Whether this call waits.  `sure` when the kernel was asked. */
struct patience {
	bool nonblocking, known, sure;
};

/* What blocked last time is taken to block now: if not, the sleep says EAGAIN. */
static void guess_patience(struct shmipc_receiver *r, const struct shmipc_io *io,
			   struct patience *patience)
{
	patience->sure = !r->blocks || (io->flags & MSG_DONTWAIT);
	patience->nonblocking = patience->sure && shmipc_receiver_is_nonblocking(r, io);
	patience->known = true;
	r->blocks = !patience->nonblocking;
}

/* Checks the guess, if it was one, against what the sleep said.  False: the call need not wait. */
static bool still_waits(struct shmipc_receiver *r, const struct shmipc_io *io,
			struct patience *patience, ssize_t slept)
{
	if (slept != -EAGAIN || patience->sure)
		return true;
	patience->sure = true;
	patience->nonblocking = shmipc_receiver_is_nonblocking(r, io);
	r->blocks = !patience->nonblocking;
	return r->blocks;
}

/* Without the lock.  What a wait returns. */
static ssize_t sleep_for_more(struct shmipc_receiver *r, struct shmipc_io *io,
			      struct shmipc_receiver_wait *wait, bool peek)
{
	ssize_t n;

	shmipc_postpone_begin(); /* a signal that came while we held the lock ends the wait */
	shmipc_lock_drop(&r->lock, io->private_use);
	n = peek && shmipc_receiver_was_peeked(r) ? shmipc_receiver_nap(r, io, wait)
						  : shmipc_receiver_wait(r, io, wait);
	if (shmipc_io_missed(io, n))
		n = 0;
	shmipc_receiver_lock(r, io->private_use);
	shmipc_io_follow(io);
	shmipc_postpone_end();
	return n;
}

/* The call has bytes, or a time limit from which it has slept a part: the kernel's would begin
 * anew.
 */
static inline bool has_begun(const struct shmipc_receiver *r, struct shmipc_io *io,
			     struct shmipc_receiver_wait *wait, ssize_t total)
{
	return total > 0 ||
	       (wait->slept && r->is_unix && shmipc_receiver_wants(r, SHMIPC_WANT_LEAVE) &&
		shmipc_receiver_is_timed(io, wait));
}

/* -ESTALE: another thread has stopped this end, or its sender has left the ring for good: go on by
 * the kernel's own call. */
static __attribute__((hot)) ssize_t receive_loop(struct shmipc_receiver *r, struct shmipc_io *io)
{
	const size_t room = io->cursor.left;
	const bool peek = io->flags & MSG_PEEK;
	const bool waitall = io->flags & MSG_WAITALL;
	const size_t target = waitall ? room : shmipc_receiver_low_water(r, room);
	struct shmipc_receiver_wait wait = { .taken = r->taken };
	struct patience patience = { 0 };
	ssize_t total = 0, n;

	io->flags &= ~MSG_WAITALL;
	for (;;) {
		n = peek ? shmipc_receiver_peek(r, io, waitall)
			 : take(r, io, patience.nonblocking, has_begun(r, io, &wait, total));
		if (n == -ESTALE)
			return n;
		if (n > 0)
			total += n;
		if (n > 0 &&
		    (peek || (size_t)total >= target || shmipc_receiver_is_at_mark(r, io->fd) ||
		     shmipc_receiver_has_control(r, io)))
			break;
		if (shmipc_receiver_is_about_the_call(n))
			break;
		if (n == -ESHUTDOWN) {
			/* a Unix stream loses an error that it meets behind bytes */
			n = total && !r->is_unix ? 0 : shmipc_receiver_ended(r, io->fd);
			break;
		}
		if (!patience.known) {
			guess_patience(r, io, &patience);
			if (patience.nonblocking)
				continue;
		}
		if (patience.nonblocking) {
			n = -EAGAIN;
			/* bytes before SO_PEEK_OFF are there all the time */
			if (!nothing_there(r) || (peek && shmipc_receiver_was_peeked(r)))
				break;
			continue;
		}
		wait.part = total > 0 && shmipc_postpone_expects_handlers();
		n = sleep_for_more(r, io, &wait, peek);
		if (r->broken)
			return total ? total : -ECONNRESET;
		if (r->stopped && !total)
			return -ESTALE;
		if (still_waits(r, io, &patience, n) && (n < 0 || r->stopped))
			break;
	}
	if (!peek && total > 0)
		shmipc_receiver_peeked_less(r, (size_t)total);
	return total ? total : n;
}

/* A Unix stream hands out what rides on the next byte even to a receive that does not take it. */
static ssize_t take_what_rides(struct shmipc_receiver *r, struct shmipc_io *io)
{
	ssize_t n = shmipc_receiver_counted_receive(r, io, 0, MSG_DONTWAIT, NULL);

	return n == -EAGAIN ? 0 : n; /* somebody was faster, by means of his own */
}

/* No room given: waits as any receive does, for bytes that stay where they are. */
static ssize_t receive_nothing(struct shmipc_receiver *r, struct shmipc_io *io)
{
	char byte;
	const struct iovec room = { &byte, 1 };
	const int peek_offset = shmipc_receiver_peek_offset(r);
	struct shmipc_io look = *io;
	ssize_t n;

	look.flags = (io->flags | MSG_PEEK) & ~(MSG_WAITALL | MSG_TRUNC);
	look.message = NULL;
	shmipc_cursor_init(&look.cursor, &room, 1);
	if (!(io->flags & MSG_PEEK)) /* the offset is for peeks alone */
		shmipc_receiver_set_peek_offset(r, -1);
	n = receive_loop(r, &look);
	shmipc_receiver_set_peek_offset(r, peek_offset); /* by no byte further */
	if (n > 0 && r->is_unix && !shmipc_receiver_on_ring(r))
		return take_what_rides(r, io);
	return n > 0 ? 0 : n;
}

/* The end of a Unix stream may come with credentials. */
static ssize_t tell_end_by_kernel(const struct shmipc_io *io)
{
	io->message->msg_controllen = io->control_room;
	/* a look passes no urgent mark */
	return sys_recvmsg(io->fd, io->message, MSG_DONTWAIT | (io->flags & MSG_PEEK));
}

static ssize_t receive_managed(struct shmipc_receiver *r, struct shmipc_io *io)
{
	ssize_t n;

	if (r->broken)
		return -ECONNRESET;
	if (r->shut && !r->is_unix) /* an end of our own making: more may come */
		r->eof = false;
	n = io->cursor.left ? receive_loop(r, io) : receive_nothing(r, io);
	if (n == 0 && r->is_unix && r->eof && io->message && io->control_room > 0)
		return tell_end_by_kernel(io);
	if (n >= 0)
		fill_header(io);
	if (shmipc_receiver_wants(r, SHMIPC_WANT_STRICT))
		shmipc_receiver_settle_tokens(r, io->fd);
	if (atomic_load_explicit(&r->streak, memory_order_relaxed) >= CALM_STREAK)
		shmipc_receiver_calm_down(r);
	return n;
}

/* By its own call: before consent, after a stop, and where the kernel alone has the stream again. A
 * look goes by our SO_PEEK_OFF, which is still ours then, and a receive of nothing is a look. */
static inline bool is_by_kernel(const struct shmipc_receiver *r, const struct shmipc_io *io)
{
	return !r->ready || (r->stopped && !r->broken) || (io->flags & (MSG_OOB | MSG_ERRQUEUE)) ||
	       (shmipc_receiver_is_left(r) && !(io->flags & MSG_PEEK) && io->cursor.left > 0);
}

static ssize_t receive_by_kernel(struct shmipc_receiver *r, struct shmipc_io *io)
{
	ssize_t n = shmipc_receiver_receive_plain(r, io);

	/* else of a reset that is none to the application */
	if (n != 0 || io->message_filled)
		return n;
	if (r->is_unix && io->message && io->control_room > 0)
		return tell_end_by_kernel(io);
	fill_header(io);
	return n;
}

__attribute__((hot)) ssize_t shmipc_receiver_receive(struct shmipc_receiver *r,
						     struct shmipc_io *io)
{
	ssize_t n;
	int flags;

	if (!shmipc_receiver_lock(r, io->private_use))
		return -EAGAIN;
	shmipc_io_follow(io);
	if (io->message)
		io->control_room = io->message->msg_controllen;
	if (r->is_unix) /* has no such queue and does not look at the flag */
		io->flags &= ~MSG_ERRQUEUE;
	flags = io->flags;
	do {
		io->flags = flags;
		if (__builtin_expect(r->unsettled, 0))
			shmipc_receiver_settle_stop(r, io->fd);
		if (is_by_kernel(r, io))
			return receive_by_kernel(r, io);
		n = receive_managed(r, io);
	} while (n == -ESTALE);
	shmipc_lock_drop(&r->lock, io->private_use);
	return n;
}
