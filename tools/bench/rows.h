/* SPDX-License-Identifier: Apache-2.0 */
/* The rows that can be measured. */
#ifndef SHMIPC_TOOLS_BENCH_ROWS_H
#define SHMIPC_TOOLS_BENCH_ROWS_H

#include "tools/bench/bench.h"

enum bench_pin { BENCH_PIN_NONE, BENCH_PIN_APART, BENCH_PIN_SAME };

/* What the number means; for some less is better. */
enum bench_unit {
	BENCH_US,
	BENCH_GB_S,
	BENCH_MSG_S,
	BENCH_CONN_S,
	BENCH_CALL_NS,
	BENCH_CPU_US_S,
	BENCH_TRIPS_S
};

enum { BENCH_SPIN_US_DEFAULT = -1 };

struct bench_row {
	const char *name; /* workload.family[.wait] */
	const char *about;
	enum bench_workload workload;
	enum bench_family family;
	enum bench_wait wait;
	enum bench_call call;
	enum bench_unit unit;
	bool fixed_pin; /* `pin` and `spin_us` of the row win over the options */
	enum bench_pin pin;
	int spin_us;
	bool raw, alt;	     /* has these variants */
	bool library;	     /* is about libshmipc, not about the shim */
	const size_t *sizes; /* ends with 0; NULL: no size */
};

extern const struct bench_row bench_rows[];
extern const size_t bench_row_count;

const char *bench_alt_name(const struct bench_row *row);
const char *bench_unit_name(enum bench_unit unit);
bool bench_less_is_better(enum bench_unit unit);
/* "64", "16K", "4M" */
void bench_size_name(size_t bytes, char out[16]);
/* The reverse; 0: not a size. */
size_t bench_parse_size(const char *text);
/* Is the row named by one of the comma-separated patterns (as of the shell)? */
bool bench_row_matches(const char *name, const char *patterns);

#endif
