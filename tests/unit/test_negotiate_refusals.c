/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/handshake.c
/* What is refused of a peer's messages: each member, name and descriptor, other protocols, damage.
 */
#include "tests/unit/handshake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/message.h"

enum { FUZZ_ROUNDS = 100000 };

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

static void exactly_one_descriptor(void **state)
{
	(void)state;
	assert_int_equal(judge(GOOD, "name", "name", 1), 0);
	assert_int_equal(judge(GOOD, "name", "name", 0), -EPROTO);
	assert_int_equal(judge(GOOD, "name", "name", 2), -EPROTO);
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
		TEST(unknown_members_are_ignored),
		TEST(versions_and_features_are_checked),
		TEST(settings_are_checked),
		TEST(every_setting_is_checked),
		TEST(names_are_checked),
		TEST(exactly_one_descriptor),
		TEST(foreign_peers_are_refused_at_their_first_header),
		TEST(request_alone_gets_its_verdict),
		TEST(wrong_second_message_or_surplus_is_refused),
		TEST(answers_are_checked),
		TEST(mutations_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
