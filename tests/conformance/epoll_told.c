/* SPDX-License-Identifier: Apache-2.0 */
/* A set whose loop goes on asking after one of its connections has lost its peer: what the loop was
 * told, or never asked for, the next call on that connection must find by itself. */
#include "tests/conformance/lib/running_set.h"

enum {
	WAITS = 20, /* of a millisecond each */
	LEFT_BYTES = 10,
};

/* Bytes that arrive, whatever is not yet acknowledged, so that the peer's death is a reset. */
static void leave(int fd, size_t bytes)
{
	const int on = 1;

	if (conf.is_tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	send_pat(fd, bytes, 0);
}

/* The loop goes on. */
static void ask_on(int set)
{
	struct epoll_event e;

	for (int i = 0; i < WAITS; i++)
		epoll_wait(set, &e, 1, 1);
}

static void sends(int fd)
{
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
}

static void receives(int fd)
{
	char byte;

	obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
}

static void asks(int fd)
{
	socklen_t bytes = sizeof(int);
	int error = -1;

	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes));
	obs_val("error", error);
}

static void killed_client(int fd)
{
	(void)fd;
	await();
	raise(SIGKILL);
}

/* The peer is gone, with `left` bytes of ours unread; the set has told what it tells. */
static int ask_of_the_dead(int fd, uint32_t events, size_t left)
{
	int set = running_set(fd, events, 1);
	struct epoll_event e = { 0 };

	if (left > 0)
		leave(fd, left);
	tell(0);
	await_peer_exit();
	obs_epoll("told", epoll_wait(set, &e, 1, CONF_WAIT_MS), &e);
	ask_on(set);
	return set;
}

static void level(int fd)
{
	int set = ask_of_the_dead(fd, EPOLLIN, 0);

	sends(fd);
	receives(fd);
	close(set);
}
CASE("epoll_told.level", level, killed_client, CONF_KILLED);

static void level_left(int fd)
{
	int set = ask_of_the_dead(fd, EPOLLIN, LEFT_BYTES);

	sends(fd);
	receives(fd);
	close(set);
}
CASE("epoll_told.level_left", level_left, killed_client, CONF_KILLED);

static void edge(int fd)
{
	int set = ask_of_the_dead(fd, EPOLLIN | EPOLLET, 0);

	sends(fd);
	receives(fd);
	close(set);
}
CASE("epoll_told.edge", edge, killed_client, CONF_KILLED);

static void edge_left(int fd)
{
	int set = ask_of_the_dead(fd, EPOLLIN | EPOLLET, LEFT_BYTES);

	sends(fd);
	receives(fd);
	close(set);
}
CASE("epoll_told.edge_left", edge_left, killed_client, CONF_KILLED);

static void edge_error(int fd)
{
	int set = ask_of_the_dead(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, LEFT_BYTES);

	asks(fd);
	sends(fd);
	asks(fd);
	close(set);
}
CASE("epoll_told.edge_error", edge_error, killed_client, CONF_KILLED);

static void edge_receives(int fd)
{
	int set = ask_of_the_dead(fd, EPOLLIN | EPOLLET, LEFT_BYTES);

	receives(fd);
	sends(fd);
	close(set);
}
CASE("epoll_told.edge_receives", edge_receives, killed_client, CONF_KILLED);

/* Of the end of a TCP stream no such registration is told. */
static void not_asked_for(int fd)
{
	int set = running_set(fd, EPOLLPRI, 1);

	leave(fd, LEFT_BYTES);
	tell(0);
	await_peer_exit();
	ask_on(set);
	sends(fd);
	receives(fd);
	close(set);
}
CASE("epoll_told.not_asked_for", not_asked_for, killed_client, CONF_KILLED);

/* Told of bytes while the peer lives, and never armed again. */
static void oneshot(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLONESHOT, 1);
	struct epoll_event e = { 0 };

	tell(0);
	obs_epoll("told", epoll_wait(set, &e, 1, CONF_WAIT_MS), &e);
	recv_pat(fd, LEFT_BYTES, 0);
	leave(fd, LEFT_BYTES);
	tell(0);
	await_peer_exit();
	ask_on(set);
	sends(fd);
	receives(fd);
	close(set);
}

static void oneshot_client(int fd)
{
	await();
	send_pat(fd, LEFT_BYTES, 0);
	await();
	raise(SIGKILL);
}
CASE("epoll_told.oneshot", oneshot, oneshot_client, CONF_KILLED);

/* One edge of bytes and of the end behind them; who does not read on is not told again. */
static void edge_of_both(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLET, 1);
	struct epoll_event e = { 0 };

	tell(0);
	await_peer_exit();
	nap_ms(CONF_NAP_MS);
	obs_val("told", epoll_wait(set, &e, 1, CONF_WAIT_MS));
	recv_pat(fd, LEFT_BYTES, 0);
	ask_on(set);
	sends(fd);
	ready(fd, POLLHUP);
	sends(fd);
	close(set);
}

static void sends_and_dies_client(int fd)
{
	await();
	send_pat(fd, LEFT_BYTES, 0);
	raise(SIGKILL);
}
CASE("epoll_told.edge_of_both", edge_of_both, sends_and_dies_client, CONF_KILLED);

/* Taken out of the set, which is asked on. */
static void removed(int fd)
{
	int ends[2];
	int set = running_set(fd, EPOLLIN, 1);

	socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, 2));
	obs("del", change(set, EPOLL_CTL_DEL, fd, 0, 0));
	leave(fd, LEFT_BYTES);
	tell(0);
	await_peer_exit();
	ask_on(set);
	sends(fd);
	receives(fd);
	close(set);
	close(ends[0]);
	close(ends[1]);
}
CASE("epoll_told.removed", removed, killed_client, CONF_KILLED);
