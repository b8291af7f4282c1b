/* SPDX-License-Identifier: Apache-2.0 */
/* --stats: stay while the command runs, and say afterwards what became of its connections. */
#ifndef SHMIPC_TOOLS_RUN_SUPERVISE_H
#define SHMIPC_TOOLS_RUN_SUPERVISE_H

/* Replaces this process by the command; returns only an exit status, after one line on standard
 * error. */
int execute(char **command);

/* Runs the command as a child and returns its exit status (128 + N if signal N ended it). */
int supervise(char **command);

#endif
