/* SPDX-License-Identifier: Apache-2.0 */
/* epoll, level-triggered, and the life of a registration. */
#include "tests/conformance/lib/epoll_set.h"

#include <limits.h>
#include <sys/mman.h>

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = CONF_COLD | CONF_SWAP | CONF_MID };

static void send_when_told(int fd)
{
	await();
	send_pat(fd, 100, 0);
	tell(0);
	await();
}

static void late_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 100, 0);
	tell(0);
	await();
}

static void level_server(int fd)
{
	char bytes[100];
	int set = epoll_create1(EPOLL_CLOEXEC);

	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 0x1122334455667788));
	see("idle", set, 0);
	tell(0);
	await();
	see("pending", set, CONF_WAIT_MS);
	see("again", set, CONF_WAIT_MS);
	obs("recv 60", recv(fd, bytes, 60, 0));
	see("rest", set, CONF_WAIT_MS);
	obs("recv 40", recv(fd, bytes, 60, 0));
	see("empty", set, 0);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	close(set);
	tell(0);
}
CASE("epoll.level", level_server, send_when_told, EVERY);

static void wakes_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, 7);
	tell(0);
	see("woken", set, CONF_WAIT_MS);
	await();
	recv_pat(fd, 100, 0);
	see("empty", set, 0);
	close(set);
	tell(0);
}
CASE("epoll.wakes", wakes_server, late_client, EVERY);

static void forever_server(int fd)
{
	int set = epoll_create(1);
	struct epoll_event e = { 0 };
	struct timespec t = { 5, 0 };

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 8);
	tell(0);
	obs_epoll("forever", epoll_wait(set, &e, 1, -1), &e);
	await();
	obs_epoll("pwait", epoll_pwait(set, &e, 1, CONF_WAIT_MS, NULL), &e);
	obs_epoll("pwait2", epoll_pwait2(set, &e, 1, &t, NULL), &e);
	recv_pat(fd, 100, 0);
	t = (struct timespec){ 0, 1000000 };
	obs_epoll("pwait2 empty", epoll_pwait2(set, &e, 1, &t, NULL), &e);
	close(set);
	tell(0);
}
CASE("epoll.pwait", forever_server, late_client, EVERY);

static void timeout_server(int fd)
{
	int set = epoll_create1(0);
	long start;

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	start = now_ms();
	see("timed out", set, 40);
	obs_val("waited", now_ms() - start >= 40);
	close(set);
	tell(0);
	await();
	tell(0);
}
CASE("epoll.timeout", timeout_server, send_when_told, ANY);

static void out_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLOUT, 1);
	see("out", set, CONF_WAIT_MS);
	change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT, 2);
	see("in|out", set, CONF_WAIT_MS);
	tell(0);
	await();
	ready(fd, POLLIN);
	see("pending", set, CONF_WAIT_MS);
	change(set, EPOLL_CTL_MOD, fd, EPOLLOUT, 3);
	see("out alone", set, CONF_WAIT_MS);
	change(set, EPOLL_CTL_MOD, fd, 0, 4);
	see("none", set, 0);
	change(set, EPOLL_CTL_MOD, fd, EPOLLRDNORM, 5);
	see("rdnorm", set, CONF_WAIT_MS);
	recv_pat(fd, 100, 0);
	close(set);
	tell(0);
}
CASE("epoll.out", out_server, send_when_told, EVERY);

/* ADD with bytes already there. */
static void add_pending_server(int fd)
{
	int set = epoll_create1(0);

	tell(0);
	await();
	ready(fd, POLLIN);
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 9));
	see("pending", set, CONF_WAIT_MS);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	see("gone", set, 0);
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 10));
	see("pending", set, CONF_WAIT_MS);
	recv_pat(fd, 100, 0);
	close(set);
	tell(0);
}
CASE("epoll.add_pending", add_pending_server, send_when_told, EVERY);

static void errors_server(int fd)
{
	int set = epoll_create1(0);
	struct epoll_event e;

	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	obs("add twice", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("del twice", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("mod none", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
	obs("closed fd", change(set, EPOLL_CTL_ADD, 4242, EPOLLIN, 1));
	obs("not a set", change(fd, EPOLL_CTL_ADD, set, EPOLLIN, 1));
	obs("itself", change(set, EPOLL_CTL_ADD, set, EPOLLIN, 1));
	obs("bad op", change(set, 77, fd, EPOLLIN, 1));
	obs("max 0", epoll_wait(set, &e, opaque(0), 0));
	obs("wait on socket", epoll_wait(fd, &e, 1, 0));
	obs("null event", epoll_ctl(set, EPOLL_CTL_ADD, fd, NULL));
	obs("create1 bad", epoll_create1(0x5555));
	obs("create 0", epoll_create(opaque(0)));
	close(set);
	tell(0);
	await();
	tell(0);
}
CASE("epoll.errors", errors_server, send_when_told, ANY);

static void oneshot_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, 1);
	tell(0);
	await();
	see("once", set, CONF_WAIT_MS);
	see("disabled", set, 20);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 2));
	see("re-armed", set, CONF_WAIT_MS);
	see("disabled", set, 0);
	recv_pat(fd, 100, 0);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 3));
	see("empty", set, 0);
	close(set);
	tell(0);
}
CASE("epoll.oneshot", oneshot_server, send_when_told, EVERY);

static void oneshot_wakes_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT | EPOLLET, 1);
	tell(0);
	see("woken", set, CONF_WAIT_MS);
	see("disabled", set, 0);
	await();
	recv_pat(fd, 100, 0);
	change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT | EPOLLET, 2);
	see("empty", set, 0);
	close(set);
	tell(0);
}
CASE("epoll.oneshot_wakes", oneshot_wakes_server, late_client, EVERY);

static void exclusive_server(int fd)
{
	int set = epoll_create1(0);

	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE, 1));
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
	tell(0);
	see("woken", set, CONF_WAIT_MS);
	await();
	recv_pat(fd, 100, 0);
	see("empty", set, 0);
	close(set);
	tell(0);
}
CASE("epoll.exclusive", exclusive_server, late_client, EVERY);

static void nested_server(int fd)
{
	int inner = epoll_create1(0);
	int outer = epoll_create1(0);
	struct pollfd p = { .fd = outer, .events = POLLIN };

	change(inner, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	obs("nest", change(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2));
	see("idle", outer, 0);
	tell(0);
	see("outer", outer, CONF_WAIT_MS);
	see("inner", inner, CONF_WAIT_MS);
	obs_poll("poll outer", poll(&p, 1, CONF_WAIT_MS), p.revents);
	await();
	recv_pat(fd, 100, 0);
	see("inner empty", inner, 0);
	see("outer empty", outer, 0);
	obs_poll("poll outer", poll(&p, 1, 0), p.revents);
	close(inner);
	close(outer);
	tell(0);
}
CASE("epoll.nested", nested_server, late_client, EVERY);

static void poll_set_server(int fd)
{
	int set = epoll_create1(0);
	struct pollfd p = { .fd = set, .events = POLLIN };
	fd_set in;

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	obs_poll("idle", poll(&p, 1, 0), p.revents);
	tell(0);
	obs_poll("poll the set", poll(&p, 1, CONF_WAIT_MS), p.revents);
	await();
	FD_ZERO(&in);
	FD_SET(set, &in);
	obs("select the set", select(set + 1, &in, NULL, NULL, NULL));
	see("wait", set, 0);
	recv_pat(fd, 100, 0);
	obs_poll("empty", poll(&p, 1, 0), p.revents);
	close(set);
	tell(0);
}
CASE("epoll.poll_the_set", poll_set_server, late_client, EVERY);

static void two_sets_server(int fd)
{
	int a = epoll_create1(0);
	int b = epoll_create1(0);

	change(a, EPOLL_CTL_ADD, fd, EPOLLIN, 0xa);
	change(b, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 0xb);
	tell(0);
	see("a", a, CONF_WAIT_MS);
	see("b", b, CONF_WAIT_MS);
	see("b again", b, 0);
	see("a again", a, 0);
	await();
	recv_pat(fd, 100, 0);
	see("a empty", a, 0);
	close(a);
	close(b);
	tell(0);
}
CASE("epoll.two_sets", two_sets_server, late_client, EVERY);

/* A duplicate of the descriptor is its own registration; close() of one keeps the other's. */
static void dup_server(int fd)
{
	int set = epoll_create1(0);
	int copy = dup(fd);

	obs("add copy", change(set, EPOLL_CTL_ADD, copy, EPOLLIN, 0xc));
	obs("add fd", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 0xf));
	tell(0);
	await();
	ready(fd, POLLIN);
	struct epoll_event e[4];
	int r = epoll_wait(set, e, 4, CONF_WAIT_MS);
	obs("two", r); /* one arrival makes both ready: their order is nobody's promise */
	obs_val("sum of data", r == 2 ? (long)(e[0].data.u64 + e[1].data.u64) : r);
	obs("del copy", epoll_ctl(set, EPOLL_CTL_DEL, copy, NULL));
	see("one", set, CONF_WAIT_MS);
	obs("close copy", close(copy));
	see("one", set, CONF_WAIT_MS);
	recv_pat(fd, 100, 0);
	see("empty", set, 0);
	close(set);
	tell(0);
}
CASE("epoll.dup", dup_server, send_when_told, EVERY & ~(unsigned int)CONF_MID);

struct adder {
	int set;
	int fd;
};

static void *add_later(void *arg)
{
	struct adder *a = arg;

	nap_ms(CONF_NAP_MS);
	change(a->set, EPOLL_CTL_ADD, a->fd, EPOLLIN, 5);
	return NULL;
}

/* Another thread adds the socket, with bytes pending, while this one sleeps on the set. */
static void thread_adds_server(int fd)
{
	struct adder a = { epoll_create1(0), fd };
	pthread_t thread;

	tell(0);
	await();
	ready(fd, POLLIN);
	thread = spawn(add_later, &a);
	see("woken", a.set, CONF_WAIT_MS);
	pthread_join(thread, NULL);
	recv_pat(fd, 100, 0);
	close(a.set);
	tell(0);
}
CASE("epoll.thread_adds", thread_adds_server, send_when_told, ANY);

static void *add_then_tell(void *arg)
{
	add_later(arg);
	tell(0);
	return NULL;
}

/* The same, but the bytes come after. */
static void thread_adds_idle_server(int fd)
{
	struct adder a = { epoll_create1(0), fd };
	pthread_t thread = spawn(add_then_tell, &a);

	see("woken", a.set, CONF_WAIT_MS);
	pthread_join(thread, NULL);
	await();
	recv_pat(fd, 100, 0);
	close(a.set);
	tell(0);
}
CASE("epoll.thread_adds_idle", thread_adds_idle_server, late_client, ANY);

static void *mod_later(void *arg)
{
	struct adder *a = arg;

	nap_ms(CONF_NAP_MS);
	change(a->set, EPOLL_CTL_MOD, a->fd, EPOLLIN, 6);
	return NULL;
}

static void thread_mods_server(int fd)
{
	struct adder a = { epoll_create1(0), fd };
	pthread_t thread;

	change(a.set, EPOLL_CTL_ADD, fd, 0, 5);
	tell(0);
	await();
	ready(fd, POLLIN);
	thread = spawn(mod_later, &a);
	see("woken", a.set, CONF_WAIT_MS);
	pthread_join(thread, NULL);
	recv_pat(fd, 100, 0);
	close(a.set);
	tell(0);
}
CASE("epoll.thread_mods", thread_mods_server, send_when_told, ANY);

static void hangup_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, 1);
	tell(0);
	await();
	ready(fd, POLLRDHUP);
	see("half closed", set, CONF_WAIT_MS);
	change(set, EPOLL_CTL_MOD, fd, EPOLLRDHUP, 2);
	see("rdhup", set, CONF_WAIT_MS);
	change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 3);
	recv_to_eof(fd, 0);
	see("at EOF", set, CONF_WAIT_MS);
	shutdown(fd, SHUT_WR);
	ready(fd, POLLHUP);
	change(set, EPOLL_CTL_MOD, fd, 0, 4);
	see("hup unasked", set, CONF_WAIT_MS);
	close(set);
	tell(0);
}

CASE("epoll.hangup", hangup_server, half_closes_client, ANY);

static void rdhup_wakes_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLRDHUP | EPOLLET, 1);
	tell(0);
	see("rdhup alone", set, CONF_WAIT_MS);
	await();
	recv_to_eof(fd, 0);
	close(set);
	tell(0);
}

static void rdhup_wakes_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	shutdown(fd, SHUT_WR);
	tell(0);
	await();
}
CASE("epoll.rdhup_wakes", rdhup_wakes_server, rdhup_wakes_client, ANY);

/* close() takes the registration away when it was the last descriptor. */
static void close_removes_server(int fd)
{
	int set = epoll_create1(0);

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	tell(0);
	await();
	ready(fd, POLLIN);
	see("pending", set, CONF_WAIT_MS);
	recv_pat(fd, 100, 0);
	obs("close", close(fd));
	see("gone", set, 10);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
	close(set);
	tell(0);
}
CASE("epoll.close_removes", close_removes_server, send_when_told, ANY);

/* The array ends before the room that the call tells of does; so many events never come. */
static void short_array_server(int fd)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);
	struct epoll_event *e = (struct epoll_event *)(pages + page - 3 * sizeof(*e));
	int set = epoll_create1(0);

	if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) < 0)
		return;
	change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	for (uint64_t i = 0; i < 8; i++) {
		tell(0);
		obs_epoll("wait", epoll_wait(set, e, i < 4 ? 3 : 64, CONF_WAIT_MS), e);
		recv_pat(fd, 1, i);
		obs("nothing", epoll_wait(set, e, i < 4 ? 3 : 1 << 20, 10));
	}
	obs("too much", epoll_wait(set, e, INT_MAX, 0));
	munmap(pages, 2 * page);
	close(set);
}

static void short_array_client(int fd)
{
	for (uint64_t i = 0; i < 8; i++) {
		await();
		nap_ms(CONF_NAP_MS);
		send_pat(fd, 1, i);
	}
}
CASE("epoll.short_array", short_array_server, short_array_client, ANY);

static void with_pipe_server(int fd)
{
	int set = epoll_create1(0);
	int ends[2];
	struct epoll_event e[4];
	uint64_t seen = 0;
	int r;

	if (pipe(ends) < 0)
		return;
	change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
	change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, 2);
	obs("write", write(ends[1], "x", 1));
	see("pipe", set, CONF_WAIT_MS);
	tell(0);
	await();
	ready(fd, POLLIN);
	r = epoll_wait(set, e, 4, CONF_WAIT_MS);
	obs("both", r);
	for (int i = 0; i < r; i++)
		seen |= e[i].data.u64;
	obs_val("which", (long)seen);
	/* One at a time: neither may starve the other. */
	seen = 0;
	for (int i = 0; i < 10; i++) {
		if (epoll_wait(set, e, 1, CONF_WAIT_MS) == 1)
			seen |= e[0].data.u64;
	}
	obs_val("which of one", (long)seen);
	recv_pat(fd, 100, 0);
	see("pipe", set, CONF_WAIT_MS);
	close(ends[0]);
	close(ends[1]);
	close(set);
	tell(0);
}
CASE("epoll.with_pipe", with_pipe_server, send_when_told, EVERY);
