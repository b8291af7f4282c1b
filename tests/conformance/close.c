/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a connection: orderly, with bytes unread, by SO_LINGER, by death. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP };

static void orderly_server(int fd)
{
	recv_to_eof(fd, 0);
}

static void orderly_client(int fd)
{
	send_pat(fd, 200000, 0);
	obs("close", close(fd));
}
CASE("close.tail_arrives", orderly_server, orderly_client, ANY);

/* close() with unread bytes resets: first ECONNRESET, then EOF. */
static void unread_server(int fd)
{
	char bytes[10];

	await();
	ready(fd, POLLIN);
	obs("close", close(fd));
	tell(0);
	(void)bytes;
}

static void unread_client(int fd)
{
	char bytes[10];
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };

	send_pat(fd, 100, 0);
	tell(0);
	await();
	ready(fd, POLLERR | POLLHUP);
	obs_poll("poll", poll(&p, 1, 0), p.revents);
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs("send", send(fd, bytes, 1, MSG_NOSIGNAL));
}
CASE("close.unread", unread_server, unread_client, ANY);

static void unread_so_error_client(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	send_pat(fd, 100, 0);
	tell(0);
	await();
	ready(fd, POLLERR | POLLHUP);
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	obs_text("SO_ERROR %s", strerrorname_np(error));
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	obs_val("SO_ERROR", error);
	obs("recv", recv(fd, &error, 1, 0));
}
CASE("close.unread_so_error", unread_server, unread_so_error_client, ANY);

/* The closer has sent bytes of its own before: those still arrive. */
static void unread_and_sent_server(int fd)
{
	await();
	ready(fd, POLLIN);
	send_pat(fd, 40, 0);
	both();
	obs("close", close(fd));
	tell(0);
}

static void unread_and_sent_client(int fd)
{
	char bytes[100];

	send_pat(fd, 100, 0);
	tell(0);
	ready(fd, POLLIN);
	both();
	await();
	ready(fd, POLLERR | POLLHUP);
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
}
CASE("close.unread_and_sent", unread_and_sent_server, unread_and_sent_client, ANY);

static void just_close(int fd)
{
	obs("close", close(fd));
	tell(0);
}

/* Unix streams refuse at once; TCP learns by the reset that the first send provokes. */
static void epipe_client(int fd)
{
	on_signal(SIGPIPE, 0);
	await();
	ready(fd, POLLRDHUP);
	obs("send", send(fd, "x", 1, 0));
	ready(fd, POLLHUP);
	obs("send", send(fd, "x", 1, 0));
	obs("write", write(fd, "x", 1));
	obs("send nosignal", send(fd, "x", 1, MSG_NOSIGNAL));
	obs_val("SIGPIPE", signal_count(SIGPIPE));
}
CASE("close.epipe", just_close, epipe_client, ANY);

static void epipe_recv_client(int fd)
{
	char byte;

	await();
	ready(fd, POLLRDHUP);
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	ready(fd, POLLHUP);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
}
CASE("close.epipe_recv", just_close, epipe_recv_client, ANY);

/* The default action of SIGPIPE ends the process. */
static void sigpipe_kills_client(int fd)
{
	await();
	ready(fd, POLLRDHUP);
	for (int i = 0; i < 100; i++) {
		if (write(fd, "x", 1) < 0)
			break;
		nap_ms(5);
	}
	obs_text("survived");
}
CASE("close.sigpipe_kills", just_close, sigpipe_kills_client, ANY);

static void linger_0_server(int fd)
{
	struct linger l = { 1, 0 };

	obs("setsockopt", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	obs("close", close(fd));
	tell(0);
}

static void linger_0_client(int fd)
{
	char byte;

	await();
	ready(fd, POLLHUP);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
	obs("send", send(fd, &byte, 1, MSG_NOSIGNAL));
}
CASE("close.linger_0", linger_0_server, linger_0_client, ANY);

static void linger_n_server(int fd)
{
	struct linger l = { 1, 5 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	send_pat(fd, 150000, 0);
	obs("close", close(fd));
}
CASE("close.linger_n", linger_n_server, orderly_server, ANY);

static void close_twice_server(int fd)
{
	char byte;

	obs("close", close(fd));
	obs("close", close(fd));
	obs("recv", recv(fd, &byte, 1, 0));
	obs("send", send(fd, &byte, 1, 0));
	obs("poll", poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0));
	obs("fcntl", fcntl(fd, F_GETFL));
	obs("shutdown", shutdown(fd, SHUT_WR));
	obs("getsockname", getsockname(fd, NULL, NULL));
	tell(0);
}

static void close_seen(int fd)
{
	await();
	recv_to_eof(fd, 0);
}
CASE("close.twice", close_twice_server, close_seen, ANY);

/* A number that is reborn as something else has nothing of the connection. */
static void reborn_server(int fd)
{
	int ends[2];
	char byte = 0;

	close(fd);
	obs("pipe", pipe(ends));
	obs_val("same number", ends[0] == fd || ends[1] == fd);
	obs("write", write(ends[1], "p", 1));
	obs("read", read(ends[0], &byte, 1));
	obs_val("byte", byte);
	obs("recv", recv(ends[0], &byte, 1, 0));
	close(ends[0]);
	close(ends[1]);
	int file = open("/dev/null", O_RDWR);
	obs_val("same number", file == fd);
	obs("read", read(file, &byte, 1));
	obs("send", send(file, &byte, 1, 0));
	close(file);
	tell(0);
}
CASE("close.number_reborn", reborn_server, close_seen, ANY);

static void killed(int fd)
{
	both();
	(void)fd;
	kill(getpid(), SIGKILL);
}

/* The dead end had read everything: the survivor sees an orderly end. */
static void kill_survivor(int fd)
{
	char byte;

	both();
	await_peer_exit();
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	ready(fd, POLLHUP);
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
}
CASE("close.kill", killed, kill_survivor, ANY | CONF_KILLED);

static void kill_asleep_survivor(int fd)
{
	char byte;

	both();
	obs("recv", recv(fd, &byte, 1, 0));
}

static void killed_later(int fd)
{
	both();
	(void)fd;
	nap_ms(CONF_NAP_MS);
	kill(getpid(), SIGKILL);
}
CASE("close.kill_wakes_recv", killed_later, kill_asleep_survivor, ANY | CONF_KILLED);

static void kill_poll_survivor(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	both();
	obs("poll", poll(&p, 1, CONF_WAIT_MS));
	obs_val("in", !!(p.revents & POLLIN));
	await_peer_exit();
	p.events = POLLIN | POLLRDHUP | POLLOUT;
	obs_poll("poll", poll(&p, 1, 0), p.revents);
}
CASE("close.kill_wakes_poll", killed_later, kill_poll_survivor, ANY | CONF_KILLED);

/* Bytes that the dead end had sent are all there, then the end. */
static void killed_after_send(int fd)
{
	send_pat(fd, 60000, 0);
	both();
	kill(getpid(), SIGKILL);
}

static void kill_reads_rest(int fd)
{
	both();
	await_peer_exit();
	recv_to_eof(fd, 0);
}
CASE("close.kill_after_send", killed_after_send, kill_reads_rest, ANY | CONF_KILLED);

/* The dead end had not read: the survivor gets the reset. */
static void kill_unread_survivor(int fd)
{
	char byte;

	send_pat(fd, 100, 0);
	both();
	await_peer_exit();
	ready(fd, POLLHUP);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
}

static void killed_unread(int fd)
{
	both();
	ready(fd, POLLIN);
	kill(getpid(), SIGKILL);
}
CASE("close.kill_unread", killed_unread, kill_unread_survivor, ANY | CONF_KILLED);

/* It has read all and shut both directions: no error waits. */
static void killed_shut(int fd)
{
	obs("shutdown", shutdown(fd, SHUT_RDWR));
	both();
	kill(getpid(), SIGKILL);
}

static void kill_shut_survivor(int fd)
{
	int error = -1;
	socklen_t len = sizeof(error);
	char byte;

	both();
	await_peer_exit();
	ready(fd, POLLRDHUP);
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	obs_val("error", error);
	obs("recv", recv(fd, &byte, 1, 0));
}
CASE("close.kill_shut", killed_shut, kill_shut_survivor, ANY | CONF_KILLED);

/* exit() without close is a close. */
static void exits(int fd)
{
	send_pat(fd, 1000, 0);
	_exit(7);
}
CASE("close.exit", exits, orderly_server, ANY | CONF_EITHER);
