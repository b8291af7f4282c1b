/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake: whole, in pieces, cut short, damaged; every refusal; no descriptor left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fdpass.h"
#include "core/message.h"
#include "core/negotiate.h"

enum { FUZZ_ROUNDS = 100000, WIRE_ROOM = 4096 };

#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OURS                                                                              \
	"{\"layout\":1,\"stream\":2,\"key\":\"" KEY "\",\"cookie\":\"0123456789abcdef\"," \
	"\"peer_cookie\":\"0000000000000000\",\"netns\":\"ffffffffffffffff\",\"uid\":1000}"
#define REQUEST(protocols, features, settings)                                  \
	"{\"supports_protocols\":" protocols ",\"supports_features\":" features \
	",\"settings\":" settings "}"
#define SETTINGS(ours) "{\"byte_stream_rings\":" ours "}"
#define FEATURES "[\"byte_stream_rings\"]"
#define GOOD REQUEST("[4]", FEATURES, SETTINGS(OURS))

/* [0] is the dialer's end, [1] the offerer's */
struct channel {
	int ends[2];
	int segment_fd;
	int open_before;
};

static const struct shmipc_hello sample = {
	.layout = 1,
	.stream = UINT32_MAX,
	.key = { 0, 1, 0x7f, 0x80, 0xff },
	.cookie = UINT64_MAX,
	.peer_cookie = 0,
	.netns_cookie = 0x0123456789abcdef,
	.uid = 65534,
	.segment_name = "shmipc-4242-1",
};

static int count_open(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static void open_channel(struct channel *channel)
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, channel->ends),
		0);
}

static void close_channel(struct channel *channel)
{
	close(channel->ends[0]);
	close(channel->ends[1]);
}

static int set_up(void **state)
{
	static struct channel channel;

	channel.open_before = count_open();
	channel.segment_fd = memfd_create("test", MFD_CLOEXEC);
	open_channel(&channel);
	*state = &channel;
	return channel.segment_fd < 0;
}

/* Whatever a test did, no descriptor may be left over. */
static int tear_down(void **state)
{
	struct channel *channel = *state;

	close_channel(channel);
	close(channel->segment_fd);
	return count_open() != channel->open_before;
}

static int receive_hello(int channel_fd)
{
	struct shmipc_negotiator negotiator;
	struct shmipc_hello hello;
	int result, fd = -1;

	shmipc_negotiator_init(&negotiator);
	result = shmipc_negotiator_receive_hello(&negotiator, channel_fd, &hello, &fd);
	assert_int_equal(fd >= 0, result == 0);
	if (fd >= 0)
		close(fd);
	shmipc_negotiator_close(&negotiator);
	return result;
}

static int receive_answer(int channel_fd)
{
	struct shmipc_negotiator negotiator;
	int result;

	shmipc_negotiator_init(&negotiator);
	result = shmipc_negotiator_receive_answer(&negotiator, channel_fd);
	shmipc_negotiator_close(&negotiator);
	return result;
}

static void raw_send(struct channel *channel, int end, const void *from, size_t bytes,
		     unsigned int fd_count)
{
	int fds[2] = { channel->segment_fd, channel->segment_fd };

	assert_int_equal(shmipc_fdpass_send(channel->ends[end], from, bytes, fds, fd_count), bytes);
}

static size_t put_json(uint8_t *to, const char *body)
{
	struct shmipc_message_header header = { (uint32_t)(8 + strlen(body)), 0,
						SHMIPC_MESSAGE_NEGOTIATION };

	assert_int_equal(shmipc_message_encode_header(to, 8, &header), 8);
	memcpy(to + 8, body, strlen(body));
	return header.length;
}

static size_t put_share(uint8_t *to, const char *queue, const char *buffer)
{
	struct shmipc_share_memory share = { queue, buffer, (uint16_t)strlen(queue),
					     (uint16_t)strlen(buffer) };
	int result = shmipc_message_encode_share(to, WIRE_ROOM / 2, 0, SHMIPC_MESSAGE_SHARE_MEMFD,
						 &share);

	assert_true(result > 0);
	return (size_t)result;
}

/* A hello with that JSON and those names and descriptors, on a channel of its own. */
static int judge(const char *body, const char *queue, const char *buffer, unsigned int fd_count)
{
	uint8_t wire[2 * WIRE_ROOM];
	struct channel channel;
	size_t bytes = put_json(wire, body);
	int result, before = count_open();

	bytes += put_share(wire + bytes, queue, buffer);
	open_channel(&channel);
	channel.segment_fd = STDERR_FILENO;
	raw_send(&channel, 0, wire, bytes, fd_count);
	result = receive_hello(channel.ends[1]);
	close_channel(&channel);
	assert_int_equal(count_open(), before);
	return result;
}

static int judge_json(const char *body)
{
	return judge(body, "name", "name", 1);
}

/* What send_hello puts on the wire, without its descriptor. */
static size_t hello_bytes(struct channel *channel, uint8_t *wire)
{
	ssize_t bytes;

	assert_int_equal(
		shmipc_negotiate_send_hello(channel->ends[0], &sample, channel->segment_fd), 0);
	bytes = recv(channel->ends[1], wire, WIRE_ROOM, 0); /* drops the descriptor */
	assert_true(bytes > 0);
	return (size_t)bytes;
}

static size_t answer_bytes(struct channel *channel, int error, uint8_t *wire)
{
	ssize_t bytes;

	assert_int_equal(shmipc_negotiate_send_answer(channel->ends[1], error), 0);
	bytes = recv(channel->ends[0], wire, WIRE_ROOM, 0);
	assert_true(bytes > 0);
	return (size_t)bytes;
}

static void check_hello(const struct shmipc_hello *hello)
{
	assert_int_equal(hello->layout, sample.layout);
	assert_int_equal(hello->stream, sample.stream);
	assert_memory_equal(hello->key, sample.key, sizeof(sample.key));
	assert_true(hello->cookie == sample.cookie);
	assert_true(hello->peer_cookie == sample.peer_cookie);
	assert_true(hello->netns_cookie == sample.netns_cookie);
	assert_int_equal(hello->uid, sample.uid);
	assert_string_equal(hello->segment_name, sample.segment_name);
}

static void check_segment(const struct channel *channel, int fd)
{
	struct stat sent, got;

	assert_int_equal(fstat(channel->segment_fd, &sent), 0);
	assert_int_equal(fstat(fd, &got), 0);
	assert_true(sent.st_dev == got.st_dev && sent.st_ino == got.st_ino);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void accepted_handshake(void **state)
{
	struct channel *channel = *state;
	struct shmipc_negotiator dialer, offerer;
	struct shmipc_hello hello;
	int fd = -1;

	shmipc_negotiator_init(&dialer);
	shmipc_negotiator_init(&offerer);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 -EAGAIN);
	assert_int_equal(
		shmipc_negotiate_send_hello(channel->ends[0], &sample, channel->segment_fd), 0);
	assert_int_equal(shmipc_negotiator_receive_answer(&dialer, channel->ends[0]), -EAGAIN);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 0);
	check_hello(&hello);
	check_segment(channel, fd);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 -EALREADY);
	assert_int_equal(shmipc_negotiate_send_answer(channel->ends[1], 0), 0);
	assert_int_equal(shmipc_negotiator_receive_answer(&dialer, channel->ends[0]), 0);
	shmipc_negotiator_close(&offerer);
	check_segment(channel, fd); /* it was handed out: not the negotiator's any more */
	close(fd);
}

static void hello_arrives_byte_by_byte(void **state)
{
	struct channel *channel = *state;
	struct shmipc_negotiator offerer;
	struct shmipc_hello hello;
	uint8_t wire[WIRE_ROOM];
	size_t i, bytes = hello_bytes(channel, wire);
	int fd = -1;

	shmipc_negotiator_init(&offerer);
	for (i = 0; i < bytes; i++) {
		raw_send(channel, 0, wire + i, 1, i == 0);
		assert_int_equal(
			shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			i + 1 < bytes ? -EAGAIN : 0);
	}
	check_hello(&hello);
	check_segment(channel, fd);
	close(fd);
}

static void answer_arrives_byte_by_byte(void **state)
{
	struct channel *channel = *state;
	struct shmipc_negotiator dialer;
	uint8_t wire[WIRE_ROOM];
	size_t i, bytes = answer_bytes(channel, 0, wire);

	shmipc_negotiator_init(&dialer);
	for (i = 0; i < bytes; i++) {
		raw_send(channel, 1, wire + i, 1, 0);
		assert_int_equal(shmipc_negotiator_receive_answer(&dialer, channel->ends[0]),
				 i + 1 < bytes ? -EAGAIN : 0);
	}
}

static void every_truncation_ends_in_reset(void **state)
{
	struct channel *channel = *state;
	struct channel cut = { .segment_fd = channel->segment_fd };
	uint8_t wire[WIRE_ROOM];
	size_t i, bytes = hello_bytes(channel, wire);

	for (i = 0; i < bytes; i++) {
		open_channel(&cut);
		if (i > 0)
			raw_send(&cut, 0, wire, i, 1);
		close(cut.ends[0]);
		assert_int_equal(receive_hello(cut.ends[1]), -ECONNRESET);
		close(cut.ends[1]);
	}
	bytes = answer_bytes(channel, 0, wire);
	for (i = 0; i < bytes; i++) {
		open_channel(&cut);
		if (i > 0)
			raw_send(&cut, 1, wire, i, 0);
		close(cut.ends[1]);
		assert_int_equal(receive_answer(cut.ends[0]), -ECONNRESET);
		close(cut.ends[0]);
	}
}

static void abandoned_negotiator_closes_its_descriptor(void **state)
{
	struct channel *channel = *state;
	struct shmipc_negotiator offerer;
	struct shmipc_hello hello;
	uint8_t wire[WIRE_ROOM];
	size_t bytes = hello_bytes(channel, wire);
	int fd = -1, before = count_open();

	shmipc_negotiator_init(&offerer);
	raw_send(channel, 0, wire, bytes - 1, 1);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 -EAGAIN);
	assert_int_equal(count_open(), before + 1);
	shmipc_negotiator_close(&offerer);
	assert_int_equal(count_open(), before);
	shmipc_negotiator_close(&offerer);
}

static void refusals_come_back_as_they_were_sent(void **state)
{
	static const struct {
		int sent, received;
	} errors[] = {
		{ -EPROTONOSUPPORT, -EPROTONOSUPPORT },
		{ -EOPNOTSUPP, -EOPNOTSUPP },
		{ -EBADMSG, -EBADMSG },
		{ -ECONNREFUSED, -ECONNREFUSED },
		{ -EPERM, -ECONNREFUSED },
		{ -EMSGSIZE, -ECONNREFUSED },
	};
	struct channel *channel = *state;
	struct shmipc_negotiator dialer;
	size_t i;

	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		assert_int_equal(shmipc_negotiate_send_answer(channel->ends[1], errors[i].sent), 0);
		shmipc_negotiator_init(&dialer);
		assert_int_equal(shmipc_negotiator_receive_answer(&dialer, channel->ends[0]),
				 errors[i].received);
		assert_int_equal(shmipc_negotiator_receive_answer(&dialer, channel->ends[0]),
				 errors[i].received);
	}
	/* a peer that speaks something else is told nothing */
	assert_int_equal(shmipc_negotiate_send_answer(channel->ends[1], -EPROTO), 0);
	assert_int_equal(receive_answer(channel->ends[0]), -EAGAIN);
}

static void unknown_members_are_ignored(void **state)
{
	(void)state;
	assert_int_equal(judge_json(GOOD), 0);
	assert_int_equal(judge_json("{\"x\":[{}],\"sdk_name\":7,\"supports_features\":[\"eventfd_"
				    "wakeup\",null,\"byte_stream_rings\"],\"supports_protocols\":["
				    "5,\"4\",4.5,4],\"settings\":{\"eventfd_wakeup\":1,\"byte_"
				    "stream_rings\":" OURS "}}"),
			 0);
}

static void versions_and_features_are_checked(void **state)
{
	(void)state;
	assert_int_equal(judge_json("{}"), -EPROTONOSUPPORT);
	assert_int_equal(judge_json(REQUEST("[]", FEATURES, SETTINGS(OURS))), -EPROTONOSUPPORT);
	assert_int_equal(judge_json(REQUEST("[3,5]", FEATURES, SETTINGS(OURS))), -EPROTONOSUPPORT);
	assert_int_equal(judge_json(REQUEST("4", FEATURES, SETTINGS(OURS))), -EBADMSG);
	assert_int_equal(judge_json(REQUEST("[4]", "[]", SETTINGS(OURS))), -EOPNOTSUPP);
	assert_int_equal(judge_json(REQUEST("[4]", "[\"byte_stream_ring\"]", SETTINGS(OURS))),
			 -EOPNOTSUPP);
	assert_int_equal(judge_json(REQUEST("[4]", "{}", SETTINGS(OURS))), -EBADMSG);
	assert_int_equal(judge_json("{\"supports_protocols\":[4],\"supports_protocols\":[4]}"),
			 -EBADMSG);
}

static void settings_are_checked(void **state)
{
	(void)state;
	assert_int_equal(judge_json(REQUEST("[4]", FEATURES, "{}")), -EBADMSG);
	assert_int_equal(judge_json(REQUEST("[4]", FEATURES, "[]")), -EBADMSG);
	assert_int_equal(judge_json(REQUEST("[4]", FEATURES, SETTINGS("null"))), -EBADMSG);
	assert_int_equal(
		judge_json("{\"supports_protocols\":[4],\"supports_features\":" FEATURES "}"),
		-EBADMSG);
	assert_int_equal(judge_json("[]"), -EBADMSG);
	assert_int_equal(judge_json("not json"), -EBADMSG);
	assert_int_equal(judge_json(GOOD " x"), -EBADMSG);
}

/* The good request with one piece of text exchanged. */
static int judge_changed(const char *from, const char *to)
{
	char body[2048];
	const char *at = strstr(GOOD, from);

	assert_non_null(at);
	snprintf(body, sizeof(body), "%.*s%s%s", (int)(at - GOOD), GOOD, to, at + strlen(from));
	return judge_json(body);
}

static void every_setting_is_checked(void **state)
{
	static const struct {
		const char *from, *to;
	} changes[] = {
		{ "\"layout\":1", "\"layout\":-1" },
		{ "\"layout\":1", "\"layout\":4294967296" },
		{ "\"layout\":1", "\"layout\":\"1\"" },
		{ "\"layout\":1", "\"layout\":1,\"layout\":1" },
		{ "\"layout\"", "\"lay\"" },
		{ "\"stream\":2", "\"stream\":2.0" },
		{ "\"stream\"", "\"strea\"" },
		{ "\"uid\":1000", "\"uid\":null" },
		{ "\"uid\"", "\"gid\"" },
		{ "1e1f\"", "1e1\"" },
		{ "1e1f\"", "1e1f0\"" },
		{ "1e1f\"", "1e1f00\"" },
		{ "1e1f\"", "1e1F\"" },
		{ "1e1f\"", "1e1g\"" },
		{ "1e1f\"", "1e\\u0000f\"" },
		{ "\"key\"", "\"kex\"" },
		{ "\"cookie\"", "\"cooky\"" },
		{ "\"0123456789abcdef\"", "81985529216486895" },
		{ "\"0123456789abcdef\"", "\"123456789abcdef\"" },
		{ "\"peer_cookie\"", "\"peer\"" },
		{ "\"netns\"", "\"ns\"" },
	};
	size_t i;

	(void)state;
	assert_int_equal(judge_changed("\"layout\":1", "\"layout\":4294967295"), 0);
	for (i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		if (judge_changed(changes[i].from, changes[i].to) != -EBADMSG)
			fail_msg("accepted: %s", changes[i].to);
}

static void names_are_checked(void **state)
{
	char name[SHMIPC_HELLO_NAME_ROOM + 1];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[SHMIPC_HELLO_NAME_ROOM - 1] = '\0';
	assert_int_equal(judge(GOOD, name, name, 1), 0);
	name[SHMIPC_HELLO_NAME_ROOM - 1] = 'n';
	name[SHMIPC_HELLO_NAME_ROOM] = '\0';
	assert_int_equal(judge(GOOD, name, name, 1), -EPROTO);
	assert_int_equal(judge(GOOD, "name", "nama", 1), -EPROTO);
	assert_int_equal(judge(GOOD, "name", "nam", 1), -EPROTO);
	assert_int_equal(judge(GOOD, "a b", "a b", 1), -EPROTO);
	assert_int_equal(judge(GOOD, "a\nb", "a\nb", 1), -EPROTO);
	assert_int_equal(judge(GOOD, "\x80", "\x80", 1), -EPROTO);
}

static void exactly_one_descriptor_with_the_first_byte(void **state)
{
	struct channel *channel = *state;
	struct shmipc_negotiator offerer;
	struct shmipc_hello hello;
	uint8_t wire[WIRE_ROOM];
	size_t bytes;
	int fd = -1;

	assert_int_equal(judge(GOOD, "name", "name", 1), 0);
	assert_int_equal(judge(GOOD, "name", "name", 0), -EPROTO);
	assert_int_equal(judge(GOOD, "name", "name", 2), -EPROTO);

	bytes = hello_bytes(channel, wire);
	shmipc_negotiator_init(&offerer);
	raw_send(channel, 0, wire, 1, 0);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 -EAGAIN);
	raw_send(channel, 0, wire + 1, bytes - 1, 1);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 -EPROTO);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 -EPROTO);
}

static void second_descriptor_later_is_refused(void **state)
{
	struct channel *channel = *state;
	struct shmipc_negotiator offerer;
	struct shmipc_hello hello;
	uint8_t wire[WIRE_ROOM];
	size_t bytes = hello_bytes(channel, wire);
	int fd = -1;

	shmipc_negotiator_init(&offerer);
	raw_send(channel, 0, wire, bytes / 2, 1);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 -EAGAIN);
	raw_send(channel, 0, wire + bytes / 2, bytes - bytes / 2, 1);
	assert_int_equal(shmipc_negotiator_receive_hello(&offerer, channel->ends[1], &hello, &fd),
			 -EPROTO);
}

static int judge_raw(const void *from, size_t bytes, unsigned int fd_count)
{
	struct channel channel = { .segment_fd = STDERR_FILENO };
	int result;

	open_channel(&channel);
	raw_send(&channel, 0, from, bytes, fd_count);
	result = receive_hello(channel.ends[1]);
	close_channel(&channel);
	return result;
}

static void foreign_peers_are_refused_at_their_first_header(void **state)
{
	(void)state;
	assert_int_equal(judge_raw("GET / HTTP/1.1\r\n", 16, 0), -EPROTO);
	assert_int_equal(judge_raw("\0\0\0\x4b\x77\x58\x02\0", 8, 0), -EPROTO);	  /* v2, files */
	assert_int_equal(judge_raw("\0\0\0\x08\x77\x58\x03\x04", 8, 0), -EPROTO); /* v3 */
	assert_int_equal(judge_raw("\0\0\0\x0c\x77\x58\0\x05", 8, 1), -EPROTO);	  /* type 5 first */
	assert_int_equal(judge_raw("\0\0\0\x40\x77\x58\x03\x0a", 8, 1), -EPROTO); /* version 3 */
	assert_int_equal(judge_raw("\0\0\0\x09\x77\x58\0\x0a", 8, 1), -EPROTO); /* no room for {} */
	assert_int_equal(judge_raw("\0\x01\0\x01\x77\x58\0\x0a", 8, 1), -EPROTO); /* over 64 KiB */
	assert_int_equal(judge_raw("\0\x01\0\0\x77\x58\0\x0a", 8, 1), -EMSGSIZE);
	assert_int_equal(judge_raw("\0\0\x08\x01\x77\x58\0\x0a", 8, 1), -EMSGSIZE);
	assert_int_equal(judge_raw("\0\0\x08\0\x77\x58\0\x0a", 8, 1), -EAGAIN); /* 2048 may come */
	assert_int_equal(judge_raw("\0\0\0\x08\x77\x58\x03", 7, 0), -EAGAIN);
}

/* A version 4 peer of another make sends the request alone and waits. */
static void request_alone_gets_its_verdict(void **state)
{
	uint8_t wire[WIRE_ROOM];
	size_t bytes;

	(void)state;
	bytes = put_json(wire, "{\"supports_protocols\":[4],\"sdk_name\":\"other\",\"sdk_version\":"
			       "\"1\",\"supports_features\":[\"eventfd_wakeup\"],\"settings\":{}}");
	assert_int_equal(judge_raw(wire, bytes, 0), -EOPNOTSUPP);
	bytes = put_json(wire, "{\"supports_protocols\":[5],\"supports_features\":[]}");
	assert_int_equal(judge_raw(wire, bytes, 0), -EPROTONOSUPPORT);
	bytes = put_json(wire, GOOD);
	assert_int_equal(judge_raw(wire, bytes, 0), -EPROTO); /* ours always has a descriptor */
	assert_int_equal(judge_raw(wire, bytes, 1), -EAGAIN);
}

static void wrong_second_message_or_surplus_is_refused(void **state)
{
	uint8_t wire[WIRE_ROOM];
	size_t first = put_json(wire, GOOD), bytes;

	(void)state;
	assert_int_equal(shmipc_message_encode_plain(wire + first, 8, 0, SHMIPC_MESSAGE_POLLING),
			 8);
	assert_int_equal(judge_raw(wire, first + 8, 1), -EPROTO);
	bytes = first + put_share(wire + first, "name", "name");
	wire[first + 6] = SHMIPC_MESSAGE_VERSION_3;
	assert_int_equal(judge_raw(wire, bytes, 1), -EPROTO);
	wire[first + 6] = SHMIPC_MESSAGE_VERSION_4;
	assert_int_equal(judge_raw(wire, bytes, 1), 0);
	assert_int_equal(judge_raw(wire, bytes + 1, 1), -EPROTO);
	wire[first + 7] = SHMIPC_MESSAGE_SHARE_FILE;
	assert_int_equal(judge_raw(wire, bytes, 1), -EPROTO);
}

static int judge_answer(const char *body, int with_ack, unsigned int fd_count)
{
	struct channel channel = { .segment_fd = STDERR_FILENO };
	uint8_t wire[WIRE_ROOM];
	size_t bytes = put_json(wire, body);
	int result;

	if (with_ack)
		bytes += (size_t)shmipc_message_encode_plain(wire + bytes, 8, 0,
							     SHMIPC_MESSAGE_ACK_SHARE);
	open_channel(&channel);
	raw_send(&channel, 1, wire, bytes, fd_count);
	result = receive_answer(channel.ends[0]);
	close_channel(&channel);
	return result;
}

#define ANSWER(protocol, features) \
	"{\"selected_protocol\":" protocol ",\"selected_features\":" features "}"

static void answers_are_checked(void **state)
{
	struct channel *channel = *state;

	assert_int_equal(judge_answer(ANSWER("4", FEATURES), 1, 0), 0);
	assert_int_equal(judge_answer(ANSWER("4", FEATURES), 0, 0), -EAGAIN);
	assert_int_equal(judge_answer(ANSWER("4", FEATURES), 1, 1), -EPROTO);
	assert_int_equal(judge_answer(ANSWER("4", FEATURES), 1, 2), -EPROTO);
	assert_int_equal(judge_answer(ANSWER("3", FEATURES), 1, 0), -EPROTONOSUPPORT);
	assert_int_equal(judge_answer(ANSWER("null", FEATURES), 1, 0), -EPROTO);
	assert_int_equal(judge_answer(ANSWER("4", "[]"), 1, 0), -EOPNOTSUPP);
	assert_int_equal(judge_answer(ANSWER("4", "7"), 1, 0), -EPROTO);
	assert_int_equal(judge_answer("{\"error\":{\"code\":\"SOMETHING\"}}", 0, 0), -ECONNREFUSED);
	assert_int_equal(judge_answer("{\"error\":{}}", 0, 0), -ECONNREFUSED);
	assert_int_equal(judge_answer("{\"error\":1}", 0, 0), -ECONNREFUSED);
	assert_int_equal(judge_answer("{\"error\":1,\"error\":2}", 0, 0), -EPROTO);
	assert_int_equal(judge_answer("{\"error\":null,\"selected_protocol\":4,"
				      "\"selected_features\":" FEATURES "}",
				      1, 0),
			 0);
	assert_int_equal(judge_answer("[]", 0, 0), -EPROTO);
	assert_int_equal(judge_answer("{]", 0, 0), -EPROTO);
	raw_send(channel, 1, "\0\0\0\x08\x77\x58\0\x06", 8, 0); /* the ack alone */
	assert_int_equal(receive_answer(channel->ends[0]), -EPROTO);
}

static void bad_arguments_and_full_channels(void **state)
{
	static char block[4096];
	struct channel *channel = *state;
	struct shmipc_hello hello = sample;

	assert_int_equal(shmipc_negotiate_send_hello(channel->ends[0], &hello, -1), -EINVAL);
	hello.segment_name[0] = '\0';
	assert_int_equal(shmipc_negotiate_send_hello(channel->ends[0], &hello, channel->segment_fd),
			 -EINVAL);
	memset(hello.segment_name, 'n', sizeof(hello.segment_name));
	assert_int_equal(shmipc_negotiate_send_hello(channel->ends[0], &hello, channel->segment_fd),
			 -EINVAL);
	hello.segment_name[SHMIPC_HELLO_NAME_ROOM - 1] = '\0'; /* the longest hello of all */
	memset(hello.key, 0xff, sizeof(hello.key));
	hello.layout = UINT32_MAX;
	hello.uid = UINT32_MAX;
	assert_int_equal(shmipc_negotiate_send_hello(channel->ends[0], &hello, channel->segment_fd),
			 0);
	assert_int_equal(receive_hello(channel->ends[1]), 0);
	while (send(channel->ends[0], block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(
		shmipc_negotiate_send_hello(channel->ends[0], &sample, channel->segment_fd),
		-EAGAIN);
	shutdown(channel->ends[1], SHUT_RDWR);
	assert_int_equal(
		shmipc_negotiate_send_hello(channel->ends[0], &sample, channel->segment_fd),
		-EPIPE);
	assert_int_equal(shmipc_negotiate_send_answer(channel->ends[0], 0), -EPIPE);
}

static void damage(uint8_t *wire, size_t bytes)
{
	static const char alphabet[] = "{}[]\",:\\u04ae-. ";
	long i;

	for (i = random() % 4; i >= 0; i--)
		wire[(size_t)random() % bytes] = random() % 2
							 ? (uint8_t)random()
							 : (uint8_t)
								   alphabet[(size_t)random() %
									    (sizeof(alphabet) - 1)];
}

/* Both parsers, each on a channel that is used again as long as the parser has emptied it. */
static void mutations_do_no_harm(void **state)
{
	struct channel *channel = *state;
	struct channel noisy = { .segment_fd = channel->segment_fd };
	uint8_t hello[WIRE_ROOM], answer[WIRE_ROOM], wire[WIRE_ROOM];
	size_t hello_size = hello_bytes(channel, hello);
	size_t answer_size = answer_bytes(channel, 0, answer);
	int i, before;

	srandom(3);
	open_channel(&noisy);
	before = count_open();
	for (i = 0; i < FUZZ_ROUNDS; i++) {
		memcpy(wire, hello, hello_size);
		damage(wire, hello_size);
		raw_send(&noisy, 0, wire, 1 + (size_t)random() % hello_size, random() % 8 != 0);
		receive_hello(noisy.ends[1]);
		memcpy(wire, answer, answer_size);
		damage(wire, answer_size);
		raw_send(&noisy, 1, wire, 1 + (size_t)random() % answer_size, random() % 8 == 0);
		receive_answer(noisy.ends[0]);
	}
	assert_int_equal(count_open(), before);
	close_channel(&noisy);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(accepted_handshake),
		TEST(hello_arrives_byte_by_byte),
		TEST(answer_arrives_byte_by_byte),
		TEST(every_truncation_ends_in_reset),
		TEST(abandoned_negotiator_closes_its_descriptor),
		TEST(refusals_come_back_as_they_were_sent),
		TEST(unknown_members_are_ignored),
		TEST(versions_and_features_are_checked),
		TEST(settings_are_checked),
		TEST(every_setting_is_checked),
		TEST(names_are_checked),
		TEST(exactly_one_descriptor_with_the_first_byte),
		TEST(second_descriptor_later_is_refused),
		TEST(foreign_peers_are_refused_at_their_first_header),
		TEST(request_alone_gets_its_verdict),
		TEST(wrong_second_message_or_surplus_is_refused),
		TEST(answers_are_checked),
		TEST(bad_arguments_and_full_channels),
		TEST(mutations_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
