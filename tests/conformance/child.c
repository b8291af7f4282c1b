/* SPDX-License-Identifier: Apache-2.0 */
/* The peer is a child of this process, which is therefore told of its death by other means than the
 * socket, and may ask at once. */
#include "tests/conformance/lib/conf.h"

enum { ROUNDS = CONF_WARM_ROUNDS, BYTES = 32, ALONE = CONF_RAW | CONF_MUST | CONF_FAMILY };

static void answer(void)
{
	int fd = conf_connect();
	unsigned char bytes[BYTES];

	for (int i = 0; i < ROUNDS; i++) {
		recv_exact(fd, bytes, BYTES);
		send_exact(fd, bytes, BYTES);
	}
	for (;;)
		pause();
}

/* A connection to a child, which has just answered for the last time. */
static int child_that_answers(int listener, pid_t *child)
{
	unsigned char bytes[BYTES];
	int fd;

	*child = fork();
	if (*child == 0) {
		close(listener);
		answer();
	}
	fd = conf_accept(listener);
	for (int i = 0; i < ROUNDS; i++) {
		pat_fill(bytes, BYTES, 0);
		send_exact(fd, bytes, BYTES);
		recv_exact(fd, bytes, BYTES);
	}
	return fd;
}

static void bury(pid_t child)
{
	obs("kill", kill(child, SIGKILL));
	obs("waitpid", waitpid(child, NULL, 0) == child ? 0 : -1);
}

static void nobody(int none)
{
	(void)none;
}

static void received_server(int listener)
{
	pid_t child;
	int fd = child_that_answers(listener, &child);
	struct pollfd entry = { .fd = fd, .events = POLLIN };
	char byte;

	/* by then it is known that this process waits by poll() */
	for (int i = 0; i < 10; i++) {
		poll(&entry, 1, 0);
		recv(fd, &byte, 1, MSG_DONTWAIT);
	}
	bury(child);
	obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	close(fd);
}
CASE("child.received", received_server, nobody, ALONE);

static void sent_server(int listener)
{
	pid_t child;
	int fd = child_that_answers(listener, &child);

	obs("send", send(fd, "1", 1, MSG_NOSIGNAL));
	bury(child);
	obs("send", send(fd, "2", 1, MSG_NOSIGNAL));
	close(fd);
}
CASE("child.sent", sent_server, nobody, ALONE | CONF_UNIX_ONLY);

static volatile sig_atomic_t came;

static void ended(int signo)
{
	(void)signo;
	came = 1;
}

static void signalled_server(int listener)
{
	struct sigaction action = { .sa_handler = ended };
	pid_t child;
	int fd = child_that_answers(listener, &child);
	sigset_t one, before;

	sigaction(SIGCHLD, &action, NULL);
	sigemptyset(&one);
	sigaddset(&one, SIGCHLD);
	sigprocmask(SIG_BLOCK, &one, &before);
	obs("send", send(fd, "1", 1, MSG_NOSIGNAL));
	obs("kill", kill(child, SIGKILL));
	while (!came)
		sigsuspend(&before);
	obs("send", send(fd, "2", 1, MSG_NOSIGNAL));
	sigprocmask(SIG_SETMASK, &before, NULL);
	waitpid(child, NULL, 0);
	close(fd);
}
CASE("child.signalled", signalled_server, nobody, ALONE | CONF_UNIX_ONLY);

static void polled_server(int listener)
{
	pid_t child;
	int fd = child_that_answers(listener, &child);
	struct pollfd entry = { .fd = fd, .events = POLLIN };

	for (int i = 0; i < 100; i++)
		poll(&entry, 1, 0);
	obs_poll("poll", poll(&entry, 1, 0), entry.revents);
	bury(child);
	obs_poll("poll", poll(&entry, 1, 0), entry.revents);
	close(fd);
}
CASE("child.polled", polled_server, nobody, ALONE);

static void watched_server(int listener)
{
	pid_t child;
	int fd = child_that_answers(listener, &child);
	int set = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN | EPOLLRDHUP, .data.u64 = 7 };

	obs("add", epoll_ctl(set, EPOLL_CTL_ADD, fd, &e));
	for (int i = 0; i < 100; i++)
		epoll_wait(set, &e, 1, 0);
	bury(child);
	memset(&e, 0, sizeof(e));
	obs_epoll("wait", epoll_wait(set, &e, 1, 0), &e);
	close(set);
	close(fd);
}
CASE("child.watched", watched_server, nobody, ALONE);
