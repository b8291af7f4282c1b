/* SPDX-License-Identifier: Apache-2.0 */
/* A set that sleeps for two connections of one peer: what wakes it for one of them, and what does
 * not. */
#include <stdatomic.h>

#include "tests/conformance/lib/epoll_set.h"

enum {
	ENDS = 2,
	ROUNDS = 5,
	FAST_ROUNDS = 60,
	SLOW_ROUNDS = 30, /* a nap before each: the other end sleeps */
	ALARM_US = 30 * 1000,
	STORM_ROUNDS = 2000,
	STORM_US = 150,
	STORM_WAIT_MS = 2000,
	SEND_BYTES = 200 * 1000,
	RECEIVE_BYTES = 16 * 1000,
	PIECE = 4096,
	LEFT_BYTES = 128 * 1000, /* more than fits into a receiving socket of that size */
};

static int set, ends[ENDS];

static void echo_all(void)
{
	int bad = 0;

	for (int i = 0; i < ENDS * (FAST_ROUNDS + SLOW_ROUNDS); i++) {
		struct epoll_event e = { 0 };
		char byte = 0;

		bad += epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1 || e.data.u64 >= ENDS;
		bad += bad || recv(ends[e.data.u64], &byte, 1, MSG_DONTWAIT) != 1;
		bad += bad || send(ends[e.data.u64], &byte, 1, 0) != 1;
	}
	obs_val("bad", bad);
	both();
}

static void accept_all(int listener, uint32_t first_events)
{
	set = epoll_create1(EPOLL_CLOEXEC);
	for (uint64_t i = 0; i < ENDS; i++) {
		ends[i] = conf_accept(listener);
		obs("add", change(set, EPOLL_CTL_ADD, ends[i], i ? EPOLLIN : first_events, i));
	}
	echo_all();
}

static void connect_all(void)
{
	for (int i = 0; i < ENDS; i++) {
		const int bytes = SEND_BYTES, on = 1;

		ends[i] = conf_connect();
		setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
		if (conf.is_tcp)
			setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
	for (int i = 0; i < ENDS * (FAST_ROUNDS + SLOW_ROUNDS); i++) {
		char byte;

		if (i >= ENDS * FAST_ROUNDS)
			nap_ms(2);
		send_exact(ends[i % ENDS], "w", 1);
		recv_exact(ends[i % ENDS], &byte, 1);
	}
	both();
}

static void close_all(void)
{
	both();
	for (int i = 0; i < ENDS; i++)
		close(ends[i]);
}

/* ---- a handler looks at the set in whose sleep it runs ---- */

static volatile sig_atomic_t seen_in_handler;

static void look_in_handler(int signo)
{
	struct epoll_event e[ENDS];
	char byte;

	(void)signo;
	tell(0);
	await();
	seen_in_handler = epoll_wait(set, e, ENDS, 0) == 1 && e[0].data.u64 == 0 &&
			  recv(ends[0], &byte, 1, MSG_DONTWAIT) == 1;
}

static void look_server(int listener)
{
	const struct itimerval soon = { .it_value = { 0, ALARM_US } };
	struct sigaction action = { .sa_handler = look_in_handler };
	struct epoll_event e[ENDS];
	char byte;

	accept_all(listener, EPOLLIN);
	sigaction(SIGALRM, &action, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		setitimer(ITIMER_REAL, &soon, NULL);
		obs("interrupted", epoll_wait(set, e, ENDS, CONF_WAIT_MS));
		obs_val("seen in the handler", seen_in_handler);
		tell(0);
		obs_epoll("the other one", epoll_wait(set, e, ENDS, CONF_WAIT_MS), e);
		obs("recv", recv(ends[1], &byte, 1, 0));
	}
	close_all();
	close(set);
}

static void look_client(int none)
{
	(void)none;
	connect_all();
	for (int i = 0; i < ROUNDS; i++) {
		await();
		send_exact(ends[0], "a", 1);
		tell(0);
		await();
		nap_ms(CONF_NAP_MS);
		send_exact(ends[1], "b", 1);
	}
	close_all();
}
CASE("together.look_in_handler", look_server, look_client, CONF_RAW | CONF_MUST);

/* ---- a handler that serves them too ---- */

static _Atomic int served;

static void serve(const struct epoll_event *e)
{
	char byte;

	if (recv(ends[e->data.u64], &byte, 1, MSG_DONTWAIT) != 1)
		return; /* the handler has been faster */
	atomic_fetch_add(&served, 1);
	send_exact(ends[e->data.u64], &byte, 1);
}

static void serve_in_handler(int signo)
{
	struct epoll_event e;
	int saved = errno;

	(void)signo;
	if (epoll_wait(set, &e, 1, 0) == 1)
		serve(&e);
	errno = saved;
}

/* No signal comes to the wait behind one that a signal has ended: it would make good what is lost.
 */
static void storm_server(int listener)
{
	struct sigaction action = { .sa_handler = serve_in_handler };
	bool storms = true;
	int late = 0;

	accept_all(listener, EPOLLIN);
	sigaction(SIGALRM, &action, NULL);
	for (int i = 0; atomic_load(&served) < ENDS * STORM_ROUNDS && late == 0; i++) {
		const struct itimerval soon = { .it_value = { 0, 1 + i * 7 % STORM_US } };
		struct epoll_event e;
		int n;

		if (storms)
			setitimer(ITIMER_REAL, &soon, NULL);
		n = epoll_wait(set, &e, 1, STORM_WAIT_MS);
		storms = n >= 0;
		if (n > 0)
			serve(&e);
		/* the handler may serve the last one before the wait for it */
		late += n == 0 && atomic_load(&served) < ENDS * STORM_ROUNDS;
	}
	obs_val("late", late);
	close_all();
	close(set);
}

static void storm_client(int none)
{
	int bad = 0;

	(void)none;
	connect_all();
	for (int i = 0; i < STORM_ROUNDS; i++) {
		char byte;

		for (int k = 0; k < ENDS; k++) {
			usleep((useconds_t)(i * 3 % 50));
			send_exact(ends[k], "s", 1);
		}
		for (int k = 0; k < ENDS; k++)
			bad += recv_exact(ends[k], &byte, 1) != 1;
	}
	obs_val("bad", bad);
	close_all();
}
CASE("together.storm", storm_server, storm_client, CONF_RAW | CONF_MUST);

/* ---- one of them is not read: nothing that is sent to it arrives ---- */

static void full_server(int listener)
{
	const int bytes = RECEIVE_BYTES;
	struct epoll_event e = { 0 };
	long end;
	int n = 1;

	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	accept_all(listener, EPOLLIN | EPOLLET);
	for (uint64_t left = await() - LEFT_BYTES; left > 0;) {
		ssize_t got = recv(ends[0], big_buffer(), left < CONF_BIG ? left : CONF_BIG, 0);

		if (got <= 0)
			break;
		left -= (uint64_t)got;
	}
	tell(0);
	end = now_ms() + CONF_WAIT_MS;
	while (n > 0 && e.data.u64 != 1) /* what had still room in the first is an edge of it */
		n = epoll_wait(set, &e, 1, (int)(end - now_ms() > 0 ? end - now_ms() : 0));
	obs_epoll("the other one", n, &e);
	obs_val("in time", now_ms() < end - CONF_WAIT_MS / 2);
	close_all();
	close(set);
}

static void full_client(int none)
{
	uint64_t sent = 0;
	ssize_t n;

	(void)none;
	connect_all();
	while ((n = send(ends[0], big_buffer(), PIECE, MSG_DONTWAIT)) > 0)
		sent += (uint64_t)n;
	tell(sent);
	await();
	nap_ms(CONF_NAP_MS);
	obs("send", send(ends[0], "x", 1, MSG_DONTWAIT));
	obs("send", send(ends[1], "y", 1, MSG_DONTWAIT));
	close_all();
}
CASE("together.behind_unread_bytes", full_server, full_client, CONF_RAW | CONF_MUST);
