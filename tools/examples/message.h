/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message format as the compiler of an interface language might produce it: a flat layout that is
 * built where it is sent from and read where it arrives, with no copy and no allocation.
 *
 *	request  struct message_header, key (key_bytes), padding to 8, values (value_count words)
 *	reply    struct message_header, no key, one value
 */
#ifndef SHMIPC_TOOLS_EXAMPLES_MESSAGE_H
#define SHMIPC_TOOLS_EXAMPLES_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MESSAGE_BYTES_MAX = 16 << 20 };

struct message_header {
	uint32_t bytes; /* of the whole message, this header included */
	uint32_t key_bytes;
	uint32_t value_count;
	uint32_t kind;
	uint64_t id;
};

/* A message that lies in memory which the peer may still change: what bounds were checked with is
 * kept here, and never read there again. */
struct message {
	struct message_header header;
	const char *key;
	const unsigned char *values;
};

size_t message_bytes(uint32_t key_bytes, uint32_t value_count);

/* Writes header and key into `room` of message_bytes(); the caller fills the values at the result.
 */
unsigned char *message_build(void *room, uint64_t id, const char *key, uint32_t key_bytes,
			     uint32_t value_count);
void message_set_value(unsigned char *values, uint32_t index, uint64_t value);

/* How long the message is that begins with this header; 0: it cannot be one. */
size_t message_length(const void *header);

/* False: the parts do not fit into `bytes`. */
bool message_parse(const void *at, size_t bytes, struct message *out);
uint64_t message_value(const struct message *message, uint32_t index);

#endif
