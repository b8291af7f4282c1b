/* SPDX-License-Identifier: Apache-2.0 */
/* The checked spellings (__read_chk and its kin), which a hardened build calls instead. */
#undef _FORTIFY_SOURCE
#define _FORTIFY_SOURCE 2
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP | CONF_MID };

static void three_parts(int fd)
{
	for (uint64_t i = 0; i < 3; i++) {
		send_pat(fd, 400, i * 400);
		both();
	}
	both();
}

static void recv_server(int fd)
{
	char bytes[1000];
	struct pollfd p[1] = { { .fd = fd, .events = POLLIN } };
	size_t len = (size_t)opaque(400);
	struct timespec t = { 5, 0 };

	obs_poll("poll", poll(p, (nfds_t)opaque(1), CONF_WAIT_MS), p[0].revents);
	both();
	obs("read", read(fd, bytes, len));
	obs_val("right", pat_good(bytes, 400, 0));
	both();
	obs_poll("ppoll", ppoll(p, (nfds_t)opaque(1), &t, NULL), p[0].revents);
	obs("recv", recv(fd, bytes, len, MSG_WAITALL));
	obs_val("right", pat_good(bytes, 400, 400));
	both();
	ready(fd, POLLIN);
	obs("recvfrom", recvfrom(fd, bytes, len, 0, NULL, NULL));
	obs_val("right", pat_good(bytes, 400, 800));
	obs("empty", recv(fd, bytes, len, MSG_DONTWAIT));
	both();
}
CASE("fortify.receive", recv_server, three_parts, ANY);

/* FD_SET and select() in their checked form. */
static void select_server(int fd)
{
	struct timeval t = { 5, 0 };
	char bytes[64];
	fd_set in;

	FD_ZERO(&in);
	FD_SET(opaque(fd), &in);
	both();
	obs("select", select(fd + 1, &in, NULL, NULL, &t));
	obs_val("set", !!FD_ISSET(opaque(fd), &in));
	obs("read", read(fd, bytes, (size_t)opaque(10)));
	both();
}

static void select_client(int fd)
{
	send_pat(fd, 10, 0);
	both();
	both();
}
CASE("fortify.select", select_server, select_client, ANY);
