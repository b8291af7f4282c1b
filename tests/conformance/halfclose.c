/* SPDX-License-Identifier: Apache-2.0 */
/* shutdown() in each direction and what either end then sees. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP };

static void eof_then_answer_server(int fd)
{
	recv_to_eof(fd, 0);
	send_pat(fd, 50000, 3);
	obs("shutdown", shutdown(fd, SHUT_WR));
}

static void eof_then_answer_client(int fd)
{
	send_pat(fd, 100000, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	recv_to_eof(fd, 3);
}
CASE("halfclose.eof_then_answer", eof_then_answer_server, eof_then_answer_client, ANY);

static void eof_repeats_server(int fd)
{
	char bytes[10];
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };

	await();
	ready(fd, POLLRDHUP);
	for (int i = 0; i < 3; i++)
		obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs("dontwait", recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT));
	obs("read", read(fd, bytes, sizeof(bytes)));
	obs_poll("poll", poll(&p, 1, 0), p.revents);
	send_pat(fd, 10, 0);
}

static void eof_repeats_client(int fd)
{
	shutdown(fd, SHUT_WR);
	tell(0);
	recv_pat(fd, 10, 0);
}
CASE("halfclose.eof_repeats", eof_repeats_server, eof_repeats_client, ANY);

/* A reader asleep in recv() gets the EOF. */
static void eof_wakes_server(int fd)
{
	char bytes[10];

	tell(0);
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
}

static void eof_wakes_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	obs("shutdown", shutdown(fd, SHUT_WR));
}
CASE("halfclose.eof_wakes_recv", eof_wakes_server, eof_wakes_client, ANY);

static void close_wakes_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	obs("close", close(fd));
}
CASE("halfclose.close_wakes_recv", eof_wakes_server, close_wakes_client, ANY);

/* SHUT_RD: our own reads end; what the peer may still do differs by family. */
static void shut_rd_server(int fd)
{
	char bytes[10];
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };

	obs("shutdown", shutdown(fd, SHUT_RD));
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs_poll("poll", poll(&p, 1, 0), p.revents);
	send_pat(fd, 20, 0);
	both();
}

static void shut_rd_client(int fd)
{
	recv_pat(fd, 20, 0);
	both();
	on_signal(SIGPIPE, 0);
	obs("send", send(fd, "12345", 5, 0));
	obs_val("SIGPIPE", signal_count(SIGPIPE));
}
CASE("halfclose.shut_rd", shut_rd_server, shut_rd_client, ANY);

static void shut_rd_pending_server(int fd)
{
	char bytes[200];

	await();
	ready(fd, POLLIN);
	obs("shutdown", shutdown(fd, SHUT_RD));
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	tell(0);
}

static void shut_rd_pending_client(int fd)
{
	send_pat(fd, 100, 0);
	tell(0);
	await();
}
CASE("halfclose.shut_rd_pending", shut_rd_pending_server, shut_rd_pending_client, ANY);

static void shut_rdwr_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };

	recv_to_eof(fd, 0);
	ready(fd, POLLIN);
	obs_poll("poll", poll(&p, 1, 0), p.revents);
}

static void shut_rdwr_client(int fd)
{
	char bytes[10];

	send_pat(fd, 1000, 0);
	obs("shutdown", shutdown(fd, SHUT_RDWR));
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs("send", send(fd, bytes, 1, MSG_NOSIGNAL));
	obs("again", shutdown(fd, SHUT_RDWR));
}
CASE("halfclose.shut_rdwr", shut_rdwr_server, shut_rdwr_client, ANY | CONF_UNIX_ONLY);

static void shut_twice_server(int fd)
{
	recv_to_eof(fd, 0);
	send_pat(fd, 5, 0);
}

static void shut_twice_client(int fd)
{
	send_pat(fd, 64, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	obs("shutdown", shutdown(fd, SHUT_WR));
	obs("bad how", shutdown(fd, 7));
	recv_pat(fd, 5, 0);
}
CASE("halfclose.shut_twice", shut_twice_server, shut_twice_client, ANY);

static void both_shut_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };

	obs("shutdown", shutdown(fd, SHUT_WR));
	recv_to_eof(fd, 0);
	ready(fd, POLLHUP);
	obs_poll("poll", poll(&p, 1, 0), p.revents);
}
CASE("halfclose.both", both_shut_server, both_shut_server, CONF_COLD);

/* Both ends write, then both shut down, then both read. */
static void crossed(int fd)
{
	send_pat(fd, 30000, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	recv_to_eof(fd, 0);
}
CASE("halfclose.crossed", crossed, crossed, CONF_COLD);

static void thread_shut_server(int fd)
{
	recv_to_eof(fd, 0);
}

static void *sleep_and_shut(void *arg)
{
	await();
	nap_ms(CONF_NAP_MS);
	shutdown(*(int *)arg, SHUT_RDWR);
	return NULL;
}

/* shutdown() by another thread ends a recv() that sleeps on this very socket. */
static void thread_shut_client(int fd)
{
	pthread_t thread = spawn(sleep_and_shut, &fd);
	char bytes[10];

	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	pthread_join(thread, NULL);
}

static void thread_shut_peer(int fd)
{
	tell(0);
	thread_shut_server(fd);
}
CASE("halfclose.thread_shuts_recv", thread_shut_peer, thread_shut_client, ANY);
