/* SPDX-License-Identifier: Apache-2.0 */
/* When a wait, or a sleep in it, ends. */
#include "core/cpu.h"
#include "preload/waits.h"

enum { OWING_NAP_NS = 2 * 1000 * 1000 };

__attribute__((hot)) uint64_t shim_wait_deadline(const struct timespec *timeout)
{
	uint64_t now = shmipc_clock_ns(), span;

	if (!timeout)
		return SHIM_WAIT_FOR_EVER;
	if ((uint64_t)timeout->tv_sec > UINT64_MAX / 4000000000u)
		return SHIM_WAIT_FOR_EVER;
	span = (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec;
	return now + span;
}

__attribute__((hot)) bool shim_wait_is_over(uint64_t deadline_ns)
{
	return deadline_ns != SHIM_WAIT_FOR_EVER && shmipc_clock_ns() >= deadline_ns;
}

uint64_t shim_wait_nap(uint64_t deadline_ns, uint64_t nap_ns)
{
	uint64_t soon = shmipc_clock_ns() + nap_ns;

	return soon < deadline_ns ? soon : deadline_ns;
}

uint64_t shim_wait_soon(uint64_t deadline_ns)
{
	return shim_wait_nap(deadline_ns, OWING_NAP_NS);
}

__attribute__((hot)) struct timespec shim_wait_left(uint64_t deadline_ns)
{
	uint64_t now = shmipc_clock_ns();
	uint64_t left = deadline_ns > now ? deadline_ns - now : 0;

	return (struct timespec){ (time_t)(left / 1000000000u), (long)(left % 1000000000u) };
}
