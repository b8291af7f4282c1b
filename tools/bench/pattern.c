/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/pattern.h"

#include <stdlib.h>
#include <string.h>

enum { PAIRS = 4, STRIDE_MAX = 256 };

/* Explicit vectors of the width that every x86-64 and aarch64 has, in as many variables as hide the
 * latency: the plain loop is not vectorised at -O2 by every compiler. */
typedef uint64_t pair __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint64_t loose_word __attribute__((aligned(4), may_alias));

static const uint64_t mixer = 0x9e3779b97f4a7c15ULL;

/* Word i of a message is seed + i. */
static uint64_t seed_of(uint64_t sequence)
{
	return sequence * mixer;
}

static void fill_rest(loose_word *at, size_t words, uint64_t value)
{
	for (size_t i = 0; i < words; i++)
		at[i] = value + i;
}

void pattern_fill_piece(void *memory, size_t bytes, uint64_t sequence, size_t from)
{
	uint64_t seed = seed_of(sequence) + from / 8;
	size_t words = bytes / 8, whole = words / (2 * PAIRS) * (2 * PAIRS);
	pair a = { seed, seed + 1 }, b = a + 2, c = a + 4, d = a + 6;
	pair *at = memory;

	for (size_t i = 0; i < whole / 2; i += PAIRS, a += 8, b += 8, c += 8, d += 8) {
		at[i] = a;
		at[i + 1] = b;
		at[i + 2] = c;
		at[i + 3] = d;
	}
	fill_rest((loose_word *)memory + whole, words - whole, seed + whole);
}

void pattern_fill(void *memory, size_t bytes, uint64_t sequence)
{
	pattern_fill_piece(memory, bytes, sequence, 0);
}

bool pattern_check_piece(const void *memory, size_t bytes, uint64_t sequence, size_t from)
{
	uint64_t seed = seed_of(sequence) + from / 8, wrong = 0;
	size_t words = bytes / 8, whole = words / (2 * PAIRS) * (2 * PAIRS);
	pair a = { seed, seed + 1 }, b = a + 2, c = a + 4, d = a + 6;
	pair bad0 = { 0, 0 }, bad1 = { 0, 0 };
	const pair *at = memory;

	for (size_t i = 0; i < whole / 2; i += PAIRS, a += 8, b += 8, c += 8, d += 8) {
		bad0 |= (at[i] ^ a) | (at[i + 1] ^ b);
		bad1 |= (at[i + 2] ^ c) | (at[i + 3] ^ d);
	}
	for (size_t i = whole; i < words; i++)
		wrong |= ((const loose_word *)memory)[i] ^ (seed + i);
	return (bad0[0] | bad0[1] | bad1[0] | bad1[1] | wrong) == 0;
}

bool pattern_check(const void *memory, size_t bytes, uint64_t sequence)
{
	return pattern_check_piece(memory, bytes, sequence, 0);
}

size_t pattern_stride(size_t message_bytes)
{
	size_t stride = STRIDE_MAX;

	while (message_bytes % stride)
		stride /= 2;
	return stride;
}

void pattern_stamp(void *memory, size_t bytes, uint64_t position, size_t stride)
{
	unsigned char *at = memory;

	for (size_t i = 0; i < bytes; i += stride) {
		uint64_t word = (position + i) * mixer;

		memcpy(at + i, &word, sizeof(word));
	}
}

bool pattern_verify(const void *memory, size_t bytes, uint64_t position, size_t stride)
{
	const unsigned char *at = memory;
	size_t i = (size_t)(-position & (stride - 1));
	uint64_t wrong = 0;

	for (; i + sizeof(uint64_t) <= bytes; i += stride) {
		uint64_t word;

		memcpy(&word, at + i, sizeof(word));
		wrong |= word ^ ((position + i) * mixer);
	}
	return wrong == 0;
}

/* Touched, so that no page fault falls into a measurement. */
void *pattern_buffer(size_t bytes)
{
	size_t rounded = (bytes + 63) / 64 * 64;
	void *memory = aligned_alloc(64, rounded);

	if (memory)
		memset(memory, 0x5a, rounded);
	return memory;
}
