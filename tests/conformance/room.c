/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a send while it waits for room, again and again, because the peer reads slowly.
 */
#include "tests/conformance/lib/conf.h"

enum {
	ANY = CONF_COLD | CONF_SWAP,
	PIECE = 65536,
	AFTER_MS = 150, /* both are in the middle of it */
};

/* Sends until something ends it, with a part done or with an error.  Was it a reset? */
static bool send_until_ended(int fd)
{
	ssize_t n;

	do
		n = send(fd, big_buffer(), CONF_BIG, MSG_NOSIGNAL);
	while (n == CONF_BIG);
	return n < 0 && errno == ECONNRESET;
}

/* Reads slowly for a while; for ever where `ms` is 0. */
static ssize_t trickle(int fd, long ms)
{
	long begin = now_ms();
	ssize_t n;

	do
		nap_ms(1);
	while ((n = recv(fd, big_buffer(), PIECE, 0)) > 0 && (ms == 0 || now_ms() - begin < ms));
	return n;
}

static void trickle_client(int fd)
{
	obs("last", trickle(fd, 0));
	await();
	both();
}

/* ---- its own process ---- */

static void *shut_both(void *fd)
{
	nap_ms(AFTER_MS);
	return (void *)(intptr_t)shutdown(*(int *)fd, SHUT_RDWR);
}

static void shut_both_server(int fd)
{
	pthread_t t = spawn(shut_both, &fd);
	char byte;

	send_until_ended(fd);
	pthread_join(t, NULL);
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	obs("recv", recv(fd, &byte, 1, 0));
	tell(0);
	both();
}
CASE("room.shutdown_both", shut_both_server, trickle_client, ANY);

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
		n = send(fd, big_buffer(), CONF_BIG, MSG_NOSIGNAL);
	while (n == CONF_BIG);
	obs("send", n);
	pthread_join(t, NULL);
	tell(0);
	both();
}

static void counting_client(int fd)
{
	uint64_t total = 0;
	ssize_t n;

	do {
		n = recv(fd, big_buffer(), PIECE, 0);
		total += n > 0 ? (uint64_t)n : 0;
		nap_ms(1);
	} while (n > 0);
	obs("last", n);
	obs_val("pieces are whole", total > 0 && total % CONF_BIG == 0);
	await();
	both();
}
CASE("room.close", closed_server, counting_client, ANY);

static void *send_for_ever(void *fd)
{
	while (send(*(int *)fd, big_buffer(), CONF_BIG, MSG_NOSIGNAL) == CONF_BIG)
		;
	return NULL;
}

/* A thread that is cancelled in it holds nobody up. */
static void cancelled_server(int fd)
{
	pthread_t t = spawn(send_for_ever, &fd);
	void *result;

	nap_ms(AFTER_MS);
	obs("cancel", pthread_cancel(t));
	obs("join", pthread_join(t, &result));
	obs_val("cancelled", result == PTHREAD_CANCELED);
	obs_val("send", send(fd, big_buffer(), PIECE, 0) == PIECE);
	obs("shutdown", shutdown(fd, SHUT_WR));
	tell(0);
	both();
}
CASE("room.cancel", cancelled_server, trickle_client, ANY);

/* Nearly every signal finds it waiting; one that comes while it copies what then has room ends
 * nothing.
 */
static void interrupted_server(int fd)
{
	const struct timeval pause = { 0, 20000 };
	const struct itimerval on = { pause, pause }, off = { 0 };
	int interrupted = 0;

	on_signal(SIGALRM, 0);
	setitimer(ITIMER_REAL, &on, NULL);
	while (signal_count(SIGALRM) < 40) {
		ssize_t n = send(fd, big_buffer(), CONF_BIG, 0);

		interrupted += n < CONF_BIG;
	}
	setitimer(ITIMER_REAL, &off, NULL);
	obs_val("most", interrupted >= 25);
	obs("shutdown", shutdown(fd, SHUT_WR));
	tell(0);
	both();
}
CASE("room.signal", interrupted_server, trickle_client, ANY);

/* The child ends with the descriptor; the parent has been sending all the time. */
static void forking_server(int fd)
{
	pthread_t t = spawn(send_for_ever, &fd);
	int status = 0;
	pid_t child;

	nap_ms(AFTER_MS);
	child = fork();
	if (child == 0) {
		ssize_t n = send(fd, big_buffer(), 1000, 0);

		_exit(n == 1000 ? 0 : 1);
	}
	waitpid(child, &status, 0);
	obs_exit("child", status);
	obs("shutdown", shutdown(fd, SHUT_WR));
	pthread_join(t, NULL);
	tell(0);
	both();
}
CASE("room.fork", forking_server, trickle_client, ANY);

/* ---- the peer ---- */

/* A reset is told once, by this call or the next one. */
static void hear_of_end(int fd)
{
	int resets = send_until_ended(fd);

	resets += send(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == ECONNRESET;
	obs_val("resets", resets);
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
}

static void told_server(int fd)
{
	hear_of_end(fd);
	both();
}

static void ends_by(int fd, int how)
{
	trickle(fd, AFTER_MS);
	obs("shutdown", shutdown(fd, how));
	both();
}

static void peer_shuts_reading(int fd)
{
	ends_by(fd, SHUT_RD);
}
CASE("room.peer_shuts_reading", told_server, peer_shuts_reading, ANY | CONF_UNIX_ONLY);

static void peer_shuts_both(int fd)
{
	ends_by(fd, SHUT_RDWR);
}
CASE("room.peer_shuts_both", told_server, peer_shuts_both, ANY | CONF_UNIX_ONLY);

static void peer_closes(int fd)
{
	trickle(fd, AFTER_MS);
	obs("close", close(fd));
	both();
}
CASE("room.peer_closes", told_server, peer_closes, ANY);

static void peer_half_closes(int fd)
{
	trickle(fd, AFTER_MS);
	obs("shutdown", shutdown(fd, SHUT_WR));
	trickle(fd, AFTER_MS);
	obs("close", close(fd));
	both();
}
CASE("room.peer_half_closes", told_server, peer_half_closes, ANY);

static void killed_server(int fd)
{
	hear_of_end(fd);
	await_peer_exit();
}

static void peer_is_killed(int fd)
{
	trickle(fd, AFTER_MS);
	raise(SIGKILL);
}
CASE("room.peer_is_killed", killed_server, peer_is_killed, ANY | CONF_KILLED);

/* It stops to read: the send times out with what it has done. */
static void timed_server(int fd)
{
	const struct timeval limit = { 0, 200000 };
	long begin;

	obs("setsockopt", setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
	begin = now_ms();
	send_until_ended(fd);
	obs_val("late", now_ms() - begin >= 200);
	tell(0);
	both();
}

static void stops_reading(int fd)
{
	trickle(fd, AFTER_MS);
	await();
	both();
}
CASE("room.timeout", timed_server, stops_reading, ANY);
