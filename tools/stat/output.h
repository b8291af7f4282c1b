/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHMIPC_TOOLS_STAT_OUTPUT_H
#define SHMIPC_TOOLS_STAT_OUTPUT_H

#include "snapshot.h"

/* For people: one line each, aligned, counters rounded to three digits. */
void output_table(const struct snapshot *snapshot);

/* For programs: an array of objects, counters exact. */
void output_json(const struct snapshot *snapshot);

#endif
