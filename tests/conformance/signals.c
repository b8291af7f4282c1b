/* SPDX-License-Identifier: Apache-2.0 */
/* Signals that arrive while a call sleeps. */
#include "tests/conformance/lib/conf.h"

#include <setjmp.h>
#include <sys/eventfd.h>

enum { ANY = CONF_COLD | CONF_SWAP };

static void alarm_in(int ms)
{
	struct itimerval t = { .it_value = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 } };

	setitimer(ITIMER_REAL, &t, NULL);
}

static void report(const char *what, long r)
{
	obs(what, r);
	obs_val("alarms", signal_count(SIGALRM));
}

static void quiet_peer(int fd)
{
	await();
	send_pat(fd, 10, 0);
	both();
}

static void finish(int fd)
{
	tell(0);
	recv_pat(fd, 10, 0);
	both();
}

static void recv_server(int fd)
{
	char byte;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	on_signal(SIGALRM, 0);
	alarm_in(30);
	report("recv", recv(fd, &byte, 1, 0));
	alarm_in(30);
	report("read", read(fd, &byte, 1));
	alarm_in(30);
	report("readv", readv(fd, &v, 1));
	alarm_in(30);
	report("recvmsg", recvmsg(fd, &m, 0));
	alarm_in(30);
	report("peek", recv(fd, &byte, 1, MSG_PEEK));
	finish(fd);
}
CASE("signals.recv_eintr", recv_server, quiet_peer, ANY);

static void restart_server(int fd)
{
	char byte;

	on_signal(SIGALRM, SA_RESTART);
	alarm_in(20);
	tell(0);
	report("recv", recv(fd, &byte, 1, 0));
	alarm_in(20);
	tell(0);
	report("read", read(fd, &byte, 1));
	both();
}

static void restart_client(int fd)
{
	for (int i = 0; i < 2; i++) {
		await();
		nap_ms(50);
		send_exact(fd, "r", 1);
	}
	both();
}
CASE("signals.recv_restart", restart_server, restart_client, ANY);

/* With a receive time-out SA_RESTART does not restart. */
static void restart_timeout_server(int fd)
{
	struct timeval t = { 3, 0 };
	char byte;

	on_signal(SIGALRM, SA_RESTART);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	alarm_in(30);
	report("recv", recv(fd, &byte, 1, 0));
	finish(fd);
}
CASE("signals.restart_with_timeout", restart_timeout_server, quiet_peer, ANY);

static void poll_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event e = { .events = EPOLLIN };
	int set = epoll_create1(0);
	fd_set in;

	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	for (int i = 0; i < 2; i++) {
		on_signal(SIGALRM, i ? SA_RESTART : 0);
		alarm_in(20);
		report("poll", poll(&p, 1, CONF_WAIT_MS));
		alarm_in(20);
		report("ppoll", ppoll(&p, 1, NULL, NULL));
		FD_ZERO(&in);
		FD_SET(fd, &in);
		alarm_in(20);
		report("select", select(fd + 1, &in, NULL, NULL, NULL));
		FD_SET(fd, &in);
		alarm_in(20);
		report("pselect", pselect(fd + 1, &in, NULL, NULL, NULL, NULL));
		alarm_in(20);
		report("epoll_wait", epoll_wait(set, &e, 1, CONF_WAIT_MS));
	}
	close(set);
	finish(fd);
}
CASE("signals.waits_eintr", poll_server, quiet_peer, ANY);

/* A blocked signal gets through only while ppoll() and its like sleep. */
static void mask_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event e = { .events = EPOLLIN };
	int set = epoll_create1(0);
	sigset_t alarm_only, none;
	fd_set in;

	on_signal(SIGALRM, 0);
	sigemptyset(&none);
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm_only, NULL);
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	alarm_in(10);
	report("poll", poll(&p, 1, 30));
	report("ppoll", ppoll(&p, 1, NULL, &none));
	alarm_in(10);
	nap_ms(20);
	FD_ZERO(&in);
	FD_SET(fd, &in);
	report("pselect", pselect(fd + 1, &in, NULL, NULL, NULL, &none));
	alarm_in(10);
	nap_ms(20);
	report("epoll_pwait", epoll_pwait(set, &e, 1, CONF_WAIT_MS, &none));
	close(set);
	finish(fd);
}
CASE("signals.masks", mask_server, quiet_peer, ANY);

/* Not even a wait of no time lets a signal stand that its mask lets through. */
static void short_mask_server(int fd)
{
	struct epoll_event e = { .events = EPOLLIN };
	const struct timespec hardly = { 0, 1 };
	int set = epoll_create1(0);
	sigset_t alarm_only, none;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	on_signal(SIGALRM, 0);
	sigemptyset(&none);
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm_only, NULL);
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	raise(SIGALRM);
	report("epoll_pwait2", epoll_pwait2(set, &e, 1, &hardly, &none));
	raise(SIGALRM);
	report("ppoll", ppoll(&p, 1, &hardly, &none));
	close(set);
	finish(fd);
}
CASE("signals.short_mask", short_mask_server, quiet_peer, ANY);

/* What is ready goes before a signal: such a wait is never interrupted. */
static void ready_first_server(int fd)
{
	const struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { { 0, 0 }, { 0, 0 } };
	struct epoll_event e = { .events = EPOLLIN };
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .events = POLLIN } };
	int set = epoll_create1(0), by_epoll = 0, by_poll = 0;

	on_signal(SIGALRM, 0);
	p[1].fd = eventfd(1, EFD_CLOEXEC);
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	for (int i = 0; i < 40; i++) { /* in vain: no wait spins any more */
		epoll_wait(set, &e, 1, 1);
		poll(p, 1, 1);
	}
	epoll_ctl(set, EPOLL_CTL_ADD, p[1].fd, &e);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 20000; i++) {
		by_epoll += epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1;
		by_poll += poll(p, 2, CONF_WAIT_MS) != 1;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	obs_val("other than one by epoll", by_epoll);
	obs_val("other than one by poll", by_poll);
	close(p[1].fd);
	close(set);
	finish(fd);
}
CASE("signals.ready_first", ready_first_server, quiet_peer, ANY);

/* A blocking send() that has moved something reports it; one that has not gives EINTR. */
static void send_server(int fd)
{
	uint64_t len = await();
	uint64_t done = 0;
	char *bytes = big_buffer();
	bool good = true;

	while (done < len) {
		ssize_t n = recv(fd, bytes, CONF_BIG, 0);

		if (n <= 0)
			break;
		good = good && pat_good(bytes, (size_t)n, done);
		done += (uint64_t)n;
	}
	obs_val("all", done == len);
	obs_val("right", good);
	tell(0);
}

static void send_client(int fd)
{
	char *bytes = big_buffer();
	uint64_t total = 0;
	ssize_t n;

	on_signal(SIGALRM, 0);
	for (;;) {
		pat_fill(bytes, CONF_BIG, total);
		alarm_in(100);
		n = send(fd, bytes, CONF_BIG, 0);
		alarm_in(0);
		if (n <= 0)
			break;
		total += (uint64_t)n;
	}
	obs("send", n);
	obs_val("some", total > 0);
	tell(total);
	await();
}
CASE("signals.send_eintr", send_server, send_client, ANY);

/* A handler that uses the very connection whose recv() it interrupts. */
static int handler_fd;

static void write_in_handler(int signo)
{
	ssize_t r = write(handler_fd, "h", 1);

	(void)signo;
	(void)r;
}

static void handler_server(int fd)
{
	struct sigaction a = { .sa_handler = write_in_handler, .sa_flags = SA_RESTART };
	char byte = 0;

	handler_fd = fd;
	sigaction(SIGALRM, &a, NULL);
	alarm_in(20);
	obs("recv", recv(fd, &byte, 1, 0));
	obs_val("byte", byte);
	both();
}

static void handler_client(int fd)
{
	char byte = 0;

	obs("recv", recv(fd, &byte, 1, 0));
	obs_val("byte", byte);
	obs("send", send(fd, "c", 1, 0));
	both();
}
CASE("signals.handler_writes", handler_server, handler_client, ANY);

/* siglongjmp() out of a sleeping recv(); the connection is usable afterwards. */
static sigjmp_buf back;

static void jump_out(int signo)
{
	(void)signo;
	siglongjmp(back, 1);
}

static void jump_server(int fd)
{
	struct sigaction a = { .sa_handler = jump_out };
	char byte;

	sigaction(SIGALRM, &a, NULL);
	if (sigsetjmp(back, 1) == 0) {
		alarm_in(30);
		obs("recv", recv(fd, &byte, 1, 0));
	} else {
		obs_text("jumped");
	}
	tell(0);
	recv_pat(fd, 10, 0);
	both();
}
CASE("signals.longjmp", jump_server, quiet_peer, ANY);

/* Many signals during many round trips: not a byte is lost. */
static void storm_server(int fd)
{
	struct itimerval t = { { 0, 500 }, { 0, 500 } };
	char bytes[100];

	on_signal(SIGALRM, SA_RESTART);
	setitimer(ITIMER_REAL, &t, NULL);
	for (uint64_t i = 0; i < 1000; i++) {
		if (recv_exact(fd, bytes, sizeof(bytes)) != 100 || !pat_good(bytes, 100, i))
			obs_text("wrong at %d", (int)i);
		send_exact(fd, bytes, sizeof(bytes));
	}
	memset(&t, 0, sizeof(t));
	setitimer(ITIMER_REAL, &t, NULL);
	both();
}

static void storm_client(int fd)
{
	char bytes[100];

	for (uint64_t i = 0; i < 1000; i++) {
		pat_fill(bytes, sizeof(bytes), i);
		send_exact(fd, bytes, sizeof(bytes));
		if (recv_exact(fd, bytes, sizeof(bytes)) != 100 || !pat_good(bytes, 100, i))
			obs_text("wrong at %d", (int)i);
	}
	obs_text("done");
	both();
}
CASE("signals.storm", storm_server, storm_client, ANY | CONF_MID);
