/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that follow from a seed and a position, and a hash that sees every one of them. */
#include "tests/differential/worker/worker.h"

void payload_fill(unsigned char *bytes, size_t count, uint64_t seed, uint64_t position)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t at = position + i, x = (at >> 3) + seed * 0x9e3779b97f4a7c15u;

		x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
		bytes[i] = (unsigned char)(x >> (8 * (at & 7)));
	}
}

void hash_start(struct hash *hash)
{
	hash->value = 0xcbf29ce484222325u;
}

void hash_add(struct hash *hash, const unsigned char *bytes, size_t count)
{
	uint64_t value = hash->value;

	for (size_t i = 0; i < count; i++)
		value = (value ^ bytes[i]) * 0x100000001b3u;
	hash->value = value;
}

unsigned int hash_end(const struct hash *hash)
{
	return (unsigned int)(hash->value ^ (hash->value >> 32));
}

int split(struct iovec *iov, unsigned char *bytes, size_t count, int parts)
{
	size_t at = 0;

	if (parts < 1 || parts > PARTS_MAX)
		parts = 1;
	for (int i = 0; i < parts; i++) {
		size_t n = i == parts - 1 ? count - at : (count - at) / (size_t)(i % 3 + 2);

		iov[i] = (struct iovec){ bytes + at, n };
		at += n;
	}
	return parts;
}
