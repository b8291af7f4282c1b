/* SPDX-License-Identifier: Apache-2.0 */
#include "core/receiver.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "core/thread.h"

enum {
	CHUNK_BYTES = 64 * 1024, /* consumed at a time: the producer gets room while we still copy */
	KERNEL_IOV = 64,
	DRAIN_ROUNDS_MAX = 64, /* a peer that floods us with tokens harms itself only */
	UNFENCED_STREAK = 256, /* receives without a sleep before the sender is spared its fence */
	CLOSE_DRAIN_TRIES = 2000,
};

void shmipc_receiver_init(struct shmipc_receiver *r, bool is_unix)
{
	*r = (struct shmipc_receiver){ .is_unix = is_unix };
	r->count = &r->uncounted;
	shmipc_spin_init(&r->spin);
}

void shmipc_receiver_attach(struct shmipc_receiver *r, struct shmipc_direction *direction,
			    struct shmipc_ring ring)
{
	r->rx = &direction->rx;
	r->want = &direction->wait;
	r->tx = &direction->tx;
	r->ring = ring;
	/* waiters may be asleep in the kernel already: tokens for everything until we know better */
	atomic_store(&r->want->want, SHMIPC_WANT_STRICT | SHMIPC_WANT_EDGE | SHMIPC_WANT_FENCE);
	r->attached = true;
}

void shmipc_receiver_consent(struct shmipc_receiver *r, uint64_t kernel_read)
{
	atomic_store(&r->kernel_read, kernel_read);
	r->ready = true;
	atomic_store_explicit(&r->want->ready, 1, memory_order_release);
}

/* ---- looking ---- */

static uint64_t own_head(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->head, memory_order_relaxed);
}

static uint32_t own_phase(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->phase, memory_order_relaxed);
}

static uint64_t ring_unread(const struct shmipc_receiver *r)
{
	/* [tail:acq] pairs with [tail:rel] in sender.c */
	return shmipc_ring_used(&r->ring, own_head(r), atomic_load_explicit(&r->tx->tail, memory_order_acquire));
}

static uint32_t sender_phase(const struct shmipc_receiver *r)
{
	/* [phase:acq] pairs with [phase:rel] in sender.c: `cut` is valid */
	return atomic_load_explicit(&r->tx->phase, memory_order_acquire);
}

/* Kernel bytes before the ring begins, when the sender has cut to the ring and we are not there yet. */
static uint64_t kernel_bytes_before_cut(const struct shmipc_receiver *r)
{
	uint64_t cut = atomic_load_explicit(&r->tx->cut, memory_order_relaxed);
	uint64_t read = atomic_load_explicit(&r->kernel_read, memory_order_relaxed);

	return cut > read ? cut - read : 0;
}

bool shmipc_receiver_hint(const struct shmipc_receiver *r)
{
	uint32_t phase;

	if (!r->ready || r->stopped)
		return false;
	if (r->eof || r->pending_error)
		return true;
	phase = own_phase(r);
	if (phase & 1)
		return ring_unread(r) > 0 || sender_phase(r) != phase;
	return sender_phase(r) != phase && kernel_bytes_before_cut(r) == 0;
}

/* ---- the real socket ---- */

static void set_taken(struct shmipc_receiver *r, uint32_t taken)
{
	r->taken = taken;
	/* [taken] then a full fence, then the ring is looked at again; pairs with outstanding_tokens() */
	atomic_store_explicit(&r->rx->tokens_taken, taken, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
}

/* A byte of a ring phase has been taken off the socket. */
static void token_came(struct shmipc_receiver *r, char value)
{
	if (value == SHMIPC_TOKEN_LAST) {
		r->last_seen = true;
		/* whatever was promised before LAST lies behind us */
		set_taken(r, atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire));
	} else {
		set_taken(r, r->taken + 1);
	}
}

static void socket_ended(struct shmipc_receiver *r, ssize_t result)
{
	if (result == 0)
		r->eof = true;
	else if (result != -EAGAIN && result != -EINTR)
		r->pending_error = (int)-result;
}

/* Locked; phase odd and the ring seen empty after `promised` was read: take tokens back, see what else the
 * socket has to say.  Leaves at the first sign of anything to read. */
static void drain(struct shmipc_receiver *r, int fd, uint32_t promised)
{
	char value;
	ssize_t n;

	while (r->taken != promised && !r->last_seen) {
		n = sys_recvfrom(fd, &value, 1, MSG_DONTWAIT, NULL, NULL);
		if (n != 1) {
			socket_ended(r, n);
			return;
		}
		token_came(r, value);
	}
	if (r->last_seen)
		return;
	n = sys_recvfrom(fd, &value, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);
	if (n == 1 && value == SHMIPC_TOKEN_LAST) {
		sys_recvfrom(fd, &value, 1, MSG_DONTWAIT, NULL, NULL);
		token_came(r, value);
	} else if (n != 1) {
		socket_ended(r, n);
	}
}

/* ---- advancing over cuts; locked ---- */

static void pass_cut(struct shmipc_receiver *r)
{
	uint32_t phase = own_phase(r) + 1;

	r->last_seen = false;
	atomic_store_explicit(&r->phase, phase, memory_order_relaxed);
	atomic_store_explicit(&r->rx->phase, phase, memory_order_release);
}

/* Phase odd, ring empty: find out what the socket says. True: something changed, look again. */
static bool probe_socket(struct shmipc_receiver *r, int fd)
{
	for (int round = 0; round < DRAIN_ROUNDS_MAX; round++) {
		uint32_t promised = atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire);
		uint32_t taken = r->taken;

		if (ring_unread(r) > 0)
			return true;
		if (!r->last_seen && !r->eof && !r->pending_error)
			drain(r, fd, promised);
		if (ring_unread(r) > 0)
			return true;
		if (r->last_seen) {
			pass_cut(r);
			return true;
		}
		if (r->eof || r->pending_error || r->taken == taken)
			return false;
	}
	return false;
}

/* ---- taking bytes; locked ---- */

static void ring_bell(struct shmipc_receiver *r)
{
	if (!atomic_load_explicit(&r->tx->space_wanted, memory_order_relaxed))
		return;
	atomic_fetch_add(&r->rx->space_bell, 1);
	sys_futex(&r->rx->space_bell, FUTEX_WAKE, 1, NULL);
}

static ssize_t take_from_ring(struct shmipc_receiver *r, struct shmipc_io *io, uint64_t unread)
{
	uint64_t base = atomic_load_explicit(&r->tx->base, memory_order_relaxed);
	uint64_t head = own_head(r);
	size_t want = io->cursor.left < unread ? io->cursor.left : (size_t)unread;
	size_t done = 0;
	bool discard = (io->flags & MSG_TRUNC) && !r->is_unix; /* TCP: count, do not copy */

	while (done < want) {
		size_t n = want - done < CHUNK_BYTES ? want - done : CHUNK_BYTES;

		if (discard)
			shmipc_cursor_skip(&io->cursor, n);
		else
			shmipc_ring_get(&r->ring, base, head + done, &io->cursor, n);
		done += n;
		if (io->flags & MSG_PEEK)
			continue;
		atomic_store_explicit(&r->head, head + done, memory_order_relaxed);
		/* [head:rel] gives the room back; pairs with [head:acq] in sender.c */
		atomic_store_explicit(&r->rx->head, head + done, memory_order_release);
		if (done < want || unread > r->ring.ring_bytes / 4)
			ring_bell(r);
	}
	if (!(io->flags & MSG_PEEK)) {
		ring_bell(r);
		shmipc_count(&r->count->ring_bytes, done);
		shmipc_count(&r->count->ring_messages, 1);
		r->streak++;
	}
	return (ssize_t)done;
}

static ssize_t kernel_receive(struct shmipc_io *io, size_t limit, int extra_flags)
{
	struct iovec iov[KERNEL_IOV];
	struct msghdr message = { 0 };
	ssize_t n;

	if (io->message)
		message = *io->message;
	message.msg_iov = iov;
	message.msg_iovlen = (size_t)shmipc_io_vector(io, limit, iov, KERNEL_IOV);
	n = sys_recvmsg(io->fd, &message, io->flags | extra_flags);
	if (n >= 0 && io->message) {
		io->message->msg_controllen = message.msg_controllen;
		io->message->msg_flags = message.msg_flags;
		io->message->msg_namelen = message.msg_namelen;
	}
	return n;
}

static void took_from_kernel(struct shmipc_receiver *r, struct shmipc_io *io, ssize_t n)
{
	uint64_t total;

	if (n <= 0)
		return;
	shmipc_cursor_skip(&io->cursor, (size_t)n < io->cursor.left ? (size_t)n : io->cursor.left);
	if (io->flags & MSG_PEEK)
		return;
	total = atomic_fetch_add(&r->kernel_read, (uint64_t)n) + (uint64_t)n;
	if (r->attached)
		atomic_store_explicit(&r->rx->kernel_read, total, memory_order_release);
	shmipc_count(&r->count->kernel_bytes, (uint64_t)n);
}

/* Phase even, consent given.  Ask how much is there, then read the phase: what was there before the phase
 * changed is payload. */
static ssize_t take_from_kernel(struct shmipc_receiver *r, struct shmipc_io *io, uint32_t *phase_seen)
{
	uint32_t phase = own_phase(r);
	uint64_t limit;
	int there = 0;
	char value;
	ssize_t n;

	if (sys_ioctl(io->fd, FIONREAD, &there) < 0)
		there = 0;
	*phase_seen = sender_phase(r);
	if (*phase_seen != phase) {
		limit = kernel_bytes_before_cut(r);
		if (limit == 0)
			return 0;
	} else if (there > 0) {
		limit = (uint64_t)there;
	} else {
		n = sys_recvfrom(io->fd, &value, 1, MSG_DONTWAIT | MSG_PEEK, NULL, NULL);
		if (n == 1)
			return -EAGAIN; /* came just now; the caller looks again */
		return n == 0 ? -ESHUTDOWN : n;
	}
	n = kernel_receive(io, limit < io->cursor.left ? (size_t)limit : io->cursor.left, MSG_DONTWAIT);
	if (n == 0 && io->cursor.left > 0)
		return -ESHUTDOWN;
	took_from_kernel(r, io, n);
	return n;
}

/* The end of the stream, as the kernel would have told it. */
static ssize_t ended(struct shmipc_receiver *r)
{
	uint32_t flags = r->attached ? atomic_load(&r->tx->flags) : 0;

	if (r->pending_error) {
		int error = r->pending_error;

		r->pending_error = 0;
		r->eof = true;
		r->reset_told = true;
		/* a token that died unread with its receiver made a reset out of an orderly end */
		if (error == ECONNRESET && (flags & SHMIPC_TX_FIN) && !(flags & SHMIPC_TX_RESET))
			return 0;
		return -error;
	}
	if ((flags & SHMIPC_TX_RESET) && !r->reset_told && !r->shut) {
		r->reset_told = true;
		return -ECONNRESET;
	}
	return 0;
}

enum take { TAKE_MORE, TAKE_DONE };

/* One step: from wherever the next byte is.  *result as for recv; -EAGAIN: nothing now. */
static enum take take_step(struct shmipc_receiver *r, struct shmipc_io *io, bool probe, ssize_t *result)
{
	uint32_t phase = own_phase(r), seen;
	uint64_t unread;

	*result = -EAGAIN;
	if (phase & 1) {
		unread = ring_unread(r);
		if (unread > 0) {
			*result = take_from_ring(r, io, unread);
			return TAKE_DONE;
		}
		if (!probe && sender_phase(r) == phase && !r->eof && !r->pending_error)
			return TAKE_DONE;
		if (probe_socket(r, io->fd))
			return TAKE_MORE;
		if (r->eof || r->pending_error)
			*result = -ESHUTDOWN;
		return TAKE_DONE;
	}
	if (r->eof) {
		*result = -ESHUTDOWN;
		return TAKE_DONE;
	}
	*result = take_from_kernel(r, io, &seen);
	if (*result == 0 && seen != phase) {
		pass_cut(r);
		return TAKE_MORE;
	}
	return TAKE_DONE;
}

/* Locked: everything that can be had now, over cuts.  Bytes, -ESHUTDOWN at the end, -EAGAIN, other errors. */
static ssize_t take(struct shmipc_receiver *r, struct shmipc_io *io, bool probe)
{
	ssize_t total = 0, n = -EAGAIN;

	do {
		if (take_step(r, io, probe, &n) == TAKE_MORE)
			continue;
		if (n <= 0)
			break;
		total += n;
		if (io->flags & MSG_PEEK)
			break;
		probe = false; /* got something: do not enter the kernel for more */
		if (own_phase(r) & 1 && ring_unread(r) == 0 && sender_phase(r) == own_phase(r))
			break;
	} while (io->cursor.left > 0);
	return total > 0 ? total : n;
}

/* ---- wants ---- */

void shmipc_receiver_arm(struct shmipc_receiver *r)
{
	uint32_t before = atomic_fetch_add(&r->want->want, 1); /* a full fence on every processor we know */

	r->streak = 0;
	if (!(before & SHMIPC_WANT_FENCE)) {
		/* the sender publishes without a fence: ours must reach its processor */
		atomic_fetch_or(&r->want->want, SHMIPC_WANT_FENCE);
		shmipc_membarrier();
	}
	atomic_thread_fence(memory_order_seq_cst); /* [sleep] */
}

void shmipc_receiver_disarm(struct shmipc_receiver *r)
{
	atomic_fetch_sub_explicit(&r->want->want, 1, memory_order_relaxed);
}

void shmipc_receiver_strict(struct shmipc_receiver *r, bool edge)
{
	uint32_t bits = SHMIPC_WANT_STRICT | (edge ? SHMIPC_WANT_EDGE : 0);
	uint32_t before = atomic_load_explicit(&r->want->want, memory_order_relaxed);

	if ((before & (bits | SHMIPC_WANT_FENCE)) == (bits | SHMIPC_WANT_FENCE))
		return;
	before = atomic_fetch_or(&r->want->want, bits | SHMIPC_WANT_FENCE);
	if (!(before & SHMIPC_WANT_FENCE))
		shmipc_membarrier();
	atomic_thread_fence(memory_order_seq_cst);
}

void shmipc_receiver_relax(struct shmipc_receiver *r)
{
	if (atomic_load_explicit(&r->want->want, memory_order_relaxed) &
	    (SHMIPC_WANT_STRICT | SHMIPC_WANT_EDGE))
		atomic_fetch_and(&r->want->want, ~(uint32_t)(SHMIPC_WANT_STRICT | SHMIPC_WANT_EDGE));
}

/* A receiver that has not slept for long spares the sender the fence. */
static void consider_unfenced(struct shmipc_receiver *r)
{
	uint32_t want = atomic_load_explicit(&r->want->want, memory_order_relaxed);

	if (want != SHMIPC_WANT_FENCE) /* somebody sleeps, or strict */
		return;
	if (!(atomic_load(&r->tx->flags) & SHMIPC_TX_UNFENCED) || !shmipc_membarrier_registered())
		return;
	atomic_compare_exchange_strong(&r->want->want, &want, 0);
}

/* ---- receive ---- */

static bool hint(void *argument)
{
	return shmipc_receiver_hint(argument);
}

static void spin(struct shmipc_receiver *r)
{
	enum shmipc_spin_result result;
	uint32_t cpu = shmipc_spin_cpu();

	if (!(own_phase(r) & 1))
		return; /* bytes come by the kernel: so does the wake-up */
	if (cpu != r->cpu) {
		r->cpu = cpu;
		atomic_store_explicit(&r->rx->cpu, cpu, memory_order_relaxed);
	}
	result = shmipc_spin_until(&r->spin, hint, r, atomic_load(&r->tx->cpu));
	if (result == SHMIPC_SPIN_WON)
		shmipc_count(&r->count->spins_won, 1);
	else if (result == SHMIPC_SPIN_LOST)
		shmipc_count(&r->count->spins_lost, 1);
}

/* The only sleep of a blocking receive, on the real socket.  0: look again.  -EAGAIN: SO_RCVTIMEO is over. */
static ssize_t sleep_on_socket(struct shmipc_receiver *r, const struct shmipc_io *io)
{
	bool consume = io->private_use && (own_phase(r) & 1) && !r->last_seen;
	char value = 0;
	ssize_t n = sys_recvfrom(io->fd, &value, 1, consume ? 0 : MSG_PEEK, NULL, NULL);

	if (n == 1 && consume)
		token_came(r, value);
	if (n == -EINTR || n == -EAGAIN)
		return n;
	if (n <= 0)
		socket_ended(r, n);
	return 0;
}

/* Nothing there: sleep until there may be.  0, -EINTR, or -EAGAIN for a receive time-out. */
static ssize_t wait_for_bytes(struct shmipc_receiver *r, struct shmipc_io *io)
{
	ssize_t n = 0;

	if (r->sibling)
		shmipc_sender_serve(r->sibling, io->fd, io->private_use);
	spin(r);
	if (shmipc_receiver_hint(r))
		return 0;
	/* we wait here, in our own call; a set that knows this end relaxes it itself, once it has armed it */
	if (!atomic_load(&r->foreign) && atomic_load(&r->watchers) == 0)
		shmipc_receiver_relax(r);
	shmipc_receiver_arm(r);
	if (!shmipc_receiver_hint(r)) {
		bool there;

		shmipc_lock_take(&r->lock, io->private_use);
		there = (own_phase(r) & 1) && (probe_socket(r, io->fd) || r->eof || r->pending_error);
		shmipc_lock_drop(&r->lock, io->private_use);
		if (!there) {
			shmipc_count(&r->count->waits, 1);
			n = sleep_on_socket(r, io);
		}
	}
	shmipc_receiver_disarm(r);
	return n;
}

/* Before consent: the kernel's own call, counted. */
static ssize_t receive_plain(struct shmipc_receiver *r, struct shmipc_io *io)
{
	ssize_t n;

	atomic_fetch_add(&r->kernel_readers, 1);
	shmipc_lock_drop(&r->lock, io->private_use);
	n = kernel_receive(io, io->cursor.left, 0);
	took_from_kernel(r, io, n);
	atomic_fetch_sub(&r->kernel_readers, 1);
	return n;
}

/* A nonblocking receive found nothing.  If no wait that we know watches this end, the application may wait by
 * means that we cannot see: from now on tokens for everything.  True: bytes came meanwhile. */
static bool nothing_there(struct shmipc_receiver *r)
{
	if (atomic_load_explicit(&r->watchers, memory_order_relaxed) > 0)
		return false;
	shmipc_receiver_strict(r, true);
	return shmipc_receiver_hint(r);
}

static ssize_t receive_loop(struct shmipc_receiver *r, struct shmipc_io *io)
{
	bool waitall = (io->flags & MSG_WAITALL) && !(io->flags & MSG_PEEK);
	bool nonblocking = false, know = false;
	size_t asked = io->cursor.left;
	ssize_t total = 0, n;

	io->flags &= ~MSG_WAITALL;
	for (;;) {
		n = take(r, io, know && nonblocking);
		if (n > 0)
			total += n;
		if (n > 0 && (!waitall || (size_t)total == asked))
			break;
		if (n == -ESHUTDOWN) {
			n = total ? 0 : ended(r);
			break;
		}
		if (n < 0 && n != -EAGAIN)
			break;
		if (total && !waitall)
			break;
		if (!know) {
			nonblocking = shmipc_io_is_nonblocking(io);
			know = true;
			if (nonblocking)
				continue;
		}
		if (nonblocking) {
			n = -EAGAIN;
			if (!nothing_there(r))
				break;
			continue;
		}
		shmipc_lock_drop(&r->lock, io->private_use);
		n = wait_for_bytes(r, io);
		shmipc_lock_take(&r->lock, io->private_use);
		if (n < 0)
			break;
	}
	return total ? total : n;
}

ssize_t shmipc_receiver_receive(struct shmipc_receiver *r, struct shmipc_io *io)
{
	ssize_t n;

	if (shmipc_lock_take(&r->lock, io->private_use) == SHMIPC_LOCK_REENTERED)
		return -EAGAIN;
	if (!r->ready || r->stopped || (io->flags & (MSG_OOB | MSG_ERRQUEUE)))
		return receive_plain(r, io);
	if (io->message) {
		io->message->msg_namelen = 0;
		io->message->msg_flags = 0;
	}
	n = io->cursor.left ? receive_loop(r, io) : 0;
	if (r->streak >= UNFENCED_STREAK) {
		r->streak = 0;
		consider_unfenced(r);
	}
	shmipc_lock_drop(&r->lock, io->private_use);
	return n;
}

/* ---- questions ---- */

static bool kernel_says_readable(int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLIN | POLLRDHUP };

	return sys_poll(&real, 1, 0) > 0;
}

bool shmipc_receiver_readable(struct shmipc_receiver *r, int fd, bool private_use)
{
	bool there;

	if (!r->ready || r->stopped)
		return kernel_says_readable(fd);
	if (shmipc_lock_take(&r->lock, private_use) == SHMIPC_LOCK_REENTERED)
		return true;
	if (own_phase(r) & 1) {
		there = probe_socket(r, fd) || r->eof || r->pending_error;
		if (there && !(own_phase(r) & 1))
			there = kernel_says_readable(fd);
	} else {
		there = kernel_bytes_before_cut(r) == 0 && sender_phase(r) != own_phase(r) ?
				ring_unread(r) > 0 || (pass_cut(r), probe_socket(r, fd)) || r->eof :
				kernel_says_readable(fd);
	}
	shmipc_lock_drop(&r->lock, private_use);
	return there;
}

void shmipc_receiver_drop_tokens(struct shmipc_receiver *r, int fd, uint64_t seen, bool private_use)
{
	uint32_t promised;
	char value;

	if (!r->ready || shmipc_lock_take(&r->lock, private_use) == SHMIPC_LOCK_REENTERED)
		return;
	promised = atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire);
	/* a tail that moved after `seen` may be what the youngest token stands for: leave it */
	while ((own_phase(r) & 1) && !r->last_seen && r->taken != promised &&
	       atomic_load_explicit(&r->tx->tail, memory_order_acquire) == seen) {
		if (sys_recvfrom(fd, &value, 1, MSG_DONTWAIT, NULL, NULL) != 1)
			break;
		token_came(r, value);
	}
	shmipc_lock_drop(&r->lock, private_use);
}

size_t shmipc_receiver_pending(struct shmipc_receiver *r, int fd, bool private_use)
{
	size_t pending = 0;
	int there = 0;

	if (shmipc_lock_take(&r->lock, private_use) == SHMIPC_LOCK_REENTERED)
		return 0;
	sys_ioctl(fd, FIONREAD, &there);
	if (!r->ready || r->stopped || (!(own_phase(r) & 1) && sender_phase(r) == own_phase(r))) {
		pending = (size_t)there;
	} else if (!(own_phase(r) & 1)) {
		uint64_t before = kernel_bytes_before_cut(r);

		pending = (size_t)((uint64_t)there < before ? (uint64_t)there : before) + ring_unread(r);
	} else {
		pending = ring_unread(r);
		if (pending == 0 && probe_socket(r, fd)) {
			pending = ring_unread(r);
			if (!(own_phase(r) & 1) && sys_ioctl(fd, FIONREAD, &there) == 0)
				pending = (size_t)there;
		}
	}
	shmipc_lock_drop(&r->lock, private_use);
	return pending;
}

/* ---- leaving ---- */

bool shmipc_receiver_stop(struct shmipc_receiver *r, bool private_use)
{
	bool gone;

	if (!r->attached)
		return true;
	shmipc_lock_take(&r->lock, private_use);
	if (!r->ready) {
		r->attached = false; /* never consented: the sender never leaves the kernel */
		shmipc_lock_drop(&r->lock, private_use);
		return true;
	}
	atomic_fetch_or(&r->want->want, SHMIPC_WANT_STOP | SHMIPC_WANT_FENCE);
	shmipc_membarrier();
	gone = !(sender_phase(r) & 1);
	shmipc_lock_drop(&r->lock, private_use);
	return gone;
}

int shmipc_receiver_leave_ring(struct shmipc_receiver *r, int fd, bool private_use)
{
	char value;

	if (!r->attached || !r->ready)
		return 0;
	shmipc_lock_take(&r->lock, private_use);
	while ((own_phase(r) & 1) && !r->last_seen &&
	       sys_recvfrom(fd, &value, 1, MSG_DONTWAIT, NULL, NULL) == 1)
		token_came(r, value);
	if (r->last_seen)
		pass_cut(r);
	r->stopped = own_phase(r) == sender_phase(r);
	shmipc_lock_drop(&r->lock, private_use);
	return r->stopped ? 0 : -EAGAIN;
}

bool shmipc_receiver_close(struct shmipc_receiver *r, int fd)
{
	bool unread;
	char value;

	if (!r->attached || !r->ready)
		return false;
	/* [close] forbid, then drain: pairs with send_token() in sender.c */
	atomic_fetch_or(&r->want->want, SHMIPC_WANT_CLOSED | SHMIPC_WANT_FENCE);
	atomic_thread_fence(memory_order_seq_cst);
	unread = ring_unread(r) > 0;
	for (int i = 0; i < CLOSE_DRAIN_TRIES && (own_phase(r) & 1) && !r->last_seen; i++) {
		if (atomic_load(&r->tx->tokens_promised) == r->taken)
			break;
		if (sys_recvfrom(fd, &value, 1, MSG_DONTWAIT, NULL, NULL) == 1)
			token_came(r, value);
		else
			shmipc_cpu_pause();
	}
	return unread;
}
