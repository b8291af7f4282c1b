/* SPDX-License-Identifier: Apache-2.0 */
/* The control messages: recorded ones byte for byte, and every way to refuse a bad one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <glob.h>

#include "core/message.h"

#define VECTORS "tests/vectors/shmipc/*/transcript.txt"

enum { MESSAGE_ROOM = 1024, FUZZ_ROUNDS = 100000, RECORDED_MESSAGES = 113 };

static size_t from_hex(const char *hex, uint8_t *to)
{
	size_t bytes = 0;
	unsigned int value;

	while (bytes < MESSAGE_ROOM && sscanf(hex + 2 * bytes, "%2x", &value) == 1)
		to[bytes++] = (uint8_t)value;
	return bytes;
}

/* Decodes the body with the decoder of its type and encodes what that gave. */
static int reencode(const uint8_t *from, size_t bytes, const struct shmipc_message_header *header,
		    uint8_t *to)
{
	struct shmipc_share_memory share;
	struct shmipc_fallback fallback;
	uint32_t stream;
	uint64_t epoch;
	int result;

	switch (header->type) {
	case SHMIPC_MESSAGE_SHARE_FILE:
	case SHMIPC_MESSAGE_SHARE_MEMFD:
		result = shmipc_message_decode_share(from, bytes, &share);
		return result ? result
			      : shmipc_message_encode_share(to, MESSAGE_ROOM, header->version,
							    header->type, &share);
	case SHMIPC_MESSAGE_STREAM_CLOSE:
		result = shmipc_message_decode_stream_close(from, bytes, &stream);
		return result ? result
			      : shmipc_message_encode_stream_close(to, MESSAGE_ROOM,
								   header->version, stream);
	case SHMIPC_MESSAGE_FALLBACK_DATA:
		result = shmipc_message_decode_fallback(from, bytes, &fallback);
		return result ? result
			      : shmipc_message_encode_fallback(to, MESSAGE_ROOM, header->version,
							       &fallback);
	case SHMIPC_MESSAGE_HOT_RESTART:
	case SHMIPC_MESSAGE_HOT_RESTART_ACK:
		result = shmipc_message_decode_epoch(from, bytes, &epoch);
		return result ? result
			      : shmipc_message_encode_epoch(to, MESSAGE_ROOM, header->version,
							    header->type, epoch);
	case SHMIPC_MESSAGE_NEGOTIATION:
		return shmipc_message_encode_header(to, MESSAGE_ROOM, header);
	default:
		return shmipc_message_encode_plain(to, MESSAGE_ROOM, header->version, header->type);
	}
}

static unsigned int replay(const char *path)
{
	char line[4 * MESSAGE_ROOM], hex[4 * MESSAGE_ROOM], type[4], version[4];
	uint8_t recorded[MESSAGE_ROOM], made[MESSAGE_ROOM];
	struct shmipc_message_header header;
	unsigned int length, count = 0;
	size_t bytes;
	int result;
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "M %*u %*u %*s %3s %3s %*u %u %4095s", type, version, &length,
			   hex) != 4 ||
		    type[0] == '-')
			continue;
		bytes = from_hex(hex, recorded);
		assert_int_equal(shmipc_message_decode_header(recorded, bytes, &header), 0);
		assert_int_equal(header.type, atoi(type));
		assert_int_equal(header.version, atoi(version));
		assert_int_equal(header.length, length);
		result = reencode(recorded, bytes, &header, made);
		assert_int_equal(result, header.type == SHMIPC_MESSAGE_FALLBACK_DATA
						 ? SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES
						 : (int)length);
		assert_memory_equal(made, recorded, (size_t)result);
		count++;
	}
	fclose(file);
	return count;
}

static void recorded_messages_survive_a_round_trip(void **state)
{
	unsigned int count = 0;
	glob_t found;
	size_t i;

	(void)state;
	/* run from the top of the tree */
	assert_int_equal(glob(VECTORS, 0, NULL, &found), 0);
	for (i = 0; i < found.gl_pathc; i++)
		count += replay(found.gl_pathv[i]);
	globfree(&found);
	assert_int_equal(count, RECORDED_MESSAGES);
}

static int decode(uint32_t length, unsigned int magic, unsigned int version, unsigned int type)
{
	uint8_t bytes[8] = { (uint8_t)(length >> 24), (uint8_t)(length >> 16),
			     (uint8_t)(length >> 8),  (uint8_t)length,
			     (uint8_t)(magic >> 8),   (uint8_t)magic,
			     (uint8_t)version,	      (uint8_t)type };
	struct shmipc_message_header header;

	return shmipc_message_decode_header(bytes, sizeof(bytes), &header);
}

static void header_refuses_foreign_magic_type_and_version(void **state)
{
	unsigned int i;

	(void)state;
	assert_int_equal(decode(8, 0x7758, 3, SHMIPC_MESSAGE_POLLING), 0);
	assert_int_equal(decode(8, 0x5877, 3, SHMIPC_MESSAGE_POLLING), -EPROTO);
	assert_int_equal(decode(8, 0x7759, 3, SHMIPC_MESSAGE_POLLING), -EPROTO);
	for (i = SHMIPC_MESSAGE_TYPE_COUNT; i < 256; i++)
		assert_int_equal(decode(8, 0x7758, 3, i), -EPROTO);
	assert_int_equal(decode(8, 0x7758, 1, SHMIPC_MESSAGE_POLLING), -EPROTO);
	for (i = 4; i < 256; i++)
		assert_int_equal(decode(8, 0x7758, i, SHMIPC_MESSAGE_POLLING), -EPROTO);
	assert_int_equal(decode(8, 0x7758, 2, SHMIPC_MESSAGE_ACK_SHARE), -EPROTO);
	assert_int_equal(decode(8, 0x7758, 0, SHMIPC_MESSAGE_EXCHANGE_VERSION), -EPROTO);
	assert_int_equal(decode(40, 0x7758, 3, SHMIPC_MESSAGE_NEGOTIATION), -EPROTO);
	assert_int_equal(decode(40, 0x7758, 0, SHMIPC_MESSAGE_NEGOTIATION), 0);
}

static void header_bounds_the_length_of_every_type(void **state)
{
	static const struct {
		uint32_t least, most;
		unsigned int type, version;
	} bounds[] = {
		{ 12, 12 + 2 * 4096, SHMIPC_MESSAGE_SHARE_FILE, 2 },
		{ 8, 8, SHMIPC_MESSAGE_POLLING, 2 },
		{ 12, 12, SHMIPC_MESSAGE_STREAM_CLOSE, 3 },
		{ 16, 1U << 28, SHMIPC_MESSAGE_FALLBACK_DATA, 3 },
		{ 8, 8, SHMIPC_MESSAGE_EXCHANGE_VERSION, 3 },
		{ 12, 12 + 2 * 4096, SHMIPC_MESSAGE_SHARE_MEMFD, 0 },
		{ 8, 8, SHMIPC_MESSAGE_ACK_SHARE, 0 },
		{ 8, 8, SHMIPC_MESSAGE_ACK_READY_FD, 3 },
		{ 16, 16, SHMIPC_MESSAGE_HOT_RESTART, 2 },
		{ 8, 16, SHMIPC_MESSAGE_HOT_RESTART_ACK, 2 },
		{ 10, 1U << 16, SHMIPC_MESSAGE_NEGOTIATION, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		unsigned int version = bounds[i].version, type = bounds[i].type;

		assert_int_equal(decode(bounds[i].least, 0x7758, version, type), 0);
		assert_int_equal(decode(bounds[i].most, 0x7758, version, type), 0);
		assert_int_equal(decode(bounds[i].least - 1, 0x7758, version, type), -EPROTO);
		assert_int_equal(decode(bounds[i].most + 1, 0x7758, version, type), -EPROTO);
		assert_int_equal(decode(0, 0x7758, version, type), -EPROTO);
		assert_int_equal(decode(UINT32_MAX, 0x7758, version, type), -EPROTO);
	}
	assert_int_equal(decode(12, 0x7758, 2, SHMIPC_MESSAGE_HOT_RESTART_ACK), -EPROTO);
}

/* The bytes are copied to the end of a block of just that size, where a sanitizer sees an overrun.
 */
static int decode_cut(const uint8_t *message, size_t bytes,
		      const struct shmipc_message_header *header)
{
	uint8_t made[MESSAGE_ROOM];
	uint8_t *exact = malloc(bytes ? bytes : 1);
	int result;

	assert_non_null(exact);
	memcpy(exact, message, bytes);
	result = reencode(exact, bytes, header, made);
	free(exact);
	return result;
}

static void every_truncation_asks_for_more(void **state)
{
	static const struct shmipc_share_memory share = { "queue", "buffers", 5, 7 };
	static const struct shmipc_fallback fallback = { 7, 0, 1000 };
	uint8_t messages[4][MESSAGE_ROOM];
	struct shmipc_message_header header;
	size_t i, bytes, cut;

	(void)state;
	shmipc_message_encode_share(messages[0], MESSAGE_ROOM, 3, SHMIPC_MESSAGE_SHARE_MEMFD,
				    &share);
	shmipc_message_encode_stream_close(messages[1], MESSAGE_ROOM, 3, 9);
	shmipc_message_encode_fallback(messages[2], MESSAGE_ROOM, 3, &fallback);
	shmipc_message_encode_epoch(messages[3], MESSAGE_ROOM, 3, SHMIPC_MESSAGE_HOT_RESTART, 1);
	for (i = 0; i < 4; i++) {
		assert_int_equal(shmipc_message_decode_header(messages[i], 8, &header), 0);
		bytes = i == 2 ? SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES : header.length;
		for (cut = 0; cut < bytes; cut++)
			assert_int_equal(decode_cut(messages[i], cut, &header), -EAGAIN);
		assert_int_equal(decode_cut(messages[i], bytes, &header), (int)bytes);
	}
}

static int decode_names(const char *hex_body)
{
	uint8_t message[MESSAGE_ROOM];
	size_t bytes = 8 + from_hex(hex_body, message + 8);
	struct shmipc_message_header header = { (uint32_t)bytes, 3, SHMIPC_MESSAGE_SHARE_MEMFD };

	assert_int_equal(shmipc_message_encode_header(message, sizeof(message), &header), 8);
	return decode_cut(message, bytes, &header);
}

static void names_must_fill_the_message_exactly(void **state)
{
	(void)state;
	assert_int_equal(decode_names("0001"
				      "71"
				      "0001"
				      "62"),
			 14);
	assert_int_equal(decode_names("0001"
				      "71"
				      "0001"
				      "62"
				      "00"),
			 -EPROTO); /* one byte too many */
	assert_int_equal(decode_names("0001"
				      "71"
				      "0002"
				      "62"),
			 -EPROTO); /* beyond the end */
	assert_int_equal(decode_names("0001"
				      "71"
				      "ffff"
				      "62"),
			 -EPROTO);
	assert_int_equal(decode_names("ffff"
				      "71"
				      "0001"
				      "62"),
			 -EPROTO);
	assert_int_equal(decode_names("0003"
				      "717171"
				      "00"),
			 -EPROTO); /* half a count */
	assert_int_equal(decode_names("0004"
				      "71717171"),
			 -EPROTO); /* no second name */
	assert_int_equal(decode_names("0000"
				      "0002"
				      "6262"),
			 -EPROTO); /* empty */
	assert_int_equal(decode_names("0002"
				      "6262"
				      "0000"),
			 -EPROTO);
	assert_int_equal(decode_names("0002"
				      "7100"
				      "0001"
				      "62"),
			 -EPROTO); /* NUL inside */
}

static void decoders_refuse_other_types(void **state)
{
	uint8_t message[MESSAGE_ROOM];
	struct shmipc_share_memory share;
	struct shmipc_fallback fallback;
	uint32_t stream;
	uint64_t epoch;

	(void)state;
	assert_int_equal(
		shmipc_message_encode_plain(message, sizeof(message), 3, SHMIPC_MESSAGE_POLLING),
		8);
	assert_int_equal(shmipc_message_decode_share(message, 8, &share), -EPROTO);
	assert_int_equal(shmipc_message_decode_fallback(message, 8, &fallback), -EPROTO);
	assert_int_equal(shmipc_message_decode_stream_close(message, 8, &stream), -EPROTO);
	assert_int_equal(shmipc_message_decode_epoch(message, 8, &epoch), -EPROTO);
}

static void empty_restart_acknowledgement_is_epoch_0(void **state)
{
	struct shmipc_message_header header = { 8, 2, SHMIPC_MESSAGE_HOT_RESTART_ACK };
	uint8_t message[8];
	uint64_t epoch = 1;

	(void)state;
	assert_int_equal(shmipc_message_encode_header(message, sizeof(message), &header), 8);
	assert_int_equal(shmipc_message_decode_epoch(message, sizeof(message), &epoch), 0);
	assert_int_equal(epoch, 0);
}

static void encoders_refuse_what_may_not_be_sent(void **state)
{
	struct shmipc_share_memory share = { "q", "b", 1, 1 };
	struct shmipc_fallback fallback = { 1, 0, SHMIPC_MESSAGE_FALLBACK_MAX_BYTES };
	uint8_t to[MESSAGE_ROOM];

	(void)state;
	assert_int_equal(shmipc_message_encode_plain(to, 7, 3, SHMIPC_MESSAGE_POLLING), -ENOBUFS);
	assert_int_equal(shmipc_message_encode_plain(to, 8, 1, SHMIPC_MESSAGE_POLLING), -EINVAL);
	assert_int_equal(shmipc_message_encode_plain(to, 99, 3, SHMIPC_MESSAGE_STREAM_CLOSE),
			 -EINVAL);
	assert_int_equal(shmipc_message_encode_share(to, 13, 3, 5, &share), -ENOBUFS);
	assert_int_equal(shmipc_message_encode_share(to, 14, 3, 5, &share), 14);
	assert_int_equal(shmipc_message_encode_share(to, 14, 2, 5, &share), -EINVAL);
	assert_int_equal(shmipc_message_encode_share(to, 14, 2, 1, &share), -EINVAL);
	share.buffer_name_bytes = 0;
	assert_int_equal(shmipc_message_encode_share(to, 14, 3, 5, &share), -EINVAL);
	share.buffer_name_bytes = SHMIPC_MESSAGE_NAME_MAX_BYTES + 1;
	assert_int_equal(shmipc_message_encode_share(to, 14, 3, 5, &share), -EINVAL);
	assert_int_equal(shmipc_message_encode_fallback(to, 16, 3, &fallback), -EINVAL);
	fallback.payload_bytes = UINT32_MAX; /* the sum would wrap */
	assert_int_equal(shmipc_message_encode_fallback(to, 16, 3, &fallback), -EINVAL);
	fallback.payload_bytes = 5;
	assert_int_equal(shmipc_message_encode_fallback(to, 15, 3, &fallback), -ENOBUFS);
	assert_int_equal(shmipc_message_encode_fallback(to, 16, 3, &fallback), 16);
	assert_int_equal(shmipc_message_encode_stream_close(to, 11, 3, 1), -ENOBUFS);
	assert_int_equal(shmipc_message_encode_epoch(to, 15, 3, SHMIPC_MESSAGE_HOT_RESTART, 1),
			 -ENOBUFS);
	assert_int_equal(shmipc_message_encode_epoch(to, 16, 3, SHMIPC_MESSAGE_POLLING, 1),
			 -EINVAL);
}

static void random_bytes_are_never_read_past_their_end(void **state)
{
	static const struct shmipc_share_memory share = { "queue", "buffer", 5, 6 };
	uint8_t message[64];
	struct shmipc_message_header header;
	int i, j, bytes;

	(void)state;
	srandom(1);
	for (i = 0; i < FUZZ_ROUNDS; i++) {
		bytes = shmipc_message_encode_share(message, sizeof(message), 3,
						    SHMIPC_MESSAGE_SHARE_MEMFD, &share);
		for (j = (int)(random() % 4); j >= 0; j--)
			message[random() % bytes] = (uint8_t)random();
		bytes = (int)(random() % (bytes + 1));
		if (shmipc_message_decode_header(message, (size_t)bytes, &header) == 0)
			decode_cut(message, (size_t)bytes, &header);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recorded_messages_survive_a_round_trip),
		cmocka_unit_test(header_refuses_foreign_magic_type_and_version),
		cmocka_unit_test(header_bounds_the_length_of_every_type),
		cmocka_unit_test(every_truncation_asks_for_more),
		cmocka_unit_test(names_must_fill_the_message_exactly),
		cmocka_unit_test(decoders_refuse_other_types),
		cmocka_unit_test(empty_restart_acknowledgement_is_epoch_0),
		cmocka_unit_test(encoders_refuse_what_may_not_be_sent),
		cmocka_unit_test(random_bytes_are_never_read_past_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
