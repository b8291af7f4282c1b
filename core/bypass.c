/* SPDX-License-Identifier: Apache-2.0 */
#include "core/bypass.h"

bool shmipc_bypass_send_begin(struct shmipc_sender *s, bool private_use)
{
	bool by_kernel;

	if (shmipc_lock_take(&s->lock, private_use) == SHMIPC_LOCK_REENTERED)
		return false;
	by_kernel = !shmipc_sender_on_ring(s) || s->shut;
	if (by_kernel)
		atomic_fetch_add(&s->kernel_senders, 1);
	shmipc_lock_drop(&s->lock, private_use);
	return by_kernel;
}

void shmipc_bypass_send_end(struct shmipc_sender *s, ssize_t n)
{
	if (n > 0) {
		atomic_fetch_add(&s->kernel_bytes, (uint64_t)n);
		shmipc_count(&s->count->kernel_bytes, (uint64_t)n);
	}
	atomic_fetch_sub(&s->kernel_senders, 1);
}

bool shmipc_bypass_receive_begin(struct shmipc_receiver *r, bool private_use)
{
	bool by_kernel;

	if (shmipc_lock_take(&r->lock, private_use) == SHMIPC_LOCK_REENTERED)
		return false;
	by_kernel = !r->ready || r->stopped;
	if (by_kernel)
		atomic_fetch_add(&r->kernel_readers, 1);
	shmipc_lock_drop(&r->lock, private_use);
	return by_kernel;
}

void shmipc_bypass_receive_end(struct shmipc_receiver *r, ssize_t n)
{
	if (n > 0) {
		atomic_fetch_add(&r->kernel_read, (uint64_t)n);
		shmipc_count(&r->count->kernel_bytes, (uint64_t)n);
	}
	atomic_fetch_sub(&r->kernel_readers, 1);
}
