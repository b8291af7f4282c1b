/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads, or processes, on one connection: one waits for its bytes, in each way that there is,
 * the other one disturbs it in each way that there is.  Of a byte that nobody has read, whoever
 * waits is told. */
#include <sys/ioctl.h>

#include "tests/conformance/lib/beside.h"

enum { ROUNDS = 120, PEER_US = 300 };

/* ---- the bytes: one at a time, asked for by whoever has got the last one ---- */

static void ask(long rounds)
{
	if (rounds < ROUNDS) {
		send(fd, "g", 1, MSG_NOSIGNAL);
		return;
	}
	atomic_store(&shared->is_over, true); /* first: the end wakes all */
	send(fd, "e", 1, MSG_NOSIGNAL);
}

/* What a receive has returned. */
static ssize_t serve(ssize_t n)
{
	if (n > 0)
		ask(atomic_fetch_add(&shared->done, 1) + 1);
	return n;
}

static ssize_t take(void)
{
	char byte;

	return serve(recv(fd, &byte, 1, MSG_DONTWAIT));
}

static void answer_all(int sock)
{
	char byte;

	for (int i = 0; recv_exact(sock, &byte, 1) == 1 && byte == 'g'; i++) {
		usleep((useconds_t)(i * 37 % PEER_US));
		send_exact(sock, &byte, 1);
	}
	shutdown(sock, SHUT_WR);
	recv(sock, &byte, 1, 0);
}

/* ---- the waiter: once, no longer than CONF_WAIT_MS ---- */

static void wait_by_set(void)
{
	struct epoll_event e;

	epoll_wait(waited_set, &e, 1, CONF_WAIT_MS);
	take();
}

static void wait_once(void)
{
	wait_by_set();
	ask_again();
}

static void wait_by_poll(void)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	poll(&p, 1, CONF_WAIT_MS);
	take();
}

static void wait_by_outer_set(void)
{
	struct pollfd p = { .fd = waited_set, .events = POLLIN };

	poll(&p, 1, CONF_WAIT_MS);
	take();
}

static void wait_by_select(void)
{
	struct timeval limit = { .tv_sec = CONF_WAIT_MS / 1000 };
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	select(fd + 1, &in, NULL, NULL, &limit);
	take();
}

static void wait_by_receive(void)
{
	char byte;

	serve(recv(fd, &byte, 1, 0));
}

static void wait_by_peek(void)
{
	char byte;

	recv(fd, &byte, 1, MSG_PEEK);
	take();
}

static void wait_by_recvmsg(void)
{
	char bytes[2];
	struct iovec v[2] = { { bytes, 1 }, { bytes + 1, 1 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	serve(recvmsg(fd, &m, 0));
}

/* ---- what the other thread does, again and again ---- */

static bool is_told(int set, int timeout_ms)
{
	struct epoll_event e;

	return epoll_wait(set, &e, 1, timeout_ms) == 1;
}

static void look_same(void)
{
	if (waited_set < 0 || (is_forked && (waited_events & EPOLLONESHOT)))
		return; /* it would have to ask again: a known difference */
	/* every second byte is the waiter's, who sleeps on when it was told of the one before */
	if (atomic_load(&shared->done) % 2 != 0 || !is_told(waited_set, 0))
		return;
	take();
	if (waited_events & EPOLLONESHOT)
		ask_again();
}

static void modify_same(void)
{
	if (waited_set >= 0 && !is_forked) /* a known difference */
		ask_again();
}

static void look(void)
{
	is_told(other_set, 0);
}

static void look_once(void)
{
	if (is_told(other_set, 0))
		change(other_set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 1);
}

static void sleep_too(void)
{
	is_told(other_set, CONF_WAIT_MS);
}

static void sleep_once(void)
{
	sleep_too();
	change(other_set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 1);
}

static void sleep_and_take(void)
{
	sleep_too();
	take();
}

static void come_and_go(void)
{
	change(other_set, EPOLL_CTL_DEL, fd, 0, 0);
	change(other_set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
}

static void ask_poll(void)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	poll(&p, 1, 0);
}

static void poll_too(void)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	poll(&p, 1, CONF_WAIT_MS);
}

static void peek(void)
{
	char byte;

	recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

static void count(void)
{
	int bytes;

	ioctl(fd, FIONREAD, &bytes);
}

static void ask_error(void)
{
	int error;
	socklen_t bytes = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
}

static void take_too(void)
{
	take();
}

static void name_twice(void)
{
	int copy = dup(fd);

	poll_too();
	close(copy);
}

static const struct disturbance disturbances[] = {
	{ "nobody", NULL, 0 },
	{ "look in its set", look_same, 0 },
	{ "modify in its set", modify_same, 0 },
	{ "look", look, EPOLLIN },
	{ "look for edges", look, EPOLLIN | EPOLLET },
	{ "look once", look_once, EPOLLIN | EPOLLONESHOT },
	{ "sleep", sleep_too, EPOLLIN },
	{ "sleep for edges", sleep_too, EPOLLIN | EPOLLET },
	{ "sleep once", sleep_once, EPOLLIN | EPOLLONESHOT },
	{ "sleep and take", sleep_and_take, EPOLLIN },
	{ "sleep for edges and take", sleep_and_take, EPOLLIN | EPOLLET },
	{ "come and go", come_and_go, EPOLLIN | EPOLLET },
	{ "ask poll", ask_poll, 0 },
	{ "poll", poll_too, 0 },
	{ "peek", peek, 0 },
	{ "count", count, 0 },
	{ "ask for an error", ask_error, 0 },
	{ "take", take_too, 0 },
	{ "receive", wait_by_receive, 0 },
	{ "have a copy", name_twice, 0 },
};

enum { DISTURBANCES = sizeof(disturbances) / sizeof(disturbances[0]) };

static bool wait_for_all(void (*wait)(void))
{
	bool late = false;

	ask(0);
	while (!atomic_load(&shared->is_over) && !late) {
		long before = atomic_load(&shared->done);
		long start = now_ms();

		wait();
		late = atomic_load(&shared->done) == before && now_ms() - start >= CONF_WAIT_MS;
	}
	if (late)
		ask(ROUNDS);
	return late;
}

static void all_beside(int listener, uint32_t events, void (*wait)(void))
{
	const struct beside_way way = {
		.events = events,
		.wait = wait,
		.waiter = wait_for_all,
		.limited = SO_RCVTIMEO,
	};

	beside_all(listener, way, disturbances, DISTURBANCES);
}

static void client(int none)
{
	(void)none;
	beside_client(DISTURBANCES, answer_all);
}

static void level_server(int listener)
{
	all_beside(listener, EPOLLIN, wait_by_set);
}
CASE("beside.level", level_server, client, CONF_RAW | CONF_MUST);

static void edge_server(int listener)
{
	all_beside(listener, EPOLLIN | EPOLLET, wait_by_set);
}
CASE("beside.edge", edge_server, client, CONF_RAW | CONF_MUST);

static void once_server(int listener)
{
	all_beside(listener, EPOLLIN | EPOLLONESHOT, wait_once);
}
CASE("beside.once", once_server, client, CONF_RAW | CONF_MUST);

static void outer_server(int listener)
{
	all_beside(listener, EPOLLIN, wait_by_outer_set);
}
CASE("beside.outer", outer_server, client, CONF_RAW | CONF_MUST);

static void poll_server(int listener)
{
	all_beside(listener, 0, wait_by_poll);
}
CASE("beside.poll", poll_server, client, CONF_RAW | CONF_MUST);

static void select_server(int listener)
{
	all_beside(listener, 0, wait_by_select);
}
CASE("beside.select", select_server, client, CONF_RAW | CONF_MUST);

static void receive_server(int listener)
{
	all_beside(listener, 0, wait_by_receive);
}
CASE("beside.receive", receive_server, client, CONF_RAW | CONF_MUST);

static void peek_server(int listener)
{
	all_beside(listener, 0, wait_by_peek);
}
CASE("beside.peek", peek_server, client, CONF_RAW | CONF_MUST);

static void recvmsg_server(int listener)
{
	all_beside(listener, 0, wait_by_recvmsg);
}
CASE("beside.recvmsg", recvmsg_server, client, CONF_RAW | CONF_MUST);

/* ---- the same beside a process ---- */

static void level_process_server(int listener)
{
	is_forked = true;
	level_server(listener);
}
CASE("beside.level_process", level_process_server, client, CONF_RAW | CONF_MUST);

static void edge_process_server(int listener)
{
	is_forked = true;
	edge_server(listener);
}
CASE("beside.edge_process", edge_process_server, client, CONF_RAW | CONF_MUST);

static void once_process_server(int listener)
{
	is_forked = true;
	once_server(listener);
}
CASE("beside.once_process", once_process_server, client, CONF_RAW | CONF_MUST);

static void outer_process_server(int listener)
{
	is_forked = true;
	outer_server(listener);
}
CASE("beside.outer_process", outer_process_server, client, CONF_RAW | CONF_MUST);

static void poll_process_server(int listener)
{
	is_forked = true;
	poll_server(listener);
}
CASE("beside.poll_process", poll_process_server, client, CONF_RAW | CONF_MUST);

static void select_process_server(int listener)
{
	is_forked = true;
	select_server(listener);
}
CASE("beside.select_process", select_process_server, client, CONF_RAW | CONF_MUST);

static void receive_process_server(int listener)
{
	is_forked = true;
	receive_server(listener);
}
CASE("beside.receive_process", receive_process_server, client, CONF_RAW | CONF_MUST);

static void peek_process_server(int listener)
{
	is_forked = true;
	peek_server(listener);
}
CASE("beside.peek_process", peek_process_server, client, CONF_RAW | CONF_MUST);

static void recvmsg_process_server(int listener)
{
	is_forked = true;
	recvmsg_server(listener);
}
CASE("beside.recvmsg_process", recvmsg_process_server, client, CONF_RAW | CONF_MUST);
