/* SPDX-License-Identifier: Apache-2.0 */
/* What the asynchronous examples send: pieces of one size. */
#ifndef SHMIPC_TOOLS_EXAMPLES_FRAME_H
#define SHMIPC_TOOLS_EXAMPLES_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { FRAME_BYTES = 512, FRAME_WORDS = FRAME_BYTES / sizeof(uint64_t) };

static inline void frame_fill(void *room, uint64_t seed)
{
	for (uint64_t i = 0; i < FRAME_WORDS; i++) {
		uint64_t word = seed * 1000003 + i;

		memcpy((unsigned char *)room + i * sizeof(word), &word, sizeof(word));
	}
}

static inline bool frame_is(const void *view, uint64_t seed)
{
	uint64_t expected[FRAME_WORDS];

	frame_fill(expected, seed);
	return memcmp(view, expected, FRAME_BYTES) == 0;
}

#endif
