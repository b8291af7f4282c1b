/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/handshake.c
/* The handshake: whole, in pieces, cut short, given up; no descriptor left behind. */
#include "tests/unit/handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

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

static void a_descriptor_comes_with_the_first_byte(void **state)
{
	struct channel *channel = *state;
	struct shmipc_negotiator offerer;
	struct shmipc_hello hello;
	uint8_t wire[WIRE_ROOM];
	size_t bytes = hello_bytes(channel, wire);
	int fd = -1;

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
		TEST(a_descriptor_comes_with_the_first_byte),
		TEST(second_descriptor_later_is_refused),
		TEST(bad_arguments_and_full_channels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
