/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/examples/message.h"

#include <string.h>

static size_t values_at(uint32_t key_bytes)
{
	return (sizeof(struct message_header) + key_bytes + 7u) & ~(size_t)7;
}

size_t message_bytes(uint32_t key_bytes, uint32_t value_count)
{
	return values_at(key_bytes) + sizeof(uint64_t) * value_count;
}

unsigned char *message_build(void *room, uint64_t id, const char *key, uint32_t key_bytes,
			     uint32_t value_count)
{
	struct message_header header = {
		.bytes = (uint32_t)message_bytes(key_bytes, value_count),
		.key_bytes = key_bytes,
		.value_count = value_count,
		.id = id,
	};
	unsigned char *at = room;
	size_t values = values_at(key_bytes);

	memcpy(at, &header, sizeof(header));
	memset(at + values - 8, 0, values > sizeof(header) ? 8 : 0); /* the padding */
	if (key_bytes > 0)
		memcpy(at + sizeof(header), key, key_bytes);
	return at + values;
}

/* Room in shared memory is aligned to 4 bytes only: whole words are copied, which costs nothing. */
void message_set_value(unsigned char *values, uint32_t index, uint64_t value)
{
	memcpy(values + sizeof(value) * index, &value, sizeof(value));
}

size_t message_length(const void *header)
{
	uint32_t bytes;

	memcpy(&bytes, (const unsigned char *)header + offsetof(struct message_header, bytes),
	       sizeof(bytes));
	return bytes < sizeof(struct message_header) || bytes > MESSAGE_BYTES_MAX ? 0 : bytes;
}

bool message_parse(const void *at, size_t bytes, struct message *out)
{
	const unsigned char *from = at;
	size_t room;

	if (bytes < sizeof(out->header))
		return false;
	memcpy(&out->header, from, sizeof(out->header));
	if (out->header.key_bytes > bytes - sizeof(out->header) ||
	    values_at(out->header.key_bytes) > bytes)
		return false;
	room = bytes - values_at(out->header.key_bytes);
	if (out->header.value_count > room / sizeof(uint64_t))
		return false;
	out->key = (const char *)from + sizeof(out->header);
	out->values = from + values_at(out->header.key_bytes);
	return true;
}

uint64_t message_value(const struct message *message, uint32_t index)
{
	uint64_t value;

	memcpy(&value, message->values + sizeof(value) * index, sizeof(value));
	return value;
}
