/* SPDX-License-Identifier: Apache-2.0 */
/* epoll, edge-triggered: one edge for every arrival, none without. */
#include "tests/conformance/lib/epoll_set.h"

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = CONF_COLD | CONF_SWAP | CONF_MID };

static void arrival_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	see("idle", set, 0);
	demand();
	see("first", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	demand();
	see("second, nothing read", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	demand();
	demand();
	ready(fd, POLLIN);
	see("two arrivals, one event", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	recv_pat(fd, 40, 0);
	see("drained", set, 0);
	demand();
	see("after draining", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 40);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_edge.arrival", arrival_server, on_demand_client, EVERY);

/* A partial read makes no edge; an arrival after it does. */
static void partial_server(int fd)
{
	int set = epoll_create1(0);
	char bytes[20];

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	demand();
	see("first", set, CONF_WAIT_MS);
	obs("recv 4", recv(fd, bytes, 4, 0));
	see("no edge", set, 20);
	demand();
	see("edge after partial read", set, CONF_WAIT_MS);
	obs("peek", recv(fd, bytes, 3, MSG_PEEK));
	see("no edge", set, 0);
	recv_pat(fd, 16, 4);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_edge.partial_read", partial_server, on_demand_client, EVERY);

/* A reader that is told of one arrival and reads two: nothing is left, the next one wakes it. */
static void read_on_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	for (uint64_t turn = 0; turn < 4; turn++) {
		tell(WHEN_ASLEEP);
		see("first", set, CONF_WAIT_MS);
		await();
		tell(AT_ONCE);
		await();
		recv_pat(fd, 20, turn * 20);
		see("no edge", set, 0);
	}
	close(set);
	tell(NO_MORE);
}
CASE("epoll_edge.read_on", read_on_server, on_demand_client, EVERY);

static void pending_server(int fd)
{
	int set = epoll_create1(0);

	demand();
	ready(fd, POLLIN);
	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	see("added with bytes", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, 2));
	see("mod reports again", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 3));
	see("added again", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 0);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, 4));
	see("mod when empty", set, 0);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_edge.pending", pending_server, on_demand_client, EVERY);

static void out_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 1);
	see("writable", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	demand();
	see("readable", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	recv_pat(fd, 10, 0);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_edge.out", out_server, on_demand_client, EVERY);

/* The classic loop: wait, then read to EAGAIN. */
static void classic_server(int fd)
{
	int set = epoll_create1(0);
	struct epoll_event e;
	char bytes[4096];
	size_t total = 0;
	bool good = true;

	set_nonblock(fd, true);
	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	tell(0);
	while (total < 300000) {
		ssize_t n;

		if (epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1) {
			obs_text("no edge at %zu", total);
			break;
		}
		while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
			good = good && pat_good(bytes, (size_t)n, total);
			total += (size_t)n;
		}
		if (n == 0 || errno != EAGAIN)
			obs("read", n);
	}
	obs_text("total %zu %s", total, good ? "right" : "WRONG");
	see("quiet", set, 0);
	set_nonblock(fd, false);
	close(set);
	tell(0);
}

static void classic_client(int fd)
{
	await();
	for (uint64_t i = 0; i < 300; i++) {
		send_pat(fd, 1000, i * 1000);
		if (i % 30 == 0)
			nap_ms(1);
	}
	await();
}
CASE("epoll_edge.classic_loop", classic_server, classic_client, EVERY);

/* Ping-pong where both ends sleep in an edge-triggered wait. */
static void rounds(int fd, bool first)
{
	int set = epoll_create1(0);
	struct epoll_event e;
	char bytes[64];

	set_nonblock(fd, true);
	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	for (int i = 0; i < 300; i++) {
		if (first)
			obs("send", send(fd, bytes, 1 + (size_t)i % 60, 0));
		ssize_t want = 1 + i % 60, got = 0;
		while (got < want) {
			ssize_t n = recv(fd, bytes + got, (size_t)(want - got), 0);
			if (n > 0)
				got += n;
			else if (n == 0 || epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1)
				break;
		}
		obs("got", got);
		if (!first)
			obs("send", send(fd, bytes, (size_t)want, 0));
	}
	set_nonblock(fd, false);
	close(set);
}

static void rounds_server(int fd)
{
	rounds(fd, false);
}

static void rounds_client(int fd)
{
	memset(big_buffer(), 0, 64);
	rounds(fd, true);
}
CASE("epoll_edge.rounds", rounds_server, rounds_client, EVERY);

static void hangup_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, 1);
	tell(0);
	await();
	see("bytes", set, CONF_WAIT_MS);
	tell(0);
	await();
	see("half closed, bytes unread", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	recv_to_eof(fd, 0);
	see("no edge", set, 0);
	tell(0);
}

static void hangup_client(int fd)
{
	await();
	send_pat(fd, 10, 0);
	tell(0);
	await();
	shutdown(fd, SHUT_WR);
	tell(0);
	await();
}
CASE("epoll_edge.hangup", hangup_server, hangup_client, ANY);

struct waiter {
	int set;
	int fd;
	int got;
};

static void *wait_edge(void *arg)
{
	struct waiter *w = arg;
	struct epoll_event e;

	w->got = epoll_wait(w->set, &e, 1, 300);
	return NULL;
}

/* Two threads in one set: one arrival wakes one of them. */
static void two_threads_server(int fd)
{
	int set = epoll_create1(0);
	struct waiter w[2] = { { set, fd, 0 }, { set, fd, 0 } };
	pthread_t t[2];

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	for (int i = 0; i < 2; i++)
		t[i] = spawn(wait_edge, &w[i]);
	nap_ms(CONF_NAP_MS);
	demand();
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	obs_val("woken", w[0].got + w[1].got);
	recv_pat(fd, 10, 0);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_edge.two_threads", two_threads_server, on_demand_client, ANY);

/* Two registrations by dup(): each gets its edge. */
static void dup_server(int fd)
{
	int set = epoll_create1(0);
	int copy = dup(fd);
	struct epoll_event e[2];
	uint64_t seen = 0;

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	change(set, EPOLL_CTL_ADD, copy, EPOLLIN | EPOLLET, 2);
	demand();
	for (int i = 0; i < 2; i++) {
		if (epoll_wait(set, e, 1, CONF_WAIT_MS) == 1)
			seen |= e[0].data.u64;
	}
	obs_val("both", (long)seen);
	see("no edge", set, 0);
	recv_pat(copy, 10, 0);
	close(copy);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_edge.dup", dup_server, on_demand_client, ANY);

/* A child that inherits the set waits on it and sees the parent's connection. */
static void forked_set_server(int fd)
{
	int set = epoll_create1(0);
	int status;
	pid_t child;

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	child = fork();
	if (child == 0) {
		see("child", set, CONF_WAIT_MS);
		recv_pat(fd, 10, 0);
		_exit(0);
	}
	nap_ms(CONF_NAP_MS);
	demand();
	waitpid(child, &status, 0);
	obs_exit("child", status);
	see("parent", set, 0);
	demand();
	see("parent", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 10);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_edge.forked_set", forked_set_server, on_demand_client, ANY);

enum { UNREAD_ARRIVALS = 50 };

/* Each arrival is an edge, however many lie unread: also in a set that lies in another one. */
static void unread_in_nested(int fd, bool sleeps_in_inner)
{
	int inner = epoll_create1(0), outer = epoll_create1(0), told = 0;
	struct epoll_event e;

	change(inner, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
	change(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2);
	for (int i = 0; i < UNREAD_ARRIVALS; i++) {
		if (sleeps_in_inner)
			tell(WHEN_ASLEEP);
		else
			demand();
		if (!sleeps_in_inner && epoll_wait(outer, &e, 1, CONF_WAIT_MS) != 1)
			break;
		told += epoll_wait(inner, &e, 1, sleeps_in_inner ? CONF_WAIT_MS : 0) == 1;
		if (sleeps_in_inner)
			await();
	}
	obs_val("told", told);
	see("no edge", inner, 0);
	recv_pat(fd, 10 * UNREAD_ARRIVALS, 0);
	demand();
	see("after draining", inner, CONF_WAIT_MS);
	recv_pat(fd, 10, 10 * UNREAD_ARRIVALS);
	close(outer);
	close(inner);
	tell(NO_MORE);
}

static void unread_server(int fd)
{
	unread_in_nested(fd, true);
}
CASE("epoll_edge.unread", unread_server, on_demand_client, ANY);

static void unread_outer_server(int fd)
{
	unread_in_nested(fd, false);
}
CASE("epoll_edge.unread_outer", unread_outer_server, on_demand_client, ANY);
