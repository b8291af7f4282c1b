/* SPDX-License-Identifier: Apache-2.0 */
/* The newest round-trip times of a run, and their percentiles. */
#ifndef SHMIPC_TOOLS_LOAD_LATENCY_H
#define SHMIPC_TOOLS_LOAD_LATENCY_H

#include <stdint.h>

void latency_reset(void);
void latency_add(uint64_t ns);
/* Microseconds below which `percent` of the samples lie; 0 without samples. Sorts what was kept. */
double latency_percentile_us(double percent);

#endif
