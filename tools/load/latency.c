/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/load/latency.h"

#include <stdlib.h>

enum { SAMPLES_MAX = 1 << 18 };

static uint32_t samples_ns[SAMPLES_MAX];
static uint64_t count;

void latency_reset(void)
{
	count = 0;
}

void latency_add(uint64_t ns)
{
	samples_ns[count++ % SAMPLES_MAX] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int ascending(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a;
	uint32_t right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

double latency_percentile_us(double percent)
{
	uint64_t kept = count < SAMPLES_MAX ? count : SAMPLES_MAX;

	if (kept == 0)
		return 0;
	qsort(samples_ns, kept, sizeof(samples_ns[0]), ascending);
	return samples_ns[(uint64_t)((double)(kept - 1) * percent / 100)] / 1e3;
}
