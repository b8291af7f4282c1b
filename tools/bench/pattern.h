/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payload patterns.
 *
 * A ping-pong message is filled and checked word by word.  A stream would then measure the filling,
 * so there every stride-th word is stamped with its position in the stream, and checked.
 */
#ifndef SHMIPC_TOOLS_BENCH_PATTERN_H
#define SHMIPC_TOOLS_BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `bytes` is a multiple of 8, `memory` aligned to 64. */
void pattern_fill(void *memory, size_t bytes, uint64_t sequence);
bool pattern_check(const void *memory, size_t bytes, uint64_t sequence);
/* The piece of a message that begins at its byte `from`, a multiple of 8.  Memory is aligned to 4.
 */
void pattern_fill_piece(void *memory, size_t bytes, uint64_t sequence, size_t from);
bool pattern_check_piece(const void *memory, size_t bytes, uint64_t sequence, size_t from);

/* The distance of the stamps for messages of this size: a power of two, 8 to 256, that divides it.
 */
size_t pattern_stride(size_t message_bytes);
void pattern_stamp(void *memory, size_t bytes, uint64_t position, size_t stride);
/* Check the stamps that lie wholly inside [position, position + bytes). */
bool pattern_verify(const void *memory, size_t bytes, uint64_t position, size_t stride);

void *pattern_buffer(size_t bytes);

#endif
