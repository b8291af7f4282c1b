/* SPDX-License-Identifier: Apache-2.0 */
/* How connections begin: blocking, nonblocking, refused, twice, many. */
#include "tests/conformance/lib/conf.h"

static const struct sockaddr *where(void)
{
	return (const struct sockaddr *)&conf.name;
}

/* Enough traffic to be worth accelerating, then a few sizes. */
static void serve(int fd)
{
	warm_up(fd, CONF_WARM_ROUNDS);
	recv_pat(fd, 70000, 0);
	send_pat(fd, 70000, 0);
	both();
	close(fd);
}

static void use(int fd)
{
	warm_up(fd, CONF_WARM_ROUNDS);
	send_pat(fd, 70000, 0);
	recv_pat(fd, 70000, 0);
	both();
	close(fd);
}

static void one_server(int listener)
{
	serve(conf_accept(listener));
}

static void nonblocking_client(int none)
{
	int fd = conf_socket(SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int error = -1;
	socklen_t len = sizeof(error);
	int r = connect(fd, where(), conf.name_len);

	(void)none;
	obs_val("begun", r == 0 || errno == EINPROGRESS);
	obs_poll("poll", poll(&p, 1, CONF_WAIT_MS), p.revents);
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	obs_val("SO_ERROR", error);
	obs("connect again", connect(fd, where(), conf.name_len));
	obs("connect again", connect(fd, where(), conf.name_len));
	set_nonblock(fd, false);
	use(fd);
}
CASE("connect.nonblocking", one_server, nonblocking_client, CONF_RAW);

static void epoll_client(int none)
{
	int fd = conf_socket(SOCK_NONBLOCK);
	int set = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u64 = 5 };
	int r = connect(fd, where(), conf.name_len);

	(void)none;
	obs_val("begun", r == 0 || errno == EINPROGRESS);
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	obs_epoll("epoll", epoll_wait(set, &e, 1, CONF_WAIT_MS), &e);
	epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL);
	close(set);
	set_nonblock(fd, false);
	use(fd);
}
CASE("connect.nonblocking_epoll", one_server, epoll_client, CONF_RAW);

static void twice_client(int none)
{
	int fd = conf_socket(0);

	(void)none;
	obs("connect", connect(fd, where(), conf.name_len));
	obs("connect", connect(fd, where(), conf.name_len));
	warm_up(fd, CONF_WARM_ROUNDS);
	obs("connect", connect(fd, where(), conf.name_len));
	send_pat(fd, 70000, 0);
	recv_pat(fd, 70000, 0);
	both();
	close(fd);
}
CASE("connect.twice", one_server, twice_client, CONF_RAW);

static void refused_server(int listener)
{
	obs("close", close(listener));
	tell(0);
	await();
}

static void refused_client(int none)
{
	int fd = conf_socket(0);
	char byte;

	(void)none;
	await();
	obs("send unconnected", send(fd, "x", 1, MSG_NOSIGNAL));
	obs("recv unconnected", recv(fd, &byte, 1, 0));
	obs("getpeername", getpeername(fd, NULL, NULL));
	obs("shutdown", shutdown(fd, SHUT_WR));
	close(fd);
	fd = conf_socket(0);
	obs("connect", connect(fd, where(), conf.name_len));
	obs("bad length", connect(fd, where(), 1));
	obs("fault", connect(fd, bad_pointer(), conf.name_len));
	close(fd);
	obs("closed", connect(fd, where(), conf.name_len));
	fd = conf_socket(0);
	struct sockaddr odd = { .sa_family = 99 };
	obs("family", connect(fd, &odd, sizeof(odd)));
	close(fd);
	tell(0);
}
CASE("connect.refused", refused_server, refused_client, CONF_RAW);

/* Established, used and full of bytes long before the server accepts. */
static void late_accept_server(int listener)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	int fd;

	await();
	obs_poll("listener", poll(&p, 1, CONF_WAIT_MS), p.revents);
	fd = conf_accept(listener);
	recv_pat(fd, 1000, 0);
	tell(0);
	serve(fd);
}

static void late_accept_client(int none)
{
	int fd = conf_connect();

	(void)none;
	send_pat(fd, 1000, 0);
	tell(0);
	await();
	use(fd);
}
CASE("connect.late_accept", late_accept_server, late_accept_client, CONF_RAW);

/* Gone again before the server accepts. */
static void gone_server(int listener)
{
	int fd;

	await();
	fd = conf_accept(listener);
	recv_to_eof(fd, 0);
	close(fd);
}

static void gone_client(int none)
{
	int fd = conf_connect();

	(void)none;
	send_pat(fd, 1000, 0);
	close(fd);
	tell(0);
}
CASE("connect.gone_before_accept", gone_server, gone_client, CONF_RAW);

enum { MANY = 20 };

/* Many connections of the same two processes, used in turn. */
static void many_server(int listener)
{
	int fd[MANY];

	for (int i = 0; i < MANY; i++)
		fd[i] = conf_accept(listener);
	for (uint64_t round = 0; round < 30; round++) {
		for (int i = 0; i < MANY; i++) {
			char bytes[200];

			if (recv_exact(fd[i], bytes, 200) != 200 || !pat_good(bytes, 200, round))
				obs_text("wrong in %d", i);
			send_exact(fd[i], bytes, 200);
		}
	}
	for (int i = 0; i < MANY; i++)
		close(fd[i]);
}

static void many_client(int none)
{
	int fd[MANY];

	(void)none;
	for (int i = 0; i < MANY; i++)
		fd[i] = conf_connect();
	for (uint64_t round = 0; round < 30; round++) {
		for (int i = 0; i < MANY; i++)
			send_pat(fd[i], 200, round);
		for (int i = 0; i < MANY; i++) {
			char bytes[200];

			if (recv_exact(fd[i], bytes, 200) != 200 || !pat_good(bytes, 200, round))
				obs_text("wrong in %d", i);
		}
	}
	for (int i = 0; i < MANY; i++) {
		char byte;

		obs("EOF", recv(fd[i], &byte, 1, 0));
		close(fd[i]);
	}
}
CASE("connect.many", many_server, many_client, CONF_RAW);

/* One after the other: numbers and names are used again. */
static void again_server(int listener)
{
	for (int i = 0; i < 8; i++)
		serve(conf_accept(listener));
}

static void again_client(int none)
{
	(void)none;
	for (int i = 0; i < 8; i++)
		use(conf_connect());
}
CASE("connect.again", again_server, again_client, CONF_RAW);

/* Short connections with one request each. */
static void short_server(int listener)
{
	for (uint64_t i = 0; i < 100; i++) {
		int fd = conf_accept(listener);
		char bytes[64];

		if (recv_exact(fd, bytes, 64) != 64 || !pat_good(bytes, 64, i))
			obs_text("wrong at %d", (int)i);
		send_exact(fd, bytes, 64);
		close(fd);
	}
}

static void short_client(int none)
{
	(void)none;
	for (uint64_t i = 0; i < 100; i++) {
		int fd = conf_connect();
		char bytes[65];

		send_pat(fd, 64, i);
		long n = recv_exact(fd, bytes, 65);
		if (n != 64 || !pat_good(bytes, 64, i))
			obs_text("wrong at %d", (int)i);
		close(fd);
	}
	obs_text("done");
}
CASE("connect.short", short_server, short_client, CONF_RAW | CONF_NEVER);

/* A nonblocking listener in an epoll set, as servers have it. */
static void event_server(int listener)
{
	int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN, .data.fd = listener };
	int open_count = 0, done = 0;
	bool good = true;

	set_nonblock(listener, true);
	obs("accept none", accept4(listener, NULL, NULL, SOCK_NONBLOCK));
	epoll_ctl(set, EPOLL_CTL_ADD, listener, &e);
	tell(0);
	while (done < 3) {
		char bytes[4096];
		ssize_t n;

		if (epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1) {
			obs_text("stuck");
			break;
		}
		int fd = e.data.fd;
		if (fd == listener) {
			fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
			e = (struct epoll_event){ .events = EPOLLIN | EPOLLRDHUP, .data.fd = fd };
			open_count += epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) == 0;
			continue;
		}
		while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
			good = good && send_exact(fd, bytes, (size_t)n) == n;
		if (n == 0) {
			close(fd);
			done++;
		}
	}
	obs_text("accepted %d ended %d %s", open_count, done, good ? "right" : "WRONG");
	close(set);
}

static void event_client(int none)
{
	int fd[3];

	(void)none;
	await();
	for (int i = 0; i < 3; i++)
		fd[i] = conf_connect();
	for (uint64_t round = 0; round < 60; round++) {
		for (int i = 0; i < 3; i++)
			send_pat(fd[i], 300, round);
		for (int i = 0; i < 3; i++) {
			char bytes[300];

			if (recv_exact(fd[i], bytes, 300) != 300 || !pat_good(bytes, 300, round))
				obs_text("wrong in %d", i);
		}
	}
	for (int i = 0; i < 3; i++) {
		char byte;

		shutdown(fd[i], SHUT_WR);
		obs("EOF", recv(fd[i], &byte, 1, 0));
		close(fd[i]);
	}
}
CASE("connect.event_server", event_server, event_client, CONF_RAW);

/* The client binds its own address first (as FTP and some proxies do). */
static void bound_client(int none)
{
	int fd = conf_socket(0);

	(void)none;
	if (conf.is_tcp) {
		struct sockaddr_in in = { .sin_family = AF_INET,
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

		obs("bind", bind(fd, (struct sockaddr *)&in, sizeof(in)));
		obs("bind", bind(fd, (struct sockaddr *)&in, sizeof(in)));
	} else {
		struct sockaddr_un un = { .sun_family = AF_UNIX };

		obs("bind", bind(fd, (struct sockaddr *)&un, sizeof(sa_family_t)));
	}
	obs("connect", connect(fd, where(), conf.name_len));
	use(fd);
}
CASE("connect.bound", one_server, bound_client, CONF_RAW);

/* A Unix client may still bind after it has connected and talked: it had no name. */
static void bind_late_server(int listener)
{
	int fd = conf_accept(listener);
	struct sockaddr_un un;
	socklen_t len = sizeof(un);

	warm_up(fd, CONF_WARM_ROUNDS);
	obs("getpeername", getpeername(fd, (struct sockaddr *)&un, &len));
	obs_val("length", len);
	both();
	both();
	len = sizeof(un);
	obs("getpeername", getpeername(fd, (struct sockaddr *)&un, &len));
	obs_val("named", len > sizeof(sa_family_t));
	serve(fd);
}

static void bind_late_client(int none)
{
	int fd = conf_connect();
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	(void)none;
	warm_up(fd, CONF_WARM_ROUNDS);
	both();
	snprintf(un.sun_path + 1, 100, "conformance-%d", (int)getpid());
	obs("bind", bind(fd, (struct sockaddr *)&un, sizeof(un)));
	both();
	use(fd);
}
CASE("connect.bind_late", bind_late_server, bind_late_client, CONF_RAW | CONF_UNIX_ONLY);

/* ---- connected more than once ---- */

/* Nobody listens there: bound, and never more. */
static int closed_port(struct sockaddr_in *name)
{
	socklen_t bytes = sizeof(*name);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*name = (struct sockaddr_in){ .sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (bind(fd, (struct sockaddr *)name, bytes) < 0 ||
	    getsockname(fd, (struct sockaddr *)name, &bytes) < 0)
		obs_text("no port");
	return fd;
}

static void refused_then_connected(bool blocking)
{
	struct sockaddr_in nobody;
	int held = closed_port(&nobody);
	int fd = conf_socket(SOCK_NONBLOCK), error = 0;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(error);
	int r = connect(fd, (struct sockaddr *)&nobody, sizeof(nobody));

	obs_val("begun", r == 0 || errno == EINPROGRESS);
	obs_val("poll", poll(&p, 1, CONF_WAIT_MS));
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	obs_val("refused", error == ECONNREFUSED);
	set_nonblock(fd, !blocking);
	obs("told once more", connect(fd, where(), conf.name_len));
	r = connect(fd, where(), conf.name_len);
	obs_val("again", r == 0 || (!blocking && errno == EINPROGRESS));
	poll(&p, 1, CONF_WAIT_MS);
	obs_val("writable", p.revents & POLLOUT);
	set_nonblock(fd, false);
	use(fd);
	close(held);
}

static void refused_then_client(int none)
{
	(void)none;
	refused_then_connected(false);
}
CASE("connect.refused_then_connected", one_server, refused_then_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_MUST);

static void refused_then_blocking_client(int none)
{
	(void)none;
	refused_then_connected(true);
}
CASE("connect.refused_then_blocking", one_server, refused_then_blocking_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_MUST);

/* Used, dissolved, connected to the same server anew: the first end sees a reset. */
static void dissolved_server(int listener)
{
	char byte;
	int fd = conf_accept(listener);

	warm_up(fd, CONF_WARM_ROUNDS);
	recv_pat(fd, 70000, 0);
	both();
	both();
	ready(fd, POLLIN);
	obs("reset", recv(fd, &byte, 1, 0));
	close(fd);
	serve(conf_accept(listener));
}

static void dissolve(int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	warm_up(fd, CONF_WARM_ROUNDS);
	send_pat(fd, 70000, 0);
	both();
	obs("dissolve", connect(fd, &none, sizeof(none)));
	both();
	obs("getpeername", getpeername(fd, NULL, NULL));
	obs("connect", connect(fd, where(), conf.name_len));
}

static void dissolved_client(int none)
{
	int fd = conf_connect();

	(void)none;
	dissolve(fd);
	use(fd);
}
CASE("connect.dissolved_and_again", dissolved_server, dissolved_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_MUST);

/* A set that had the socket before has it still. */
static void dissolved_set_client(int none)
{
	int fd = conf_connect(), set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 9 };
	char bytes[CONF_WARM_BYTES];
	int waits = 0, good = 0;

	(void)none;
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	dissolve(fd);
	for (int i = 0; i < CONF_WARM_ROUNDS; i++) {
		memset(bytes, i, sizeof(bytes));
		send_exact(fd, bytes, sizeof(bytes));
		waits += epoll_wait(set, &e, 1, CONF_WAIT_MS) == 1 && e.data.u64 == 9;
		good += recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) == sizeof(bytes);
	}
	both();
	obs_text("waits %d good %d", waits, good);
	send_pat(fd, 70000, 0);
	recv_pat(fd, 70000, 0);
	both();
	close(set);
	close(fd);
}
CASE("connect.dissolved_in_a_set", dissolved_server, dissolved_set_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_MUST);

/* ---- opened by a send ---- */

static void fastopen_server(int listener)
{
	int fd, queue = 5;

	setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue));
	both();
	for (int i = 0; i < 4; i++) {
		fd = conf_accept(listener);
		recv_pat(fd, 100, 0);
		serve(fd);
	}
}

static void fastopen_client(int none)
{
	char bytes[100];
	struct iovec v = { bytes, sizeof(bytes) };
	struct mmsghdr m = { .msg_hdr = { .msg_name = &conf.name,
					  .msg_namelen = conf.name_len,
					  .msg_iov = &v,
					  .msg_iovlen = 1 } };
	int fd, on = 1;

	(void)none;
	pat_fill(bytes, sizeof(bytes), 0);
	both();
	for (int i = 0; i < 4; i++) {
		fd = conf_socket(0);
		if (i == 0)
			obs("sendto",
			    sendto(fd, bytes, sizeof(bytes), MSG_FASTOPEN, where(), conf.name_len));
		if (i == 1)
			obs("sendmsg", sendmsg(fd, &m.msg_hdr, MSG_FASTOPEN));
		if (i == 2)
			obs("sendmmsg", sendmmsg(fd, &m, 1, MSG_FASTOPEN));
		if (i == 3) {
			setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on));
			obs("connect", connect(fd, where(), conf.name_len));
			obs("send", send(fd, bytes, sizeof(bytes), 0));
		}
		use(fd);
	}
}
CASE("connect.fastopen", fastopen_server, fastopen_client, CONF_RAW | CONF_TCP_ONLY | CONF_MUST);

static void fastopen_one_server(int listener)
{
	int fd, queue = 5;

	setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue));
	both();
	fd = conf_accept(listener);
	recv_pat(fd, 100, 0);
	serve(fd);
}

static void fastopen_one_client(int none)
{
	char bytes[100];
	int fd = conf_socket(0);

	(void)none;
	pat_fill(bytes, sizeof(bytes), 0);
	both();
	obs("sendto", sendto(fd, bytes, sizeof(bytes), MSG_FASTOPEN, where(), conf.name_len));
	use(fd);
}
CASE("connect.fastopen_send", fastopen_one_server, fastopen_one_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_MUST);
