/* SPDX-License-Identifier: Apache-2.0 */
/* Socket options, names, and what kind of file the descriptor is. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP };

static void get(const char *what, int fd, int level, int option)
{
	int value = -12345;
	socklen_t len = sizeof(value);
	int r = getsockopt(fd, level, option, &value, &len);

	if (r < 0)
		obs(what, r);
	else
		obs_text("%s: %d (%u bytes)", what, value, len);
}

static void set(const char *what, int fd, int level, int option, int value)
{
	obs(what, setsockopt(fd, level, option, &value, sizeof(value)));
	get(what, fd, level, option);
}

static void plain_end(int fd)
{
	exchange(fd);
	both();
}

static void facts_server(int fd)
{
	get("SO_TYPE", fd, SOL_SOCKET, SO_TYPE);
	get("SO_DOMAIN", fd, SOL_SOCKET, SO_DOMAIN);
	get("SO_PROTOCOL", fd, SOL_SOCKET, SO_PROTOCOL);
	get("SO_ERROR", fd, SOL_SOCKET, SO_ERROR);
	get("SO_ACCEPTCONN", fd, SOL_SOCKET, SO_ACCEPTCONN);
	get("SO_KEEPALIVE", fd, SOL_SOCKET, SO_KEEPALIVE);
	get("SO_REUSEADDR", fd, SOL_SOCKET, SO_REUSEADDR);
	get("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT);
	get("SO_PASSCRED", fd, SOL_SOCKET, SO_PASSCRED);
	get("SO_OOBINLINE", fd, SOL_SOCKET, SO_OOBINLINE);
	get("bad option", fd, SOL_SOCKET, 31000);
	get("bad level", fd, 31000, 1);
	exchange(fd);
	both();
}
CASE("options.facts", facts_server, facts_server, CONF_COLD);

static void tcp_server(int fd)
{
	get("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	set("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY, 0);
	get("TCP_CORK", fd, IPPROTO_TCP, TCP_CORK);
	set("TCP_CORK", fd, IPPROTO_TCP, TCP_CORK, 1);
	set("TCP_NODELAY under cork", fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set("TCP_CORK", fd, IPPROTO_TCP, TCP_CORK, 0);
	set("TCP_QUICKACK", fd, IPPROTO_TCP, TCP_QUICKACK, 1);
	set("TCP_USER_TIMEOUT", fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 30000);
	set("TCP_KEEPIDLE", fd, IPPROTO_TCP, TCP_KEEPIDLE, 77);
	exchange(fd);
	get("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	both();
}
CASE("options.tcp", tcp_server, plain_end, ANY);

/* Option values set before the connection carries traffic are still there after it. */
static void kept_server(int listener)
{
	int fd = conf_accept(listener);

	set("SO_KEEPALIVE", fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY, 0);
	warm_up(fd, CONF_WARM_ROUNDS);
	get("SO_KEEPALIVE", fd, SOL_SOCKET, SO_KEEPALIVE);
	get("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	get("TCP_CORK", fd, IPPROTO_TCP, TCP_CORK);
	exchange(fd);
	both();
	close(fd);
}

static void kept_client(int none)
{
	int fd = conf_connect();

	(void)none;
	set("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY, 1);
	warm_up(fd, CONF_WARM_ROUNDS);
	get("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	set("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY, 0);
	exchange(fd);
	get("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	both();
	close(fd);
}
CASE("options.kept", kept_server, kept_client, CONF_RAW);

static void buffers_server(int fd)
{
	set("SO_RCVBUF", fd, SOL_SOCKET, SO_RCVBUF, 50000);
	set("SO_SNDBUF", fd, SOL_SOCKET, SO_SNDBUF, 60000);
	exchange(fd);
	get("SO_RCVBUF", fd, SOL_SOCKET, SO_RCVBUF);
	get("SO_SNDBUF", fd, SOL_SOCKET, SO_SNDBUF);
	recv_pat(fd, 300000, 0);
	both();
}

static void buffers_client(int fd)
{
	exchange(fd);
	send_pat(fd, 300000, 0);
	both();
}
CASE("options.buffers", buffers_server, buffers_client, ANY);

static void linger_server(int fd)
{
	struct linger l = { 1, 3 };
	socklen_t len = sizeof(l);

	obs("set", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	memset(&l, 0, sizeof(l));
	obs("get", getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len));
	obs_text("%d %d", l.l_onoff, l.l_linger);
	exchange(fd);
	obs("short", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, 2));
	obs("fault", setsockopt(fd, SOL_SOCKET, SO_LINGER, bad_pointer(), sizeof(l)));
	both();
}
CASE("options.linger", linger_server, plain_end, ANY);

static void cork_server(int fd)
{
	recv_pat(fd, 300, 0);
	both();
}

static void cork_client(int fd)
{
	int on = 1, off = 0;

	obs("cork", setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)));
	for (uint64_t i = 0; i < 3; i++)
		send_pat(fd, 100, i * 100);
	obs("uncork", setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off)));
	both();
}
CASE("options.cork", cork_server, cork_client, ANY | CONF_TCP_ONLY);

/* With SO_RCVLOWAT fewer bytes than that do not count as readable. */
static void lowat_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char bytes[100];

	set("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT, 50);
	both();
	both();
	nap_ms(10);
	obs_poll("10 of 50", poll(&p, 1, 0), p.revents);
	both();
	obs_poll("all", poll(&p, 1, CONF_WAIT_MS), p.revents);
	obs("recv", recv(fd, bytes, 50, 0));
	obs_val("right", pat_good(bytes, 50, 0));
	set("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	both();
	obs_poll("poll", poll(&p, 1, CONF_WAIT_MS), p.revents);
	recv_pat(fd, 10, 50);
	both();
}

static void lowat_client(int fd)
{
	both();
	send_pat(fd, 10, 0);
	both();
	both();
	send_pat(fd, 40, 10);
	both();
	send_pat(fd, 10, 50);
	both();
}
CASE("options.rcvlowat", lowat_server, lowat_client, ANY | CONF_TCP_ONLY | CONF_EITHER);

static void print_name(const char *what, int r, const struct sockaddr_storage *a, socklen_t len)
{
	if (r < 0) {
		obs(what, r);
		return;
	}
	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)a;

		/* The port that the kernel chose for the server is the same at both ends. */
		obs_text("%s: inet %08x listener-port %d len %u", what, ntohl(in->sin_addr.s_addr),
			 in->sin_port == ((struct sockaddr_in *)&conf.name)->sin_port, len);
	} else {
		const struct sockaddr_un *un = (const struct sockaddr_un *)a;
		bool named = len > sizeof(sa_family_t);

		obs_text("%s: family %d %s", what, a->ss_family,
			 !named					   ? "unnamed"
			 : strcmp(un->sun_path, conf.address) == 0 ? "the path"
								   : "another");
	}
}

static void names_server(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	memset(&a, 0, sizeof(a));
	print_name("getsockname", getsockname(fd, (struct sockaddr *)&a, &len), &a, len);
	memset(&a, 0, sizeof(a));
	len = sizeof(a);
	print_name("getpeername", getpeername(fd, (struct sockaddr *)&a, &len), &a, len);
	exchange(fd);
	len = sizeof(a);
	char bytes[10];
	send_pat(fd, 10, 0);
	memset(&a, 0, sizeof(a));
	obs("recvfrom", recvfrom(fd, bytes, 10, MSG_WAITALL, (struct sockaddr *)&a, &len));
	obs_val("name length", len);
	both();
}
CASE("options.names", names_server, names_server, CONF_COLD);

static void peercred_server(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int r;

	exchange(fd);
	r = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	obs("SO_PEERCRED", r);
	obs_val("is the peer", cred.pid == (conf.is_tcp ? 0 : conf.peer_pid));
	obs_val("uid", cred.uid == (conf.is_tcp ? (uid_t)-1 : getuid()));
	both();
}
CASE("options.peercred", peercred_server, peercred_server, CONF_COLD);

static void kind_server(int fd)
{
	struct stat st;
	char link[64], path[64];
	ssize_t n;

	obs("fstat", fstat(fd, &st));
	obs_val("socket", S_ISSOCK(st.st_mode));
	obs_val("size", st.st_size);
	obs("isatty", isatty(fd));
	obs("lseek", lseek(fd, 0, SEEK_CUR));
	obs("pread", pread(fd, path, 1, 0));
	obs("pwrite", pwrite(fd, path, 1, 0));
	obs("ftruncate", ftruncate(fd, 0));
	obs("fsync", fsync(fd));
	struct iovec v = { path, 1 };
	obs("preadv", preadv(fd, &v, 1, 0));
	obs("pwritev", pwritev(fd, &v, 1, 0));
	obs("preadv2", preadv2(fd, &v, 1, 0, 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof(link));
	obs_text("link %.7s", n > 7 ? link : "none...");
	obs("accept", accept(fd, NULL, NULL));
	obs("listen", listen(fd, 1));
	obs("F_GETLK", fcntl(fd, F_GETLK, bad_pointer()));
	obs("F_GETFL", fcntl(fd, F_GETFL));
	obs("F_GETOWN", fcntl(fd, F_GETOWN));
	exchange(fd);
	both();
}
CASE("options.kind_of_file", kind_server, plain_end, ANY);

static void rw2_server(int fd)
{
	char bytes[100];
	struct iovec v[2] = { { bytes, 30 }, { bytes + 30, 70 } };

	await();
	ready(fd, POLLIN);
	obs("preadv2 -1", preadv2(fd, v, 2, -1, 0));
	obs_val("right", pat_good(bytes, 100, 0));
	obs("preadv2 nowait", preadv2(fd, v, 2, -1, RWF_NOWAIT));
	obs("pwritev2 -1", pwritev2(fd, v, 2, -1, 0));
	both();
}

static void rw2_client(int fd)
{
	send_pat(fd, 100, 0);
	tell(0);
	recv_pat(fd, 100, 0);
	both();
}
CASE("options.preadv2", rw2_server, rw2_client, ANY);

/* FIONREAD and its relations tell of payload only. */
static void count(const char *what, int fd, unsigned long request)
{
	int n = -1;
	int r = ioctl(fd, request, &n);

	if (r < 0)
		obs(what, r);
	else
		obs_text("%s: %d", what, n);
}

static void fionread_server(int fd)
{
	char bytes[100];
	int before;

	count("empty", fd, FIONREAD);
	tell(0);
	await();
	ready(fd, POLLIN);
	count("pending", fd, FIONREAD);
	before = (int)recv(fd, bytes, 30, 0);
	obs_val("recv", before);
	count("rest", fd, FIONREAD);
	obs("peek", recv(fd, bytes, 100, MSG_PEEK));
	count("rest", fd, FIONREAD);
	recv_pat(fd, 70, 30);
	count("empty", fd, FIONREAD);
	tell(0);
	await();
	ready(fd, POLLRDHUP);
	count("at EOF", fd, FIONREAD);
	recv_to_eof(fd, 0);
	count("after EOF", fd, FIONREAD);
	tell(0);
}

static void fionread_client(int fd)
{
	await();
	send_pat(fd, 100, 0);
	tell(0);
	await();
	shutdown(fd, SHUT_WR);
	tell(0);
	await();
}
CASE("fionread.counts", fionread_server, fionread_client, ANY);

static void fionread_after_sleep_server(int fd)
{
	char byte;

	for (int i = 0; i < 20; i++) {
		obs("recv", recv(fd, &byte, 1, 0));
		count("after", fd, FIONREAD);
		send_exact(fd, "a", 1);
	}
}

static void fionread_after_sleep_client(int fd)
{
	char byte;

	for (int i = 0; i < 20; i++) {
		nap_ms(2);
		send_exact(fd, "q", 1);
		recv_exact(fd, &byte, 1);
		count("mine", fd, FIONREAD);
	}
}
CASE("fionread.after_sleep", fionread_after_sleep_server, fionread_after_sleep_client,
     ANY | CONF_MID);

static void outq_server(int fd)
{
	recv_pat(fd, 5000, 0);
	send_pat(fd, 10, 0);
	both();
}

static void outq_client(int fd)
{
	int left = 1;

	send_pat(fd, 5000, 0);
	recv_pat(fd, 10, 0);
	for (int i = 0; i < 200 && left; i++) {
		if (ioctl(fd, TIOCOUTQ, &left) < 0)
			break;
		nap_ms(1);
	}
	count("all taken", fd, TIOCOUTQ);
	both();
}
CASE("fionread.outq", outq_server, outq_client, ANY);

/* A value that the kernel refuses leaves the one before. */
static void refused_value_server(int fd)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	exchange(fd);
	set("SO_ZEROCOPY", fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	set("SO_ZEROCOPY", fd, SOL_SOCKET, SO_ZEROCOPY, 2);
	obs("get", getsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &value, &bytes));
	obs_val("value", value);
	exchange(fd);
	both();
}

static void refused_value_client(int fd)
{
	exchange(fd);
	exchange(fd);
	both();
}
CASE("options.refused_value", refused_value_server, refused_value_client, ANY | CONF_EITHER);
