/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An end whose two directions are the kernel's alone again, for good, may be attached to another
 * stream: when the program at the other end has been replaced by exec and its successor meets us
 * anew.
 *
 * Over means: nothing of this end's is in a ring or on its way as a token, and neither side will
 * cut to the old stream's ring any more.  Our sender: it has left the ring and sent what the peer
 * had not read.  The peer's sender: it has said AGAIN, which it does only when it has cut for the
 * last time and we have its position; we have passed that cut, and taken every token off the
 * socket.  Nobody may sleep armed on the old words, or be inside a call that counts.
 */
#ifndef SHMIPC_CORE_RESTART_H
#define SHMIPC_CORE_RESTART_H

#include "core/receiver.h"
#include "core/sender.h"

/* Has the peer said that it may be met again?  Shared memory only. */
static inline bool shmipc_restart_is_offered(const struct shmipc_sender *s,
					     const struct shmipc_receiver *r)
{
	return !(s->phase & 1) && s->attached &&
	       !(atomic_load_explicit(&r->phase, memory_order_relaxed) & 1) && r->attached &&
	       (atomic_load_explicit(&r->tx->flags, memory_order_acquire) & SHMIPC_TX_AGAIN);
}

/* Both locks held.  True: both ends are as if never attached, but for what they have counted. */
bool shmipc_restart(struct shmipc_sender *s, struct shmipc_receiver *r);

#endif
