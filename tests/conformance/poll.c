/* SPDX-License-Identifier: Apache-2.0 */
/* poll() and ppoll(). */
#include "tests/conformance/lib/conf.h"

#include <sys/resource.h>

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = CONF_COLD | CONF_SWAP | CONF_MID };

static void see(const char *what, int fd, short events, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	int r = poll(&p, 1, timeout_ms);

	obs_poll(what, r, p.revents);
}

static void send_when_told(int fd)
{
	await();
	send_pat(fd, 100, 0);
	tell(0);
	await();
}

static void levels_server(int fd)
{
	char bytes[100];

	see("idle in", fd, POLLIN, 0);
	see("idle out", fd, POLLOUT, 0);
	see("idle both", fd, POLLIN | POLLOUT, 0);
	see("idle none", fd, 0, 0);
	see("idle all", fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLWRNORM, 0);
	tell(0);
	await();
	see("pending in", fd, POLLIN, CONF_WAIT_MS);
	see("pending both", fd, POLLIN | POLLOUT, CONF_WAIT_MS);
	see("pending norm", fd, POLLRDNORM | POLLWRNORM, CONF_WAIT_MS);
	obs("recv 60", recv(fd, bytes, 60, 0));
	see("rest in", fd, POLLIN, 0);
	obs("recv 40", recv(fd, bytes, 60, 0));
	see("empty in", fd, POLLIN, 0);
	see("empty both", fd, POLLIN | POLLOUT, 0);
	tell(0);
}
CASE("poll.levels", levels_server, send_when_told, EVERY);

static void timeout_server(int fd)
{
	long start = now_ms();

	see("timed out", fd, POLLIN, 40);
	obs_val("waited", now_ms() - start >= 40);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec t = { 0, 40000000 };
	start = now_ms();
	obs_poll("ppoll", ppoll(&p, 1, &t, NULL), p.revents);
	obs_val("waited", now_ms() - start >= 39);
	obs_val("timespec kept", t.tv_nsec);
	tell(0);
	await();
	tell(0);
}
CASE("poll.timeout", timeout_server, send_when_told, EVERY & ~(unsigned int)CONF_MID);

static void wakes_server(int fd)
{
	tell(0);
	see("woken", fd, POLLIN, CONF_WAIT_MS);
	await();
	recv_pat(fd, 100, 0);
	see("empty", fd, POLLIN, 0);
	tell(0);
}

static void wakes_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 100, 0);
	tell(0);
	await();
}
CASE("poll.wakes", wakes_server, wakes_client, EVERY);

static void ppoll_wakes_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	sigset_t all;

	sigfillset(&all);
	tell(0);
	obs_poll("woken", ppoll(&p, 1, NULL, &all), p.revents);
	await();
	recv_pat(fd, 100, 0);
	tell(0);
}
CASE("poll.ppoll_wakes", ppoll_wakes_server, wakes_client, EVERY);

/* After a reader slept in recv() nothing may look readable that is not. */
static void quiet_server(int fd)
{
	char byte;

	for (int i = 0; i < 50; i++) {
		obs("recv", recv(fd, &byte, 1, 0));
		see("after", fd, POLLIN, 0);
		obs("dontwait", recv(fd, &byte, 1, MSG_DONTWAIT));
		send_exact(fd, "a", 1);
	}
}

static void quiet_client(int fd)
{
	char byte;

	for (int i = 0; i < 50; i++) {
		if (i % 10 == 0)
			nap_ms(5);
		send_exact(fd, "q", 1);
		recv_exact(fd, &byte, 1);
	}
}
CASE("poll.quiet_after_recv", quiet_server, quiet_client, EVERY);

static void several_server(int fd)
{
	int ends[2];
	struct pollfd p[4];

	if (pipe(ends) < 0)
		return;
	p[0] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = fd, .events = POLLIN };
	p[2] = (struct pollfd){ .fd = -1, .events = POLLIN, .revents = 99 };
	p[3] = (struct pollfd){ .fd = ends[1], .events = POLLOUT };
	obs("idle", poll(p, 3, 0));
	obs_val("-1 revents", p[2].revents);
	obs("with pipe out", poll(p, 4, CONF_WAIT_MS));
	tell(0);
	await();
	ready(fd, POLLIN);
	obs("pending", poll(p, 3, CONF_WAIT_MS));
	obs_poll("socket", 1, p[1].revents);
	obs_poll("pipe", 1, p[0].revents);
	obs("write", write(ends[1], "x", 1));
	obs("both", poll(p, 3, CONF_WAIT_MS));
	obs_poll("socket", 1, p[1].revents);
	obs_poll("pipe", 1, p[0].revents);
	recv_pat(fd, 100, 0);
	obs("pipe only", poll(p, 3, CONF_WAIT_MS));
	obs_poll("socket", 1, p[1].revents);
	close(ends[0]);
	close(ends[1]);
	obs("closed", poll(p, 2, 0));
	obs_poll("pipe", 1, p[0].revents);
	tell(0);
}
CASE("poll.several", several_server, send_when_told, EVERY);

/* The same descriptor twice, with different interests. */
static void twice_server(int fd)
{
	struct pollfd p[3] = { { .fd = fd, .events = POLLIN },
			       { .fd = fd, .events = POLLOUT },
			       { .fd = fd, .events = POLLIN | POLLOUT } };

	obs("idle", poll(p, 3, 0));
	for (int i = 0; i < 3; i++)
		obs_poll("entry", i, p[i].revents);
	tell(0);
	await();
	ready(fd, POLLIN);
	obs("pending", poll(p, 3, CONF_WAIT_MS));
	for (int i = 0; i < 3; i++)
		obs_poll("entry", i, p[i].revents);
	recv_pat(fd, 100, 0);
	tell(0);
}
CASE("poll.twice_the_same", twice_server, send_when_told, EVERY);

/* A socket that stays silent must not keep another descriptor from waking us. */
static void pipe_wakes_server(int fd)
{
	int ends[2];
	struct pollfd p[2];
	char byte;

	if (pipe(ends) < 0)
		return;
	p[0] = (struct pollfd){ .fd = fd, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	pid_t child = fork();
	if (child == 0) {
		nap_ms(CONF_NAP_MS);
		_exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
	}
	obs("poll", poll(p, 2, CONF_WAIT_MS));
	obs_poll("socket", 1, p[0].revents);
	obs_poll("pipe", 1, p[1].revents);
	obs("read", read(ends[0], &byte, 1));
	waitpid(child, NULL, 0);
	close(ends[0]);
	close(ends[1]);
	tell(0);
	await();
	recv_pat(fd, 100, 0);
	tell(0);
}
CASE("poll.pipe_wakes", pipe_wakes_server, send_when_told, ANY);

static void bad_server(int fd)
{
	see("closed fd", 4242, POLLIN, 0);
	struct pollfd p[2] = { { .fd = 4242, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	obs("with socket", poll(p, 2, CONF_WAIT_MS));
	obs_poll("socket", 1, p[1].revents);
	obs("efault", poll(bad_pointer(), 1, 0));
	obs("none", poll(NULL, 0, 1));
	struct timespec t = { 0, 2000000000 };
	obs("ppoll bad time", ppoll(p, 2, &t, NULL));
	tell(0);
	await();
	tell(0);
}
CASE("poll.bad", bad_server, send_when_told, ANY);

static void hangup_server(int fd)
{
	tell(0);
	await();
	ready(fd, POLLRDHUP);
	see("in", fd, POLLIN, 0);
	see("rdhup", fd, POLLRDHUP, 0);
	see("none", fd, 0, 0);
	see("out", fd, POLLOUT, 0);
	recv_to_eof(fd, 0);
	see("all", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	ready(fd, POLLHUP);
	see("both gone", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	see("none", fd, 0, 0);
	tell(0);
}

CASE("poll.hangup", hangup_server, half_closes_client, ANY);

static void rdhup_wakes_server(int fd)
{
	tell(0);
	see("rdhup alone", fd, POLLRDHUP, CONF_WAIT_MS);
	await();
	recv_to_eof(fd, 0);
	tell(0);
}

static void rdhup_wakes_client(int fd)
{
	await();
	send_pat(fd, 100, 0);
	nap_ms(CONF_NAP_MS);
	shutdown(fd, SHUT_WR);
	tell(0);
	await();
}
CASE("poll.rdhup_wakes", rdhup_wakes_server, rdhup_wakes_client, ANY);

/* Waiting for POLLIN with bytes that came while another call was running. */
static void between_server(int fd)
{
	tell(0);
	await();
	nap_ms(5);
	see("in", fd, POLLIN, CONF_WAIT_MS);
	see("in again", fd, POLLIN, CONF_WAIT_MS);
	see("forever", fd, POLLIN, -1);
	recv_pat(fd, 100, 0);
	tell(0);
}
CASE("poll.repeats", between_server, send_when_told, EVERY);

/* Of more than fit on a stack, where no more memory is to be had. */
static void no_memory_server(int fd)
{
	struct pollfd many[70];
	struct rlimit before, none;

	for (int i = 0; i < 70; i++)
		many[i] = (struct pollfd){ .fd = i == 50 ? fd : -1, .events = POLLIN };
	getrlimit(RLIMIT_AS, &before);
	none = (struct rlimit){ 4096, before.rlim_max };
	obs("setrlimit", setrlimit(RLIMIT_AS, &none));
	obs("nothing", poll(many, 70, 10));
	tell(0);
	await();
	obs_poll("bytes", poll(many, 70, CONF_WAIT_MS), many[50].revents);
	setrlimit(RLIMIT_AS, &before);
	recv_pat(fd, 100, 0);
	tell(0);
}
CASE("poll.no_memory", no_memory_server, send_when_told, ANY);

/* Round trips where every receive is announced by poll(). */
static void rounds_server(int fd)
{
	char bytes[64];

	for (int i = 0; i < 200; i++) {
		see("in", fd, POLLIN, CONF_WAIT_MS);
		if (recv_exact(fd, bytes, sizeof(bytes)) != (long)sizeof(bytes))
			obs_text("short at %d", i);
		send_exact(fd, bytes, sizeof(bytes));
	}
}

static void rounds_client(int fd)
{
	char bytes[64];

	for (int i = 0; i < 200; i++) {
		pat_fill(bytes, sizeof(bytes), (uint64_t)i);
		send_exact(fd, bytes, sizeof(bytes));
		see("in", fd, POLLIN, CONF_WAIT_MS);
		recv_exact(fd, bytes, sizeof(bytes));
		if (!pat_good(bytes, sizeof(bytes), (uint64_t)i))
			obs_text("wrong at %d", i);
	}
}
CASE("poll.rounds", rounds_server, rounds_client, EVERY);
