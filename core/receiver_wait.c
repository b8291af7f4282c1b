/* SPDX-License-Identifier: Apache-2.0 */
/* What the receiver wants of the sender, and how it sleeps. */
#include "core/receiver.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "core/cpu.h"
#include "core/postpone.h"
#include "core/receiver_parts.h"
#include "core/relaxing.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "core/thread.h"

void (*shmipc_receiver_rouse)(int where);

enum {
	OWN_WAITS = 3,
	NAP_NS = 200 * 1000,
};

/*
 * [unfenced] A sender that saw want 0 publishes without a fence: ours must reach its processor.
 *
 * Invariant: FENCE stands only where that has happened since want was last 0.  So whoever sets it
 * counts among the sleepers from before its barrier until it is set, which keeps want from 0
 * whatever others take out of it meanwhile; and with FENCE in it only calm_down() makes it 0, from
 * FENCE alone.  Whoever finds FENCE needs no barrier of its own.
 */
static void fence_for_sender(struct shmipc_receiver *r, uint32_t want_before)
{
	if (!(want_before & SHMIPC_WANT_FENCE)) {
		shmipc_membarrier();
		atomic_fetch_or(&r->want->want, SHMIPC_WANT_FENCE);
	}
	atomic_thread_fence(memory_order_seq_cst); /* [sleep] */
}

__attribute__((hot)) void shmipc_receiver_arm(struct shmipc_receiver *r)
{
	uint32_t before = atomic_fetch_add(&r->want->want, 1);

	atomic_store_explicit(&r->streak, 0, memory_order_relaxed);
	fence_for_sender(r, before);
}

__attribute__((hot)) void shmipc_receiver_disarm(struct shmipc_receiver *r)
{
	atomic_fetch_sub_explicit(&r->want->want, 1, memory_order_relaxed);
}

/* [together] `lies_in` before the number: the token of a sender that read the number is found by a
 * thread that sees `lies_in`. */
void shmipc_receiver_lie_down(struct shmipc_receiver *r, uint64_t sleep, int where)
{
	if (where >= 0)
		atomic_store_explicit(&r->lies_in, where + 1, memory_order_relaxed);
	atomic_store_explicit(&r->want->sleep, sleep, memory_order_release);
}

__attribute__((hot)) void shmipc_receiver_get_up(struct shmipc_receiver *r)
{
	if (atomic_load_explicit(&r->lies_in, memory_order_relaxed))
		atomic_store_explicit(&r->lies_in, 0, memory_order_relaxed);
	if (atomic_load_explicit(&r->want->sleep, memory_order_relaxed))
		atomic_store_explicit(&r->want->sleep, 0, memory_order_relaxed);
}

/* Its sleeper may lie down anew meanwhile: then it is roused from that sleep, and this connection
 * lies alone in it. */
__attribute__((hot)) void shmipc_receiver_disturb(struct shmipc_receiver *r)
{
	int where;

	if (__builtin_expect(!atomic_load_explicit(&r->lies_in, memory_order_relaxed), 1))
		return;
	where = atomic_exchange(&r->lies_in, 0);
	if (where == 0)
		return;
	atomic_store_explicit(&r->want->sleep, 0, memory_order_relaxed);
	shmipc_receiver_rouse(where - 1);
}

void shmipc_receiver_strict(struct shmipc_receiver *r, bool edge)
{
	uint32_t bits = SHMIPC_WANT_STRICT | (edge ? SHMIPC_WANT_EDGE : 0);
	uint32_t before = atomic_load_explicit(&r->want->want, memory_order_relaxed);

	if ((before & (bits | SHMIPC_WANT_FENCE)) == (bits | SHMIPC_WANT_FENCE))
		return;
	if (atomic_fetch_or(&r->want->want, bits) & SHMIPC_WANT_FENCE) {
		atomic_thread_fence(memory_order_seq_cst); /* [sleep] */
		return;
	}
	/* [unfenced] another thread may relax it meanwhile; no handler leaves it counted */
	shmipc_postpone_begin();
	fence_for_sender(r, atomic_fetch_add(&r->want->want, 1));
	atomic_fetch_sub(&r->want->want, 1);
	shmipc_postpone_end();
}

void shmipc_receiver_wait_early(struct shmipc_receiver *r, bool begins)
{
	atomic_fetch_add(&r->early, begins ? 1 : UINT32_MAX);
}

void shmipc_receiver_relax(struct shmipc_receiver *r)
{
	if (atomic_load(&r->early) != 0 || /* [early] */
	    !shmipc_receiver_wants(r, SHMIPC_WANT_STRICT | SHMIPC_WANT_EDGE) ||
	    !shmipc_relaxing_is_allowed())
		return;
	atomic_fetch_and(&r->want->want, ~(uint32_t)(SHMIPC_WANT_STRICT | SHMIPC_WANT_EDGE));
	if (!shmipc_relaxing_is_allowed()) /* [relaxing] */
		shmipc_receiver_strict(r, true);
}

static void relax_if_alone(struct shmipc_receiver *r)
{
	if (atomic_load(&r->foreign) || atomic_load(&r->watchers) != 0 ||
	    !shmipc_relaxing_is_allowed())
		return;
	r->unseen = false;
	shmipc_receiver_relax(r);
}

/* Does a token lie in the socket, where every wait of the kernel sees it?  Promised is not enough:
 * a sender publishes, promises, and only then sends.  Asked so that no error is taken. */
static bool token_is_there(const struct shmipc_receiver *r, int fd)
{
	int there = 0;

	return shmipc_receiver_has_tokens(r) && sys_ioctl(fd, FIONREAD, &there) == 0 && there > 0;
}

/* A receive that has to wait in our own call shows that the application waits here, unless what
 * brought it into this call may have been a wait that we cannot see.  Such a wait returns for
 * nothing but a token in the socket, and whoever counted its receive would some day leave that
 * waiter without a wake-up.  So a call that finds the ring empty counts if the socket is empty too
 * and it has taken no token itself.  Judged once.  And not at once. */
static bool waits_here(struct shmipc_receiver *r, int fd, struct shmipc_receiver_wait *wait)
{
	if (!shmipc_receiver_wants(r, SHMIPC_WANT_STRICT))
		return true;
	if (!wait->judged && r->taken == wait->taken && !token_is_there(r, fd))
		wait->here = atomic_fetch_add(&r->own_waits, 1) + 1 >= OWN_WAITS;
	wait->judged = true;
	return wait->here;
}

__attribute__((hot)) void shmipc_receiver_calm_down(struct shmipc_receiver *r)
{
	uint32_t want;

	atomic_store_explicit(&r->streak, 0, memory_order_relaxed);
	/* strict only because we did not know, at attach, who sleeps: whoever did has been woken
	 * since */
	if (!r->unseen && r->own_waits >= OWN_WAITS)
		relax_if_alone(r);
	want = atomic_load_explicit(&r->want->want, memory_order_relaxed);
	if (want != SHMIPC_WANT_FENCE) /* somebody sleeps, or strict */
		return;
	if (!(atomic_load(&r->tx->flags) & SHMIPC_TX_UNFENCED) || !shmipc_membarrier_registered())
		return;
	atomic_compare_exchange_strong(&r->want->want, &want, 0);
}

/* ---- a blocking receive ---- */

static bool hint(void *argument)
{
	return shmipc_receiver_hint(argument);
}

static void spin(struct shmipc_receiver *r)
{
	enum shmipc_spin_result result;
	uint32_t cpu = shmipc_spin_cpu();

	if (!shmipc_receiver_on_ring(r))
		return; /* bytes come by the kernel: so does the wake-up */
	if (cpu != atomic_load_explicit(&r->cpu, memory_order_relaxed)) {
		atomic_store_explicit(&r->cpu, cpu, memory_order_relaxed);
		atomic_store_explicit(&r->rx->cpu, cpu, memory_order_relaxed);
	}
	result = shmipc_spin_until(&r->spin, hint, r, atomic_load(&r->tx->cpu));
	if (result == SHMIPC_SPIN_WON)
		shmipc_count(&r->count->spins_won, 1);
	else if (result == SHMIPC_SPIN_LOST)
		shmipc_count(&r->count->spins_lost, 1);
}

static uint64_t slept_ns(const struct shmipc_receiver_wait *wait)
{
	return wait->slept ? (shmipc_ticks() - wait->started) * 1000 / shmipc_ticks_per_us() : 0;
}

/* SO_RCVTIMEO counts from the first sleep of a call, over all its sleeps. */
static void find_deadline(struct shmipc_receiver_wait *wait, struct shmipc_io *io)
{
	struct timeval limit = { 0 };
	socklen_t bytes = sizeof(limit);
	uint64_t ns;
	int result;

	wait->known = true;
	do
		result = sys_getsockopt(io->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &bytes);
	while (shmipc_io_was_moved(io));
	if (result < 0)
		return;
	ns = (uint64_t)limit.tv_sec * 1000000000u + (uint64_t)limit.tv_usec * 1000u;
	wait->deadline_ns = ns ? shmipc_clock_ns() + ns - slept_ns(wait) : 0;
}

bool shmipc_receiver_is_timed(struct shmipc_io *io, struct shmipc_receiver_wait *wait)
{
	if (!wait->known)
		find_deadline(wait, io);
	return wait->deadline_ns != 0;
}

void shmipc_receiver_undo_plain(void *argument)
{
	const struct shmipc_sleeper *sleeper = argument;

	/* said before the call counts as over */
	atomic_store(&sleeper->r->count_lost, true);
	shmipc_process_uncount(&sleeper->r->kernel_readers, sleeper->process);
	shmipc_io_release(sleeper->io);
}

static void undo_wait(void *argument)
{
	const struct shmipc_sleeper *sleeper = argument;

	shmipc_process_uncount(&sleeper->r->want->want, sleeper->process);
	shmipc_io_release(sleeper->io);
}

/* By a call that is never restarted after a handler. */
static ssize_t sleep_until(struct shmipc_receiver *r, struct shmipc_io *io, short events,
			   const struct shmipc_receiver_wait *wait)
{
	const uint64_t deadline_ns = wait->deadline_ns;
	struct shmipc_sleeper sleeper = { r, io, shmipc_process_generation() };
	struct pollfd real = { .fd = io->fd, .events = events };
	uint64_t now = shmipc_clock_ns();
	uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
	struct timespec time = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };
	int n = (int)SHMIPC_SLEEP(undo_wait, &sleeper, SYS_ppoll, &real, 1,
				  deadline_ns ? &time : NULL, 0, 8, 0);

	/* with a time limit the kernel restarts nothing either */
	if (n == -EINTR && !deadline_ns && !wait->part && shmipc_sleep_restarts())
		return 0;
	return n == 0 ? -EAGAIN : n < 0 ? n : 0;
}

/* The only sleep of a blocking receive, on the real socket.  0: look again.  -EAGAIN: SO_RCVTIMEO
 * is over. */
static ssize_t sleep_on_socket(struct shmipc_receiver *r, struct shmipc_io *io)
{
	/* a handler that ran between the taking of a token and its declaration would wait in vain
	 * for the next one */
	bool consume = io->private_use && shmipc_receiver_on_ring(r) && !r->last_seen &&
		       !shmipc_postpone_expects_handlers();
	struct shmipc_sleeper sleeper = { r, io, shmipc_process_generation() };
	const int fd = io->fd;
	char value = 0;
	ssize_t n = SHMIPC_SLEEP(undo_wait, &sleeper, SYS_recvfrom, io->fd, &value, 1,
				 consume ? 0 : MSG_PEEK, 0, 0);

	if (n == 1 && consume)
		shmipc_receiver_token_came(r, value);
	if (n == -EINTR || n == -EAGAIN)
		return n;
	if (shmipc_io_missed(io, n))
		return 0;
	/* a handler has closed the number, and the kernel's restart found it gone, or another file
	 */
	if (shmipc_io_is_foreign(n))
		return n;
	shmipc_io_follow(io);
	if (n == 0 && io->fd != fd) /* whose end? */
		return shmipc_postpone.ran ? -EBADF : 0;
	/* by the kernel, the end is the end only if the sender did not cut before it:
	 * kernel_limit() sees */
	if (n < 0 || (n == 0 && shmipc_receiver_on_ring(r)))
		shmipc_receiver_socket_said(r, n);
	return 0;
}

/* What this end owes the peer before it sleeps. */
static void serve_sibling(struct shmipc_sender *s, struct shmipc_io *io)
{
	if (!shmipc_sender_has_to_serve(s) || !shmipc_sender_lock(s, io->fd, io->private_use))
		return;
	shmipc_io_follow(io);
	shmipc_sender_serve_locked(s, io->fd);
	shmipc_lock_drop(&s->lock, io->private_use);
}

/* Armed: is there a reason not to sleep? */
static bool look_again(struct shmipc_receiver *r, struct shmipc_io *io, bool thorough)
{
	bool there;

	shmipc_receiver_lock(r, io->private_use);
	shmipc_io_follow(io); /* another thread may have closed the number while we slept */
	if (r->stopped || r->broken)
		there = true;
	else if (shmipc_receiver_on_ring(r))
		there = shmipc_receiver_probe(r, io->fd, thorough) || shmipc_receiver_at_end(r);
	else
		there = shmipc_receiver_hint(r);
	shmipc_lock_drop(&r->lock, io->private_use);
	return there;
}

static void note_sleep(struct shmipc_receiver_wait *wait)
{
	if (wait->slept)
		return;
	wait->slept = true;
	wait->started = shmipc_ticks();
}

/* The first sleep of a call is the kernel's: it knows O_NONBLOCK and the time limit.  From the
 * second on we count. */
static ssize_t sleep_armed(struct shmipc_receiver *r, struct shmipc_io *io,
			   struct shmipc_receiver_wait *wait)
{
	bool owes = r->sibling && shmipc_sender_owes(r->sibling);
	bool first = !wait->slept;

	note_sleep(wait);
	shmipc_io_follow(io); /* close to the call: see shmipc_io_missed() */
	if (first && !owes && !wait->part)
		return sleep_on_socket(r, io);
	if (!wait->known)
		find_deadline(wait, io);
	if ((owes || wait->part || wait->deadline_ns) && shmipc_io_is_nonblocking(io))
		return -EAGAIN;
	if (owes)
		return sleep_until(r, io, POLLIN | POLLOUT, wait);
	return wait->part || wait->deadline_ns ? sleep_until(r, io, POLLIN, wait)
					       : sleep_on_socket(r, io);
}

/* Postponed. */
static ssize_t wait_here(struct shmipc_receiver *r, struct shmipc_io *io,
			 struct shmipc_receiver_wait *wait)
{
	const uint32_t process = shmipc_process_generation();
	ssize_t n = 0;
	bool here;

	if (r->sibling)
		serve_sibling(r->sibling, io);
	here = waits_here(r, io->fd, wait);
	if (here && shmipc_receiver_wants(r, SHMIPC_WANT_STRICT) && !atomic_load(&r->foreign))
		shmipc_relaxing_settle();
	spin(r);
	if (shmipc_receiver_hint(r)) {
		if (here && shmipc_receiver_wants(r, SHMIPC_WANT_STRICT))
			relax_if_alone(r);
		return 0;
	}
	shmipc_relaxing_settle();
	/* we wait here, in our own call; a set that knows this end relaxes it itself, once it has
	 * armed it */
	if (here)
		relax_if_alone(r);
	shmipc_receiver_arm(r);
	if (!look_again(r, io, wait->slept)) {
		atomic_fetch_add_explicit(&r->count->waits, 1, memory_order_relaxed);
		n = sleep_armed(r, io, wait);
	}
	shmipc_process_uncount(&r->want->want, process);
	return n;
}

ssize_t shmipc_receiver_wait(struct shmipc_receiver *r, struct shmipc_io *io,
			     struct shmipc_receiver_wait *wait)
{
	ssize_t n;

	shmipc_postpone_begin();
	n = wait_here(r, io, wait);
	shmipc_postpone_end();
	return n;
}

static void undo_nap(void *argument)
{
	const struct shmipc_sleeper *sleeper = argument;

	shmipc_io_release(sleeper->io);
}

ssize_t shmipc_receiver_nap(struct shmipc_receiver *r, struct shmipc_io *io,
			    struct shmipc_receiver_wait *wait)
{
	const struct timespec nap = { 0, NAP_NS };
	struct shmipc_sleeper sleeper = { r, io, shmipc_process_generation() };
	int n;

	if (shmipc_io_is_nonblocking(io))
		return -EAGAIN;
	note_sleep(wait);
	if (!wait->known)
		find_deadline(wait, io);
	if (wait->deadline_ns && shmipc_clock_ns() >= wait->deadline_ns)
		return -EAGAIN;
	n = (int)SHMIPC_SLEEP(undo_nap, &sleeper, SYS_nanosleep, &nap, 0, 0, 0, 0, 0);
	/* with a time limit the kernel restarts nothing either */
	return n == -EINTR && !wait->deadline_ns && !wait->part && shmipc_sleep_restarts() ? 0 : n;
}
