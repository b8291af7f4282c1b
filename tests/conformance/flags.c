/* SPDX-License-Identifier: Apache-2.0 */
/* The MSG_ flags, zero lengths and bad addresses. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = CONF_COLD | CONF_SWAP | CONF_MID };

static void send_100(int fd)
{
	send_pat(fd, 100, 0);
	tell(0);
	await();
}

static void peek_server(int fd)
{
	char bytes[100];

	await();
	ready(fd, POLLIN);
	obs("peek 10", recv(fd, bytes, 10, MSG_PEEK));
	obs_sum("10", bytes, 10);
	obs("peek 60", recv(fd, bytes, 60, MSG_PEEK));
	obs_sum("60", bytes, 60);
	obs("peek all", recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT));
	obs("recv 30", recv(fd, bytes, 30, 0));
	obs("peek rest", recv(fd, bytes, sizeof(bytes), MSG_PEEK));
	obs_sum("rest", bytes, 70);
	obs("recv rest", recv(fd, bytes, sizeof(bytes), 0));
	obs("peek empty", recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT));
	tell(0);
}
CASE("flags.peek", peek_server, send_100, EVERY);

static void peek_msg_server(int fd)
{
	char bytes[100];
	struct iovec v[2] = { { bytes, 7 }, { bytes + 7, 33 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	await();
	ready(fd, POLLIN);
	obs("recvmsg peek", recvmsg(fd, &m, MSG_PEEK));
	obs_sum("40", bytes, 40);
	obs("recvfrom peek", recvfrom(fd, bytes, 50, MSG_PEEK, NULL, NULL));
	recv_pat(fd, 100, 0);
	tell(0);
}
CASE("flags.peek_recvmsg", peek_msg_server, send_100, EVERY);

/* A blocked MSG_PEEK wakes and leaves the bytes. */
static void peek_blocks_server(int fd)
{
	char bytes[16];

	tell(0);
	obs("peek", recv(fd, bytes, 4, MSG_PEEK));
	obs_sum("bytes", bytes, 4);
	recv_pat(fd, 4, 9);
	tell(0);
}

static void peek_blocks_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 4, 9);
	await();
}
CASE("flags.peek_blocks", peek_blocks_server, peek_blocks_client, ANY);

static void peek_eof_server(int fd)
{
	char bytes[16];

	await();
	ready(fd, POLLRDHUP);
	obs("peek", recv(fd, bytes, sizeof(bytes), MSG_PEEK));
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs("peek at EOF", recv(fd, bytes, sizeof(bytes), MSG_PEEK));
	obs("recv at EOF", recv(fd, bytes, sizeof(bytes), 0));
}

static void peek_eof_client(int fd)
{
	send_pat(fd, 5, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	tell(0);
}
CASE("flags.peek_eof", peek_eof_server, peek_eof_client, ANY);

static void waitall_server(int fd)
{
	char bytes[1000];

	tell(0);
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_WAITALL));
	obs_val("right", pat_good(bytes, sizeof(bytes), 0));
	tell(0);
}

static void waitall_client(int fd)
{
	await();
	for (int i = 0; i < 10; i++) {
		send_pat(fd, 100, (uint64_t)i * 100);
		nap_ms(2);
	}
	await();
}
CASE("flags.waitall", waitall_server, waitall_client, EVERY);

static void waitall_eof_server(int fd)
{
	char bytes[1000];

	tell(0);
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_WAITALL));
	obs_val("right", pat_good(bytes, 300, 0));
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_WAITALL));
}

static void waitall_eof_client(int fd)
{
	await();
	send_pat(fd, 300, 0);
	nap_ms(10);
	obs("shutdown", shutdown(fd, SHUT_WR));
}
CASE("flags.waitall_eof", waitall_eof_server, waitall_eof_client, ANY);

static void waitall_signal_server(int fd)
{
	char bytes[1000];
	struct itimerval timer = { .it_value = { .tv_usec = 40000 } };

	on_signal(SIGALRM, 0);
	await();
	ready(fd, POLLIN);
	setitimer(ITIMER_REAL, &timer, NULL);
	obs("recv with bytes", recv(fd, bytes, sizeof(bytes), MSG_WAITALL));
	setitimer(ITIMER_REAL, &timer, NULL);
	obs("recv without", recv(fd, bytes, sizeof(bytes), MSG_WAITALL));
	obs_val("alarms", signal_count(SIGALRM));
	tell(0);
}
CASE("flags.waitall_signal", waitall_signal_server, send_100, ANY);

static void waitall_dontwait_server(int fd)
{
	char bytes[200];

	await();
	ready(fd, POLLIN);
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_WAITALL | MSG_DONTWAIT));
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_WAITALL | MSG_DONTWAIT));
	tell(0);
}
CASE("flags.waitall_dontwait", waitall_dontwait_server, send_100, EVERY);

static void waitall_peek_server(int fd)
{
	char bytes[100];

	await();
	ready(fd, POLLIN);
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_WAITALL | MSG_PEEK));
	recv_pat(fd, 100, 0);
	tell(0);
}
CASE("flags.waitall_peek", waitall_peek_server, send_100, EVERY);

static void dontwait_server(int fd)
{
	char bytes[100];

	errno = 0;
	obs("recv empty", recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT));
	obs("recvfrom empty", recvfrom(fd, bytes, 10, MSG_DONTWAIT, NULL, NULL));
	both();
	await();
	ready(fd, POLLIN);
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT));
	obs("recv empty", recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT));
	obs("send", send(fd, bytes, 10, MSG_DONTWAIT));
	tell(0);
}

static void dontwait_client(int fd)
{
	char bytes[100];

	both();
	send_100(fd);
	ready(fd, POLLIN);
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT));
}
CASE("flags.dontwait", dontwait_server, dontwait_client, EVERY);

/* MSG_TRUNC discards on TCP; on a Unix stream it is the same as a plain recv. */
static void trunc_server(int fd)
{
	char bytes[100];

	memset(bytes, 'x', sizeof(bytes));
	await();
	ready(fd, POLLIN);
	obs("recv trunc 40", recv(fd, bytes, 40, MSG_TRUNC));
	obs_sum("bytes", bytes, 40);
	recv_pat(fd, 60, 40);
	tell(0);
}
CASE("flags.trunc", trunc_server, send_100, ANY);

static void nosignal_server(int fd)
{
	(void)fd;
	await();
}

static void nosignal_client(int fd)
{
	on_signal(SIGPIPE, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	obs("send nosignal", send(fd, "x", 1, MSG_NOSIGNAL));
	obs_val("signals", signal_count(SIGPIPE));
	obs("send", send(fd, "x", 1, 0));
	obs_val("signals", signal_count(SIGPIPE));
	obs("write", write(fd, "x", 1));
	obs_val("signals", signal_count(SIGPIPE));
	struct iovec v = { (void *)(uintptr_t) "x", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	obs("sendmsg nosignal", sendmsg(fd, &m, MSG_NOSIGNAL));
	obs("writev", writev(fd, &v, 1));
	obs_val("signals", signal_count(SIGPIPE));
	tell(0);
}
CASE("flags.nosignal", nosignal_server, nosignal_client, ANY);

static void more_server(int fd)
{
	recv_pat(fd, 300, 0);
	tell(0);
}

static void more_client(int fd)
{
	char bytes[300];

	pat_fill(bytes, sizeof(bytes), 0);
	obs("send more", send(fd, bytes, 100, MSG_MORE));
	obs("send more", send(fd, bytes + 100, 100, MSG_MORE));
	obs("send", send(fd, bytes + 200, 100, 0));
	await();
}
CASE("flags.more", more_server, more_client, EVERY);

/* One byte of urgent data beside the stream: TCP only takes it out of the line. */
static void oob_server(int fd)
{
	char byte = 0;
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLPRI };

	await();
	ready(fd, POLLPRI);
	obs_poll("poll", poll(&p, 1, 0), p.revents);
	obs("recv oob", recv(fd, &byte, 1, MSG_OOB));
	obs_val("byte", byte);
	recv_pat(fd, 20, 0);
	obs("at mark", sockatmark(fd));
	recv_pat(fd, 20, 20);
	tell(0);
}

static void oob_client(int fd)
{
	send_pat(fd, 20, 0);
	obs("send oob", send(fd, "!", 1, MSG_OOB));
	send_pat(fd, 20, 20);
	tell(0);
	await();
}
CASE("flags.oob", oob_server, oob_client, ANY | CONF_TCP_ONLY | CONF_EITHER);

static void oob_none_server(int fd)
{
	char byte;

	obs("recv oob", recv(fd, &byte, 1, MSG_OOB | MSG_DONTWAIT));
	await();
	recv_pat(fd, 10, 0);
}

static void oob_none_client(int fd)
{
	send_pat(fd, 10, 0);
	tell(0);
}
CASE("flags.oob_none", oob_none_server, oob_none_client, ANY | CONF_TCP_ONLY);

static void zero_length_server(int fd)
{
	char byte;

	await();
	ready(fd, POLLIN);
	obs("read 0", read(fd, &byte, 0));
	obs("recv 0", recv(fd, &byte, 0, 0));
	obs("recv 0 dontwait", recv(fd, &byte, 0, MSG_DONTWAIT));
	struct iovec v = { &byte, 0 };
	obs("readv 0", readv(fd, &v, 1));
	recv_pat(fd, 3, 0);
	obs("read 0", read(fd, &byte, 0));
	obs("recv empty", recv(fd, &byte, 1, MSG_DONTWAIT));
	obs("recv 0 empty dontwait", recv(fd, &byte, 0, MSG_DONTWAIT));
	tell(0);
}

static void zero_length_client(int fd)
{
	struct iovec v = { NULL, 0 };
	struct msghdr m = { .msg_iov = NULL };

	obs("send 0", send(fd, "", 0, 0));
	obs("write 0", write(fd, "", 0));
	obs("writev 0", writev(fd, &v, 1));
	obs("writev none", writev(fd, &v, 0));
	obs("sendmsg none", sendmsg(fd, &m, 0));
	send_pat(fd, 3, 0);
	tell(0);
	await();
}
CASE("flags.zero_length", zero_length_server, zero_length_client, EVERY);

/* A bad pointer is EFAULT and neither eats nor sends anything. */
static void efault_server(int fd)
{
	void *bad = bad_pointer();

	await();
	ready(fd, POLLIN);
	obs("recv", recv(fd, bad, 10, 0));
	obs("read", read(fd, bad, 10));
	struct iovec v = { bad, 10 };
	obs("readv", readv(fd, &v, 1));
	obs("recvmsg", recvmsg(fd, bad, 0));
	obs("readv vector", readv(fd, bad, 1));
	recv_pat(fd, 100, 0);
	tell(0);
}

static void efault_client(int fd)
{
	void *bad = bad_pointer();
	struct iovec v = { bad, 10 };

	obs("send", send(fd, bad, 10, 0));
	obs("write", write(fd, bad, 10));
	obs("writev", writev(fd, &v, 1));
	obs("sendmsg", sendmsg(fd, bad, 0));
	send_100(fd);
}
CASE("flags.efault", efault_server, efault_client, CONF_SWAP | CONF_EITHER);

static void invalid_server(int fd)
{
	char bytes[8];
	struct iovec v[1] = { { bytes, 8 } };

	obs("readv -1", readv(fd, v, opaque(-1)));
	obs("readv 1025", readv(fd, v, opaque(1025)));
	obs("writev -1", writev(fd, v, opaque(-1)));
	obs("writev 1025", writev(fd, v, opaque(1025)));
	obs("recv bad fd", recv(4242, bytes, 8, 0));
	obs("send bad fd", send(-1, bytes, 8, 0));
	struct iovec huge = { bytes, (size_t)-1 };
	obs("readv huge", readv(fd, &huge, 1));
	await();
	recv_pat(fd, 10, 0);
}
CASE("flags.invalid", invalid_server, oob_none_client, ANY);

static void errqueue_server(int fd)
{
	char bytes[8];

	obs("recv errqueue", recv(fd, bytes, 8, MSG_ERRQUEUE | MSG_DONTWAIT));
	await();
	recv_pat(fd, 10, 0);
}
CASE("flags.errqueue", errqueue_server, oob_none_client, ANY | CONF_TCP_ONLY);

/* errno is not touched by calls that succeed. */
static void errno_server(int fd)
{
	char bytes[100];
	struct pollfd p = { .fd = fd, .events = POLLIN };

	await();
	errno = ENOTTY;
	obs("poll", poll(&p, 1, CONF_WAIT_MS));
	obs("recv", recv(fd, bytes, 50, 0));
	obs("read", read(fd, bytes, 50));
	obs("send", send(fd, bytes, 10, 0));
	obs("write", write(fd, bytes, 10));
	obs_text("errno %s", strerrorname_np(errno));
	tell(0);
}
CASE("flags.errno_kept", errno_server, send_100, EVERY);
