/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the shmipc control connection: an eight-byte big-endian header and a body.
 *
 * Every decoder takes bytes as a peer sent them, trusts none of them, and never reads past the
 * count given.  Decoders return 0, -EAGAIN when the message is not complete yet, or -EPROTO.
 * Encoders return the bytes written, -EINVAL for what may not be sent, or -ENOBUFS.
 */
#ifndef SHMIPC_CORE_MESSAGE_H
#define SHMIPC_CORE_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

enum shmipc_message_type {
	SHMIPC_MESSAGE_SHARE_FILE = 0,	     /* queue and buffer paths of two files */
	SHMIPC_MESSAGE_POLLING = 1,	     /* drain your receive queue */
	SHMIPC_MESSAGE_STREAM_CLOSE = 2,     /* a close that did not fit in the queue */
	SHMIPC_MESSAGE_FALLBACK_DATA = 3,    /* payload that found no shared memory */
	SHMIPC_MESSAGE_EXCHANGE_VERSION = 4, /* the version byte is the message */
	SHMIPC_MESSAGE_SHARE_MEMFD = 5,	     /* names only; the descriptors travel apart */
	SHMIPC_MESSAGE_ACK_SHARE = 6,
	SHMIPC_MESSAGE_ACK_READY_FD = 7,
	SHMIPC_MESSAGE_HOT_RESTART = 8,
	SHMIPC_MESSAGE_HOT_RESTART_ACK = 9,
	SHMIPC_MESSAGE_NEGOTIATION = 10, /* JSON, version byte 0 */
	SHMIPC_MESSAGE_TYPE_COUNT
};

enum {
	SHMIPC_MESSAGE_MAGIC = 0x7758,
	SHMIPC_MESSAGE_HEADER_BYTES = 8,
	SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES = 16,
	SHMIPC_MESSAGE_NAME_MAX_BYTES = 4096,		/* PATH_MAX: no longer name can be opened */
	SHMIPC_MESSAGE_NEGOTIATION_MAX_BYTES = 1 << 16, /* header included */
	SHMIPC_MESSAGE_FALLBACK_MAX_BYTES = 1 << 28,	/* header included */
	SHMIPC_MESSAGE_VERSION_4 = 0,			/* what version 4 writes into the header */
	SHMIPC_MESSAGE_VERSION_2 = 2,
	SHMIPC_MESSAGE_VERSION_3 = 3
};

struct shmipc_message_header {
	uint32_t length; /* the whole message, header included */
	uint8_t version;
	uint8_t type;
};

/* The strings point into the message; they carry no terminator and no NUL byte. */
struct shmipc_share_memory {
	const char *queue_name;
	const char *buffer_name;
	uint16_t queue_name_bytes;
	uint16_t buffer_name_bytes;
};

struct shmipc_fallback {
	uint32_t stream;
	uint32_t status;
	uint32_t payload_bytes; /* they follow the 16 header bytes */
};

/* Checks magic, type, version and that the length is possible for the type. */
int shmipc_message_decode_header(const void *from, size_t bytes, struct shmipc_message_header *out);
int shmipc_message_encode_header(void *to, size_t room, const struct shmipc_message_header *header);

/* Messages without a body: POLLING, EXCHANGE_VERSION, ACK_SHARE, ACK_READY_FD. */
int shmipc_message_encode_plain(void *to, size_t room, uint8_t version, uint8_t type);

/* type: SHARE_FILE or SHARE_MEMFD */
int shmipc_message_decode_share(const void *from, size_t bytes, struct shmipc_share_memory *out);
int shmipc_message_encode_share(void *to, size_t room, uint8_t version, uint8_t type,
				const struct shmipc_share_memory *share);

int shmipc_message_decode_stream_close(const void *from, size_t bytes, uint32_t *stream);
int shmipc_message_encode_stream_close(void *to, size_t room, uint8_t version, uint32_t stream);

/* Only the 16 header bytes need to have arrived, and only they are written. */
int shmipc_message_decode_fallback(const void *from, size_t bytes, struct shmipc_fallback *out);
int shmipc_message_encode_fallback(void *to, size_t room, uint8_t version,
				   const struct shmipc_fallback *fallback);

/* type: HOT_RESTART or HOT_RESTART_ACK; an acknowledgement without a body has epoch 0 */
int shmipc_message_decode_epoch(const void *from, size_t bytes, uint64_t *epoch);
int shmipc_message_encode_epoch(void *to, size_t room, uint8_t version, uint8_t type,
				uint64_t epoch);

#endif
