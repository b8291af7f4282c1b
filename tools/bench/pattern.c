/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/pattern.h"

#include <stdlib.h>
#include <string.h>

enum { VECTOR_WORDS = 8, STRIDE_MAX = 256 };

/* Explicit vectors: the plain loop is not vectorised at -O2 by every compiler. */
typedef uint64_t vector __attribute__((vector_size(8 * VECTOR_WORDS)));

static const uint64_t mixer = 0x9e3779b97f4a7c15ULL;

static vector first_vector(uint64_t sequence)
{
	uint64_t seed = sequence * mixer;

	return (vector){ seed, seed + 1, seed + 2, seed + 3, seed + 4, seed + 5, seed + 6, seed + 7 };
}

void pattern_fill(void *memory, size_t bytes, uint64_t sequence)
{
	vector value = first_vector(sequence), *at = memory;
	size_t vectors = bytes / sizeof(vector);
	size_t rest = bytes % sizeof(vector);

	for (size_t i = 0; i < vectors; i++, value += VECTOR_WORDS)
		at[i] = value;
	memcpy(at + vectors, &value, rest);
}

bool pattern_check(const void *memory, size_t bytes, uint64_t sequence)
{
	vector value = first_vector(sequence), wrong = { 0 };
	const vector *at = memory;
	size_t vectors = bytes / sizeof(vector);
	size_t rest = bytes % sizeof(vector);
	uint64_t any = 0;

	for (size_t i = 0; i < vectors; i++, value += VECTOR_WORDS)
		wrong |= at[i] ^ value;
	for (int i = 0; i < VECTOR_WORDS; i++)
		any |= wrong[i];
	return any == 0 && memcmp(at + vectors, &value, rest) == 0;
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
