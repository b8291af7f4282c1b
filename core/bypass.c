/* SPDX-License-Identifier: Apache-2.0 */
#include "core/bypass.h"

#include <errno.h>

#include "core/receiver_parts.h"

int shmipc_bypass_send_begin(struct shmipc_sender *s, int fd, bool private_use)
{
	int error = 0;

	if (!shmipc_sender_lock(s, fd, private_use))
		return -EDEADLK;
	atomic_fetch_add_explicit(&s->by_kernel, 1, memory_order_relaxed);
	/* what a receiver that stopped has not read goes first */
	shmipc_sender_serve_locked(s, fd);
	if (s->broken)
		error = -ECONNRESET;
	else if (!s->shut && (shmipc_sender_on_ring(s) || shmipc_sender_owes(s)))
		error = -EAGAIN;
	else
		atomic_fetch_add(&s->kernel_senders, 1);
	shmipc_lock_drop(&s->lock, private_use);
	return error;
}

void shmipc_bypass_send_end(struct shmipc_sender *s, ssize_t n)
{
	if (n > 0) {
		atomic_fetch_add(&s->kernel_bytes, (uint64_t)n);
		shmipc_count(&s->count->kernel_bytes, (uint64_t)n);
	}
	if (n == -ECONNRESET)
		s->reset_told = true;
	atomic_fetch_sub(&s->kernel_senders, 1);
}

void shmipc_bypass_send_abandon(struct shmipc_sender *s)
{
	atomic_store(&s->count_lost, true); /* said before the call counts as over */
	atomic_fetch_sub(&s->kernel_senders, 1);
}

bool shmipc_bypass_receive_begin(struct shmipc_receiver *r, int fd, bool private_use)
{
	bool by_kernel;

	if (!shmipc_receiver_lock(r, private_use))
		return false;
	if (r->unsettled)
		shmipc_receiver_settle_stop(r, fd);
	by_kernel = !r->ready || (r->stopped && !r->broken);
	if (by_kernel)
		atomic_fetch_add(&r->kernel_readers, 1);
	shmipc_lock_drop(&r->lock, private_use);
	return by_kernel;
}

ssize_t shmipc_bypass_receive_end(struct shmipc_receiver *r, int fd, bool private_use, ssize_t n)
{
	if (n > 0) {
		atomic_fetch_add(&r->kernel_read, (uint64_t)n);
		shmipc_count(&r->count->kernel_bytes, (uint64_t)n);
	}
	n = shmipc_receiver_judge_plain(r, fd, private_use, n);
	atomic_fetch_sub(&r->kernel_readers, 1);
	return n;
}

void shmipc_bypass_receive_abandon(struct shmipc_receiver *r)
{
	atomic_store(&r->count_lost, true);
	atomic_fetch_sub(&r->kernel_readers, 1);
}
