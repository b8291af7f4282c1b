/* SPDX-License-Identifier: Apache-2.0 */
/* Order statistics of small sets of measurements. */
#ifndef SHMIPC_TOOLS_BENCH_STATS_H
#define SHMIPC_TOOLS_BENCH_STATS_H

#include <stddef.h>
#include <stdint.h>

/* The sample of rank ceil(count * per_mille / 1000), counted from 1 (nearest rank).  Reorders
 * `samples`. 0 for an empty set. */
uint32_t stats_percentile(uint32_t *samples, size_t count, unsigned int per_mille);

/* The middle value, or the mean of the two in the middle.  Reorders `values`.  NAN for an empty
 * set. */
double stats_median(double *values, size_t count);

/* The smallest value.  NAN for an empty set. */
double stats_min(const double *values, size_t count);

#endif
