/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's own account of its connections, from the lines it writes when they are closed. */
#ifndef SHMIPC_TOOLS_BENCH_SHIMLOG_H
#define SHMIPC_TOOLS_BENCH_SHIMLOG_H

#include <stdint.h>

/* Payload bytes received by shared memory and by the kernel, over all ends in the file.  Each byte
 * is received once, so the sum counts it once.  No file, no lines: 0. */
void shimlog_sum(const char *path, uint64_t *ring_bytes, uint64_t *kernel_bytes);

#endif
