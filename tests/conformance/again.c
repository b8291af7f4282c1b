/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that are made more than once, dissolved, begun with data, or refused first. */
#include "tests/conformance/lib/conf.h"

#ifndef TCP_FASTOPEN_CONNECT
#define TCP_FASTOPEN_CONNECT 30
#endif

static const struct sockaddr *where(void)
{
	return (const struct sockaddr *)&conf.name;
}

static void serve(int fd)
{
	warm_up(fd, CONF_WARM_ROUNDS);
	recv_pat(fd, 5000, 0);
	send_pat(fd, 5000, 0);
	both();
}

static void use(int fd)
{
	warm_up(fd, CONF_WARM_ROUNDS);
	send_pat(fd, 5000, 0);
	recv_pat(fd, 5000, 0);
	both();
}

static int so_error(int fd)
{
	int error = -1;
	socklen_t len = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return error;
}

/* A port on which nobody listens, kept so by a socket that is bound and does not listen. */
static int nobody(struct sockaddr_in *in)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(*in);

	*in = (struct sockaddr_in){ .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bind(fd, (struct sockaddr *)in, sizeof(*in));
	getsockname(fd, (struct sockaddr *)in, &len);
	return fd;
}

static void refused_then_server(int listener)
{
	int fd = conf_accept(listener);

	serve(fd);
	close(fd);
}

static void refused_then_client(int none)
{
	struct sockaddr_in in;
	int keeper = nobody(&in), fd = conf_socket(SOCK_NONBLOCK);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	char byte;

	(void)none;
	obs("connect", connect(fd, (struct sockaddr *)&in, sizeof(in)));
	obs_poll("poll", poll(&p, 1, CONF_WAIT_MS), p.revents);
	obs_text("SO_ERROR %s", strerrorname_np(so_error(fd)));
	obs_text("SO_ERROR %d", so_error(fd));
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	obs("recv", recv(fd, &byte, 1, 0));
	/* the same socket, at the right place now */
	set_nonblock(fd, false);
	obs("connect tells once more", connect(fd, where(), conf.name_len));
	obs("connect", connect(fd, where(), conf.name_len));
	use(fd);
	close(fd);
	close(keeper);
}
CASE("again.refused_then_connected", refused_then_server, refused_then_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_EITHER);

static void refused_recv_client(int none)
{
	struct sockaddr_in in;
	int keeper = nobody(&in), fd = conf_socket(SOCK_NONBLOCK);
	char byte;

	(void)none;
	obs("connect", connect(fd, (struct sockaddr *)&in, sizeof(in)));
	ready(fd, POLLERR | POLLHUP);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
	obs_text("SO_ERROR %d", so_error(fd));
	obs("connect", connect(fd, (struct sockaddr *)&in, sizeof(in)));
	ready(fd, POLLERR | POLLHUP);
	obs("connect tells", connect(fd, (struct sockaddr *)&in, sizeof(in)));
	close(fd);
	close(keeper);
	fd = conf_connect();
	use(fd);
	close(fd);
}
CASE("again.refused_recv", refused_then_server, refused_recv_client, CONF_RAW | CONF_TCP_ONLY);

/* A Unix connect to nobody, then to somebody with the same socket. */
static void unix_refused_client(int none)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/nonexistent/conformance" };
	int fd = conf_socket(0);

	(void)none;
	obs("connect", connect(fd, (struct sockaddr *)&un, sizeof(un)));
	un.sun_path[0] = '\0';
	obs("connect", connect(fd, (struct sockaddr *)&un, sizeof(un)));
	obs("connect", connect(fd, where(), conf.name_len));
	obs("connect", connect(fd, where(), conf.name_len));
	use(fd);
	close(fd);
}
CASE("again.unix_refused", refused_then_server, unix_refused_client, CONF_RAW | CONF_UNIX_ONLY);

/* AF_UNSPEC dissolves a TCP connection: the peer sees a reset, and the socket can connect anew. */
static void unspec_server(int listener)
{
	int fd = conf_accept(listener);
	char byte;

	serve(fd);
	both();
	ready(fd, POLLHUP | POLLERR);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	close(fd);
	fd = conf_accept(listener);
	serve(fd);
	close(fd);
}

static void unspec_client(int none)
{
	struct sockaddr dissolve = { .sa_family = AF_UNSPEC };
	int fd = conf_connect();
	char byte;

	(void)none;
	use(fd);
	obs("AF_UNSPEC", connect(fd, &dissolve, sizeof(dissolve)));
	both();
	obs("getpeername", getpeername(fd, (struct sockaddr *)&(struct sockaddr_storage){ 0 },
				       &(socklen_t){ sizeof(struct sockaddr_storage) }));
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	obs("recv", recv(fd, &byte, 1, 0));
	obs("connect", connect(fd, where(), conf.name_len));
	use(fd);
	close(fd);
}
CASE("again.unspec", unspec_server, unspec_client, CONF_RAW | CONF_TCP_ONLY);

/* Bytes that the peer has not read yet when the connection is dissolved. */
static void unspec_unread_server(int fd)
{
	char bytes[100];

	ready(fd, POLLIN);
	both();
	ready(fd, POLLHUP | POLLERR);
	obs("recv", recv(fd, bytes, 50, 0));
	obs("recv", recv(fd, bytes, 100, 0));
	obs("recv", recv(fd, bytes, 100, 0));
	obs("recv", recv(fd, bytes, 100, 0));
}

static void unspec_unread_client(int fd)
{
	struct sockaddr dissolve = { .sa_family = AF_UNSPEC };

	send_pat(fd, 100, 0);
	both();
	obs("AF_UNSPEC", connect(fd, &dissolve, sizeof(dissolve)));
}
CASE("again.unspec_unread", unspec_unread_server, unspec_unread_client,
     CONF_COLD | CONF_SWAP | CONF_TCP_ONLY);

static void unspec_unix_server(int fd)
{
	both();
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	both();
}

static void unspec_unix_client(int fd)
{
	struct sockaddr dissolve = { .sa_family = AF_UNSPEC };

	obs("AF_UNSPEC", connect(fd, &dissolve, sizeof(dissolve)));
	both();
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	both();
}
CASE("again.unspec_unix", unspec_unix_server, unspec_unix_client,
     CONF_COLD | CONF_SWAP | CONF_UNIX_ONLY);

/* Data with the SYN. */

static void fastopen_rest_server(int listener)
{
	int on = 5, fd;

	obs("TCP_FASTOPEN", setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &on, sizeof(on)));
	both();
	fd = conf_accept(listener);
	recv_pat(fd, 100, 0);
	serve(fd);
	close(fd);
}

static void fastopen_connect_client(int none)
{
	int fd = conf_socket(0), on = 1;

	(void)none;
	both();
	obs("TCP_FASTOPEN_CONNECT",
	    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)));
	obs("connect", connect(fd, where(), conf.name_len));
	send_pat(fd, 100, 0);
	use(fd);
	close(fd);
}
CASE("again.fastopen_connect", fastopen_rest_server, fastopen_connect_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_EITHER);

static void fastopen_message_client(int none)
{
	int fd = conf_socket(0);
	char bytes[100];
	struct iovec v[2] = { { bytes, 40 }, { bytes + 40, 60 } };
	struct msghdr m = {
		.msg_name = &conf.name, .msg_namelen = conf.name_len, .msg_iov = v, .msg_iovlen = 2
	};

	(void)none;
	both();
	pat_fill(bytes, sizeof(bytes), 0);
	obs("sendmsg", sendmsg(fd, &m, MSG_FASTOPEN));
	use(fd);
	close(fd);
}
CASE("again.fastopen_message", fastopen_rest_server, fastopen_message_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_EITHER);

/* On a connection that exists MSG_FASTOPEN is an error, and not a byte goes. */
static void fastopen_late_server(int fd)
{
	recv_pat(fd, 100, 0);
	both();
}

static void fastopen_late_client(int fd)
{
	obs("sendto", sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, where(), conf.name_len));
	send_pat(fd, 100, 0);
	both();
}
CASE("again.fastopen_late", fastopen_late_server, fastopen_late_client,
     CONF_COLD | CONF_SWAP | CONF_TCP_ONLY | CONF_EITHER);

/* connect() while another is under way, and after it. */
static void while_connecting_client(int none)
{
	int fd = conf_socket(SOCK_NONBLOCK), r;

	(void)none;
	r = connect(fd, where(), conf.name_len);
	obs_val("begun", r == 0 || errno == EINPROGRESS);
	ready(fd, POLLOUT);
	set_nonblock(fd, false);
	/* bytes first: the connect that follows finds it done and counts none of them twice */
	warm_up(fd, CONF_WARM_ROUNDS);
	r = connect(fd, where(), conf.name_len);
	obs_val("done", r == 0 || errno == EISCONN);
	obs("connect", connect(fd, where(), conf.name_len));
	send_pat(fd, 5000, 0);
	recv_pat(fd, 5000, 0);
	both();
	close(fd);
}
CASE("again.while_connecting", refused_then_server, while_connecting_client, CONF_RAW);

/* A signal ends a blocking connect() or it does not: the connection comes either way. */
static void accepts_late_server(int listener)
{
	both();
	refused_then_server(listener);
}

static void shut_before_client(int none)
{
	int fd = conf_socket(0);

	(void)none;
	obs("shutdown", shutdown(fd, SHUT_RDWR));
	obs("listen", listen(fd, 1));
	close(fd);
	fd = conf_connect();
	obs("connect", connect(fd, where(), conf.name_len));
	obs("bind", bind(fd, where(), conf.name_len));
	both();
	use(fd);
	close(fd);
}
CASE("again.shut_before", accepts_late_server, shut_before_client, CONF_RAW | CONF_TCP_ONLY);
