/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sender.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>

#include "core/cpu.h"
#include "core/sender_parts.h"
#include "core/sys.h"
#include "core/thread.h"

enum {
	CHUNK_BYTES = 32 * 1024,   /* published at a time: the consumer copies while we still produce */
	RESTART_BYTES = 16 * 1024, /* how far a request/response connection strays from the ring's start */
	SPACE_NAP_NS = 1000 * 1000,
	SPACE_NAPS = 2,
	LOOK_EVERY_US = 1000,
	KERNEL_IOV = 64,
	LAST_WAIT_MS = 10,
};

void shmipc_sender_init(struct shmipc_sender *s, bool is_unix)
{
	*s = (struct shmipc_sender){ .is_unix = is_unix };
	s->count = &s->uncounted;
	shmipc_spin_init(&s->spin);
}

void shmipc_sender_attach(struct shmipc_sender *s, struct shmipc_direction *direction,
			  const struct shmipc_direction *reverse, struct shmipc_ring ring)
{
	s->reverse = &reverse->tx;
	s->tx = &direction->tx;
	s->rx = &direction->rx;
	s->want = &direction->wait;
	s->ring = ring;
	s->restart_at = RESTART_BYTES;
	if (shmipc_membarrier_registered())
		atomic_fetch_or(&s->tx->flags, SHMIPC_TX_UNFENCED);
	s->attached = true;
}

static uint64_t free_bytes(const struct shmipc_sender *s)
{
	return s->ring.ring_bytes - (s->tail - s->head);
}

uint64_t shmipc_sender_unread(const struct shmipc_sender *s)
{
	uint64_t head;

	if (!s->attached)
		return 0;
	head = atomic_load_explicit(&s->rx->head, memory_order_acquire);
	return shmipc_ring_used(&s->ring, head, s->tail);
}

/* ---- by the kernel ---- */

/* Not locked: a blocking kernel send must not keep other threads out.  kernel_senders was raised under the
 * lock, so no cut can pass us; the byte count is raised before the number of senders falls. */
static ssize_t kernel_send_counted(struct shmipc_sender *s, struct shmipc_io *io)
{
	struct iovec iov[KERNEL_IOV];
	struct msghdr message = { 0 };
	ssize_t n, total = 0;
	size_t bytes;

	if (io->message)
		message = *io->message;
	do {
		message.msg_iov = iov;
		message.msg_iovlen = (size_t)shmipc_io_vector(io, io->cursor.left, iov, KERNEL_IOV);
		bytes = 0;
		for (size_t i = 0; i < message.msg_iovlen; i++)
			bytes += iov[i].iov_len;
		n = sys_sendmsg(io->fd, &message, io->flags);
		if (n > 0) {
			atomic_fetch_add_explicit(&s->kernel_bytes, (uint64_t)n, memory_order_relaxed);
			atomic_fetch_add_explicit(&s->count->kernel_bytes, (uint64_t)n,
						  memory_order_relaxed);
			shmipc_cursor_skip(&io->cursor, (size_t)n);
			total += n;
		}
		message.msg_control = NULL; /* goes with the first byte only */
		message.msg_controllen = 0;
		/* a vector longer than ours: a short count would say that the socket is full */
	} while (n > 0 && (size_t)n == bytes && io->cursor.left > 0);
	atomic_fetch_sub_explicit(&s->kernel_senders, 1, memory_order_release);
	return total ? total : n;
}

/* ---- by the ring ---- */

struct space {
	struct shmipc_sender *sender;
	uint64_t enough;
};

static bool has_space(void *argument)
{
	struct space *space = argument;

	shmipc_sender_load_head(space->sender);
	return free_bytes(space->sender) >= space->enough;
}

/* Sleep until the consumer has moved, at most a nap.  The bell is a hint: it may be missed, the nap ends. */
static void nap_for_space(struct shmipc_sender *s, struct space *space)
{
	const struct timespec nap = { 0, SPACE_NAP_NS };
	uint32_t bell = atomic_load_explicit(&s->rx->space_bell, memory_order_acquire);

	atomic_store_explicit(&s->tx->space_wanted, 1, memory_order_seq_cst);
	if (!has_space(space))
		sys_futex(&s->rx->space_bell, FUTEX_WAIT, bell, &nap);
	atomic_store_explicit(&s->tx->space_wanted, 0, memory_order_relaxed);
}

/* The ring is full.  True: there is room now.  False: go on by the kernel, whose blocking, EAGAIN, POLLOUT and
 * time-outs are then the application's. */
static bool wait_for_space(struct shmipc_sender *s, struct shmipc_io *io)
{
	uint64_t enough = io->cursor.left < s->ring.ring_bytes / 4 ? io->cursor.left : s->ring.ring_bytes / 4;
	struct space space = { s, enough ? enough : 1 };

	if (shmipc_spin_until(&s->spin, has_space, &space, atomic_load(&s->rx->cpu)) == SHMIPC_SPIN_WON)
		return true;
	if (has_space(&space))
		return true;
	if (shmipc_io_is_nonblocking(io))
		return false;
	for (int i = 0; i < SPACE_NAPS; i++) {
		uint64_t head = s->head;

		nap_for_space(s, &space);
		if (has_space(&space))
			return true;
		if (s->head != head)
			i = -1; /* it moves: slow, but reading */
		if (atomic_load(&s->want->want) & (SHMIPC_WANT_STOP | SHMIPC_WANT_CLOSED))
			return false;
	}
	return false;
}

/* An empty ring may start again at its beginning; looked for now and then only, because the consumer's line
 * is cold for us. */
static void maybe_restart(struct shmipc_sender *s)
{
	if (s->tail - s->base < RESTART_BYTES || s->tail < s->restart_at)
		return;
	s->restart_at = s->tail + RESTART_BYTES;
	if (shmipc_sender_load_head(s) != s->tail)
		return;
	s->base = s->tail;
	/* published by the next store of tail; the consumer holds no unread byte, so it cannot use it early */
	atomic_store_explicit(&s->tx->base, s->base, memory_order_relaxed);
}

static void publish(struct shmipc_sender *s, struct shmipc_io *io, size_t bytes)
{
	shmipc_ring_put(&s->ring, s->base, s->tail, &io->cursor, bytes);
	s->tail += bytes;
	/* [tail:rel] publishes the bytes below; pairs with [tail:acq] in receiver.c */
	atomic_store_explicit(&s->tx->tail, s->tail, memory_order_release);
	shmipc_count(&s->count->ring_bytes, bytes);
}

/* A peer that was killed while awake leaves nobody who would be woken: look at the real socket when the
 * consumer has not moved for a while. */
static bool peer_is_gone(struct shmipc_sender *s, int fd)
{
	uint64_t now = shmipc_ticks();
	bool moved;
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };

	if (now - s->looked_ticks < LOOK_EVERY_US * shmipc_ticks_per_us())
		return false;
	moved = shmipc_sender_load_head(s) != s->looked_at_head || s->looked_at_tail == s->head;
	s->looked_ticks = now;
	s->looked_at_head = s->head;
	s->looked_at_tail = s->tail;
	if (moved || sys_poll(&real, 1, 0) <= 0)
		return false;
	if (real.revents & (POLLERR | POLLHUP | POLLNVAL))
		return true;
	/* FIN: a peer that ended its own direction in good order may go on reading ours */
	return !(atomic_load(&s->reverse->flags) & SHMIPC_TX_FIN);
}

/* Locked, phase odd.  Bytes put into the ring; *go_by_kernel when the rest must take the other way. */
static size_t ring_send(struct shmipc_sender *s, struct shmipc_io *io, bool *go_by_kernel)
{
	const struct shmipc_cursor start = io->cursor;
	size_t done = 0;

	*go_by_kernel = peer_is_gone(s, io->fd);
	if (*go_by_kernel)
		s->no_more_ring = true;
	while (!*go_by_kernel && io->cursor.left > 0) {
		uint64_t tail_before = s->tail;
		size_t n = io->cursor.left < CHUNK_BYTES ? io->cursor.left : CHUNK_BYTES;

		if (free_bytes(s) < n)
			shmipc_sender_load_head(s);
		if (free_bytes(s) == 0 && !wait_for_space(s, io)) {
			shmipc_count(&s->count->overflow, 1);
			*go_by_kernel = true;
			break;
		}
		if (free_bytes(s) < n)
			n = (size_t)free_bytes(s);
		maybe_restart(s);
		publish(s, io, n);
		done += n;
		if (atomic_load_explicit(&s->want->want, memory_order_relaxed) == 0)
			continue;
		if (wake(s, io->fd, tail_before) < 0) {
			/* the peer is closed or dead and reads no more: let the kernel say how, of the whole call */
			s->no_more_ring = true;
			*go_by_kernel = true;
			io->cursor = start;
			done = 0;
		}
	}
	if (done)
		shmipc_count(&s->count->ring_messages, 1);
	return done;
}

static void publish_cpu(struct shmipc_sender *s)
{
	uint32_t cpu = shmipc_spin_cpu();

	if (cpu != s->cpu) {
		s->cpu = cpu;
		atomic_store_explicit(&s->tx->cpu, cpu, memory_order_relaxed);
	}
}

/* Leave the ring; the lock is held.  False: LAST found no room, stay. */
static bool leave_ring(struct shmipc_sender *s, int fd)
{
	return cut_to_kernel(s, fd) == 0;
}

/* Calls that only the kernel can serve, in their place among the bytes. */
static bool wants_kernel(const struct shmipc_io *io)
{
	return (io->flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) ||
	       (io->message && (io->message->msg_controllen > 0 || io->message->msg_namelen > 0));
}

static void settle_locks_after_death(struct shmipc_sender *s, enum shmipc_lock_result result)
{
	/* the dead owner may have copied without publishing (harmless: the bytes of a call that never
	 * returned) or be half way through a cut (not decidable) */
	if (result == SHMIPC_LOCK_RECOVERED && s->attached &&
	    atomic_load(&s->tx->tail) != s->tail)
		s->broken = true;
}

ssize_t shmipc_sender_send(struct shmipc_sender *s, struct shmipc_io *io)
{
	enum shmipc_lock_result locked = shmipc_lock_take(&s->lock, io->private_use);
	bool go_by_kernel = false;
	size_t done = 0;
	ssize_t n;

	if (locked == SHMIPC_LOCK_REENTERED)
		return -EAGAIN;
	settle_locks_after_death(s, locked);
	if (s->broken) {
		shmipc_lock_drop(&s->lock, io->private_use);
		return -ECONNRESET;
	}
	if (s->attached) {
		publish_cpu(s);
		if (atomic_load_explicit(&s->want->want, memory_order_relaxed) & SHMIPC_WANT_STOP)
			serve_stop(s, io->fd);
		if (!shmipc_sender_on_ring(s) && !s->shut && !wants_kernel(io) && io->cursor.left > 0)
			cut_to_ring(s, io->fd);
	}
	if (shmipc_sender_on_ring(s) && !s->shut) {
		if (wants_kernel(io))
			go_by_kernel = true;
		else
			done = ring_send(s, io, &go_by_kernel);
		if (!go_by_kernel || !leave_ring(s, io->fd)) {
			shmipc_lock_drop(&s->lock, io->private_use);
			return done || !go_by_kernel ? (ssize_t)done : -EAGAIN;
		}
	}
	n = resend_unread(s, io->fd, io->flags & ~MSG_OOB);
	atomic_fetch_add(&s->kernel_senders, 1);
	shmipc_lock_drop(&s->lock, io->private_use);
	if (n < 0) {
		atomic_fetch_sub(&s->kernel_senders, 1);
		return done ? (ssize_t)done : n;
	}
	n = kernel_send_counted(s, io);
	if (n < 0)
		return done ? (ssize_t)done : n;
	return (ssize_t)done + n;
}

void shmipc_sender_finish(struct shmipc_sender *s, uint32_t flags)
{
	if (s->attached)
		atomic_fetch_or(&s->tx->flags, flags);
}
