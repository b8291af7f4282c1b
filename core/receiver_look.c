/* SPDX-License-Identifier: Apache-2.0 */
/* What a receiver knows without the kernel. */
#include "core/cpu.h"
#include "core/gone.h"
#include "core/receiver_parts.h"
#include "core/relaxing.h"

enum {
	LOOK_EVERY_US = 50,
	/* How long O_NONBLOCK counts as known where somebody may change it unseen: another holder,
	 * or system call instructions of the application's own; and where nobody is known to. */
	FLAGS_US = 1000,
	FLAGS_ALONE_US = 100 * 1000,
};

__attribute__((hot)) bool shmipc_receiver_hint(const struct shmipc_receiver *r)
{
	if (!atomic_load_explicit(&r->ready, memory_order_acquire) ||
	    atomic_load_explicit(&r->stopped, memory_order_relaxed))
		return false;
	if (shmipc_receiver_at_end(r))
		return true;
	/* LAST alone is nothing to read, and what lies behind it the kernel shows */
	if (shmipc_receiver_unread(r) == 0)
		return false;
	return shmipc_receiver_on_ring(r) ||
	       (shmipc_receiver_sender_ahead(r) && shmipc_receiver_before_cut(r) == 0);
}

__attribute__((hot)) bool shmipc_receiver_knows_end(const struct shmipc_receiver *r)
{
	const uint32_t ends = SHMIPC_TX_FIN | SHMIPC_TX_CLOSED | SHMIPC_TX_RESET;

	return r->last_seen || shmipc_receiver_at_end(r) ||
	       (atomic_load_explicit(&r->tx->flags, memory_order_relaxed) & ends);
}

__attribute__((hot)) bool shmipc_receiver_follows_ring(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->ready, memory_order_acquire) && !r->stopped && !r->broken &&
	       !r->shut && shmipc_receiver_on_ring(r) && !shmipc_receiver_sender_ahead(r) &&
	       !shmipc_receiver_knows_end(r);
}

bool shmipc_receiver_holds_bytes(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->ready, memory_order_acquire) &&
	       !atomic_load_explicit(&r->stopped, memory_order_relaxed) &&
	       shmipc_receiver_unread(r) > 0;
}

static uint64_t flags_last_ticks(const struct shmipc_receiver *r)
{
	bool alone = !atomic_load_explicit(&r->foreign, memory_order_relaxed) &&
		     shmipc_relaxing_is_allowed();

	return (alone ? FLAGS_ALONE_US : FLAGS_US) * shmipc_ticks_per_us();
}

bool shmipc_receiver_is_nonblocking(struct shmipc_receiver *r, const struct shmipc_io *io)
{
	uint32_t changed = atomic_load(&r->flags_changed) + 1;
	uint64_t now;

	if (io->flags & MSG_DONTWAIT)
		return true;
	now = shmipc_ticks();
	if (atomic_load_explicit(&r->flags_seen, memory_order_relaxed) == changed &&
	    now - atomic_load_explicit(&r->flags_ticks, memory_order_relaxed) < flags_last_ticks(r))
		return true;
	if (!shmipc_io_is_nonblocking(io))
		return false;
	/* first the time: what is seen is not younger than that */
	atomic_store_explicit(&r->flags_ticks, now, memory_order_relaxed);
	atomic_store_explicit(&r->flags_seen, changed, memory_order_release);
	return true;
}

void shmipc_receiver_was_looked_at(struct shmipc_receiver *r, uint64_t ticks)
{
	atomic_store_explicit(&r->looked_ticks, ticks, memory_order_relaxed);
}

bool shmipc_receiver_is_memorys(const struct shmipc_receiver *r)
{
	return shmipc_receiver_follows_ring(r) && !shmipc_receiver_has_tokens(r) &&
	       !shmipc_receiver_wants(r, SHMIPC_WANT_STRICT) &&
	       !atomic_load_explicit(&r->reported, memory_order_relaxed);
}

bool shmipc_receiver_was_seen(const struct shmipc_receiver *r)
{
	uint64_t looked = atomic_load_explicit(&r->looked_ticks, memory_order_relaxed);

	return shmipc_is_newer_than_ends(looked) &&
	       shmipc_ticks() - looked < LOOK_EVERY_US * shmipc_ticks_per_us();
}
