/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/shrink.h"

#include "core/cpu.h"
#include "core/sender.h"
#include "preload/waits.h"

/* A ring whose peer does not read is not waited for for ever. */
enum { PATIENCE = 8 }; /* times the quiet after which a ring gives back */

static uint64_t quiet_ticks(void)
{
	return SHMIPC_SENDER_QUIET_MS * 1000 * shmipc_ticks_per_us();
}

bool shim_shrink_is_recent(void)
{
	uint64_t grown = shmipc_sender_grown_at();

	return __builtin_expect(grown != 0, 0) && shmipc_ticks() - grown < PATIENCE * quiet_ticks();
}

__attribute__((hot)) bool shim_shrink_is_pending(const struct shim_shrink *shrink)
{
	return shmipc_sender_grown_at() != shrink->done && shim_shrink_is_recent();
}

bool shim_shrink_is_due(struct shim_shrink *shrink)
{
	uint64_t now = shmipc_ticks(), grown = shmipc_sender_grown_at();

	if (grown == shrink->done || now < shrink->next_ticks || now - grown <= quiet_ticks())
		return false;
	shrink->next_ticks = now + quiet_ticks() / 2;
	shrink->looking = grown; /* what grows while we look is seen by the next look */
	return true;
}

void shim_shrink_looked(struct shim_shrink *shrink, bool left)
{
	if (!left)
		shrink->done = shrink->looking;
}

uint64_t shim_shrink_deadline(uint64_t deadline_ns)
{
	uint64_t soon = shmipc_clock_ns() + SHMIPC_SENDER_QUIET_MS * UINT64_C(1100000);

	return soon < deadline_ns ? soon : deadline_ns;
}
