/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of results as text, CSV or JSON. */
#ifndef SHMIPC_TOOLS_BENCH_OUTPUT_H
#define SHMIPC_TOOLS_BENCH_OUTPUT_H

#include <stdio.h>

#include "tools/bench/measure.h"

enum bench_format { BENCH_TEXT, BENCH_CSV, BENCH_JSON };

/* Medians over the rounds. */
struct bench_cell {
	bool present;
	struct bench_result median;
	unsigned int rounds_ok;
};

struct bench_line {
	const struct bench_row *row;
	size_t size_bytes; /* 0: the row has no size */
	struct bench_cell cells[BENCH_VARIANTS];
};

/* One place that results go to. */
struct bench_sink {
	FILE *file;
	enum bench_format format;
	const struct bench_row *heading; /* the row whose heading the text table is under */
	bool started;			 /* JSON: an object has been written */
};

void output_begin(struct bench_sink *sink, const struct bench_options *options);
void output_line(struct bench_sink *sink, const struct bench_options *options,
		 const struct bench_line *line);
void output_end(struct bench_sink *sink);

/* How many times better `variant` is than `reference`; NAN if either is missing. */
double bench_ratio(const struct bench_line *line, enum bench_variant variant,
		   enum bench_variant reference);

#endif
