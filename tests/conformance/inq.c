/* SPDX-License-Identifier: Apache-2.0 */
/* TCP_INQ, SO_INQ: each recvmsg() tells how much is left. */
#include "tests/conformance/lib/conf.h"

#ifndef SO_INQ
#define SO_INQ 84 /* Linux 6.17, Unix sockets */
#endif

enum { ANY = CONF_COLD | CONF_SWAP };

static void left_behind(int fd, size_t bytes)
{
	char data[1000], control[200];
	struct iovec part = { data, bytes };
	struct msghdr m = { .msg_iov = &part,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	int left;

	obs("recvmsg", recvmsg(fd, &m, MSG_WAITALL));
	c = CMSG_FIRSTHDR(&m);
	if (!c) {
		obs_text("nothing beside it");
		return;
	}
	memcpy(&left, CMSG_DATA(c), sizeof(left));
	obs_text("level %d type %d left %d", c->cmsg_level, c->cmsg_type, left);
}

/* The other family's option is refused. */
static void inq_server(int fd)
{
	exchange(fd);
	obs_set("TCP_INQ", fd, IPPROTO_TCP, TCP_INQ, 1);
	obs_set("SO_INQ", fd, SOL_SOCKET, SO_INQ, 1);
	both();
	nap_ms(CONF_NAP_MS);
	left_behind(fd, 400);
	left_behind(fd, 600);
	both();
	exchange(fd);
	both();
}

static void inq_client(int fd)
{
	exchange(fd);
	both();
	send_pat(fd, 1000, 0);
	both();
	exchange(fd);
	both();
}
CASE("inq.late", inq_server, inq_client, ANY | CONF_EITHER);

/* With the ring too, at each kind of receive, and where there is little room for it. */
static void tell_left(const char *what, int fd, size_t bytes, int flags, size_t room)
{
	char data[1000];
	_Alignas(struct cmsghdr) char control[200];
	struct iovec part = { data, bytes };
	struct msghdr m = { .msg_iov = &part,
			    .msg_iovlen = 1,
			    .msg_control = room ? control : NULL,
			    .msg_controllen = room };
	int left = -1;
	ssize_t n;

	memset(control, 0x55, sizeof(control));
	n = recvmsg(fd, &m, flags);
	obs(what, n);
	if (n >= 0) {
		memcpy(&left, control + sizeof(struct cmsghdr), sizeof(left));
		obs_text("room %zu used %zu flags %x number %x", room, (size_t)m.msg_controllen,
			 (unsigned int)m.msg_flags, (unsigned int)left);
	}
	if (n >= 0 && m.msg_controllen >= sizeof(struct cmsghdr))
		obs_text("length %zu", ((struct cmsghdr *)(void *)control)->cmsg_len);
}

static void inq_ring_server(int fd)
{
	static const size_t rooms[] = { 0, 8, 15, 16, 17, 19, 20, 21, 24, 100 };
	int value = -1;
	socklen_t bytes = sizeof(value);

	exchange(fd);
	both();
	nap_ms(CONF_NAP_MS);
	tell_left("peek", fd, 100, MSG_PEEK, 200);
	tell_left("all", fd, 300, MSG_WAITALL, 200);
	tell_left("nothing asked for", fd, 0, 0, 200);
	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++)
		tell_left("room", fd, 10, 0, rooms[i]);
	obs_set("too much", fd, IPPROTO_TCP, TCP_INQ, 2);
	value = 0;
	obs("no length", setsockopt(fd, IPPROTO_TCP, TCP_INQ, &value, (socklen_t)-1));
	obs_set("too little", fd, IPPROTO_TCP, TCP_INQ, -1);
	obs("get", getsockopt(fd, IPPROTO_TCP, TCP_INQ, &value, &bytes));
	obs_val("value", value);
	obs_set("off", fd, IPPROTO_TCP, TCP_INQ, 0);
	tell_left("off", fd, 100, 0, 200);
	obs_set("on", fd, IPPROTO_TCP, TCP_INQ, 1);
	tell_left("on", fd, 500, 0, 200);
	tell_left("none there", fd, 10, MSG_DONTWAIT, 200);
	both();
	exchange(fd);
	both();
	nap_ms(CONF_NAP_MS);
	tell_left("before the end", fd, 60, 0, 200);
	tell_left("the last", fd, 40, 0, 200);
	tell_left("the end", fd, 40, 0, 200);
	both();
}

static void inq_ring_client(int fd)
{
	exchange(fd);
	send_pat(fd, 1000, 0);
	both();
	both();
	exchange(fd);
	send_pat(fd, 100, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	both();
	both();
}

static void inq_ring_accept(int listener)
{
	int fd = conf_accept(listener);

	obs_set("TCP_INQ", fd, IPPROTO_TCP, TCP_INQ, 1);
	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	inq_ring_server(fd);
	close(fd);
}

static void inq_ring_connect(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	inq_ring_client(fd);
	close(fd);
}
CASE("inq.ring", inq_ring_accept, inq_ring_connect, CONF_RAW | CONF_MUST | CONF_TCP_ONLY);

/* An option that no ring can honour comes while bytes lie there. */
static void inq_back_server(int fd)
{
	exchange(fd);
	obs_set("TCP_INQ", fd, IPPROTO_TCP, TCP_INQ, 1);
	both();
	nap_ms(CONF_NAP_MS);
	tell_left("by the ring", fd, 100, 0, 200);
	obs_set("SO_OOBINLINE", fd, SOL_SOCKET, SO_OOBINLINE, 1);
	tell_left("behind it", fd, 300, MSG_WAITALL, 200);
	tell_left("the rest", fd, 600, MSG_WAITALL, 200);
	both();
	exchange(fd);
	both();
	nap_ms(CONF_NAP_MS);
	tell_left("by the kernel", fd, 60, 0, 200);
	tell_left("by the kernel", fd, 140, MSG_WAITALL, 200);
	both();
}

static void inq_back_client(int fd)
{
	exchange(fd);
	send_pat(fd, 1000, 0);
	both();
	both();
	exchange(fd);
	send_pat(fd, 200, 0);
	both();
	both();
}
CASE("inq.back", inq_back_server, inq_back_client, ANY | CONF_TCP_ONLY | CONF_EITHER);
