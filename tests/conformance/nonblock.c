/* SPDX-License-Identifier: Apache-2.0 */
/* O_NONBLOCK by every route, full buffers, and writing everything before reading anything. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = CONF_COLD | CONF_SWAP | CONF_MID };

static void one_byte_when_told(int fd)
{
	await();
	send_exact(fd, "z", 1);
	tell(0);
	await();
}

static void empty_then_one(int fd)
{
	char byte;

	obs_val("flag", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	obs("recv", recv(fd, &byte, 1, 0));
	obs("read", read(fd, &byte, 1));
	obs("peek", recv(fd, &byte, 1, MSG_PEEK));
	obs("waitall", recv(fd, &byte, 1, MSG_WAITALL));
	tell(0);
	await();
	ready(fd, POLLIN);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
}

static void by_fcntl_server(int fd)
{
	obs("set", fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
	empty_then_one(fd);
	obs("clear", fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK));
	tell(0);
}
CASE("nonblock.fcntl", by_fcntl_server, one_byte_when_told, EVERY);

static void by_ioctl_server(int fd)
{
	int on = 1, off = 0;

	obs("set", ioctl(fd, FIONBIO, &on));
	empty_then_one(fd);
	obs("clear", ioctl(fd, FIONBIO, &off));
	obs_val("flag", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	tell(0);
}
CASE("nonblock.ioctl", by_ioctl_server, one_byte_when_told, EVERY);

/* Cleared again, the next recv() blocks. */
static void blocks_again_server(int fd)
{
	char byte;

	set_nonblock(fd, true);
	obs("recv", recv(fd, &byte, 1, 0));
	set_nonblock(fd, false);
	tell(0);
	obs("recv", recv(fd, &byte, 1, 0));
	await();
	tell(0);
}

static void late_byte_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_exact(fd, "z", 1);
	tell(0);
	await();
}
CASE("nonblock.blocks_again", blocks_again_server, late_byte_client, EVERY);

/* The flag belongs to the open file, so a duplicate has it too. */
static void shared_by_dup_server(int fd)
{
	int copy = dup(fd);
	char byte;

	set_nonblock(copy, true);
	obs("recv", recv(fd, &byte, 1, 0));
	empty_then_one(fd);
	set_nonblock(fd, false);
	obs_val("copy", !!(fcntl(copy, F_GETFL) & O_NONBLOCK));
	close(copy);
	tell(0);
}
CASE("nonblock.shared_by_dup", shared_by_dup_server, one_byte_when_told, ANY);

/* Sends until the kernel has said EAGAIN and means it; returns the bytes taken. */
static size_t fill_up(int fd, uint64_t position)
{
	char bytes[8192];
	size_t total = 0;
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	for (;;) {
		pat_fill(bytes, sizeof(bytes), position + total);
		ssize_t n = send(fd, bytes, sizeof(bytes), 0);

		if (n >= 0) {
			total += (size_t)n;
			continue;
		}
		if (errno != EAGAIN)
			obs("fill", -1);
		if (errno != EAGAIN || poll(&p, 1, 50) == 0)
			return total;
	}
}

static bool drain(int fd, size_t len, uint64_t position)
{
	char bytes[8192];
	size_t done = 0;

	while (done < len) {
		size_t want = len - done < sizeof(bytes) ? len - done : sizeof(bytes);
		long n = recv_exact(fd, bytes, want);

		if (n <= 0 || !pat_good(bytes, (size_t)n, position + done))
			return false;
		done += (size_t)n;
	}
	return true;
}

static void drain_server(int fd)
{
	uint64_t len = await();

	obs_val("right", drain(fd, len, 0));
	tell(0);
	recv_pat(fd, 1000, len);
	tell(0);
}

static void full_client(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	char bytes[1000];
	size_t len;

	set_nonblock(fd, true);
	len = fill_up(fd, 0);
	/* the kernel moves full queues on behind our back, TCP for the last time when it probes the
	 * closed window, some 200 ms later: full is when it is still full after that */
	for (size_t more = 1; more > 0; len += more) {
		usleep(CONF_PROBE_MS * 1000);
		more = fill_up(fd, len);
	}
	obs_val("some", len > 0);
	obs_poll("full", poll(&p, 1, 0), p.revents);
	obs("send", send(fd, bytes, 1000, 0));
	obs("write", write(fd, bytes, 1000));
	obs("dontwait", send(fd, bytes, 1000, MSG_DONTWAIT));
	tell(len);
	obs_poll("writable", poll(&p, 1, CONF_WAIT_MS), p.revents);
	await();
	pat_fill(bytes, sizeof(bytes), len);
	obs("send", send(fd, bytes, sizeof(bytes), 0));
	set_nonblock(fd, false);
	await();
}
CASE("nonblock.full", drain_server, full_client, ANY);

static void full_select_client(int fd)
{
	fd_set out;
	struct timeval t = { 0, 0 };
	char bytes[1000];
	size_t len;

	set_nonblock(fd, true);
	len = fill_up(fd, 0);
	FD_ZERO(&out);
	FD_SET(fd, &out);
	obs("full", select(fd + 1, NULL, &out, NULL, &t));
	tell(len);
	t.tv_sec = 5;
	FD_SET(fd, &out);
	obs("writable", select(fd + 1, NULL, &out, NULL, &t));
	await();
	set_nonblock(fd, false);
	pat_fill(bytes, sizeof(bytes), len);
	obs("send", send(fd, bytes, sizeof(bytes), 0));
	await();
}
CASE("nonblock.full_select", drain_server, full_select_client, ANY);

/* The edge of EPOLLOUT comes when there is room again, and only then. */
static void full_edge_client(int fd)
{
	int set = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLOUT | EPOLLET, .data.u64 = 3 };
	char bytes[1000];
	size_t len;

	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	obs_epoll("at first", epoll_wait(set, &e, 1, CONF_WAIT_MS), &e);
	set_nonblock(fd, true);
	len = fill_up(fd, 0);
	while (epoll_wait(set, &e, 1, 0) > 0)
		; /* room that came and went while filling */
	obs_epoll("full", epoll_wait(set, &e, 1, 0), &e);
	tell(len);
	obs_epoll("room", epoll_wait(set, &e, 1, CONF_WAIT_MS), &e);
	await();
	set_nonblock(fd, false);
	pat_fill(bytes, sizeof(bytes), len);
	obs("send", send(fd, bytes, sizeof(bytes), 0));
	close(set);
	await();
}
CASE("nonblock.full_edge", drain_server, full_edge_client, ANY);

/* A blocking send() of more than fits sleeps until the reader comes. */
static void late_reader_server(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	obs_val("right", drain(fd, CONF_BIG, 0));
}

static void blocking_client(int fd)
{
	char *bytes = big_buffer();

	pat_fill(bytes, CONF_BIG, 0);
	tell(0);
	obs("send", send(fd, bytes, CONF_BIG, 0));
}
CASE("nonblock.blocking_send", late_reader_server, blocking_client, ANY);

/* Both ends write one MiB, nonblocking, before either reads. */
static void write_first(int fd)
{
	enum { TOTAL = 1024 * 1024 };
	size_t sent = 0, got = 0;
	char *out = big_buffer(), *in = out + TOTAL;
	int set = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT };

	pat_fill(out, TOTAL, 0);
	set_nonblock(fd, true);
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	for (ssize_t n; sent < TOTAL && (n = send(fd, out + sent, TOTAL - sent, 0)) > 0;)
		sent += (size_t)n;
	obs_val("some", sent > 0);
	both();
	while (got < TOTAL || sent < TOTAL) {
		ssize_t n;

		if (epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1) {
			obs_text("stuck");
			break;
		}
		if (got < TOTAL && (n = recv(fd, in + got, TOTAL - got, 0)) > 0)
			got += (size_t)n;
		if (sent < TOTAL && (n = send(fd, out + sent, TOTAL - sent, 0)) > 0)
			sent += (size_t)n;
		if (sent == TOTAL && e.events & EPOLLOUT) {
			e.events = EPOLLIN;
			epoll_ctl(set, EPOLL_CTL_MOD, fd, &e);
		}
	}
	obs_text("sent %zu got %zu %s", sent, got, pat_good(in, TOTAL, 0) ? "right" : "WRONG");
	set_nonblock(fd, false);
	close(set);
}
CASE("nonblock.write_first", write_first, write_first, CONF_COLD | CONF_MID);

/* Both ends write what a Unix socket takes, blocking, before either reads. */
static void write_first_blocking(int fd)
{
	enum { TOTAL = 150000 };
	char *out = big_buffer(), *in = out + TOTAL;

	pat_fill(out, TOTAL, 0);
	obs("send", send(fd, out, TOTAL, 0));
	obs("recv", recv_exact(fd, in, TOTAL));
	obs_val("right", pat_good(in, TOTAL, 0));
}
CASE("nonblock.write_first_blocking", write_first_blocking, write_first_blocking,
     CONF_COLD | CONF_MID);

/* accept4() and socket() flags. */
static void flags_server(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	char byte;

	obs_text("flags %#x %#x", (unsigned int)fcntl(fd, F_GETFL),
		 (unsigned int)fcntl(fd, F_GETFD));
	obs("recv", recv(fd, &byte, 1, 0));
	both();
	set_nonblock(fd, false);
	warm_up(fd, CONF_WARM_ROUNDS);
	set_nonblock(fd, true);
	obs("recv", recv(fd, &byte, 1, 0));
	both();
	ready(fd, POLLIN);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
	both();
	close(fd);
	obs("bad flags", accept4(listener, NULL, NULL, 0x1234));
}

static void flags_client(int none)
{
	int fd = conf_connect();

	(void)none;
	both();
	warm_up(fd, CONF_WARM_ROUNDS);
	both();
	send_exact(fd, "f", 1);
	both();
	close(fd);
}
CASE("nonblock.accept4", flags_server, flags_client, CONF_RAW);

/* Who has just been told that nothing is there is told at once of what ends the stream. */
static void nothing_twice(int fd)
{
	struct pollfd entry = { .fd = fd, .events = POLLIN };
	char byte;

	set_nonblock(fd, true);
	for (int i = 0; i < 2; i++) {
		obs_poll("poll", poll(&entry, 1, 0), entry.revents);
		obs("recv", recv(fd, &byte, 1, 0));
	}
}

static void ends_here_server(int fd)
{
	char byte;

	nothing_twice(fd);
	obs("shutdown", shutdown(fd, SHUT_RD));
	obs("recv", recv(fd, &byte, 1, 0));
	both();
}

static void wait_for_both(int fd)
{
	(void)fd;
	both();
}
CASE("nonblock.ends_here", ends_here_server, wait_for_both, ANY);

static void ends_there_server(int fd)
{
	char byte;

	nothing_twice(fd);
	tell(1);
	await();
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
}

static void ends_there_client(int fd)
{
	await();
	send_exact(fd, "e", 1);
	close(fd);
	tell(1);
}
CASE("nonblock.ends_there", ends_there_server, ends_there_client, CONF_COLD | CONF_UNIX_ONLY);

static void dies_there_server(int fd)
{
	struct pollfd end = { .fd = fd };
	char byte;

	nothing_twice(fd);
	both();
	obs_poll("poll", poll(&end, 1, CONF_WAIT_MS), end.revents);
	obs("recv", recv(fd, &byte, 1, 0));
}

static void dies_there_client(int fd)
{
	(void)fd;
	both();
	kill(getpid(), SIGKILL);
}
CASE("nonblock.dies_there", dies_there_server, dies_there_client,
     CONF_COLD | CONF_KILLED | CONF_UNIX_ONLY);
