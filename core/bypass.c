/* SPDX-License-Identifier: Apache-2.0 */
#include "core/bypass.h"

#include <errno.h>

#include "core/cpu.h"
#include "core/ending.h"
#include "core/receiver_parts.h"
#include "core/sender_parts.h"
#include "core/thread.h"

bool shmipc_bypass_send_is_judged(const struct shmipc_sender *s)
{
	return s->attached && !s->is_unix &&
	       (s->gone || s->kept_error || shmipc_sender_on_ring(s) ||
		shmipc_sender_outstanding(s) > 0);
}

/* Locked. */
static ssize_t send_to_ended(struct shmipc_sender *s, int fd, size_t bytes)
{
	/* looked for also where its reset is known: the answer depends on how it has ended */
	bool gone = s->gone || shmipc_sender_look_for_peer(s, fd, shmipc_ticks()) || s->kept_error;
	int error = gone ? shmipc_ending_error_of_send(s, fd) : 0;

	if (error)
		return -error;
	return s->gone && shmipc_ending_accepts_send(s, fd, bytes) ? (ssize_t)bytes : 0;
}

ssize_t shmipc_bypass_send_to_ended(struct shmipc_sender *s, int fd, bool private_use, size_t bytes)
{
	ssize_t n = 0;

	if (!shmipc_sender_lock(s, fd, private_use))
		return 0;
	if (!s->broken && shmipc_bypass_send_is_judged(s))
		n = send_to_ended(s, fd, bytes);
	shmipc_lock_drop(&s->lock, private_use);
	return n;
}

int shmipc_bypass_send_begin(struct shmipc_sender *s, int fd, bool private_use, bool *ended)
{
	int error = 0;

	if (!shmipc_sender_lock(s, fd, private_use))
		return -EDEADLK;
	atomic_fetch_add_explicit(&s->by_kernel, 1, memory_order_relaxed);
	/* what a receiver that stopped has not read goes first */
	shmipc_sender_serve_locked(s, fd);
	*ended = s->gone || shmipc_sender_is_closed_for(s);
	if (s->broken)
		error = -ECONNRESET;
	else if (!s->shut && (shmipc_sender_on_ring(s) || shmipc_sender_owes(s)))
		error = -EAGAIN;
	else
		error = shmipc_sender_enter_kernel(s, fd);
	shmipc_lock_drop(&s->lock, private_use);
	return error;
}

void shmipc_bypass_send_end(struct shmipc_sender *s, ssize_t n, bool ended)
{
	if (n > 0) {
		atomic_fetch_add(&s->kernel_bytes, (uint64_t)n);
		shmipc_count(&s->count->kernel_bytes, (uint64_t)n);
	}
	if (n > 0 && ended)
		s->answered = true;
	shmipc_sender_note_told(s, n);
	shmipc_sender_leave_kernel(s, shmipc_process_generation());
}

void shmipc_bypass_send_abandon(struct shmipc_sender *s)
{
	atomic_store(&s->count_lost, true); /* said before the call counts as over */
	shmipc_sender_leave_kernel(s, shmipc_process_generation());
}

bool shmipc_bypass_receive_begin(struct shmipc_receiver *r, int fd, bool private_use)
{
	bool by_kernel;

	if (!shmipc_receiver_lock(r, private_use))
		return false;
	if (r->unsettled)
		shmipc_receiver_settle_stop(r, fd);
	by_kernel = !r->ready || (r->stopped && !r->broken) || shmipc_receiver_is_left(r);
	if (by_kernel)
		atomic_fetch_add(&r->kernel_readers, 1);
	shmipc_lock_drop(&r->lock, private_use);
	return by_kernel;
}

ssize_t shmipc_bypass_receive_end(struct shmipc_receiver *r, int fd, bool private_use, size_t bytes,
				  ssize_t n)
{
	if (n > 0) {
		shmipc_receiver_count_kernel(r, (size_t)n);
		shmipc_receiver_peeked_less(r, (size_t)n);
	}
	n = shmipc_receiver_judge_plain(r, fd, private_use, n);
	if (n > 0 && (size_t)n < shmipc_receiver_low_water(r, bytes))
		shmipc_receiver_forget_error(r, fd, private_use);
	atomic_fetch_sub(&r->kernel_readers, 1);
	return n;
}

void shmipc_bypass_receive_abandon(struct shmipc_receiver *r)
{
	atomic_store(&r->count_lost, true);
	atomic_fetch_sub(&r->kernel_readers, 1);
}
