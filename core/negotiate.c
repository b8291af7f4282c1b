/* SPDX-License-Identifier: Apache-2.0 */
#include "core/negotiate.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/fdpass.h"
#include "core/json.h"
#include "core/message.h"
#include "core/sys.h"

#define FEATURE "byte_stream_rings"
#define SDK "\"sdk_name\":\"shmipc-c\",\"sdk_version\":\"0.1.0\""

enum { PROTOCOL = 4, HEX64_DIGITS = 16, KEY_DIGITS = 2 * SHMIPC_HELLO_KEY_BYTES };

static const struct {
	int error;
	const char *code;
	const char *message;
} refusals[] = {
	{ -EPROTONOSUPPORT, "VERSION_NOT_SUPPORTED", "protocol 4 is needed" },
	{ -EOPNOTSUPP, "FEATURE_NOT_SUPPORTED", FEATURE " in a known layout is needed" },
	{ -EBADMSG, "JSON_PARSE_ERROR", "the request cannot be read" },
	/* the last one stands for every other error */
	{ -ECONNREFUSED, "REFUSED", "the connection stays as it is" },
};

enum { REFUSALS = sizeof(refusals) / sizeof(refusals[0]) };

/* ---- writing ---- */

/* Messages in the making. The rooms below are sized for the longest ones: see put(). */
struct writer {
	char *at;
	char *end;
	bool overflow;
};

static void put(struct writer *writer, const char *text)
{
	size_t bytes = strlen(text);

	if (writer->overflow || bytes > (size_t)(writer->end - writer->at)) {
		writer->overflow = true;
		return;
	}
	memcpy(writer->at, text, bytes);
	writer->at += bytes;
}

static void put_hex(struct writer *writer, const uint8_t *from, size_t bytes)
{
	static const char digits[] = "0123456789abcdef";
	char pair[3] = { 0 };
	size_t i;

	put(writer, "\"");
	for (i = 0; i < bytes; i++) {
		pair[0] = digits[from[i] >> 4];
		pair[1] = digits[from[i] & 15];
		put(writer, pair);
	}
	put(writer, "\"");
}

static void put_hex64(struct writer *writer, uint64_t value)
{
	uint8_t bytes[8];
	int i;

	for (i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(value >> (56 - 8 * i));
	put_hex(writer, bytes, sizeof(bytes));
}

static void put_uint(struct writer *writer, uint32_t value)
{
	char digits[11];
	char *at = digits + sizeof(digits) - 1;

	*at = '\0';
	do {
		*--at = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	put(writer, at);
}

static int open_negotiation(struct writer *writer)
{
	if (writer->end - writer->at < SHMIPC_MESSAGE_HEADER_BYTES)
		return -ENOBUFS;
	writer->at += SHMIPC_MESSAGE_HEADER_BYTES;
	return 0;
}

/* The header needs the length, so it is written when the body is complete. */
static int close_negotiation(struct writer *writer, char *start)
{
	struct shmipc_message_header header = {
		.length = (uint32_t)(writer->at - start),
		.version = SHMIPC_MESSAGE_VERSION_4,
		.type = SHMIPC_MESSAGE_NEGOTIATION,
	};
	int result = shmipc_message_encode_header(start, SHMIPC_MESSAGE_HEADER_BYTES, &header);

	if (writer->overflow)
		return -ENOBUFS;
	return result < 0 ? result : 0;
}

static int advance(struct writer *writer, int encoded)
{
	if (encoded < 0)
		return encoded;
	writer->at += encoded;
	return 0;
}

static int write_request(struct writer *writer, const struct shmipc_hello *hello)
{
	char *start = writer->at;
	int result = open_negotiation(writer);

	if (result)
		return result;
	put(writer, "{\"supports_protocols\":[4]," SDK ",\"supports_features\":[\"" FEATURE "\"],"
		    "\"settings\":{\"" FEATURE "\":{\"layout\":");
	put_uint(writer, hello->layout);
	put(writer, ",\"stream\":");
	put_uint(writer, hello->stream);
	put(writer, ",\"key\":");
	put_hex(writer, hello->key, sizeof(hello->key));
	put(writer, ",\"cookie\":");
	put_hex64(writer, hello->cookie);
	put(writer, ",\"peer_cookie\":");
	put_hex64(writer, hello->peer_cookie);
	put(writer, ",\"netns\":");
	put_hex64(writer, hello->netns_cookie);
	put(writer, ",\"uid\":");
	put_uint(writer, hello->uid);
	put(writer, "}}}");
	return close_negotiation(writer, start);
}

static int write_response(struct writer *writer, int error)
{
	char *start = writer->at;
	unsigned int i = 0;
	int result = open_negotiation(writer);

	if (result)
		return result;
	if (error == 0) {
		put(writer,
		    "{\"selected_protocol\":4," SDK ",\"selected_features\":[\"" FEATURE "\"],"
		    "\"settings\":{}}");
		return close_negotiation(writer, start);
	}
	while (i < REFUSALS - 1 && refusals[i].error != error)
		i++;
	put(writer, "{\"selected_protocol\":0," SDK ",\"selected_features\":[],\"settings\":{},"
		    "\"error\":{\"code\":\"");
	put(writer, refusals[i].code);
	put(writer, "\",\"message\":\"");
	put(writer, refusals[i].message);
	put(writer, "\"}}");
	return close_negotiation(writer, start);
}

/* Both are far shorter than the least send buffer, and a stream takes such a message whole. */
static int send_whole(int channel_fd, const char *from, size_t bytes, const int *fds,
		      unsigned int fd_count)
{
	ssize_t sent = shmipc_fdpass_send(channel_fd, from, bytes, fds, fd_count);

	if (sent < 0)
		return (int)sent;
	return (size_t)sent == bytes ? 0 : -EIO;
}

/* ---- the segment's name ---- */

static bool name_is_valid(const char *name, size_t bytes)
{
	size_t i;

	if (bytes == 0 || bytes >= SHMIPC_HELLO_NAME_ROOM)
		return false;
	for (i = 0; i < bytes; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	return true;
}

int shmipc_negotiate_send_hello(int channel_fd, const struct shmipc_hello *hello, int segment_fd)
{
	char text[1024];
	struct writer writer = { text, text + sizeof(text), false };
	size_t name_bytes = strnlen(hello->segment_name, sizeof(hello->segment_name));
	struct shmipc_share_memory share = {
		.queue_name = hello->segment_name,
		.buffer_name = hello->segment_name,
		.queue_name_bytes = (uint16_t)name_bytes,
		.buffer_name_bytes = (uint16_t)name_bytes,
	};
	int result;

	if (segment_fd < 0 || !name_is_valid(hello->segment_name, name_bytes))
		return -EINVAL;
	result = write_request(&writer, hello);
	if (!result)
		result = advance(&writer, shmipc_message_encode_share(
						  writer.at, (size_t)(writer.end - writer.at),
						  SHMIPC_MESSAGE_VERSION_4,
						  SHMIPC_MESSAGE_SHARE_MEMFD, &share));
	if (result)
		return result;
	return send_whole(channel_fd, text, (size_t)(writer.at - text), &segment_fd, 1);
}

int shmipc_negotiate_send_answer(int channel_fd, int error)
{
	char text[512];
	struct writer writer = { text, text + sizeof(text), false };
	int result;

	if (error == -EPROTO)
		return 0;
	result = write_response(&writer, error);
	if (!result && error == 0)
		result = advance(&writer,
				 shmipc_message_encode_plain(
					 writer.at, (size_t)(writer.end - writer.at),
					 SHMIPC_MESSAGE_VERSION_4, SHMIPC_MESSAGE_ACK_SHARE));
	if (result)
		return result;
	return send_whole(channel_fd, text, (size_t)(writer.at - text), NULL, 0);
}

/* ---- reading ---- */

void shmipc_negotiator_init(struct shmipc_negotiator *negotiator)
{
	negotiator->filled = 0;
	negotiator->received_fd = -1;
	negotiator->result = -EAGAIN;
}

void shmipc_negotiator_close(struct shmipc_negotiator *negotiator)
{
	if (negotiator->received_fd >= 0)
		sys_close(negotiator->received_fd);
	negotiator->received_fd = -1;
}

static int finish(struct shmipc_negotiator *negotiator, int result)
{
	negotiator->result = result;
	if (result != 0 && result != -EAGAIN)
		shmipc_negotiator_close(negotiator);
	return result;
}

/* One receive. A descriptor is taken with the very first bytes only, and only one. */
static int receive_more(struct shmipc_negotiator *negotiator, int channel_fd, bool fd_allowed)
{
	size_t room = sizeof(negotiator->buffer) - negotiator->filled;
	unsigned int fd_count = 1;
	ssize_t received;
	int fd = -1;

	if (room == 0)
		return -EMSGSIZE;
	received = shmipc_fdpass_receive(channel_fd, negotiator->buffer + negotiator->filled, room,
					 &fd, &fd_count);
	if (received == -EMSGSIZE)
		return -EPROTO;
	if (received < 0)
		return (int)received;
	if (fd_count > 0 && (!fd_allowed || negotiator->filled > 0)) {
		sys_close(fd);
		return -EPROTO;
	}
	if (fd_count > 0)
		negotiator->received_fd = fd;
	if (received == 0)
		return -ECONNRESET;
	negotiator->filled += (size_t)received;
	return 0;
}

/*
 * The message of the given type that begins at *at: 0 with *at behind it, -EAGAIN if it has not
 * arrived whole, or an error.  A wrong header is refused as soon as it is there.
 */
static int take_message(const struct shmipc_negotiator *negotiator, size_t *at, uint8_t type,
			const uint8_t **message, size_t *bytes)
{
	struct shmipc_message_header header;
	size_t left = negotiator->filled - *at;
	int result = shmipc_message_decode_header(negotiator->buffer + *at, left, &header);

	if (result)
		return result;
	if (header.type != type || header.version != SHMIPC_MESSAGE_VERSION_4)
		return -EPROTO;
	if (header.length > sizeof(negotiator->buffer) - *at)
		return -EMSGSIZE;
	if (header.length > left)
		return -EAGAIN;
	*message = negotiator->buffer + *at;
	*bytes = header.length;
	*at += header.length;
	return 0;
}

static int parse_body(const uint8_t *message, size_t bytes, struct shmipc_json *root)
{
	int result = shmipc_json_parse((const char *)message + SHMIPC_MESSAGE_HEADER_BYTES,
				       bytes - SHMIPC_MESSAGE_HEADER_BYTES, root);

	if (!result && root->type != SHMIPC_JSON_OBJECT)
		result = -EBADMSG;
	return result;
}

/*
 * Is there an element in the array called name that is that string, or that number if text is NULL?
 * 1 or 0 (an absent array is an empty one), or -EBADMSG.
 */
static int array_has(const struct shmipc_json *object, const char *name, const char *text,
		     uint64_t number)
{
	struct shmipc_json array, element;
	struct shmipc_json_iterator iterator;
	uint64_t value;
	int result = shmipc_json_member(object, name, &array);

	if (result)
		return result == -ENOENT ? 0 : result;
	if (array.type != SHMIPC_JSON_ARRAY || shmipc_json_iterate(&array, &iterator))
		return -EBADMSG;
	while (shmipc_json_next(&iterator, NULL, &element)) {
		if (text ? shmipc_json_string_is(&element, text)
			 : !shmipc_json_uint(&element, &value) && value == number)
			return 1;
	}
	return 0;
}

static int read_uint32(const struct shmipc_json *object, const char *name, uint32_t *out)
{
	struct shmipc_json value;
	uint64_t number;

	if (shmipc_json_member(object, name, &value) || shmipc_json_uint(&value, &number) ||
	    number > UINT32_MAX)
		return -EBADMSG;
	*out = (uint32_t)number;
	return 0;
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return -1;
}

/* Exactly 2 * bytes lower-case digits. */
static int read_hex(const struct shmipc_json *object, const char *name, uint8_t *out, size_t bytes)
{
	struct shmipc_json value;
	char text[KEY_DIGITS + 1];
	int high, low;
	size_t i;

	if (shmipc_json_member(object, name, &value) ||
	    shmipc_json_string(&value, text, sizeof(text)) != (int)(2 * bytes))
		return -EBADMSG;
	for (i = 0; i < bytes; i++) {
		high = hex_digit(text[2 * i]);
		low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return -EBADMSG;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

static int read_hex64(const struct shmipc_json *object, const char *name, uint64_t *out)
{
	uint8_t bytes[HEX64_DIGITS / 2];
	unsigned int i;

	if (read_hex(object, name, bytes, sizeof(bytes)))
		return -EBADMSG;
	*out = 0;
	for (i = 0; i < sizeof(bytes); i++)
		*out = *out << 8 | bytes[i];
	return 0;
}

static int read_settings(const struct shmipc_json *root, struct shmipc_hello *out)
{
	struct shmipc_json settings, ours;

	if (shmipc_json_member(root, "settings", &settings) ||
	    shmipc_json_member(&settings, FEATURE, &ours))
		return -EBADMSG;
	if (read_uint32(&ours, "layout", &out->layout) ||
	    read_uint32(&ours, "stream", &out->stream) ||
	    read_hex(&ours, "key", out->key, sizeof(out->key)) ||
	    read_hex64(&ours, "cookie", &out->cookie) ||
	    read_hex64(&ours, "peer_cookie", &out->peer_cookie) ||
	    read_hex64(&ours, "netns", &out->netns_cookie) || read_uint32(&ours, "uid", &out->uid))
		return -EBADMSG;
	return 0;
}

static int read_request(const uint8_t *message, size_t bytes, struct shmipc_hello *out)
{
	struct shmipc_json root;
	int result = parse_body(message, bytes, &root);

	if (result)
		return result;
	result = array_has(&root, "supports_protocols", NULL, PROTOCOL);
	if (result <= 0)
		return result ? result : -EPROTONOSUPPORT;
	result = array_has(&root, "supports_features", FEATURE, 0);
	if (result <= 0)
		return result ? result : -EOPNOTSUPP;
	return read_settings(&root, out);
}

/* Two names for one segment: they must agree. */
static int read_share(const uint8_t *message, size_t bytes, struct shmipc_hello *out)
{
	struct shmipc_share_memory share;
	int result = shmipc_message_decode_share(message, bytes, &share);

	if (result)
		return result;
	if (!name_is_valid(share.queue_name, share.queue_name_bytes) ||
	    share.queue_name_bytes != share.buffer_name_bytes ||
	    memcmp(share.queue_name, share.buffer_name, share.queue_name_bytes) != 0)
		return -EPROTO;
	memcpy(out->segment_name, share.queue_name, share.queue_name_bytes);
	return 0;
}

/*
 * The request is judged before the rest is waited for: a peer of another make sends it alone and
 * waits for an answer, and it too gets one.
 */
static int parse_hello(const struct shmipc_negotiator *negotiator, struct shmipc_hello *out)
{
	const uint8_t *message;
	size_t at = 0, bytes;
	int result = take_message(negotiator, &at, SHMIPC_MESSAGE_NEGOTIATION, &message, &bytes);

	if (result)
		return result;
	memset(out, 0, sizeof(*out));
	result = read_request(message, bytes, out);
	if (result)
		return result;
	if (negotiator->received_fd < 0)
		return -EPROTO;
	result = take_message(negotiator, &at, SHMIPC_MESSAGE_SHARE_MEMFD, &message, &bytes);
	if (result)
		return result;
	result = read_share(message, bytes, out);
	if (result)
		return result;
	return at == negotiator->filled ? 0 : -EPROTO;
}

int shmipc_negotiator_receive_hello(struct shmipc_negotiator *negotiator, int channel_fd,
				    struct shmipc_hello *out, int *segment_fd_out)
{
	struct shmipc_hello hello;
	int result;

	if (negotiator->result != -EAGAIN)
		return negotiator->result ? negotiator->result : -EALREADY;
	do {
		result = receive_more(negotiator, channel_fd, true);
		if (result)
			return finish(negotiator, result);
		result = parse_hello(negotiator, &hello);
	} while (result == -EAGAIN);
	if (result == 0) {
		*out = hello;
		*segment_fd_out = negotiator->received_fd;
		negotiator->received_fd = -1;
	}
	return finish(negotiator, result);
}

static int read_refusal(const struct shmipc_json *error)
{
	struct shmipc_json code;
	unsigned int i;

	if (shmipc_json_member(error, "code", &code))
		return -ECONNREFUSED;
	for (i = 0; i < REFUSALS; i++)
		if (shmipc_json_string_is(&code, refusals[i].code))
			return refusals[i].error;
	return -ECONNREFUSED;
}

static int read_response(const uint8_t *message, size_t bytes)
{
	struct shmipc_json root, error;
	uint32_t protocol;
	int result;

	if (parse_body(message, bytes, &root))
		return -EPROTO;
	result = shmipc_json_member(&root, "error", &error);
	if (result == -EBADMSG)
		return -EPROTO;
	if (result == 0 && error.type != SHMIPC_JSON_NULL)
		return read_refusal(&error);
	if (read_uint32(&root, "selected_protocol", &protocol))
		return -EPROTO;
	if (protocol != PROTOCOL)
		return -EPROTONOSUPPORT;
	result = array_has(&root, "selected_features", FEATURE, 0);
	if (result <= 0)
		return result ? -EPROTO : -EOPNOTSUPP;
	return 0;
}

static int parse_answer(const struct shmipc_negotiator *negotiator)
{
	const uint8_t *message;
	size_t at = 0, bytes;
	int result = take_message(negotiator, &at, SHMIPC_MESSAGE_NEGOTIATION, &message, &bytes);

	if (result)
		return result;
	result = read_response(message, bytes);
	if (result)
		return result;
	result = take_message(negotiator, &at, SHMIPC_MESSAGE_ACK_SHARE, &message, &bytes);
	if (result)
		return result;
	return at == negotiator->filled ? 0 : -EPROTO;
}

int shmipc_negotiator_receive_answer(struct shmipc_negotiator *negotiator, int channel_fd)
{
	int result;

	if (negotiator->result != -EAGAIN)
		return negotiator->result;
	do {
		result = receive_more(negotiator, channel_fd, false);
		if (result)
			return finish(negotiator, result);
		result = parse_answer(negotiator);
	} while (result == -EAGAIN);
	return finish(negotiator, result);
}
