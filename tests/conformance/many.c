/* SPDX-License-Identifier: Apache-2.0 */
/* recvmmsg() and sendmmsg(): limits, time-outs, errors in the middle, the end of the stream. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = ANY | CONF_MID, PART = 10, MANY = 8 };

struct batch {
	char bytes[MANY][PART];
	struct iovec v[MANY];
	struct mmsghdr m[MANY];
};

static void prepare(struct batch *b)
{
	memset(b, 0, sizeof(*b));
	for (int i = 0; i < MANY; i++) {
		b->v[i] = (struct iovec){ b->bytes[i], PART };
		b->m[i].msg_hdr = (struct msghdr){ .msg_iov = &b->v[i], .msg_iovlen = 1 };
		b->m[i].msg_len = 999;
	}
}

static void show(const char *what, int n, const struct batch *b)
{
	obs(what, n);
	for (int i = 0; i < MANY; i++)
		obs_text("  %d: %u", i, b->m[i].msg_len);
}

static void sends_60(int fd)
{
	send_pat(fd, 6 * PART, 0);
	both();
	both();
}

static void wait_for_one_server(int fd)
{
	struct batch b;

	prepare(&b);
	both();
	ready(fd, POLLIN);
	show("recvmmsg", recvmmsg(fd, b.m, MANY, MSG_WAITFORONE, NULL), &b);
	obs_val("right", pat_good(b.bytes, 6 * PART, 0));
	show("empty", recvmmsg(fd, b.m, MANY, MSG_DONTWAIT, NULL), &b);
	show("none wanted", recvmmsg(fd, b.m, 0, 0, NULL), &b);
	both();
}
CASE("many.wait_for_one", wait_for_one_server, sends_60, EVERY);

/* The time is looked at only after a message. */
static void timeout_server(int fd)
{
	struct timespec t = { 0, 1 };
	struct batch b;

	prepare(&b);
	both();
	ready(fd, POLLIN);
	show("short", recvmmsg(fd, b.m, 4, 0, &t), &b);
	obs_text("left %ld.%09ld", (long)t.tv_sec, (long)t.tv_nsec);
	t.tv_sec = 100;
	show("long", recvmmsg(fd, b.m, 5, 0, &t), &b);
	obs_val("less", t.tv_sec == 99);
	t = (struct timespec){ -1, 0 };
	show("negative", recvmmsg(fd, b.m, 1, MSG_DONTWAIT, &t), &b);
	t = (struct timespec){ 0, 1000000000 };
	show("a second of ns", recvmmsg(fd, b.m, 1, MSG_DONTWAIT, &t), &b);
	t = (struct timespec){ 7, 0 };
	show("empty", recvmmsg(fd, b.m, 1, MSG_DONTWAIT, &t), &b);
	obs_text("kept %ld.%09ld", (long)t.tv_sec, (long)t.tv_nsec);
	both();
}
CASE("many.timeout", timeout_server, sends_60, EVERY);

/* At the end every message is one of nothing. */
static void end_server(int fd)
{
	struct batch b;

	prepare(&b);
	both();
	ready(fd, POLLRDHUP);
	show("recvmmsg", recvmmsg(fd, b.m, MANY, 0, NULL), &b);
	obs_val("right", pat_good(b.bytes, 25, 0));
	prepare(&b);
	show("at the end", recvmmsg(fd, b.m, 3, MSG_WAITFORONE, NULL), &b);
}

static void end_client(int fd)
{
	send_pat(fd, 25, 0);
	shutdown(fd, SHUT_WR);
	both();
}
CASE("many.end", end_server, end_client, ANY);

static void fault_server(int fd)
{
	struct batch b;

	prepare(&b);
	both();
	ready(fd, POLLIN);
	b.v[2].iov_base = bad_pointer();
	show("third is bad", recvmmsg(fd, b.m, 2, 0, NULL), &b);
	b.v[0].iov_base = bad_pointer();
	show("first is bad", recvmmsg(fd, b.m, 2, 0, NULL), &b);
	recv_pat(fd, 4 * PART, 2 * PART);
	both();
}
CASE("many.fault", fault_server, sends_60, EVERY);

static void waitall_server(int fd)
{
	struct batch b;

	prepare(&b);
	both();
	show("recvmmsg", recvmmsg(fd, b.m, 6, MSG_WAITALL, NULL), &b);
	obs_val("right", pat_good(b.bytes, 6 * PART, 0));
	both();
}

static void waitall_client(int fd)
{
	both();
	for (uint64_t i = 0; i < 4; i++) {
		send_pat(fd, 15, i * 15);
		nap_ms(3);
	}
	both();
}
CASE("many.waitall", waitall_server, waitall_client, EVERY);

/* What a peer left behind: the reset is told before the bytes, and only once. */
static void reset_server(int fd)
{
	struct batch b;

	prepare(&b);
	send_pat(fd, 100, 0);
	both();
	ready(fd, POLLERR | POLLHUP);
	show("recvmmsg", recvmmsg(fd, b.m, 2, 0, NULL), &b);
	show("again", recvmmsg(fd, b.m, 2, 0, NULL), &b);
	show("again", recvmmsg(fd, b.m, 2, 0, NULL), &b);
}

static void reset_client(int fd)
{
	ready(fd, POLLIN);
	send_pat(fd, 15, 0);
	both();
	close(fd);
}
CASE("many.reset", reset_server, reset_client, ANY);

static void send_server(int fd)
{
	recv_pat(fd, 6 * PART, 0);
	both();
}

static void send_client(int fd)
{
	struct batch b;

	prepare(&b);
	pat_fill(b.bytes, sizeof(b.bytes), 0);
	show("two", sendmmsg(fd, b.m, 2, 0), &b);
	show("none", sendmmsg(fd, b.m + 2, 0, 0), &b);
	b.v[4].iov_base = bad_pointer();
	show("third is bad", sendmmsg(fd, b.m + 2, 4, 0), &b);
	show("first is bad", sendmmsg(fd, b.m + 4, 1, 0), &b);
	b.v[4].iov_base = b.bytes[4];
	b.m[4].msg_hdr.msg_iovlen = 1025;
	show("too many parts", sendmmsg(fd, b.m + 4, 1, 0), &b);
	b.m[4].msg_hdr.msg_iovlen = 1;
	show("rest", sendmmsg(fd, b.m + 4, 2, MSG_DONTWAIT), &b);
	both();
}
CASE("many.send", send_server, send_client, EVERY);

/* More than 1024 at once are 1024. */
static void limit_server(int fd)
{
	recv_pat(fd, 1024, 0);
	both();
	send_pat(fd, 1500, 0);
	both();
}

static void limit_client(int fd)
{
	enum { COUNT = 1200 };
	static struct mmsghdr m[COUNT];
	static struct iovec v[COUNT];
	static char bytes[COUNT];
	int n;

	pat_fill(bytes, sizeof(bytes), 0);
	for (int i = 0; i < COUNT; i++) {
		v[i] = (struct iovec){ &bytes[i], 1 };
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &v[i], .msg_iovlen = 1 };
	}
	obs("sendmmsg", sendmmsg(fd, m, COUNT, 0));
	both();
	n = recvmmsg(fd, m, COUNT, MSG_WAITALL, NULL);
	obs("recvmmsg", n);
	obs_val("right", pat_good(bytes, (size_t)n, 0));
	recv_pat(fd, 1500 - (size_t)n, (size_t)n);
	both();
}
CASE("many.limit", limit_server, limit_client, ANY);

static void epipe_client(int fd)
{
	struct batch b;

	on_signal(SIGPIPE, 0);
	prepare(&b);
	shutdown(fd, SHUT_WR);
	show("after shutdown", sendmmsg(fd, b.m, 2, 0), &b);
	obs_val("SIGPIPE", signal_count(SIGPIPE));
	show("without signal", sendmmsg(fd, b.m, 2, MSG_NOSIGNAL), &b);
	obs_val("SIGPIPE", signal_count(SIGPIPE));
	both();
}

static void epipe_server(int fd)
{
	recv_to_eof(fd, 0);
	both();
}
CASE("many.epipe", epipe_server, epipe_client, ANY);
