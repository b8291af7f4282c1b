/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/handshake.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fdpass.h"
#include "core/message.h"

const struct shmipc_hello sample = {
	.layout = 1,
	.stream = UINT32_MAX,
	.key = { 0, 1, 0x7f, 0x80, 0xff },
	.cookie = UINT64_MAX,
	.peer_cookie = 0,
	.netns_cookie = 0x0123456789abcdef,
	.uid = 65534,
	.segment_name = "shmipc-4242-1",
};

void open_channel(struct channel *channel)
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, channel->ends),
		0);
}

void close_channel(struct channel *channel)
{
	close(channel->ends[0]);
	close(channel->ends[1]);
}

int set_up(void **state)
{
	static struct channel channel;

	channel.open_before = count_open();
	channel.segment_fd = memfd_create("test", MFD_CLOEXEC);
	open_channel(&channel);
	*state = &channel;
	return channel.segment_fd < 0;
}

int tear_down(void **state)
{
	struct channel *channel = *state;

	close_channel(channel);
	close(channel->segment_fd);
	return count_open() != channel->open_before;
}

int receive_hello(int channel_fd)
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

int receive_answer(int channel_fd)
{
	struct shmipc_negotiator negotiator;
	int result;

	shmipc_negotiator_init(&negotiator);
	result = shmipc_negotiator_receive_answer(&negotiator, channel_fd);
	shmipc_negotiator_close(&negotiator);
	return result;
}

void raw_send(struct channel *channel, int end, const void *from, size_t bytes,
	      unsigned int fd_count)
{
	int fds[2] = { channel->segment_fd, channel->segment_fd };

	assert_int_equal(shmipc_fdpass_send(channel->ends[end], from, bytes, fds, fd_count), bytes);
}

size_t put_json(uint8_t *to, const char *body)
{
	struct shmipc_message_header header = { (uint32_t)(8 + strlen(body)), 0,
						SHMIPC_MESSAGE_NEGOTIATION };

	assert_int_equal(shmipc_message_encode_header(to, 8, &header), 8);
	memcpy(to + 8, body, strlen(body));
	return header.length;
}

size_t hello_bytes(struct channel *channel, uint8_t *wire)
{
	ssize_t bytes;

	assert_int_equal(
		shmipc_negotiate_send_hello(channel->ends[0], &sample, channel->segment_fd), 0);
	bytes = recv(channel->ends[1], wire, WIRE_ROOM, 0); /* drops the descriptor */
	assert_true(bytes > 0);
	return (size_t)bytes;
}

size_t answer_bytes(struct channel *channel, int error, uint8_t *wire)
{
	ssize_t bytes;

	assert_int_equal(shmipc_negotiate_send_answer(channel->ends[1], error), 0);
	bytes = recv(channel->ends[0], wire, WIRE_ROOM, 0);
	assert_true(bytes > 0);
	return (size_t)bytes;
}
