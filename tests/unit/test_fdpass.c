/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes with descriptors: what arrives, and that nothing unwanted stays open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fdpass.h"
#include "tests/unit/open_count.h"

struct channel {
	int ends[2];
	int null_fd;
	int open_before;
};

static int set_up(void **state)
{
	static struct channel channel;

	channel.open_before = count_open();
	channel.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	*state = &channel;
	return channel.null_fd < 0 ||
	       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel.ends);
}

/* Every test has closed what it received by now. */
static int tear_down(void **state)
{
	struct channel *channel = *state;

	close(channel->null_fd);
	close(channel->ends[0]);
	close(channel->ends[1]);
	return count_open() != channel->open_before;
}

static int is_null_device(int fd)
{
	struct stat one, other;

	return fstat(fd, &one) == 0 && stat("/dev/null", &other) == 0 &&
	       one.st_rdev == other.st_rdev && S_ISCHR(one.st_mode);
}

static void bytes_and_descriptors_arrive_close_on_exec(void **state)
{
	struct channel *channel = *state;
	unsigned int sent_count, count, i;
	int sent[SHMIPC_FDPASS_MAX], got[SHMIPC_FDPASS_MAX];
	char text[8];

	for (i = 0; i < SHMIPC_FDPASS_MAX; i++)
		sent[i] = channel->null_fd;
	for (sent_count = 0; sent_count <= SHMIPC_FDPASS_MAX; sent_count++) {
		assert_int_equal(shmipc_fdpass_send(channel->ends[0], "hello", 5, sent, sent_count),
				 5);
		count = SHMIPC_FDPASS_MAX;
		assert_int_equal(
			shmipc_fdpass_receive(channel->ends[1], text, sizeof(text), got, &count),
			5);
		assert_int_equal(count, sent_count);
		assert_memory_equal(text, "hello", 5);
		for (i = 0; i < count; i++) {
			assert_true(is_null_device(got[i]));
			assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
			close(got[i]);
		}
	}
}

static void descriptors_come_with_the_first_byte(void **state)
{
	struct channel *channel = *state;
	unsigned int count = 1;
	char text[8];
	int fd;

	assert_int_equal(shmipc_fdpass_send(channel->ends[0], "ab", 2, &channel->null_fd, 1), 2);
	assert_int_equal(shmipc_fdpass_receive(channel->ends[1], text, 1, &fd, &count), 1);
	assert_int_equal(count, 1);
	close(fd);
	count = 1;
	assert_int_equal(shmipc_fdpass_receive(channel->ends[1], text, 1, &fd, &count), 1);
	assert_int_equal(count, 0);
}

static void never_blocks(void **state)
{
	struct channel *channel = *state;
	static char block[65536];
	unsigned int count = 1;
	char text[8];
	ssize_t sent;
	int fd;

	assert_int_equal(shmipc_fdpass_receive(channel->ends[1], text, sizeof(text), &fd, &count),
			 -EAGAIN);
	assert_int_equal(count, 0);
	do
		sent = shmipc_fdpass_send(channel->ends[0], block, sizeof(block), NULL, 0);
	while (sent > 0);
	assert_int_equal(sent, -EAGAIN);
	assert_int_equal(shmipc_fdpass_send(channel->ends[0], "x", 1, &channel->null_fd, 1),
			 -EAGAIN);
}

static void surplus_descriptors_are_closed(void **state)
{
	struct channel *channel = *state;
	int sent[SHMIPC_FDPASS_MAX], got[SHMIPC_FDPASS_MAX], before;
	unsigned int room, sent_count, count;
	char text[8];

	for (count = 0; count < SHMIPC_FDPASS_MAX; count++)
		sent[count] = channel->null_fd;
	before = count_open();
	for (room = 0; room < SHMIPC_FDPASS_MAX; room++) {
		for (sent_count = room + 1; sent_count <= SHMIPC_FDPASS_MAX; sent_count++) {
			assert_int_equal(
				shmipc_fdpass_send(channel->ends[0], "x", 1, sent, sent_count), 1);
			count = room;
			assert_int_equal(shmipc_fdpass_receive(channel->ends[1], text, sizeof(text),
							       got, &count),
					 -EMSGSIZE);
			assert_int_equal(count, 0);
			assert_int_equal(count_open(), before);
		}
	}
}

/* More than our own sender would ever send. */
static void send_many(int channel_fd, int fd, unsigned int fd_count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(64 * sizeof(int))];
	} control = { 0 };
	char text = 'x';
	struct iovec part = { &text, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	struct cmsghdr *head;
	unsigned int i;

	message.msg_control = control.bytes;
	message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
	for (i = 0; i < fd_count; i++)
		memcpy(CMSG_DATA(head) + i * sizeof(int), &fd, sizeof(int));
	assert_int_equal(sendmsg(channel_fd, &message, 0), 1);
}

static void truncated_control_data_is_an_error(void **state)
{
	struct channel *channel = *state;
	int got[SHMIPC_FDPASS_MAX], before = count_open();
	unsigned int sent_count, count;
	char text[8];

	for (sent_count = SHMIPC_FDPASS_MAX + 1; sent_count <= 64; sent_count++) {
		send_many(channel->ends[0], channel->null_fd, sent_count);
		count = SHMIPC_FDPASS_MAX;
		assert_int_equal(
			shmipc_fdpass_receive(channel->ends[1], text, sizeof(text), got, &count),
			-EMSGSIZE);
		assert_int_equal(count_open(), before);
	}
}

static void full_descriptor_table_is_told_apart(void **state)
{
	struct channel *channel = *state;
	struct rlimit old, low;
	unsigned int count = 1;
	int fd, next = dup(channel->null_fd);
	ssize_t result;
	char text[8];

	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)next;
	assert_int_equal(shmipc_fdpass_send(channel->ends[0], "x", 1, &channel->null_fd, 1), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	result = shmipc_fdpass_receive(channel->ends[1], text, sizeof(text), &fd, &count);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(result, -EMFILE);
	assert_int_equal(count, 0);
}

static void foreign_control_data_is_passed_over(void **state)
{
	struct channel *channel = *state;
	unsigned int count = 1;
	int on = 1, fd;
	char text[8];

	/* credentials come before the descriptors and leave less room for them */
	assert_int_equal(setsockopt(channel->ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	assert_int_equal(shmipc_fdpass_send(channel->ends[0], "x", 1, NULL, 0), 1);
	assert_int_equal(shmipc_fdpass_receive(channel->ends[1], text, sizeof(text), &fd, &count),
			 1);
	assert_int_equal(count, 0);
}

static void bad_arguments_and_dead_peers(void **state)
{
	struct channel *channel = *state;
	int fds[SHMIPC_FDPASS_MAX + 1] = { 0 };
	unsigned int count = 1;
	char text[8];

	assert_int_equal(shmipc_fdpass_send(channel->ends[0], "x", 0, NULL, 0), -EINVAL);
	assert_int_equal(shmipc_fdpass_send(channel->ends[0], "x", 1, fds, SHMIPC_FDPASS_MAX + 1),
			 -EINVAL);
	fds[0] = -1;
	assert_int_equal(shmipc_fdpass_send(channel->ends[0], "x", 1, fds, 1), -EBADF);
	assert_int_equal(shmipc_fdpass_receive(channel->ends[1], text, 0, fds, &count), -EINVAL);
	assert_int_equal(shutdown(channel->ends[0], SHUT_RDWR), 0);
	count = 1;
	assert_int_equal(shmipc_fdpass_receive(channel->ends[1], text, sizeof(text), fds, &count),
			 0);
	/* and no SIGPIPE */
	assert_int_equal(shmipc_fdpass_send(channel->ends[1], "x", 1, NULL, 0), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(bytes_and_descriptors_arrive_close_on_exec, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(descriptors_come_with_the_first_byte, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(never_blocks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(surplus_descriptors_are_closed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(truncated_control_data_is_an_error, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(full_descriptor_table_is_told_apart, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(foreign_control_data_is_passed_over, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(bad_arguments_and_dead_peers, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
