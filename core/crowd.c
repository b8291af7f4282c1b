/* SPDX-License-Identifier: Apache-2.0 */
#include "core/crowd.h"

#include <stdatomic.h>

#include "core/cpu.h"
#include "core/sys.h"

enum {
	NOBODY_NS = 2000,
	PASSING_US = 300, /* a turn of server or client; a time slice has 1 to 4 ms */
	REST_MIN_MS = 50,
	REST_MAX_MS = 1600,
	CALM_RESTS = 8, /* so many rests without a hog, and the next one is a new one */
};

static _Atomic uint64_t hogging_until;
static _Atomic uint32_t rest_ms = REST_MIN_MS;

static void remember(uint64_t now)
{
	uint64_t until = atomic_load_explicit(&hogging_until, memory_order_relaxed);
	uint32_t rest = atomic_load_explicit(&rest_ms, memory_order_relaxed);
	uint64_t rate = shmipc_ticks_per_us() * 1000;

	if (now > until + CALM_RESTS * rest * rate)
		rest = REST_MIN_MS;
	else if (now > until && rest < REST_MAX_MS)
		rest *= 2;
	atomic_store_explicit(&rest_ms, rest, memory_order_relaxed);
	atomic_store_explicit(&hogging_until, now + rest * rate, memory_order_relaxed);
}

enum shmipc_crowd shmipc_crowd_give_core(uint64_t *now)
{
	uint64_t before = *now, rate = shmipc_ticks_per_us();

	sys_sched_yield();
	*now = shmipc_ticks();
	if ((*now - before) * 1000 < NOBODY_NS * rate)
		return SHMIPC_CROWD_NONE;
	if (*now - before < PASSING_US * rate)
		return SHMIPC_CROWD_PASSING;
	remember(*now);
	return SHMIPC_CROWD_HOGGING;
}

bool shmipc_crowd_is_hogging(uint64_t now)
{
	return now < atomic_load_explicit(&hogging_until, memory_order_relaxed);
}
