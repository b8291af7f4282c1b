/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads, or processes, on one connection whose peer reads slowly: one waits for room, in each
 * way that there is, the other one disturbs it.  Once the peer has read on, whoever waits is told.
 */
#include <sys/ioctl.h>

#include "tests/conformance/lib/beside.h"

enum {
	PIECE = 65536,
	ALL = 9 * 1024 * 1024, /* more than a ring and a socket hold */
	BYTES_A_PAUSE = 4 * PIECE,
	PEER_US = 200,
	CLOSED_US = 20000, /* before the peer begins */
};

static char piece[PIECE];

/* Bytes, or 0. */
static ssize_t put(size_t bytes, int flags)
{
	ssize_t n = send(fd, piece, bytes, flags | MSG_NOSIGNAL);

	if (n > 0)
		atomic_fetch_add(&shared->done, n);
	return n > 0 ? n : 0;
}

/* ---- the waiter: until the next piece has gone, but no longer than CONF_WAIT_MS ---- */

static void wait_by_set(void)
{
	struct epoll_event e;

	epoll_wait(waited_set, &e, 1, CONF_WAIT_MS);
}

static void wait_once(void)
{
	ask_again();
	wait_by_set();
}

static void wait_by_outer_set(void)
{
	struct pollfd p = { .fd = waited_set, .events = POLLIN };

	poll(&p, 1, CONF_WAIT_MS);
}

static void wait_by_poll(void)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	poll(&p, 1, CONF_WAIT_MS);
}

static void wait_by_select(void)
{
	struct timeval limit = { .tv_sec = CONF_WAIT_MS / 1000 };
	fd_set out;

	FD_ZERO(&out);
	FD_SET(fd, &out);
	select(fd + 1, NULL, &out, NULL, &limit);
}

static void wait_by_send(void)
{
	put(PIECE, 0);
}

/* ---- what the other one does, again and again ---- */

static void look_same(void)
{
	struct epoll_event e;

	if (waited_set >= 0 && !(waited_events & (EPOLLET | EPOLLONESHOT)))
		epoll_wait(waited_set, &e, 1, 0); /* else it would take what the waiter waits for */
}

static void modify_same(void)
{
	if (waited_set >= 0 && !is_forked) /* a known difference */
		ask_again();
}

static void look(void)
{
	struct epoll_event e;

	epoll_wait(other_set, &e, 1, 0);
}

static void sleep_too(void)
{
	struct epoll_event e;

	epoll_wait(other_set, &e, 1, PEER_US / 100);
}

static void sleep_once(void)
{
	sleep_too();
	change(other_set, EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLONESHOT, 1);
}

static void ask_poll(void)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	poll(&p, 1, 0);
}

static void poll_for_bytes(void)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	poll(&p, 1, 1);
}

static void receive_too(void)
{
	char byte;

	recv(fd, &byte, 1, MSG_DONTWAIT);
}

static void count(void)
{
	int bytes;

	ioctl(fd, TIOCOUTQ, &bytes);
}

static void send_a_little(void)
{
	put(1, MSG_DONTWAIT);
}

static void send_much(void)
{
	put(PIECE, MSG_DONTWAIT);
}

static void send_and_wait(void)
{
	put(100, 0);
}

static const struct disturbance disturbances[] = {
	{ "nobody", NULL, 0 },
	{ "look in its set", look_same, 0 },
	{ "modify in its set", modify_same, 0 },
	{ "look", look, EPOLLOUT },
	{ "look for all edges", look, EPOLLIN | EPOLLOUT | EPOLLET },
	{ "sleep", sleep_too, EPOLLOUT },
	{ "sleep for all edges", sleep_too, EPOLLIN | EPOLLOUT | EPOLLET },
	{ "sleep once", sleep_once, EPOLLOUT | EPOLLONESHOT },
	{ "ask poll", ask_poll, 0 },
	{ "poll for bytes", poll_for_bytes, 0 },
	{ "receive", receive_too, 0 },
	{ "count", count, 0 },
	{ "send a little", send_a_little, 0 },
	{ "send much", send_much, 0 },
	{ "send and wait", send_and_wait, 0 },
};

enum { DISTURBANCES = sizeof(disturbances) / sizeof(disturbances[0]) };

static bool send_all(void (*wait)(void))
{
	bool late = false;

	for (long own = 0; own < ALL && !late;) {
		long before = atomic_load(&shared->done), start = now_ms();
		ssize_t n = put(PIECE, MSG_DONTWAIT);

		own += n;
		if (n > 0)
			continue;
		wait();
		late = now_ms() - start >= CONF_WAIT_MS && atomic_load(&shared->done) == before;
	}
	atomic_store(&shared->is_over, true);
	return late;
}

static void compare(void)
{
	long received = -1;

	shutdown(fd, SHUT_WR);
	recv_exact(fd, &received, sizeof(received));
	obs_val("all arrived", received == atomic_load(&shared->done));
}

static void all_beside(int listener, uint32_t events, void (*wait)(void))
{
	const struct beside_way way = {
		.events = events,
		.wait = wait,
		.waiter = send_all,
		.limited = SO_SNDTIMEO,
		.finish = compare,
	};

	beside_all(listener, way, disturbances, DISTURBANCES);
}

static void read_all(int sock)
{
	static char bytes[PIECE];
	long received = 0, pause = BYTES_A_PAUSE;
	ssize_t n;

	usleep(CLOSED_US);
	while ((n = recv(sock, bytes, sizeof(bytes), 0)) > 0) {
		received += n;
		if (received < pause)
			continue;
		pause += BYTES_A_PAUSE;
		usleep((useconds_t)(received / BYTES_A_PAUSE * 37 % PEER_US));
	}
	send_exact(sock, &received, sizeof(received));
}

static void client(int none)
{
	(void)none;
	beside_client(DISTURBANCES, read_all);
}

static void level_server(int listener)
{
	all_beside(listener, EPOLLOUT, wait_by_set);
}
CASE("beside_room.level", level_server, client, CONF_RAW | CONF_MUST);

static void edge_server(int listener)
{
	all_beside(listener, EPOLLIN | EPOLLOUT | EPOLLET, wait_by_set);
}
CASE("beside_room.edge", edge_server, client, CONF_RAW | CONF_MUST);

static void once_server(int listener)
{
	all_beside(listener, EPOLLOUT | EPOLLONESHOT, wait_once);
}
CASE("beside_room.once", once_server, client, CONF_RAW | CONF_MUST);

static void outer_server(int listener)
{
	all_beside(listener, EPOLLOUT, wait_by_outer_set);
}
CASE("beside_room.outer", outer_server, client, CONF_RAW | CONF_MUST);

static void poll_server(int listener)
{
	all_beside(listener, 0, wait_by_poll);
}
CASE("beside_room.poll", poll_server, client, CONF_RAW | CONF_MUST);

static void select_server(int listener)
{
	all_beside(listener, 0, wait_by_select);
}
CASE("beside_room.select", select_server, client, CONF_RAW | CONF_MUST);

static void send_server(int listener)
{
	all_beside(listener, 0, wait_by_send);
}
CASE("beside_room.send", send_server, client, CONF_RAW | CONF_MUST);

/* ---- the same beside a process ---- */

static void level_process_server(int listener)
{
	is_forked = true;
	level_server(listener);
}
CASE("beside_room.level_process", level_process_server, client, CONF_RAW | CONF_MUST);

static void edge_process_server(int listener)
{
	is_forked = true;
	edge_server(listener);
}
CASE("beside_room.edge_process", edge_process_server, client, CONF_RAW | CONF_MUST);

static void once_process_server(int listener)
{
	is_forked = true;
	once_server(listener);
}
CASE("beside_room.once_process", once_process_server, client, CONF_RAW | CONF_MUST);

static void outer_process_server(int listener)
{
	is_forked = true;
	outer_server(listener);
}
CASE("beside_room.outer_process", outer_process_server, client, CONF_RAW | CONF_MUST);

static void poll_process_server(int listener)
{
	is_forked = true;
	poll_server(listener);
}
CASE("beside_room.poll_process", poll_process_server, client, CONF_RAW | CONF_MUST);

static void select_process_server(int listener)
{
	is_forked = true;
	select_server(listener);
}
CASE("beside_room.select_process", select_process_server, client, CONF_RAW | CONF_MUST);

static void send_process_server(int listener)
{
	is_forked = true;
	send_server(listener);
}
CASE("beside_room.send_process", send_process_server, client, CONF_RAW | CONF_MUST);
