/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/conversation.h"

#include <poll.h>

struct pair pair;
unsigned char out[BIG], in[BIG];
uint64_t sent, got;

static bool conversation_is_unix;

void conversation_open(bool is_unix)
{
	memset(&pair, 0, sizeof(pair));
	sent = got = 0;
	conversation_is_unix = is_unix;
	pair_open(&pair, is_unix, RING_BYTES);
	pair.client.tx.verified = true;
}

static struct tcp_info tcp_info(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes);
	return info;
}

enum { ESTABLISHED = 1 }; /* as in the header that knows the counters not */

/* A Unix socket delivers before send() returns, loopback TCP when the kernel comes to it. */
static bool has_arrived(void)
{
	struct tcp_info from, to;

	if (conversation_is_unix)
		return true;
	to = tcp_info(pair.server.fd);
	if (pair.client.fd < 0)
		return to.tcpi_state != ESTABLISHED;
	from = tcp_info(pair.client.fd);
	return !from.tcpi_notsent_bytes &&
	       (from.tcpi_state == ESTABLISHED || to.tcpi_state != ESTABLISHED) &&
	       to.tcpi_bytes_received >= from.tcpi_bytes_sent - from.tcpi_bytes_retrans;
}

void let_arrive(void)
{
	for (int i = 0; i < 100000 && !has_arrived(); i++)
		usleep(100);
}

void say(size_t bytes, int flags)
{
	pair_fill(out, bytes, sent, 0);
	assert_int_equal(end_send(&pair.client, out, bytes, flags), bytes);
	sent += bytes;
	let_arrive();
}

void check(ssize_t n, size_t bytes)
{
	assert_int_equal(n, bytes);
	assert_int_equal(pair_check(in, bytes, got, 0), bytes);
}

void hear(size_t room, size_t bytes)
{
	check(end_receive(&pair.server, in, room, MSG_DONTWAIT), bytes);
	got += bytes;
}

void hear_nothing(void)
{
	assert_int_equal(end_receive(&pair.server, in, BIG, MSG_DONTWAIT), -EAGAIN);
}

bool kernel_readable(void)
{
	struct pollfd real = { .fd = pair.server.fd, .events = POLLIN };

	return poll(&real, 1, 0) > 0;
}

void cut_away(void)
{
	assert_int_equal(shmipc_sender_downgrade(&pair.client.tx, pair.client.fd), 0);
	pair.client.tx.no_more_ring = false;
	let_arrive();
}
