/* SPDX-License-Identifier: Apache-2.0 */
#include "core/message.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
	VERSION_4_BIT = 1 << SHMIPC_MESSAGE_VERSION_4,
	VERSION_2_BIT = 1 << SHMIPC_MESSAGE_VERSION_2,
	VERSION_3_BIT = 1 << SHMIPC_MESSAGE_VERSION_3,
	VERSION_ANY = VERSION_4_BIT | VERSION_2_BIT | VERSION_3_BIT,
	VERSION_MEMFD = VERSION_4_BIT | VERSION_3_BIT,
	VERSION_BITS = 4, /* no version above 3 stands in a header */
	SHARE_MIN_BYTES = SHMIPC_MESSAGE_HEADER_BYTES + 2 + 2,
	SHARE_MAX_BYTES = SHARE_MIN_BYTES + 2 * SHMIPC_MESSAGE_NAME_MAX_BYTES,
	STREAM_CLOSE_BYTES = SHMIPC_MESSAGE_HEADER_BYTES + 4,
	EPOCH_BYTES = SHMIPC_MESSAGE_HEADER_BYTES + 8,
	NEGOTIATION_MIN_BYTES = SHMIPC_MESSAGE_HEADER_BYTES + 2 /* {} */
};

static const struct {
	uint32_t min_bytes;
	uint32_t max_bytes;
	unsigned int versions;
} rules[SHMIPC_MESSAGE_TYPE_COUNT] = {
	[SHMIPC_MESSAGE_SHARE_FILE] = { SHARE_MIN_BYTES, SHARE_MAX_BYTES, VERSION_ANY },
	[SHMIPC_MESSAGE_POLLING] = { SHMIPC_MESSAGE_HEADER_BYTES, SHMIPC_MESSAGE_HEADER_BYTES,
				     VERSION_ANY },
	[SHMIPC_MESSAGE_STREAM_CLOSE] = { STREAM_CLOSE_BYTES, STREAM_CLOSE_BYTES, VERSION_ANY },
	[SHMIPC_MESSAGE_FALLBACK_DATA] = { SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES,
					   SHMIPC_MESSAGE_FALLBACK_MAX_BYTES, VERSION_ANY },
	[SHMIPC_MESSAGE_EXCHANGE_VERSION] = { SHMIPC_MESSAGE_HEADER_BYTES,
					      SHMIPC_MESSAGE_HEADER_BYTES,
					      VERSION_2_BIT | VERSION_3_BIT },
	[SHMIPC_MESSAGE_SHARE_MEMFD] = { SHARE_MIN_BYTES, SHARE_MAX_BYTES, VERSION_MEMFD },
	[SHMIPC_MESSAGE_ACK_SHARE] = { SHMIPC_MESSAGE_HEADER_BYTES, SHMIPC_MESSAGE_HEADER_BYTES,
				       VERSION_MEMFD },
	[SHMIPC_MESSAGE_ACK_READY_FD] = { SHMIPC_MESSAGE_HEADER_BYTES, SHMIPC_MESSAGE_HEADER_BYTES,
					  VERSION_MEMFD },
	[SHMIPC_MESSAGE_HOT_RESTART] = { EPOCH_BYTES, EPOCH_BYTES, VERSION_ANY },
	/* without the epoch in the specification, with it from the peers in use */
	[SHMIPC_MESSAGE_HOT_RESTART_ACK] = { SHMIPC_MESSAGE_HEADER_BYTES, EPOCH_BYTES,
					     VERSION_ANY },
	[SHMIPC_MESSAGE_NEGOTIATION] = { NEGOTIATION_MIN_BYTES,
					 SHMIPC_MESSAGE_NEGOTIATION_MAX_BYTES, VERSION_4_BIT },
};

static uint16_t load16(const uint8_t *from)
{
	return (uint16_t)((unsigned int)from[0] << 8 | from[1]);
}

static uint32_t load32(const uint8_t *from)
{
	return (uint32_t)load16(from) << 16 | load16(from + 2);
}

static uint64_t load64(const uint8_t *from)
{
	return (uint64_t)load32(from) << 32 | load32(from + 4);
}

static void store16(uint8_t *to, uint16_t value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

static void store32(uint8_t *to, uint32_t value)
{
	store16(to, (uint16_t)(value >> 16));
	store16(to + 2, (uint16_t)value);
}

static void store64(uint8_t *to, uint64_t value)
{
	store32(to, (uint32_t)(value >> 32));
	store32(to + 4, (uint32_t)value);
}

static bool header_is_valid(const struct shmipc_message_header *header)
{
	if (header->type >= SHMIPC_MESSAGE_TYPE_COUNT || header->version >= VERSION_BITS)
		return false;
	if (!(rules[header->type].versions & 1U << header->version))
		return false;
	if (header->type == SHMIPC_MESSAGE_HOT_RESTART_ACK)
		return header->length == SHMIPC_MESSAGE_HEADER_BYTES ||
		       header->length == EPOCH_BYTES;
	return header->length >= rules[header->type].min_bytes &&
	       header->length <= rules[header->type].max_bytes;
}

int shmipc_message_decode_header(const void *from, size_t bytes, struct shmipc_message_header *out)
{
	const uint8_t *at = from;

	if (bytes < SHMIPC_MESSAGE_HEADER_BYTES)
		return -EAGAIN;
	if (load16(at + 4) != SHMIPC_MESSAGE_MAGIC)
		return -EPROTO;
	out->length = load32(at);
	out->version = at[6];
	out->type = at[7];
	return header_is_valid(out) ? 0 : -EPROTO;
}

int shmipc_message_encode_header(void *to, size_t room, const struct shmipc_message_header *header)
{
	uint8_t *at = to;

	if (!header_is_valid(header))
		return -EINVAL;
	if (room < SHMIPC_MESSAGE_HEADER_BYTES)
		return -ENOBUFS;
	store32(at, header->length);
	store16(at + 4, SHMIPC_MESSAGE_MAGIC);
	at[6] = header->version;
	at[7] = header->type;
	return SHMIPC_MESSAGE_HEADER_BYTES;
}

/* The header of a message that must be of one of two types; its body may be missing. */
static int decode_typed(const void *from, size_t bytes, uint8_t type, uint8_t other_type,
			struct shmipc_message_header *header)
{
	int result = shmipc_message_decode_header(from, bytes, header);

	if (result)
		return result;
	if (header->type != type && header->type != other_type)
		return -EPROTO;
	return 0;
}

/* The header of a message whose body the caller writes next: the whole of it must fit. */
static int encode_typed(void *to, size_t room, uint32_t length, uint8_t version, uint8_t type)
{
	struct shmipc_message_header header = { length, version, type };

	if (!header_is_valid(&header))
		return -EINVAL;
	if (room < length)
		return -ENOBUFS;
	return shmipc_message_encode_header(to, room, &header);
}

int shmipc_message_encode_plain(void *to, size_t room, uint8_t version, uint8_t type)
{
	return encode_typed(to, room, SHMIPC_MESSAGE_HEADER_BYTES, version, type);
}

/* One counted string at *offset of a message of that length; no empty one, no NUL inside. */
static int decode_name(const uint8_t *message, uint32_t length, uint32_t *offset, const char **name,
		       uint16_t *name_bytes)
{
	uint32_t at = *offset;

	if (length - at < 2)
		return -EPROTO;
	*name_bytes = load16(message + at);
	at += 2;
	if (*name_bytes == 0 || *name_bytes > SHMIPC_MESSAGE_NAME_MAX_BYTES ||
	    *name_bytes > length - at)
		return -EPROTO;
	*name = (const char *)message + at;
	*offset = at + *name_bytes;
	return memchr(*name, 0, *name_bytes) ? -EPROTO : 0;
}

int shmipc_message_decode_share(const void *from, size_t bytes, struct shmipc_share_memory *out)
{
	struct shmipc_message_header header;
	uint32_t offset = SHMIPC_MESSAGE_HEADER_BYTES;
	int result = decode_typed(from, bytes, SHMIPC_MESSAGE_SHARE_FILE,
				  SHMIPC_MESSAGE_SHARE_MEMFD, &header);

	if (result)
		return result;
	if (bytes < header.length)
		return -EAGAIN;
	result = decode_name(from, header.length, &offset, &out->queue_name,
			     &out->queue_name_bytes);
	if (!result)
		result = decode_name(from, header.length, &offset, &out->buffer_name,
				     &out->buffer_name_bytes);
	if (!result && offset != header.length)
		result = -EPROTO;
	return result;
}

static uint8_t *store_name(uint8_t *to, const char *name, uint16_t name_bytes)
{
	store16(to, name_bytes);
	memcpy(to + 2, name, name_bytes);
	return to + 2 + name_bytes;
}

int shmipc_message_encode_share(void *to, size_t room, uint8_t version, uint8_t type,
				const struct shmipc_share_memory *share)
{
	uint32_t length = SHARE_MIN_BYTES + (uint32_t)share->queue_name_bytes +
			  (uint32_t)share->buffer_name_bytes;
	uint8_t *at = to;
	int result;

	if (type != SHMIPC_MESSAGE_SHARE_FILE && type != SHMIPC_MESSAGE_SHARE_MEMFD)
		return -EINVAL;
	if (share->queue_name_bytes == 0 || share->buffer_name_bytes == 0 ||
	    share->queue_name_bytes > SHMIPC_MESSAGE_NAME_MAX_BYTES ||
	    share->buffer_name_bytes > SHMIPC_MESSAGE_NAME_MAX_BYTES)
		return -EINVAL;
	result = encode_typed(to, room, length, version, type);
	if (result < 0)
		return result;
	at = store_name(at + result, share->queue_name, share->queue_name_bytes);
	store_name(at, share->buffer_name, share->buffer_name_bytes);
	return (int)length;
}

int shmipc_message_decode_stream_close(const void *from, size_t bytes, uint32_t *stream)
{
	struct shmipc_message_header header;
	int result = decode_typed(from, bytes, SHMIPC_MESSAGE_STREAM_CLOSE,
				  SHMIPC_MESSAGE_STREAM_CLOSE, &header);

	if (result)
		return result;
	if (bytes < header.length)
		return -EAGAIN;
	*stream = load32((const uint8_t *)from + SHMIPC_MESSAGE_HEADER_BYTES);
	return 0;
}

int shmipc_message_encode_stream_close(void *to, size_t room, uint8_t version, uint32_t stream)
{
	int result = encode_typed(to, room, STREAM_CLOSE_BYTES, version,
				  SHMIPC_MESSAGE_STREAM_CLOSE);

	if (result < 0)
		return result;
	store32((uint8_t *)to + result, stream);
	return STREAM_CLOSE_BYTES;
}

int shmipc_message_decode_fallback(const void *from, size_t bytes, struct shmipc_fallback *out)
{
	const uint8_t *at = from;
	struct shmipc_message_header header;
	int result = decode_typed(from, bytes, SHMIPC_MESSAGE_FALLBACK_DATA,
				  SHMIPC_MESSAGE_FALLBACK_DATA, &header);

	if (result)
		return result;
	if (bytes < SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES)
		return -EAGAIN;
	out->stream = load32(at + 8);
	out->status = load32(at + 12);
	out->payload_bytes = header.length - SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES;
	return 0;
}

int shmipc_message_encode_fallback(void *to, size_t room, uint8_t version,
				   const struct shmipc_fallback *fallback)
{
	uint8_t *at = to;
	struct shmipc_message_header header = { .version = version,
						.type = SHMIPC_MESSAGE_FALLBACK_DATA };
	int result;

	if (fallback->payload_bytes >
	    SHMIPC_MESSAGE_FALLBACK_MAX_BYTES - SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES)
		return -EINVAL;
	if (room < SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES)
		return -ENOBUFS;
	header.length = SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES + fallback->payload_bytes;
	result = shmipc_message_encode_header(to, room, &header);
	if (result < 0)
		return result;
	store32(at + 8, fallback->stream);
	store32(at + 12, fallback->status);
	return SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES;
}

int shmipc_message_decode_epoch(const void *from, size_t bytes, uint64_t *epoch)
{
	struct shmipc_message_header header;
	int result = decode_typed(from, bytes, SHMIPC_MESSAGE_HOT_RESTART,
				  SHMIPC_MESSAGE_HOT_RESTART_ACK, &header);

	if (result)
		return result;
	if (bytes < header.length)
		return -EAGAIN;
	*epoch = header.length == EPOCH_BYTES
			 ? load64((const uint8_t *)from + SHMIPC_MESSAGE_HEADER_BYTES)
			 : 0;
	return 0;
}

int shmipc_message_encode_epoch(void *to, size_t room, uint8_t version, uint8_t type,
				uint64_t epoch)
{
	int result;

	if (type != SHMIPC_MESSAGE_HOT_RESTART && type != SHMIPC_MESSAGE_HOT_RESTART_ACK)
		return -EINVAL;
	result = encode_typed(to, room, EPOCH_BYTES, version, type);
	if (result < 0)
		return result;
	store64((uint8_t *)to + result, epoch);
	return EPOCH_BYTES;
}
