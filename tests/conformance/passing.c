/* SPDX-License-Identifier: Apache-2.0 */
/* Ancillary data: descriptors through the stream, and the stream's own descriptor elsewhere. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP };

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int) * 4)];
};

static ssize_t send_fd(int sock, char *bytes, size_t len, int fd)
{
	union control c;
	struct iovec v = { bytes, len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	memset(&c, 0, sizeof(c));
	m.msg_control = &c;
	m.msg_controllen = CMSG_SPACE(sizeof(int));
	c.header.cmsg_level = SOL_SOCKET;
	c.header.cmsg_type = SCM_RIGHTS;
	c.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&c.header), &fd, sizeof(fd));
	return sendmsg(sock, &m, 0);
}

static ssize_t recv_fd(int sock, char *bytes, size_t len, int *fd)
{
	union control c;
	struct iovec v = { bytes, len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	ssize_t n;

	memset(&c, 0, sizeof(c));
	m.msg_control = &c;
	m.msg_controllen = sizeof(c);
	*fd = -1;
	n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	if (n > 0 && m.msg_controllen >= CMSG_LEN(sizeof(int)) && c.header.cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(&c.header), sizeof(*fd));
	obs_text("recvmsg = %zd flags %#x fd %s", n,
		 (unsigned int)m.msg_flags & ~(unsigned int)MSG_CMSG_CLOEXEC,
		 *fd >= 0 ? "yes" : "no");
	return n;
}

/* The descriptor arrives at its place among the bytes. */
static void rights_server(int fd)
{
	char bytes[100];
	int got = -1;

	both();
	obs("recv", recv_exact(fd, bytes, 20));
	recv_fd(fd, bytes, 10, &got);
	obs_val("right", pat_good(bytes, 10, 20));
	obs("read", read(got, bytes, 5));
	obs_sum("bytes", bytes, 5);
	obs("cloexec", fcntl(got, F_GETFD));
	close(got);
	recv_fd(fd, bytes, 30, &got);
	obs_val("right", pat_good(bytes, 30, 30));
	send_pat(fd, 10, 0);
}

static void rights_client(int fd)
{
	char bytes[60];
	int ends[2];

	pat_fill(bytes, sizeof(bytes), 0);
	if (pipe(ends) < 0 || write(ends[1], "piped", 5) != 5)
		return;
	obs("send", send(fd, bytes, 20, 0));
	obs("sendmsg", send_fd(fd, bytes + 20, 10, ends[0]));
	obs("send", send(fd, bytes + 30, 30, 0));
	close(ends[0]);
	close(ends[1]);
	both();
	recv_pat(fd, 10, 0);
}
CASE("passing.rights", rights_server, rights_client, ANY | CONF_UNIX_ONLY | CONF_EITHER);

/* A look that ends where a descriptor rides, over what is left of the bytes of another one. */
enum { LOOKED_OVER = 1000, LOOKED_FAR_OVER = 9000 };

static void look_server(int fd, size_t left)
{
	char *bytes = big_buffer();
	int got = -1;

	both();
	recv_fd(fd, bytes, 1, &got);
	close(got);
	both();
	both();
	obs("peek", recv(fd, bytes, CONF_BIG, MSG_PEEK));
	obs_val("right", pat_good(bytes, left + 10, 1));
	recv_pat(fd, left + 30, 1);
	send_pat(fd, 10, 0);
}

static void look_client(int fd, size_t left)
{
	char *bytes = big_buffer();
	int ends[2];

	pat_fill(bytes, left + 31, 0);
	if (pipe(ends) < 0)
		return;
	obs("sendmsg", send_fd(fd, bytes, left + 1, ends[0]));
	both();
	both();
	obs("send", send(fd, bytes + left + 1, 3, 0));
	obs("sendmsg", send_fd(fd, bytes + left + 4, 7, ends[0]));
	obs("send", send(fd, bytes + left + 11, 20, 0));
	close(ends[0]);
	close(ends[1]);
	both();
	recv_pat(fd, 10, 0);
}

static void look_over_server(int fd)
{
	look_server(fd, LOOKED_OVER);
}

static void look_over_client(int fd)
{
	look_client(fd, LOOKED_OVER);
}
CASE("passing.look_over", look_over_server, look_over_client, ANY | CONF_UNIX_ONLY | CONF_EITHER);

static void look_far_over_server(int fd)
{
	look_server(fd, LOOKED_FAR_OVER);
}

static void look_far_over_client(int fd)
{
	look_client(fd, LOOKED_FAR_OVER);
}
CASE("passing.look_far_over", look_far_over_server, look_far_over_client,
     ANY | CONF_UNIX_ONLY | CONF_EITHER);

/* A sleeping recvmsg() is woken by it, and a plain recv() drops it. */
static void rights_wake_server(int fd)
{
	char bytes[10];
	int got = -1;

	tell(0);
	recv_fd(fd, bytes, 10, &got);
	obs_val("valid", fcntl(got, F_GETFD) >= 0);
	close(got);
	tell(0);
	obs("recv", recv_exact(fd, bytes, 10));
	recv_pat(fd, 1000, 0);
	send_pat(fd, 1000, 0);
}

static void rights_wake_client(int fd)
{
	char bytes[10] = "123456789";

	for (int i = 0; i < 2; i++) {
		await();
		nap_ms(CONF_NAP_MS);
		obs("sendmsg", send_fd(fd, bytes, 10, 1));
	}
	send_pat(fd, 1000, 0);
	recv_pat(fd, 1000, 0);
}
CASE("passing.rights_wakes", rights_wake_server, rights_wake_client,
     ANY | CONF_UNIX_ONLY | CONF_EITHER);

static void no_rights_server(int fd)
{
	char bytes[10];
	int got;

	both();
	recv_fd(fd, bytes, 10, &got);
	both();
}

static void no_rights_client(int fd)
{
	char bytes[10] = "123456789";

	obs("bad fd", send_fd(fd, bytes, 10, 4242));
	obs("send", send(fd, bytes, 10, 0));
	both();
	both();
}
CASE("passing.bad_rights", no_rights_server, no_rights_client, ANY | CONF_UNIX_ONLY | CONF_EITHER);

/* The connection's own descriptor goes to a child over a socketpair; the child serves. */
static void hand_over_server(int fd)
{
	int pair[2];
	char bytes[4] = "fd";
	int status;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return;
	child = fork();
	if (child == 0) {
		int got;

		close(fd);
		recv_fd(pair[1], bytes, 2, &got);
		recv_pat(got, 5000, 0);
		send_pat(got, 5000, 0);
		_exit(0);
	}
	ssize_t n = send_fd(pair[0], bytes, 2, fd);
	close(fd);
	waitpid(child, &status, 0);
	obs("sendmsg", n);
	obs_exit("child", status);
	close(pair[0]);
	close(pair[1]);
}

static void hand_over_client(int fd)
{
	send_pat(fd, 5000, 0);
	recv_to_eof(fd, 0);
}
CASE("passing.hand_over", hand_over_server, hand_over_client, ANY | CONF_EITHER);

static void passcred_server(int fd)
{
	int on = 1;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(struct ucred))];
	} c;
	char bytes[10];
	struct iovec v = { bytes, 10 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct ucred cred = { 0, 0, 0 };

	obs("setsockopt", setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	both();
	both();
	memset(&c, 0, sizeof(c));
	m.msg_control = &c;
	m.msg_controllen = sizeof(c);
	obs("recvmsg", recvmsg(fd, &m, 0));
	obs_val("control", m.msg_controllen >= CMSG_LEN(sizeof(cred)));
	if (c.header.cmsg_type == SCM_CREDENTIALS)
		memcpy(&cred, CMSG_DATA(&c.header), sizeof(cred));
	obs_val("the peer's pid", cred.pid == conf.peer_pid);
	both();
}

static void passcred_client(int fd)
{
	both();
	send_pat(fd, 10, 0);
	both();
	both();
}
CASE("passing.passcred", passcred_server, passcred_client, ANY | CONF_UNIX_ONLY | CONF_EITHER);

/* recvmsg() with room for control data but none sent; msg_name and flags as the kernel has them. */
static void msghdr_server(int fd)
{
	union control c;
	char bytes[10];
	struct sockaddr_storage name;
	struct iovec v = { bytes, 10 };
	struct msghdr m = { .msg_name = &name,
			    .msg_namelen = sizeof(name),
			    .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = sizeof(c),
			    .msg_flags = 0x7777 };

	both();
	ready(fd, POLLIN);
	obs("recvmsg", recvmsg(fd, &m, 0));
	obs_text("name %u control %zu flags %#x", m.msg_namelen, m.msg_controllen,
		 (unsigned int)m.msg_flags);
	both();
}

static void msghdr_client(int fd)
{
	send_pat(fd, 10, 0);
	both();
	both();
}
CASE("passing.msghdr", msghdr_server, msghdr_client, ANY);

/* The peer has ended, and left bytes: they go with the descriptor. */
static void ended_then_passed_server(int fd)
{
	int pair[2];
	char bytes[4] = "fd";
	int status, closed;
	ssize_t sent;
	pid_t child;

	both();
	await();
	nap_ms(CONF_NAP_MS);
	recv_pat(fd, 1000, 0);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return;
	child = fork();
	if (child == 0) {
		int got;

		close(fd);
		recv_fd(pair[1], bytes, 2, &got);
		recv_to_eof(got, 1000);
		_exit(0);
	}
	sent = send_fd(pair[0], bytes, 2, fd);
	closed = close(fd);
	waitpid(child, &status, 0);
	obs("sendmsg", sent);
	obs("close", closed);
	obs_exit("child", status);
	close(pair[0]);
	close(pair[1]);
}

static void ended_then_passed_client(int fd)
{
	both();
	send_pat(fd, 20000, 0);
	obs("close", close(fd));
	tell(0);
}
CASE("passing.ended_then_passed", ended_then_passed_server, ended_then_passed_client,
     ANY | CONF_EITHER);

/* The peer has shut its direction and lives on. */
static void half_closed_client(int fd)
{
	both();
	send_pat(fd, 20000, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	tell(0);
	await();
}

static void half_closed_server(int fd)
{
	ended_then_passed_server(fd);
	tell(0);
}
CASE("passing.half_closed_then_passed", half_closed_server, half_closed_client, ANY | CONF_EITHER);

/* Passed and kept: both ends of it are one stream. */
static void passed_and_kept_server(int fd)
{
	int pair[2], got = -1;
	char bytes[4] = "fd";

	both();
	await();
	nap_ms(CONF_NAP_MS);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return;
	obs("sendmsg", send_fd(pair[0], bytes, 2, fd));
	recv_fd(pair[1], bytes, 2, &got);
	recv_pat(got, 5000, 0);
	recv_pat(fd, 5000, 5000);
	recv_to_eof(got, 10000);
	recv_to_eof(fd, 20000);
	close(got);
	close(pair[0]);
	close(pair[1]);
}
CASE("passing.ended_passed_and_kept", passed_and_kept_server, ended_then_passed_client,
     ANY | CONF_EITHER);

/* To oneself, in mid-stream: both numbers are the connection. */
static void to_oneself_server(int fd)
{
	int pair[2], got = -1;
	char bytes[4] = "fd";

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return;
	recv_pat(fd, 100, 0);
	obs("sendmsg", send_fd(pair[0], bytes, 2, fd));
	recv_fd(pair[1], bytes, 2, &got);
	for (uint64_t i = 0; i < 40; i++) {
		recv_pat(i % 2 ? got : fd, 100, 100 + i * 100);
		send_pat(i % 3 ? fd : got, 100, i * 100);
	}
	obs("close", close(fd));
	recv_pat(got, 100, 0);
	close(got);
	close(pair[0]);
	close(pair[1]);
}

static void to_oneself_client(int fd)
{
	char byte;

	send_pat(fd, 100, 0);
	for (uint64_t i = 0; i < 40; i++) {
		send_pat(fd, 100, 100 + i * 100);
		recv_pat(fd, 100, i * 100);
	}
	send_pat(fd, 100, 0);
	obs("recv", recv(fd, &byte, 1, 0));
}
CASE("passing.to_oneself", to_oneself_server, to_oneself_client, ANY | CONF_EITHER);
