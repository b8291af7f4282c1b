/* SPDX-License-Identifier: Apache-2.0 */
/* The few things that differ between processors. */
#ifndef SHMIPC_CORE_CPU_H
#define SHMIPC_CORE_CPU_H

#include <stdint.h>

static inline void shmipc_cpu_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("yield" ::: "memory");
#endif
}

/* A cheap clock for intervals; see shmipc_ticks_per_us(). Not ordered against memory accesses. */
static inline uint64_t shmipc_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	uint64_t ticks;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#endif
}

/* CLOCK_MONOTONIC: the same for all processes, as a number of ticks need not be. */
uint64_t shmipc_clock_ns(void);

/* Measured once, on first use (about 50 us); any thread, idempotent. */
uint64_t shmipc_ticks_per_us(void);

#endif
