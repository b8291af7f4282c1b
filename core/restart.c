/* SPDX-License-Identifier: Apache-2.0 */
#include "core/restart.h"

#include "core/receiver_parts.h"

static bool sender_is_over(const struct shmipc_sender *s)
{
	bool asked = atomic_load(&s->want->want) & SHMIPC_WANT_STOP;

	return !(s->phase & 1) && s->head >= s->resend_to && (!asked || s->no_more_ring) &&
	       !s->shut && !s->broken && !s->gone && !s->token_owed && s->ending == 0 &&
	       atomic_load(&s->kernel_senders) == 0 && !atomic_load(&s->count_lost);
}

static bool receiver_is_over(const struct shmipc_receiver *r)
{
	return !shmipc_receiver_on_ring(r) && !shmipc_receiver_sender_ahead(r) && !r->last_seen &&
	       !shmipc_receiver_at_end(r) && !r->stopped && !r->shut && !r->broken &&
	       !shmipc_receiver_has_tokens(r) && !shmipc_receiver_wants(r, SHMIPC_WANT_SLEEPERS) &&
	       atomic_load(&r->kernel_readers) == 0 && !atomic_load(&r->count_lost);
}

static void restart_sender(struct shmipc_sender *s)
{
	s->former_besides = shmipc_sender_besides_kernel(s);
	s->resent = 0;
	s->attached = s->verified = false;
	s->settled = false;
	s->no_more_ring = false;
	s->verifications = 0;
	s->owing = false;
	s->tail = s->base = s->restart_at = s->resend_to = 0;
	atomic_store(&s->head, 0);
	s->grown = false;
	s->looked_ticks = s->alive_ticks = 0;
	s->phase = 0;
	s->tokens = 0;
}

static void restart_receiver(struct shmipc_receiver *r)
{
	r->former_besides = shmipc_receiver_besides_kernel(r);
	atomic_store(&r->ready, false);
	r->attached = false;
	r->unseen = false;
	atomic_store(&r->head, 0);
	atomic_store(&r->phase, 0);
	atomic_store(&r->taken, 0);
	atomic_store(&r->streak, 0);
	r->own_waits = 0;
	r->seen_tail = r->seen_base = 0;
}

bool shmipc_restart(struct shmipc_sender *s, struct shmipc_receiver *r)
{
	if (!shmipc_restart_is_offered(s, r) || !sender_is_over(s) || !receiver_is_over(r))
		return false;
	restart_receiver(r);
	restart_sender(s);
	return true;
}
