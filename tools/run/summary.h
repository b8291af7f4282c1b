/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHMIPC_TOOLS_RUN_SUMMARY_H
#define SHMIPC_TOOLS_RUN_SUMMARY_H

#include <stdio.h>

/* Read the shim's log and print what became of the connections, by endpoint and role. */
void summary_print(FILE *log, FILE *to);

#endif
