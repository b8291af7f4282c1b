/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sender.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sock_diag.h>

#include "core/cpu.h"
#include "core/sys.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

enum {
	CHUNK_BYTES = 32 * 1024,    /* published at a time: the consumer copies while we still produce */
	RESTART_BYTES = 16 * 1024,  /* how far a request/response connection strays from the ring's start */
	EDGE_TOKENS_MAX = 32,	    /* unread tokens of an edge-triggered waiter that never drains */
	TOKEN_ROOM_BYTES = 16 * 1024,
	SPACE_NAP_NS = 1000 * 1000,
	SPACE_NAPS = 2,
	LOOK_EVERY_US = 1000,
	KERNEL_IOV = 64,
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
	s->attached = true;
}

/* The consumer's position: foreign, so read once, never believed beyond [head, tail]. */
static uint64_t load_head(struct shmipc_sender *s)
{
	/* [head:acq] the consumer has copied everything below; pairs with [head:rel] in receiver.c */
	uint64_t head = atomic_load_explicit(&s->rx->head, memory_order_acquire);

	if (head - s->head <= s->tail - s->head)
		s->head = head;
	return s->head;
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

/* ---- tokens ---- */

/* 0, or the error that the real socket gave.  Promise first, then look whether the other end is closing: close
 * forbids first, then drains what was promised ([close] in receiver.c), so no token is left behind unread. */
static int send_token(struct shmipc_sender *s, int fd, char value)
{
	ssize_t n;

	s->tokens++;
	atomic_store_explicit(&s->tx->tokens_promised, s->tokens, memory_order_seq_cst);
	if (atomic_load_explicit(&s->want->want, memory_order_seq_cst) & SHMIPC_WANT_CLOSED)
		n = -EPIPE;
	else
		n = sys_sendto(fd, &value, 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	if (n == 1) {
		shmipc_count(&s->count->tokens, 1);
		s->token_owed = false;
		return 0;
	}
	s->tokens--;
	atomic_store_explicit(&s->tx->tokens_promised, s->tokens, memory_order_seq_cst);
	if (n == -EAGAIN) {
		s->token_owed = true;
		return 0;
	}
	return (int)n;
}

static uint32_t outstanding_tokens(const struct shmipc_sender *s)
{
	/* [taken] pairs with the store in receiver.c: either we see the token taken back and send a new one,
	 * or the receiver, having taken it, sees our tail */
	return s->tokens - atomic_load_explicit(&s->rx->tokens_taken, memory_order_seq_cst);
}

/* The receiver wants something: see what, after a full fence. */
static int wake(struct shmipc_sender *s, int fd, uint64_t tail_before)
{
	uint32_t want;

	/* [sleep] store tail, fence, load want; the receiver stores want, fences, loads tail */
	atomic_thread_fence(memory_order_seq_cst);
	want = atomic_load_explicit(&s->want->want, memory_order_relaxed);
	if (want & SHMIPC_WANT_CLOSED)
		return -EPIPE;
	if (want & SHMIPC_WANT_STRICT) {
		if (load_head(s) >= tail_before || s->token_owed)
			return send_token(s, fd, SHMIPC_TOKEN_WAKE);
		if ((want & SHMIPC_WANT_EDGE) && outstanding_tokens(s) < EDGE_TOKENS_MAX)
			return send_token(s, fd, SHMIPC_TOKEN_WAKE);
	}
	if ((want & SHMIPC_WANT_SLEEPERS) && outstanding_tokens(s) == 0)
		return send_token(s, fd, SHMIPC_TOKEN_WAKE);
	return 0;
}

/* ---- cuts ---- */

static bool token_would_fit(const struct shmipc_sender *s, int fd)
{
	uint32_t memory[SK_MEMINFO_VARS] = { 0 };
	socklen_t bytes = sizeof(memory);
	uint32_t queued;

	if (sys_getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &bytes) < 0)
		return false;
	queued = s->is_unix ? memory[SK_MEMINFO_WMEM_ALLOC] : memory[SK_MEMINFO_WMEM_QUEUED];
	return queued + TOKEN_ROOM_BYTES <= memory[SK_MEMINFO_SNDBUF];
}

/* Locked, phase even. */
static bool cut_to_ring(struct shmipc_sender *s, int fd)
{
	uint32_t want;

	if (!s->attached || !s->settled || s->no_more_ring)
		return false;
	if (atomic_load_explicit(&s->rx->phase, memory_order_acquire) != s->phase ||
	    !atomic_load_explicit(&s->want->ready, memory_order_acquire))
		return false;
	want = atomic_load_explicit(&s->want->want, memory_order_relaxed);
	if (want & (SHMIPC_WANT_STOP | SHMIPC_WANT_CLOSED) || atomic_load(&s->kernel_senders) != 0)
		return false;
	if (!token_would_fit(s, fd))
		return false;
	atomic_store_explicit(&s->tx->cut, atomic_load(&s->kernel_bytes), memory_order_relaxed);
	s->phase++;
	/* [phase:rel] publishes cut; pairs with [phase:acq] in receiver.c */
	atomic_store_explicit(&s->tx->phase, s->phase, memory_order_release);
	shmipc_count(&s->count->cuts, 1);
	return true;
}

/* Locked, phase odd.  LAST is in the socket before the phase says so: whoever sees the phase finds LAST. */
static int cut_to_kernel(struct shmipc_sender *s, int fd)
{
	const char last = SHMIPC_TOKEN_LAST;
	ssize_t n = sys_sendto(fd, &last, 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);

	if (n == -EAGAIN || n == -EINTR)
		return -EAGAIN;
	if (n < 0)
		s->no_more_ring = true; /* nobody will read either way; the kernel gives the error */
	s->phase++;
	atomic_store_explicit(&s->tx->phase, s->phase, memory_order_release);
	shmipc_count(&s->count->cuts, 1);
	return 0;
}

int shmipc_sender_downgrade(struct shmipc_sender *s, int fd)
{
	s->no_more_ring = true;
	return shmipc_sender_on_ring(s) ? cut_to_kernel(s, fd) : 0;
}

/* ---- by the kernel ---- */

/* Not locked: a blocking kernel send must not keep other threads out.  kernel_senders was raised under the
 * lock, so no cut can pass us; the byte count is raised before the number of senders falls. */
static ssize_t kernel_send_counted(struct shmipc_sender *s, struct shmipc_io *io)
{
	struct iovec iov[KERNEL_IOV];
	struct msghdr message = { 0 };
	ssize_t n;

	if (io->message)
		message = *io->message;
	message.msg_iov = iov;
	message.msg_iovlen = (size_t)shmipc_io_vector(io, io->cursor.left, iov, KERNEL_IOV);
	n = sys_sendmsg(io->fd, &message, io->flags);
	if (n > 0) {
		atomic_fetch_add_explicit(&s->kernel_bytes, (uint64_t)n, memory_order_relaxed);
		shmipc_count(&s->count->kernel_bytes, (uint64_t)n);
		shmipc_cursor_skip(&io->cursor, (size_t)n);
	}
	atomic_fetch_sub_explicit(&s->kernel_senders, 1, memory_order_release);
	return n;
}

/* Ring bytes that the receiver will not read (it asked to stop) go by the kernel, behind LAST. */
static int resend_unread(struct shmipc_sender *s, int fd, int flags)
{
	while (s->head < s->resend_to) {
		struct iovec pieces[2];
		int count = shmipc_ring_pieces(&s->ring, s->base, s->head, (size_t)(s->resend_to - s->head),
					       pieces);
		struct msghdr message = { .msg_iov = pieces, .msg_iovlen = (size_t)count };
		ssize_t n = sys_sendmsg(fd, &message, flags | MSG_NOSIGNAL);

		if (n < 0)
			return (int)n;
		s->head += (uint64_t)n;
		atomic_fetch_add(&s->kernel_bytes, (uint64_t)n);
	}
	return 0;
}

/* The receiver has declared where it stopped.  Locked. */
static int serve_stop(struct shmipc_sender *s, int fd)
{
	int error = 0;

	if (shmipc_sender_on_ring(s)) {
		load_head(s);
		error = shmipc_sender_downgrade(s, fd);
		if (!error)
			s->resend_to = s->tail;
	}
	s->no_more_ring = true;
	return error ? error : resend_unread(s, fd, MSG_DONTWAIT);
}

void shmipc_sender_nudge(struct shmipc_sender *s, int fd)
{
	if (s->attached && shmipc_sender_on_ring(s) && !s->shut)
		send_token(s, fd, SHMIPC_TOKEN_WAKE);
}

void shmipc_sender_serve(struct shmipc_sender *s, int fd, bool private_use)
{
	if (!s->attached)
		return;
	if (!(atomic_load_explicit(&s->want->want, memory_order_relaxed) & SHMIPC_WANT_STOP) &&
	    !s->token_owed)
		return;
	if (shmipc_lock_take(&s->lock, private_use) == SHMIPC_LOCK_REENTERED)
		return;
	if (atomic_load(&s->want->want) & SHMIPC_WANT_STOP)
		serve_stop(s, fd);
	else if (s->token_owed && shmipc_sender_on_ring(s))
		send_token(s, fd, SHMIPC_TOKEN_WAKE);
	shmipc_lock_drop(&s->lock, private_use);
}

/* ---- by the ring ---- */

struct space {
	struct shmipc_sender *sender;
	uint64_t enough;
};

static bool has_space(void *argument)
{
	struct space *space = argument;

	load_head(space->sender);
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
	if (load_head(s) != s->tail)
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
	moved = load_head(s) != s->looked_at_head || s->looked_at_tail == s->head;
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
			load_head(s);
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
