/* SPDX-License-Identifier: Apache-2.0 */
/* SO_ERROR asked for again and again, by an event loop, and when there is one. */
#include "tests/conformance/lib/conf.h"

#include <sys/epoll.h>

enum {
	ANY = CONF_COLD | CONF_SWAP,
	ROUNDS = 60,
	/* of a reset before TCP has acknowledged what is unread it makes EPIPE */
	ACKNOWLEDGED_MS = 100,
};

static void ask(int fd, socklen_t room)
{
	int values[2] = { -1, -1 };
	socklen_t bytes = room;
	int r = getsockopt(fd, SOL_SOCKET, SO_ERROR, values, &bytes);

	obs_text("%d: SO_ERROR in %u bytes: %s %x, %u bytes", r, room,
		 r ? strerrorname_np(errno) : strerrorname_np(values[0]), (unsigned int)values[1],
		 bytes);
}

static void loop(int fd, int set)
{
	struct epoll_event event;
	int error = 0, wrong = 0;
	socklen_t bytes = sizeof(error);

	for (int i = 0; i < ROUNDS; i++) {
		wrong += epoll_wait(set, &event, 1, CONF_WAIT_MS) != 1 || event.events != EPOLLIN;
		recv_pat(fd, 100, 0);
		wrong += getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0 ||
			 bytes != sizeof(error);
		send_pat(fd, 100, 0);
	}
	obs_val("wrong", wrong);
	errno = ENOTTY;
	ask(fd, sizeof(error));
	obs_val("errno is left", errno == ENOTTY);
	ask(fd, 0);
	ask(fd, 2);
	ask(fd, 8);
	ask(fd, (socklen_t)-1);
}

static void peer(int fd)
{
	for (int i = 0; i < ROUNDS; i++) {
		send_pat(fd, 100, 0);
		recv_pat(fd, 100, 0);
	}
}

static int set_of(int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };
	int set = epoll_create1(EPOLL_CLOEXEC);

	obs("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	return set;
}

/* The peer goes, and leaves bytes unread: a reset. */
static void reset_client(int fd)
{
	peer(fd);
	both();
	both();
	nap_ms(ACKNOWLEDGED_MS);
	close(fd);
	both();
}

static void told_of_reset(int fd, uint32_t events)
{
	struct epoll_event event = { 0 };
	int set = set_of(fd, events);

	loop(fd, set);
	both();
	send_pat(fd, 10, 3);
	both();
	both();
	ready(fd, POLLIN);
	obs("epoll_wait", epoll_wait(set, &event, 1, CONF_WAIT_MS));
	obs_val("tells", event.events);
	ask(fd, sizeof(int));
	ask(fd, sizeof(int));
	close(set);
}

static void level_server(int fd)
{
	told_of_reset(fd, EPOLLIN);
}
CASE("errors.told_by_level", level_server, reset_client, ANY);

static void edge_server(int fd)
{
	told_of_reset(fd, EPOLLIN | EPOLLET);
}
CASE("errors.told_by_edge", edge_server, reset_client, ANY);

/* The same, and nobody waits for it. */
static void untold_server(int fd)
{
	int set = set_of(fd, EPOLLIN);

	loop(fd, set);
	both();
	send_pat(fd, 10, 3);
	both();
	both();
	nap_ms(CONF_NAP_MS); /* the reset may be under way */
	ask(fd, sizeof(int));
	ask(fd, sizeof(int));
	close(set);
}
CASE("errors.untold", untold_server, reset_client, ANY);

/* An end in good order is no error, and what is sent behind it makes one. */
static void ended_client(int fd)
{
	peer(fd);
	close(fd);
	both();
}

static void ended_server(int fd)
{
	struct epoll_event event = { 0 };
	int set = set_of(fd, EPOLLIN);
	char byte;

	loop(fd, set);
	both();
	obs("epoll_wait", epoll_wait(set, &event, 1, CONF_WAIT_MS));
	ask(fd, sizeof(int));
	obs("recv", recv(fd, &byte, 1, 0));
	ask(fd, sizeof(int));
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	nap_ms(CONF_NAP_MS);
	ask(fd, sizeof(int));
	ask(fd, sizeof(int));
	close(set);
}
CASE("errors.ended", ended_server, ended_client, ANY);

static void half_closed_client(int fd)
{
	peer(fd);
	obs("shutdown", shutdown(fd, SHUT_WR));
	both();
	recv_pat(fd, 10, 3);
	both();
}

static void half_closed_server(int fd)
{
	int set = set_of(fd, EPOLLIN);

	loop(fd, set);
	both();
	ask(fd, sizeof(int));
	send_pat(fd, 10, 3);
	ask(fd, sizeof(int));
	both();
	close(set);
}
CASE("errors.half_closed", half_closed_server, half_closed_client, ANY);
