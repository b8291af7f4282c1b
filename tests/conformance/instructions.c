/* SPDX-License-Identifier: Apache-2.0 */
/* Waits by system call instructions of the program's own, after it has waited for long by libc's
 * calls.  The object that holds them is loaded by these cases only. */
#include "tests/conformance/lib/conf.h"

#include <dlfcn.h>
#include <sys/syscall.h>

enum { ROUNDS = 8, WARM_ROUNDS = 60 };

static const struct timespec limit = { CONF_WAIT_MS / 1000, 0 };
static int the_set;

/* Grows up, then sends a byte when told, after a while: the other end sleeps by then. */
static void late_client(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, WARM_ROUNDS);
	for (int i = 0; i < 2 * ROUNDS; i++) {
		await();
		nap_ms(10);
		send_exact(fd, "r", 1);
	}
	both();
	close(fd);
}

static long (*instruction)(long number, long a, long b, long c, long d, long e, long f);

static void load_instruction(void)
{
	union {
		void *object;
		long (*function)(long, long, long, long, long, long, long);
	} symbol = { NULL };
	char path[512];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);

	path[n < 0 ? 0 : n] = '\0';
	strcpy(strrchr(path, '/') + 1, "bare_instruction.so");
	symbol.object = dlsym(dlopen(path, RTLD_NOW), "bare_instruction");
	instruction = symbol.function;
}

#ifdef SYS_poll /* not on every machine */
static bool polled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return instruction(SYS_poll, (long)&p, 1, CONF_WAIT_MS, 0, 0, 0) == 1 &&
	       p.revents == POLLIN;
}
#endif

static bool ppolled(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec t = limit;

	return instruction(SYS_ppoll, (long)&p, 1, (long)&t, 0, 8, 0) == 1 && p.revents == POLLIN;
}

static bool selected(int fd)
{
	struct timespec t = limit;
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	return instruction(SYS_pselect6, fd + 1, (long)&in, 0, 0, (long)&t, 0) == 1;
}

/* What it would see is the library's; that something is there is true. */
static bool peeked(int fd)
{
	const struct timeval t = { .tv_sec = CONF_WAIT_MS / 1000 };
	char byte;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	return instruction(SYS_recvfrom, fd, (long)&byte, 1, MSG_PEEK, 0, 0) == 1;
}

static bool set_waited(int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 1 };

	/* a change that the kernel may not have heard of yet */
	epoll_ctl(the_set, EPOLL_CTL_MOD, fd, &e);
	return instruction(SYS_epoll_pwait, the_set, (long)&e, 1, CONF_WAIT_MS, 0, 8) == 1;
}

static void by_receives(int fd, int rounds)
{
	char byte;

	for (int i = 0; i < rounds; i++) {
		tell(0);
		obs("recv", recv(fd, &byte, 1, 0));
	}
}

static void by_instruction(int fd, bool (*wait_by)(int fd))
{
	char byte;

	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		obs_val("there", wait_by(fd));
		obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	}
	both();
	close(fd);
}

static void after_receives(int listener, bool (*wait_by)(int fd))
{
	int fd;

	load_instruction();
	fd = conf_accept(listener);
	warm_up(fd, WARM_ROUNDS);
	by_receives(fd, ROUNDS);
	by_instruction(fd, wait_by);
}

#ifdef SYS_poll
static void poll_server(int listener)
{
	after_receives(listener, polled);
}
CASE("instructions.poll", poll_server, late_client, CONF_RAW);
#endif

static void ppoll_server(int listener)
{
	after_receives(listener, ppolled);
}
CASE("instructions.ppoll", ppoll_server, late_client, CONF_RAW);

static void select_server(int listener)
{
	after_receives(listener, selected);
}
CASE("instructions.select", select_server, late_client, CONF_RAW);

static void peek_server(int listener)
{
	after_receives(listener, peeked);
}
CASE("instructions.peek", peek_server, late_client, CONF_RAW);

static void after_polls_server(int listener)
{
	char bytes[16];
	int fd;

	load_instruction();
	fd = conf_accept(listener);
	for (int i = 0; i < WARM_ROUNDS; i++) {
		ready(fd, POLLIN);
		obs("recv", recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT));
		obs("send", send(fd, bytes, sizeof(bytes), 0));
	}
	both(); /* of warm_up() */
	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		ready(fd, POLLIN);
		obs("recv", recv(fd, bytes, 1, MSG_DONTWAIT));
	}
	by_instruction(fd, ppolled);
}
CASE("instructions.after_polls", after_polls_server, late_client, CONF_RAW);

static void epoll_server(int listener)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 1 };
	char bytes[16];
	int fd;

	load_instruction();
	the_set = epoll_create1(0);
	fd = conf_accept(listener);
	obs("ctl", epoll_ctl(the_set, EPOLL_CTL_ADD, fd, &e));
	for (int i = 0; i < WARM_ROUNDS; i++) {
		obs("wait", epoll_wait(the_set, &e, 1, CONF_WAIT_MS));
		obs("recv", recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT));
		obs("send", send(fd, bytes, sizeof(bytes), 0));
	}
	both(); /* of warm_up() */
	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		obs("wait", epoll_wait(the_set, &e, 1, CONF_WAIT_MS));
		obs("recv", recv(fd, bytes, 1, MSG_DONTWAIT));
	}
	by_instruction(fd, set_waited);
	close(the_set);
}
CASE("instructions.epoll", epoll_server, late_client, CONF_RAW);

/* What is loaded when the end is relaxed already is seen by the next wait of ours. */
static void loaded_later_server(int listener)
{
	int fd = conf_accept(listener);

	warm_up(fd, WARM_ROUNDS);
	by_receives(fd, ROUNDS / 2);
	load_instruction();
	by_receives(fd, ROUNDS / 2);
	by_instruction(fd, ppolled);
}
CASE("instructions.loaded_later", loaded_later_server, late_client, CONF_RAW);
