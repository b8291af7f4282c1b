/* SPDX-License-Identifier: Apache-2.0 */
/* The recorded vectors of tests/vectors/shmipc: images, what they mean, transcripts. */
#ifndef TESTS_UNIT_IPC_GOLDEN_H
#define TESTS_UNIT_IPC_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shmipc.h"

#define GOLDEN_ROOT "tests/vectors/shmipc/"

struct golden_image {
	uint8_t *bytes;
	size_t size;
};

/* The decoded values of a snapshot, key=value. */
struct golden_facts {
	char *text;
};

/* kind: "buffer" or "queue".  The images are malloc'ed. */
struct golden_image golden_image(const char *scenario, const char *snapshot, const char *kind);
struct golden_facts golden_facts(const char *scenario, const char *snapshot);
/* The values of an image pair, in the same form; `aligned`: the ring layout. */
struct golden_facts golden_decode(const uint8_t *buffer, size_t buffer_bytes, const uint8_t *queue,
				  size_t queue_bytes, bool aligned);
void golden_free(struct golden_facts *facts);

/* "" if there is no such key */
const char *golden_text(const struct golden_facts *facts, const char *key);
long long golden_number(const struct golden_facts *facts, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The configuration of a scenario. */
void golden_config(const char *scenario, struct shmipc_config *config);

/* Byte i of every recorded message. */
static inline uint8_t golden_byte(size_t i)
{
	return (uint8_t)((i * 7 + 3) % 251);
}

#endif
