/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads, or processes, on one connection whose peer reads slowly: one waits for room, in each
 * way that there is, the other one disturbs it.  Once the peer has read on, whoever waits is told.
 */
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "tests/conformance/lib/epoll_set.h"

enum {
	WARM_ROUNDS = 20,
	PIECE = 65536,
	ALL = 9 * 1024 * 1024, /* more than a ring and a socket hold */
	BYTES_A_PAUSE = 4 * PIECE,
	PEER_US = 200,
	PAUSE_US = 40,
	CLOSED_US = 20000, /* before the peer begins */
};

static int fd, waited_set, other_set; /* waited_set: only where the waiter has one */
static uint32_t waited_events;
static bool is_forked; /* the other one is a process */
static char piece[PIECE];

static struct progress {
	_Atomic long sent;
	_Atomic bool is_over;
} * shared;

/* Bytes, or 0. */
static ssize_t put(size_t bytes, int flags)
{
	ssize_t n = send(fd, piece, bytes, flags | MSG_NOSIGNAL);

	if (n > 0)
		atomic_fetch_add(&shared->sent, n);
	return n > 0 ? n : 0;
}

/* ---- the waiter: until the next piece has gone, but no longer than CONF_WAIT_MS ---- */

static void wait_by_set(void)
{
	struct epoll_event e;

	epoll_wait(waited_set, &e, 1, CONF_WAIT_MS);
}

static void ask_again(void)
{
	change(waited_set, EPOLL_CTL_MOD, fd, waited_events, 1);
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

static const struct disturbance {
	const char *name;
	void (*act)(void);
	uint32_t events; /* with which the connection is in the other set; 0: it is not */
} disturbances[] = {
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

static void *disturb(void *argument)
{
	const struct disturbance *d = argument;

	other_set = epoll_create1(EPOLL_CLOEXEC);
	if (d->events)
		change(other_set, EPOLL_CTL_ADD, fd, d->events, 1);
	for (int i = 0; !atomic_load(&shared->is_over); i++) {
		d->act();
		if (i % 4 == 0)
			usleep((useconds_t)(i * 7 % PAUSE_US));
	}
	close(other_set);
	return argument;
}

/* ---- one after the other, each on a connection of its own ---- */

static bool send_all(void (*wait)(void))
{
	bool late = false;

	for (long own = 0; own < ALL && !late;) {
		long before = atomic_load(&shared->sent), start = now_ms();
		ssize_t n = put(PIECE, MSG_DONTWAIT);

		own += n;
		if (n > 0)
			continue;
		wait();
		late = now_ms() - start >= CONF_WAIT_MS && atomic_load(&shared->sent) == before;
	}
	atomic_store(&shared->is_over, true);
	return late;
}

static bool meet_thread(struct disturbance d, void (*wait)(void))
{
	pthread_t thread = spawn(disturb, &d);
	bool late = send_all(wait);

	pthread_join(thread, NULL);
	return late;
}

static bool meet_process(struct disturbance d, void (*wait)(void))
{
	pid_t child = fork();
	int status = 0;
	bool late;

	if (child == 0) {
		disturb(&d);
		_exit(0);
	}
	late = send_all(wait);
	waitpid(child, &status, 0);
	return late || status != 0;
}

static void meet(const struct disturbance *d, void (*wait)(void))
{
	const struct timeval limit = { .tv_sec = CONF_WAIT_MS / 1000 };
	long received = -1;
	bool late;

	atomic_store(&shared->sent, 0);
	atomic_store(&shared->is_over, false);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (!d->act)
		late = send_all(wait);
	else if (is_forked)
		late = meet_process(*d, wait);
	else
		late = meet_thread(*d, wait);
	shutdown(fd, SHUT_WR);
	recv_exact(fd, &received, sizeof(received));
	obs_val(d->name, late);
	obs_val("all arrived", received == atomic_load(&shared->sent));
}

static void all_beside(int listener, uint32_t events, void (*wait)(void))
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	for (int i = 0; i < DISTURBANCES; i++) {
		fd = conf_accept(listener);
		warm_up(fd, WARM_ROUNDS);
		waited_set = events ? epoll_create1(EPOLL_CLOEXEC) : -1;
		waited_events = events;
		if (events)
			change(waited_set, EPOLL_CTL_ADD, fd, events, 1);
		meet(&disturbances[i], wait);
		close(fd);
		if (events)
			close(waited_set);
	}
	munmap(shared, sizeof(*shared));
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
	for (int i = 0; i < DISTURBANCES; i++) {
		int sock = conf_connect();

		warm_up(sock, WARM_ROUNDS);
		read_all(sock);
		close(sock);
	}
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
