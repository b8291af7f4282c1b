/* SPDX-License-Identifier: Apache-2.0 */
/* pool MS: a server of several threads that wait in one set, each connection in it for one event at
 * a time; clients connect, make some round trips and close, for so long.  No thread may be told of
 * a number that is closed, or that another thread has just been told of. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/rendezvous/program.h"

enum { THREADS = 4, CLIENTS = 3, NUMBERS = 4096, TRIPS_MAX = 30, BYTES = 100, TAIL_BYTES = 500 };

static struct sockaddr_in address;
static int set, listener;
static long end_ms;
static _Atomic bool is_open[NUMBERS], is_served[NUMBERS];

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void want(int operation, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data.fd = fd };

	if (epoll_ctl(set, operation, fd, &event) < 0)
		fail("epoll_ctl");
}

static void take_all(void)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		if (fd >= NUMBERS || is_open[fd])
			fail("accept gave a number that is in use");
		is_open[fd] = true;
		want(EPOLL_CTL_ADD, fd);
	}
	want(EPOLL_CTL_MOD, listener);
}

static bool reply_all(int fd)
{
	char bytes[TAIL_BYTES];
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		if (send(fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
			return false;
	return n < 0 && errno == EAGAIN;
}

static void serve_one(int fd)
{
	bool goes_on;

	if (!is_open[fd])
		fail("told of a number that is closed");
	if (atomic_exchange(&is_served[fd], true))
		fail("two threads were told of one number");
	goes_on = reply_all(fd);
	is_served[fd] = false;
	if (goes_on) {
		want(EPOLL_CTL_MOD, fd);
	} else {
		is_open[fd] = false;
		close(fd);
	}
}

static void *serve(void *most)
{
	struct epoll_event events[THREADS];

	for (;;) {
		int n = epoll_wait(set, events, *(const int *)most, 100);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				take_all();
			else
				serve_one(events[i].data.fd);
		}
	}
	return NULL;
}

static void trip(int fd)
{
	char out[BYTES] = { 7 }, in[BYTES];

	if (send(fd, out, sizeof(out), MSG_NOSIGNAL) != (ssize_t)sizeof(out) ||
	    recv(fd, in, sizeof(in), MSG_WAITALL) != (ssize_t)sizeof(in) ||
	    memcmp(out, in, sizeof(in)) != 0)
		fail("a round trip");
}

static void *ask(void *argument)
{
	const struct linger hard = { 1, 0 };
	unsigned int seed = *(unsigned int *)argument;
	char tail[TAIL_BYTES] = { 0 };

	while (now_ms() < end_ms) {
		int fd = dial(&address), end = rand_r(&seed) % 3;

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard,
			   sizeof(hard)); /* leaves no TIME_WAIT */
		for (int i = rand_r(&seed) % TRIPS_MAX; i > 0; i--)
			trip(fd);
		if (end == 1)
			send(fd, tail, sizeof(tail), MSG_NOSIGNAL);
		if (end == 2)
			shutdown(fd, SHUT_WR);
		close(fd);
	}
	return NULL;
}

static void run_threads(void *(*body)(void *), int count)
{
	static int numbers[THREADS];
	pthread_t threads[THREADS];

	for (int i = 0; i < count; i++) {
		numbers[i] = 1 + i % 3;
		if (pthread_create(&threads[i], NULL, body, &numbers[i]) != 0)
			fail("pthread_create");
	}
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

int main(int argc, char **arguments)
{
	pid_t server;
	int status;

	if (argc != 2)
		return 2;
	end_ms = now_ms() + atol(arguments[1]);
	listener = listen_here(&address, SOCK_NONBLOCK, 1000);
	server = fork();
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		set = epoll_create1(0);
		want(EPOLL_CTL_ADD, listener);
		run_threads(serve, THREADS);
	}
	run_threads(ask, CLIENTS);
	if (waitpid(server, &status, WNOHANG) != 0)
		return 1; /* it has said why */
	kill(server, SIGKILL);
	waitpid(server, &status, 0);
	return 0;
}
