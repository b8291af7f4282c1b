/* SPDX-License-Identifier: Apache-2.0 */
/* One measurement: one variant of one row, in fresh processes. */
#ifndef SHMIPC_TOOLS_BENCH_MEASURE_H
#define SHMIPC_TOOLS_BENCH_MEASURE_H

#include <limits.h>

#include "tools/bench/rows.h"

struct bench_options {
	const char *only; /* NULL: every row of its kind */
	size_t sizes[BENCH_SIZES_MAX + 1];
	bool sizes_given;
	bool library; /* the rows about libshmipc */
	unsigned int rounds;
	double seconds;
	enum bench_pin pin;
	int spin_us;
	bool awake;
	const char *congestion;
	char shim[PATH_MAX]; /* empty: none was found */
	char scratch[64];    /* directory of our own */
};

enum bench_outcome { BENCH_OK, BENCH_FAILED, BENCH_TIMEOUT, BENCH_CORRUPT };

struct bench_result {
	enum bench_outcome outcome;
	double value; /* in the row's unit */
	double p50_us, p99_us, p999_us;
	double count;
	double wakeups_per_message;	   /* libshmipc, both ends */
	uint64_t ring_bytes, kernel_bytes; /* by the shim's own account */
	char why[160];			   /* when not BENCH_OK */
};

void bench_measure(const struct bench_row *row, size_t size_bytes, enum bench_variant variant,
		   const struct bench_options *options, struct bench_result *result);

#endif
