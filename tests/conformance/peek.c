/* SPDX-License-Identifier: Apache-2.0 */
/* MSG_PEEK and MSG_TRUNC in their combinations, SO_PEEK_OFF, vectors of every shape. */
#include "tests/conformance/lib/conf.h"

#include <limits.h>

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = ANY | CONF_MID };

static void sends_100(int fd)
{
	send_pat(fd, 100, 0);
	both();
	both();
}

/* The same bytes, as often as they are asked for, and then they are read. */
static void repeated_server(int fd)
{
	char bytes[200];

	both();
	ready(fd, POLLIN);
	for (int i = 1; i <= 5; i++) {
		size_t want = (size_t)i * 25;
		ssize_t n = recv(fd, bytes, want, MSG_PEEK);

		obs("peek", n);
		obs_val("right", pat_good(bytes, (size_t)n, 0));
		obs("recv 1", recv(fd, bytes, 1, 0));
		n = recv(fd, bytes, 10, MSG_PEEK | MSG_DONTWAIT);
		obs("peek", n);
		obs_val("right", pat_good(bytes, (size_t)n, 1));
		recv_pat(fd, 99, 1);
		obs("nothing", recv(fd, bytes, 10, MSG_PEEK | MSG_DONTWAIT));
		send_exact(fd, "?", 1);
		if (i < 5)
			ready(fd, POLLIN);
	}
	both();
}

static void repeated_client(int fd)
{
	char byte;

	send_pat(fd, 100, 0);
	both();
	for (int i = 1; i <= 5; i++) {
		recv_exact(fd, &byte, 1);
		if (i < 5)
			send_pat(fd, 100, 0);
	}
	both();
}
CASE("peek.repeated", repeated_server, repeated_client, EVERY);

/* TCP: MSG_TRUNC counts and does not copy; with MSG_PEEK it does not take either. */
static void trunc_server(int fd)
{
	char bytes[200];

	memset(bytes, 'x', sizeof(bytes));
	both();
	ready(fd, POLLIN);
	obs("peek trunc", recv(fd, bytes, 200, MSG_PEEK | MSG_TRUNC));
	obs_sum("bytes", bytes, 200);
	if (conf.is_tcp)
		obs("trunc to nowhere", recv(fd, NULL, 30, MSG_TRUNC));
	else
		obs("recv", recv(fd, bytes, 30, 0));
	obs("trunc waitall", recv(fd, bytes, 20, MSG_TRUNC | MSG_WAITALL));
	obs_sum("bytes", bytes, 20);
	recv_pat(fd, 50, 50);
	obs("trunc empty", recv(fd, bytes, 20, MSG_TRUNC | MSG_DONTWAIT));
	both();
}
CASE("peek.trunc", trunc_server, sends_100, EVERY);

static void trunc_message_server(int fd)
{
	char bytes[40];
	struct iovec v[2] = { { bytes, 10 }, { bytes + 10, 30 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	memset(bytes, 'x', sizeof(bytes));
	both();
	ready(fd, POLLIN);
	obs("recvmsg trunc", recvmsg(fd, &m, MSG_TRUNC));
	obs_text("flags %#x", (unsigned int)m.msg_flags);
	obs_sum("bytes", bytes, 40);
	obs("recvmsg peek", recvmsg(fd, &m, MSG_PEEK));
	obs_text("flags %#x", (unsigned int)m.msg_flags);
	obs_sum("bytes", bytes, 40);
	m.msg_iovlen = 0;
	obs("recvmsg of nothing", recvmsg(fd, &m, MSG_DONTWAIT));
	obs_text("flags %#x", (unsigned int)m.msg_flags);
	recv_pat(fd, 60, 40);
	both();
}
CASE("peek.trunc_message", trunc_message_server, sends_100, EVERY);

/* Each peek begins where the last one ended; a receive moves the mark back. */
static void offset_server(int fd)
{
	char bytes[100];
	int off = 5;
	socklen_t len = sizeof(off);

	both();
	ready(fd, POLLIN);
	obs("set", setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)));
	for (int i = 0; i < 3; i++) {
		ssize_t n = recv(fd, bytes, 20, MSG_PEEK);

		obs("peek", n);
		obs_sum("bytes", bytes, n > 0 ? (size_t)n : 0);
	}
	obs("recv", recv(fd, bytes, 10, 0));
	obs("get", getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, &len));
	obs_val("offset", off);
	off = -1;
	obs("set", setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)));
	obs("peek", recv(fd, bytes, 20, MSG_PEEK));
	obs_val("right", pat_good(bytes, 20, 10));
	recv_pat(fd, 90, 10);
	both();
}
CASE("peek.offset", offset_server, sends_100, ANY | CONF_EITHER);

static void offset_early_server(int listener)
{
	int fd = conf_accept(listener), off = 0;
	char bytes[10];

	obs("set", setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)));
	warm_up(fd, CONF_WARM_ROUNDS);
	both();
	ready(fd, POLLIN);
	obs("peek", recv(fd, bytes, 10, MSG_PEEK));
	obs("peek", recv(fd, bytes, 10, MSG_PEEK));
	obs_sum("bytes", bytes, 10);
	recv_pat(fd, 100, 0);
	both();
	close(fd);
}

static void offset_early_client(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, CONF_WARM_ROUNDS);
	sends_100(fd);
	close(fd);
}
CASE("peek.offset_early", offset_early_server, offset_early_client, CONF_RAW | CONF_NEVER);

/* Set at any moment of a connection's youth. */
enum { YOUTH = 24 };

static void offset_young_server(int listener)
{
	for (int rounds = 0; rounds < YOUTH; rounds++) {
		int fd = conf_accept(listener), off = 5;
		char bytes[10];
		ssize_t n;

		warm_up(fd, rounds);
		setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off));
		both();
		ready(fd, POLLIN);
		for (int i = 0; i < 2; i++) {
			n = recv(fd, bytes, 10, MSG_PEEK);
			if (n != 10 || !pat_good(bytes, 10, (uint64_t)off + 10 * (uint64_t)i))
				obs_text("after %d rounds peek %d: %zd", rounds, i, n);
		}
		recv_pat(fd, 100, 0);
		both();
		close(fd);
	}
}

static void offset_young_client(int none)
{
	(void)none;
	for (int rounds = 0; rounds < YOUTH; rounds++) {
		int fd = conf_connect();

		warm_up(fd, rounds);
		sends_100(fd);
		close(fd);
	}
}
CASE("peek.offset_young", offset_young_server, offset_young_client, CONF_RAW | CONF_EITHER);

/* ---- vectors ---- */

static void iov_max_server(int fd)
{
	static char bytes[IOV_MAX * 3];
	static struct iovec v[IOV_MAX + 1];

	for (int i = 0; i <= IOV_MAX; i++)
		v[i] = (struct iovec){ bytes + (i % IOV_MAX) * 3, 3 };
	both();
	while (1) {
		int there = 0;

		ioctl(fd, FIONREAD, &there);
		if (there >= IOV_MAX * 3)
			break;
		nap_ms(1);
	}
	obs("readv", readv(fd, v, IOV_MAX));
	obs_val("right", pat_good(bytes, sizeof(bytes), 0));
	obs("readv too many", readv(fd, v, opaque(IOV_MAX + 1)));
	struct msghdr m = { .msg_iov = v, .msg_iovlen = IOV_MAX + 1 };
	obs("recvmsg too many", recvmsg(fd, &m, 0));
	obs("sendmsg too many", sendmsg(fd, &m, 0));
	obs("writev too many", writev(fd, v, opaque(IOV_MAX + 1)));
	both();
	obs("writev", writev(fd, v, IOV_MAX));
	both();
}

static void iov_max_client(int fd)
{
	static char bytes[IOV_MAX * 3];
	static struct iovec v[IOV_MAX];
	struct msghdr m = { .msg_iov = v, .msg_iovlen = IOV_MAX };

	pat_fill(bytes, sizeof(bytes), 0);
	for (int i = 0; i < IOV_MAX; i++)
		v[i] = (struct iovec){ bytes + i * 3, 3 };
	obs("sendmsg", sendmsg(fd, &m, 0));
	both();
	both();
	recv_pat(fd, IOV_MAX * 3, 0);
	both();
}
CASE("vectors.iov_max", iov_max_server, iov_max_client, EVERY);

/* Empty elements in every place; a read that ends in the middle of one. */
static void holes_server(int fd)
{
	char bytes[100];
	struct iovec v[7] = { { NULL, 0 },	  { bytes, 10 }, { bytes + 10, 0 },
			      { bytes + 10, 45 }, { NULL, 0 },	 { bytes + 55, 45 },
			      { bytes, 0 } };

	both();
	ready(fd, POLLIN);
	obs("readv 3", readv(fd, v, 3));
	obs_val("right", pat_good(bytes, 10, 0));
	obs("readv 7", readv(fd, v, 7));
	obs_val("right", pat_good(bytes, 90, 10));
	obs("only holes", readv(fd, &v[4], 1));
	both();
	ready(fd, POLLIN);
	recv_pat(fd, 100, 0);
	both();
}

static void holes_client(int fd)
{
	char bytes[100];
	struct iovec v[5] = {
		{ bytes, 0 }, { bytes, 1 }, { NULL, 0 }, { bytes + 1, 99 }, { NULL, 0 }
	};

	pat_fill(bytes, sizeof(bytes), 0);
	send_pat(fd, 100, 0);
	both();
	both();
	obs("writev", writev(fd, v, 5));
	obs("only holes", writev(fd, v, 1));
	both();
}
CASE("vectors.holes", holes_server, holes_client, EVERY);

/* One large vector of uneven elements, more than a socket holds. */
static void uneven_server(int fd)
{
	char *bytes = big_buffer();
	struct iovec v[40];
	size_t done = 0, total = 0;

	for (size_t i = 0; i < 40; i++)
		total += i * i * 97 + 1;
	both();
	while (done < total) {
		size_t at = done;
		ssize_t n;

		for (int i = 0; i < 40; i++) {
			size_t here = 1 + (size_t)i * 513;

			v[i] = (struct iovec){ bytes + at, here < total - at ? here : total - at };
			at += v[i].iov_len;
		}
		n = readv(fd, v, 40);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	obs_text("received %zu, %s", done, pat_good(bytes, done, 0) ? "right" : "WRONG");
	both();
}

static void uneven_client(int fd)
{
	char *bytes = big_buffer();
	struct iovec v[40];
	size_t at = 0;

	for (size_t i = 0; i < 40; i++) {
		v[i] = (struct iovec){ bytes + at, i * i * 97 + 1 };
		at += v[i].iov_len;
	}
	pat_fill(bytes, at, 0);
	both();
	obs("writev", writev(fd, v, 40));
	both();
}
CASE("vectors.uneven", uneven_server, uneven_client, EVERY);

/* Lengths that cannot be. */
static void lengths_server(int fd)
{
	char bytes[16];
	struct iovec v[2] = { { bytes, 8 }, { bytes + 8, SIZE_MAX } };
	struct iovec sum[2] = { { bytes, SSIZE_MAX }, { bytes, SSIZE_MAX } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	both();
	ready(fd, POLLIN);
	obs("readv negative", readv(fd, v, 2));
	obs("writev negative", writev(fd, v, 2));
	obs("recvmsg negative", recvmsg(fd, &m, 0));
	obs("sendmsg negative", sendmsg(fd, &m, 0));
	obs("writev of a bad sum", writev(fd, sum, opaque(2)));
	recv_pat(fd, 100, 0);
	both();
}
CASE("vectors.lengths", lengths_server, sends_100, ANY);

/* Messages of nothing between messages of something are no end and no message. */
static void nothing_between_server(int fd)
{
	char bytes[100];

	both();
	ready(fd, POLLIN);
	obs("recv", recv_exact(fd, bytes, 100));
	obs_val("right", pat_good(bytes, 100, 0));
	obs("nothing more", recv(fd, bytes, 1, MSG_DONTWAIT));
	both();
}

static void nothing_between_client(int fd)
{
	char bytes[100];
	struct iovec none = { bytes, 0 };
	struct msghdr m = { .msg_iov = &none, .msg_iovlen = 1 };

	pat_fill(bytes, sizeof(bytes), 0);
	for (int i = 0; i < 10; i++) {
		obs("send 0", send(fd, bytes, 0, 0));
		obs("send 10", send(fd, bytes + i * 10, 10, 0));
		obs("sendmsg 0", sendmsg(fd, &m, MSG_DONTWAIT));
		obs("writev 0", writev(fd, &none, 1));
	}
	obs("sendto 0", sendto(fd, NULL, 0, 0, NULL, 0));
	both();
	both();
}
CASE("vectors.nothing_between", nothing_between_server, nothing_between_client, EVERY);
