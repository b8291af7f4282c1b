/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a receive that has a part of what it waits for, because the peer sends slowly. */
#include "tests/conformance/lib/conf.h"

enum {
	ANY = CONF_COLD | CONF_SWAP,
	PIECE = 16384,
	AFTER_MS = 150, /* both are in the middle of it */
};

/* Sends slowly until it is told to stop, or nobody reads any more. */
static void trickle(int fd, long ms)
{
	long begin = now_ms();
	ssize_t n;

	do {
		n = send(fd, big_buffer(), PIECE, MSG_NOSIGNAL);
		nap_ms(1);
	} while (n > 0 && now_ms() - begin < ms);
}

static ssize_t wait_for_all(int fd)
{
	return recv(fd, big_buffer(), CONF_BIG, MSG_WAITALL);
}

static void part_and_end(int fd)
{
	ssize_t n;

	do
		n = wait_for_all(fd);
	while (n == CONF_BIG);
	obs_val("part", n > 0);
	obs("recv", wait_for_all(fd));
	obs("recv", wait_for_all(fd));
}

static void ended_server(int fd)
{
	part_and_end(fd);
	both();
}

static void half_closes(int fd)
{
	trickle(fd, AFTER_MS);
	obs("shutdown", shutdown(fd, SHUT_WR));
	both();
}
CASE("waitall.peer_half_closes", ended_server, half_closes, ANY);

static void closes(int fd)
{
	trickle(fd, AFTER_MS);
	obs("close", close(fd));
	both();
}
CASE("waitall.peer_closes", ended_server, closes, ANY);

static void outlived_server(int fd)
{
	part_and_end(fd);
	await_peer_exit();
}

static void is_killed(int fd)
{
	trickle(fd, AFTER_MS);
	raise(SIGKILL);
}
CASE("waitall.peer_is_killed", outlived_server, is_killed, ANY | CONF_KILLED);

/* ---- its own process ---- */

static void until_told_client(int fd)
{
	trickle(fd, CONF_WAIT_MS);
	await();
	both();
}

static void *shut_reading(void *fd)
{
	nap_ms(AFTER_MS);
	return (void *)(intptr_t)shutdown(*(int *)fd, SHUT_RD);
}

static void shut_server(int fd)
{
	pthread_t t = spawn(shut_reading, &fd);
	ssize_t n;

	do
		n = wait_for_all(fd);
	while (n == CONF_BIG);
	obs_val("part", n > 0);
	pthread_join(t, NULL);
	obs("close", close(fd));
	tell(0);
	both();
}
CASE("waitall.shutdown", shut_server, until_told_client, ANY);

static void *close_it(void *fd)
{
	nap_ms(AFTER_MS);
	return (void *)(intptr_t)close(*(int *)fd);
}

/* The call goes on without the number. */
static void closed_server(int fd)
{
	pthread_t t = spawn(close_it, &fd);
	ssize_t n;

	do
		n = wait_for_all(fd);
	while (n == CONF_BIG);
	obs("recv", n);
	pthread_join(t, NULL);
	tell(0);
	both();
}
CASE("waitall.close", closed_server, until_told_client, ANY);

static void *receive_for_ever(void *fd)
{
	while (wait_for_all(*(int *)fd) == CONF_BIG)
		;
	return NULL;
}

static void cancelled_server(int fd)
{
	pthread_t t = spawn(receive_for_ever, &fd);
	void *result;

	nap_ms(AFTER_MS);
	obs("cancel", pthread_cancel(t));
	obs("join", pthread_join(t, &result));
	obs_val("cancelled", result == PTHREAD_CANCELED);
	obs_val("recv", recv(fd, big_buffer(), PIECE, MSG_WAITALL) == PIECE);
	obs("close", close(fd));
	tell(0);
	both();
}
CASE("waitall.cancel", cancelled_server, until_told_client, ANY);

/* A piece takes longer than it is from signal to signal. */
static void interrupted(int fd, int sa_flags)
{
	const struct timeval pause = { 0, 20000 };
	const struct itimerval on = { pause, pause }, off = { 0 };
	int interrupted = 0;

	on_signal(SIGALRM, sa_flags);
	setitimer(ITIMER_REAL, &on, NULL);
	while (signal_count(SIGALRM) < 40)
		interrupted += wait_for_all(fd) < CONF_BIG;
	setitimer(ITIMER_REAL, &off, NULL);
	obs_val("most", interrupted >= 25);
	obs("close", close(fd));
	tell(0);
	both();
}

static void interrupted_server(int fd)
{
	interrupted(fd, 0);
}
CASE("waitall.signal", interrupted_server, until_told_client, ANY);

/* What has come is told all the same: nothing is restarted that has done a part. */
static void restarted_server(int fd)
{
	interrupted(fd, SA_RESTART);
}
CASE("waitall.signal_restart", restarted_server, until_told_client, ANY);

/* All its waits together. */
static void timed_server(int fd)
{
	const struct timeval limit = { 0, 100000 };
	long begin;
	ssize_t n;

	obs("setsockopt", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	begin = now_ms();
	n = wait_for_all(fd);
	obs_val("part", n > 0 && n < CONF_BIG);
	obs_val("late", now_ms() - begin >= 90);
	obs("close", close(fd));
	tell(0);
	both();
}
CASE("waitall.timeout", timed_server, until_told_client, ANY);
