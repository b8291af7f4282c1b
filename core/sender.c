/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sender.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>

#include "core/cpu.h"
#include "core/ending.h"
#include "core/gone.h"
#include "core/postpone.h"
#include "core/sender_parts.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "core/thread.h"

enum {
	CHUNK_BYTES = 32 * 1024, /* published at a time: the consumer copies meanwhile */
	SPACE_NAP_NS = 1000 * 1000,
	SPACE_NAPS = 5, /* without any movement of the reader; then the kernel takes over */
	LOOK_EVERY_US = 1000,
	KERNEL_IOV = 64,
	LAST_NAP_NS = 10 * 1000 * 1000,
	ROOM_PART = 4, /* of the ring must be free before we say so ourselves */
};

__attribute__((hot)) void shmipc_sender_init(struct shmipc_sender *s, bool is_unix)
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
	shmipc_sender_begin(s);
	if (shmipc_membarrier_registered())
		atomic_fetch_or(&s->tx->flags, SHMIPC_TX_UNFENCED);
	/* whoever watched a former stream has not been told since */
	atomic_store_explicit(&s->watch, NULL, memory_order_relaxed);
	s->attached = true;
}

static uint64_t free_bytes(const struct shmipc_sender *s)
{
	return s->ring.ring_bytes - (s->tail - s->head);
}

int64_t shmipc_sender_besides_kernel(const struct shmipc_sender *s)
{
	return s->former_besides + (int64_t)s->tail - (int64_t)s->tokens - (int64_t)s->resent;
}

__attribute__((hot)) uint64_t shmipc_sender_unread(const struct shmipc_sender *s)
{
	uint64_t head;

	if (!s->attached)
		return 0;
	head = atomic_load_explicit(&s->rx->head, memory_order_acquire);
	return shmipc_ring_used(&s->ring, head, s->tail);
}

/* ---- by the kernel ---- */

/* Who sleeps, for the case that the thread is cancelled. */
struct sleeper {
	struct shmipc_sender *s;
	const struct shmipc_io *io;
	uint32_t process; /* its generation */
};

/* How much the kernel has taken nobody knows any more: said before the call counts as over. */
static void undo_kernel_send(void *argument)
{
	const struct sleeper *sleeper = argument;

	atomic_store(&sleeper->s->count_lost, true);
	shmipc_sender_leave_kernel(sleeper->s, sleeper->process);
	shmipc_io_release(sleeper->io);
}

static ssize_t kernel_send(struct shmipc_sender *s, struct shmipc_io *io,
			   const struct msghdr *message, size_t bytes, int flags)
{
	struct sleeper sleeper = { s, io, shmipc_process_generation() };

	if (io->from_file)
		return shmipc_sender_kernel_file(io, undo_kernel_send, &sleeper);
	/* the kernel copies a message header first: spare it where there is nothing in it */
	if (!io->message && message->msg_iovlen == 1)
		return SHMIPC_SLEEP(undo_kernel_send, &sleeper, SYS_sendto, io->fd,
				    message->msg_iov[0].iov_base, bytes, flags, 0, 0);
	return SHMIPC_SLEEP(undo_kernel_send, &sleeper, SYS_sendmsg, io->fd, message, flags, 0, 0,
			    0);
}

/* Not locked: others may send meanwhile.  Signal handlers wait but for the sleep, so none finds
 * bytes that are sent and not counted.  kernel_senders was raised under the lock, so no cut can
 * pass us; the byte count is raised before the number of senders falls. */
static ssize_t kernel_send_counted(struct shmipc_sender *s, struct shmipc_io *io)
{
	struct iovec iov[KERNEL_IOV];
	struct msghdr message = { 0 };
	ssize_t n, total = 0;
	size_t bytes;
	/* bytes that TCP holds back would hold back those of the ring behind them */
	int flags = s->attached && !s->no_more_ring ? io->flags & ~MSG_MORE : io->flags;
	const uint32_t process = shmipc_process_generation();

	if (io->message)
		message = *io->message;
	do {
		bytes = io->from_file
				? io->cursor.left
				: shmipc_io_message(io, io->cursor.left, iov, KERNEL_IOV, &message);
		do
			n = kernel_send(s, io, &message, bytes, flags);
		while (shmipc_io_missed(io, n));
		if (n > 0) {
			atomic_fetch_add_explicit(&s->kernel_bytes, (uint64_t)n,
						  memory_order_relaxed);
			atomic_fetch_add_explicit(&s->count->kernel_bytes, (uint64_t)n,
						  memory_order_relaxed);
			shmipc_io_skip(io, (size_t)n);
			total += n;
		}
		message.msg_controllen = 0; /* it goes with the first byte only */
		/* a vector longer than ours: a short count would say that the socket is full */
	} while (n > 0 && (size_t)n == bytes && io->cursor.left > 0);
	shmipc_sender_leave_kernel(s, process);
	shmipc_postpone_end();
	return total ? total : n;
}

/* ---- by the ring ---- */

/* Nothing stands against the ring: the state of almost every call. */
static __attribute__((hot)) bool is_on_clear_ring(const struct shmipc_sender *s)
{
	return shmipc_sender_on_ring(s) && !s->no_more_ring && !s->gone && !s->shut && !s->broken &&
	       !(atomic_load_explicit(&s->want->want, memory_order_relaxed) &
		 (SHMIPC_WANT_STOP | SHMIPC_WANT_LEAVE | SHMIPC_WANT_CLOSED));
}

__attribute__((hot)) bool shmipc_sender_has_room(const struct shmipc_sender *s)
{
	uint64_t enough = s->ring.ring_bytes / ROOM_PART;

	if (!s->attached || !is_on_clear_ring(s) || s->kept_error)
		return false;
	/* by what is known of the consumer, before its line is looked at */
	return free_bytes(s) >= enough || s->ring.ring_bytes - shmipc_sender_unread(s) >= enough;
}

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

static void undo_unlocked_sleep(void *argument)
{
	const struct sleeper *sleeper = argument;

	shmipc_io_release(sleeper->io);
}

/* Nobody sleeps with the lock: other threads may send meanwhile, or end the direction, and a signal
 * handler may run, so after this nothing is known but what is looked at again.  Locked before and
 * after.  A signal that came while we held the lock is the sleep's, and ends it. */
static int sleep_unlocked(struct shmipc_sender *s, struct shmipc_io *io, const long call[7])
{
	struct sleeper sleeper = { .s = s, .io = io };
	int result;

	shmipc_postpone_begin();
	shmipc_lock_drop(&s->lock, io->private_use);
	result = (int)shmipc_sleep6(call, undo_unlocked_sleep, &sleeper);
	shmipc_io_follow(io);
	shmipc_sender_lock_for(s, io);
	shmipc_postpone_end();
	return result;
}

/* Sleep until the consumer has moved, at most a nap.  The bell is a hint: it may be missed, the nap
 * ends. */
static int nap_for_space(struct shmipc_sender *s, struct shmipc_io *io, struct space *space)
{
	const struct timespec nap = { 0, SPACE_NAP_NS };
	uint32_t bell = atomic_load_explicit(&s->rx->space_bell, memory_order_acquire);
	int result = 0;

	atomic_store_explicit(&s->tx->space_wanted, 1, memory_order_seq_cst);
	if (shmipc_postpone.waiting || !has_space(space))
		result = sleep_unlocked(s, io,
					(const long[7]){ SYS_futex, (long)&s->rx->space_bell,
							 FUTEX_WAIT, bell, (long)&nap });
	atomic_store_explicit(&s->tx->space_wanted, 0, memory_order_relaxed);
	return result == -EINTR && !io->part && shmipc_sleep_restarts() ? 0 : result;
}

/* The ring is full.  0: there is room for `enough` bytes now (for any, if the call does not wait).
 * -EAGAIN: go on by the kernel, whose blocking, EAGAIN, POLLOUT and time-outs are then the
 * application's.  -EINTR: a signal came, also if room did: as TCP has it. */
static int wait_for_space(struct shmipc_sender *s, struct shmipc_io *io, uint64_t enough)
{
	/* more than is needed: else a spin fetches each small piece of room for itself */
	struct space space = { s, s->ring.ring_bytes / 4 };

	if (shmipc_spin_until(&s->spin, has_space, &space, atomic_load(&s->rx->cpu)) ==
		    SHMIPC_SPIN_WON &&
	    !shmipc_postpone.waiting)
		return 0;
	if (shmipc_io_is_nonblocking(io))
		return shmipc_sender_load_head(s), free_bytes(s) > 0 ? 0 : -EAGAIN;
	for (int i = 0; i < SPACE_NAPS; i++) {
		uint64_t head = s->head;
		int error = nap_for_space(s, io, &space);

		if (error == -EINTR)
			return -EINTR;
		if (!is_on_clear_ring(s))
			return -EAGAIN;
		if (shmipc_sender_load_head(s), free_bytes(s) >= enough)
			return 0;
		if (s->head != head)
			i = -1; /* it moves: slow, but reading */
		if (atomic_load(&s->want->want) & SHMIPC_WANT_CLOSED)
			return -EAGAIN;
	}
	return -EAGAIN;
}

/* Nobody is left to read them. */
static void withdraw(struct shmipc_sender *s, uint64_t tail_before)
{
	s->tail = tail_before;
	atomic_store_explicit(&s->tx->tail, s->tail, memory_order_release);
}

static void publish(struct shmipc_sender *s, size_t bytes)
{
	uint64_t tail = atomic_load_explicit(&s->tail, memory_order_relaxed) + bytes;

	/* copied first, counted then: a holder of the lock that dies between leaves only whole
	 * bytes behind */
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&s->tail, tail, memory_order_relaxed);
	/* [tail:rel] publishes the bytes below; pairs with [tail:acq] in receiver_parts.h */
	atomic_store_explicit(&s->tx->tail, tail, memory_order_release);
	/* [unfenced] the processor may load want early, the receiver's membarrier sees to that; the
	 * compiler not */
	atomic_signal_fence(memory_order_seq_cst);
	shmipc_count(&s->count->ring_bytes, bytes);
}

/* A peer that was killed while awake leaves nobody who would be woken: look at the real socket now
 * and then. */
__attribute__((noinline)) bool shmipc_sender_look_for_peer(struct shmipc_sender *s, int fd,
							   uint64_t now)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };
	int n;

	atomic_store_explicit(&s->looked_ticks, now, memory_order_relaxed);
	s->half_closed = shmipc_sender_must_ask(s);
	if (s->half_closed)
		shmipc_sender_ask(s, fd);
	n = sys_poll(&real, 1, 0);
	if (n == 0) /* one that fails (RLIMIT_NOFILE) knows nothing */
		shmipc_sender_found_alive(s, now);
	if (n <= 0)
		return false;
	shmipc_ending_look_behind_shutdown(s, fd);
	/* before anything of this call is in the ring: what the peer left unread counts now */
	shmipc_ending_of(s, real.revents);
	return s->gone;
}

static bool peer_is_gone(struct shmipc_sender *s, int fd)
{
	uint64_t looked = atomic_load_explicit(&s->looked_ticks, memory_order_relaxed);
	uint64_t now = shmipc_ticks();
	uint64_t every = LOOK_EVERY_US * shmipc_ticks_per_us();

	if (now - looked >= every)
		looked = shmipc_sender_alive(s);
	if (__builtin_expect(now - looked < every, 1) && !s->half_closed &&
	    shmipc_is_newer_than_ends(looked))
		return false;
	return shmipc_sender_look_for_peer(s, fd, now);
}

/* Put the next chunk into the ring: its bytes, or why no room came; 0 or an error where a file has
 * no more. */
static ssize_t ring_send_chunk(struct shmipc_sender *s, struct shmipc_io *io)
{
	size_t n = io->cursor.left < CHUNK_BYTES ? io->cursor.left : CHUNK_BYTES;
	ssize_t put;

	if (free_bytes(s) < n)
		shmipc_sender_load_head(s);
	/* what fits a chunk goes whole: the wait lets other writers in */
	if (free_bytes(s) < n) {
		int error = wait_for_space(s, io, n);

		if (error)
			return error;
	}
	if (free_bytes(s) < n)
		n = (size_t)free_bytes(s);
	put = (ssize_t)n;
	if (!io->from_file && !shmipc_cursor_reaches(&io->cursor, n, SHMIPC_REACH_READ))
		return -EFAULT;
	shmipc_sender_maybe_restart(s, n);
	shmipc_sender_warm(s, n);
	if (__builtin_expect(io->from_file, 0))
		put = shmipc_sender_read_file(s, io, n);
	else
		shmipc_ring_put(&s->ring, s->base, s->tail, &io->cursor, n);
	if (put > 0)
		publish(s, (size_t)put);
	return put;
}

/* A send that the kernel would have accepted, although the peer is dead. */
static bool swallow(struct shmipc_sender *s, struct shmipc_io *io, ssize_t *done)
{
	bool has_more = false;
	ssize_t n = shmipc_ending_takes(0, io->cursor.left);

	if (io->from_file)
		n = shmipc_sender_first_of_file(io, &has_more);
	if (n < 0 || !shmipc_ending_accepts_send(s, io->fd, (size_t)n))
		return false;
	if (has_more) /* which finds the pipe broken: a signal, and the count of what went before */
		shmipc_sender_note_told(s, sys_sendto(io->fd, "", 1, 0, NULL, 0));
	*done = n;
	return true;
}

/* A reset, which the token has taken from the socket.  Its cause is older than this chunk. */
static ssize_t tell_reset(struct shmipc_sender *s, struct shmipc_io *io, bool *go_by_kernel)
{
	int error = shmipc_ending_error_of_send(s, io->fd);
	ssize_t done = 0;

	if (error)
		return -error;
	*go_by_kernel = !swallow(s, io, &done);
	return done;
}

/* The peer is closed or dead and reads no more: nothing of this chunk arrives.  The kernel says
 * how, unless the token has already taken its word from the socket. */
static ssize_t reader_is_gone(struct shmipc_sender *s, struct shmipc_io *io,
			      const struct shmipc_cursor *start, ssize_t done, int error,
			      bool *go_by_kernel)
{
	s->no_more_ring = true;
	*go_by_kernel = false;
	if (error == -ECONNRESET)
		shmipc_ending_of(s, POLLERR); /* while we are on the ring */
	if (done > 0 && s->is_unix && error == -EPIPE && !io->from_file) {
		/* it says so before its socket is closed, whose kernel ends this call.  The chunk
		 * stays sent: who has shut his receiving may read it */
		*go_by_kernel = true;
		return (ssize_t)(start->left - io->cursor.left);
	}
	if (done > 0)
		return s->is_unix || s->shut || io->from_file
			       ? done
			       : shmipc_ending_takes(done, start->left);
	io->cursor = *start;
	if (error == -ECONNRESET)
		return tell_reset(s, io, go_by_kernel);
	*go_by_kernel = error == -EPIPE;
	return *go_by_kernel ? 0 : error;
}

/* Locked, phase odd.  Bytes put into the ring, or an error for the whole call; *go_by_kernel when
 * the rest must take the other way. */
static ssize_t ring_send(struct shmipc_sender *s, struct shmipc_io *io, bool *go_by_kernel)
{
	const struct shmipc_cursor start = io->cursor;
	ssize_t done = 0;

	while (io->cursor.left > 0 && !*go_by_kernel) {
		uint64_t tail_before = s->tail;
		ssize_t n = ring_send_chunk(s, io);
		uint32_t want;
		int error;

		if (n == -EFAULT || io->file_is_over)
			return done ? done : n;
		if (n < 0) {
			*go_by_kernel = n == -EAGAIN;
			shmipc_count(&s->count->overflow, *go_by_kernel);
			if (done == 0 && n == -EINTR)
				return -EINTR;
			break;
		}
		want = atomic_load_explicit(&s->want->want, memory_order_relaxed);
		if (__builtin_expect(want != 0 || s->half_closed, 0)) {
			*go_by_kernel = want & SHMIPC_WANT_STOPPED;
			error = shmipc_sender_wake(s, io->fd, tail_before);
			if (error == -ECONNRESET)
				withdraw(s, tail_before);
			if (error)
				return reader_is_gone(s, io, &start, done, error, go_by_kernel);
		}
		done += n;
		io->part = true;
	}
	shmipc_count(&s->count->ring_messages, done > 0);
	shmipc_reach_grow_old(s->count->ring_messages);
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

/* Leave the ring, if another thread has not done it while we slept.  -EAGAIN: LAST found no room,
 * and the caller does not wait; or -EINTR. */
static int leave_ring(struct shmipc_sender *s, struct shmipc_io *io)
{
	const struct timespec nap = { 0, LAST_NAP_NS };

	while (shmipc_sender_on_ring(s) && shmipc_sender_cut_to_kernel(s, io->fd) == -EAGAIN) {
		struct pollfd real = { .fd = io->fd, .events = POLLOUT };
		struct timespec left = nap; /* the kernel writes into it */
		const long call[7] = { SYS_ppoll, (long)&real, 1, (long)&left };

		if (shmipc_io_is_nonblocking(io))
			return -EAGAIN;
		if (sleep_unlocked(s, io, call) == -EINTR && (io->part || !shmipc_sleep_restarts()))
			return -EINTR;
	}
	return 0;
}

/* Locked; drops the lock.  The rest of the call, behind `done` bytes in the ring, by the kernel. */
static ssize_t send_by_kernel(struct shmipc_sender *s, struct shmipc_io *io, ssize_t done)
{
	bool ended = s->gone || shmipc_sender_is_closed_for(s);
	ssize_t n = 0;

	atomic_fetch_add_explicit(&s->by_kernel, 1, memory_order_relaxed);
	if (s->attached && (io->flags & MSG_OOB))
		s->no_more_ring = true; /* an urgent byte leaves the stream: the counts of the two
					   ends part */
	if (s->head < s->resend_to)
		n = shmipc_sender_resend(s, io->fd, io->flags & (MSG_DONTWAIT | MSG_NOSIGNAL));
	if (n < 0 || (n = shmipc_sender_enter_kernel(s, io->fd)) < 0) {
		shmipc_lock_drop(&s->lock, io->private_use);
		return done ? done : n;
	}
	shmipc_postpone_begin();
	shmipc_lock_drop(&s->lock, io->private_use);
	io->flags |= done ? MSG_NOSIGNAL : 0;
	n = kernel_send_counted(s, io);
	if (n < 0 && done) {
		shmipc_sender_keep_reset(s, n);
		return done;
	}
	shmipc_sender_note_told(s, n);
	if (n > 0 && ended) {
		s->answered = true;
		if (!io->from_file) /* our windows are small */
			n = shmipc_ending_takes(n, (size_t)n + io->cursor.left);
	}
	return n < 0 ? n : done + n;
}

/* Locked, phase odd; drops the lock.  Leave the ring, send the rest. */
static __attribute__((noinline)) ssize_t leave_and_send(struct shmipc_sender *s,
							struct shmipc_io *io, ssize_t done)
{
	bool may_be_dead = shmipc_sender_must_ask(s);
	int error;

	atomic_fetch_add_explicit(&s->by_kernel, 1, memory_order_relaxed);
	error = leave_ring(s, io);
	/* another thread may have ended the direction: no SIGPIPE for what is done */
	if (!error && s->broken)
		error = -ECONNRESET;
	/* LAST has found out what the application's bytes would have */
	if (error || (done > 0 && s->shut) || (done == 0 && may_be_dead && swallow(s, io, &done))) {
		shmipc_lock_drop(&s->lock, io->private_use);
		return done ? done : error;
	}
	if (io->cursor.left > 0 || done == 0)
		return send_by_kernel(s, io, done);
	/* all went into the ring, but the receiver has stopped: what it has not read goes again */
	shmipc_sender_resend(s, io->fd, MSG_DONTWAIT);
	shmipc_lock_drop(&s->lock, io->private_use);
	return done;
}

/* Locked; drops the lock.  Everything that is not a plain send into a ring in use. */
static __attribute__((noinline)) ssize_t send_slowly(struct shmipc_sender *s, struct shmipc_io *io)
{
	bool kernel_only = s->shut || shmipc_io_wants_kernel(io);
	bool go_by_kernel = false, gone;
	uint32_t want;
	ssize_t done;
	int error;

	want = s->attached ? atomic_load_explicit(&s->want->want, memory_order_relaxed) : 0;
	if ((want & SHMIPC_WANT_STOPPED) && !s->broken)
		shmipc_sender_serve_stop(s, io->fd);
	if (s->broken) {
		shmipc_lock_drop(&s->lock, io->private_use);
		return -ECONNRESET;
	}
	if (want & (SHMIPC_WANT_LEAVE | SHMIPC_WANT_CLOSED))
		s->no_more_ring = true;
	if (s->attached && (io->cursor.left == 0 || shmipc_io_wants_kernel(io)))
		shmipc_sender_look_for_peer(s, io->fd, shmipc_ticks());
	gone = s->attached && (s->gone || peer_is_gone(s, io->fd));
	gone = gone || s->kept_error;
	if (gone && shmipc_sender_file_is_refused(io, &done)) {
		shmipc_lock_drop(&s->lock, io->private_use);
		return done;
	}
	error = gone ? shmipc_ending_error_of_send(s, io->fd) : 0;
	if (error) {
		shmipc_lock_drop(&s->lock, io->private_use);
		return -error;
	}
	if (s->gone && swallow(s, io, &done)) {
		shmipc_lock_drop(&s->lock, io->private_use);
		return done;
	}
	if (s->attached && !shmipc_sender_on_ring(s) && !kernel_only && io->cursor.left > 0)
		shmipc_sender_cut_to_ring(s, io->fd);
	if (!shmipc_sender_on_ring(s) || s->shut)
		return send_by_kernel(s, io, 0);
	if (s->no_more_ring || s->gone)
		s->no_more_ring = kernel_only = kernel_only || io->cursor.left > 0;
	if (kernel_only)
		return leave_and_send(s, io, 0);
	if (io->cursor.left == 0) { /* moves nothing, but may fail */
		shmipc_lock_drop(&s->lock, io->private_use);
		done = sys_sendto(io->fd, "", 0, io->flags, NULL, 0);
		shmipc_sender_note_told(s, done);
		return done;
	}
	done = ring_send(s, io, &go_by_kernel);
	if (go_by_kernel)
		return leave_and_send(s, io, done);
	shmipc_lock_drop(&s->lock, io->private_use);
	return done;
}

__attribute__((hot)) ssize_t shmipc_sender_send(struct shmipc_sender *s, struct shmipc_io *io)
{
	bool go_by_kernel = false;
	ssize_t done;

	if (!shmipc_sender_lock_for(s, io))
		return -EAGAIN;
	if (!is_on_clear_ring(s) || shmipc_io_wants_kernel(io) || io->cursor.left == 0 ||
	    peer_is_gone(s, io->fd))
		return send_slowly(s, io);
	publish_cpu(s);
	done = ring_send(s, io, &go_by_kernel);
	if (__builtin_expect(go_by_kernel, 0))
		return leave_and_send(s, io, done);
	shmipc_lock_drop(&s->lock, io->private_use);
	return done;
}

void shmipc_sender_finish(struct shmipc_sender *s, uint32_t flags)
{
	if (s->attached)
		atomic_fetch_or(&s->tx->flags, flags);
}
