/* SPDX-License-Identifier: Apache-2.0 */
/* names own MS:   threads duplicate a connection, look at it by the new number, and close that,
 *                 while another one makes round trips by the first number.
 * names range MS: threads close names of it by close_range(), while others open and close files,
 *                 which get the same numbers.
 * names stale MS: threads receive and poll by numbers that others close at any moment, and that
 *                 are another file then.  (No name of the connection again: between the kernel's
 *                 dup() and its return who guesses the number meets the socket itself.)
 * Whatever is received was sent, all of it is received once, and nobody is told of an end. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/rendezvous/program.h"

enum {
	TRIPS = 20,
	OWNERS = 3,
	READERS = 4,
	CLOSERS = 3,
	NAMES = 6,
	NAMES_FROM = 100,
	NAMES_AHEAD = 800,
	PIECE_MAX = 3000,
	LATE_MS = 9000
};

static struct sockaddr_in address;
static int base;
static long end_ms;
static _Atomic int names[NAMES];
static _Atomic bool over;
static _Atomic long received, sum;

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void trip(int fd, bool first)
{
	char bytes[4] = "ping";

	if (first && send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes))
		fail("send");
	if (recv(fd, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes) ||
	    memcmp(bytes, "ping", sizeof(bytes)) != 0)
		fail("a round trip");
	if (!first && send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes))
		fail("send");
}

/* ---- own ---- */

static void *use_own(void *argument)
{
	while (!over) {
		int own = check(dup(base), "dup");
		char bytes[64];
		ssize_t n = recv(own, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_PEEK);

		if (n == 0 || (n > 0 && (n != 4 || memcmp(bytes, "ping", 4) != 0)))
			fail("by an own number");
		check(close(own), "close");
	}
	return argument;
}

static _Noreturn void own_client(void)
{
	int fd = dial(&address);
	char bytes[4];

	while (recv(fd, bytes, sizeof(bytes), MSG_WAITALL) == sizeof(bytes))
		check((int)send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), "send");
	_exit(0);
}

static void own_server(void)
{
	pthread_t threads[OWNERS];

	for (int i = 0; i < TRIPS; i++)
		trip(base, true);
	for (int i = 0; i < OWNERS; i++)
		pthread_create(&threads[i], NULL, use_own, NULL);
	while (now_ms() < end_ms)
		trip(base, true);
	over = true;
	for (int i = 0; i < OWNERS; i++)
		pthread_join(threads[i], NULL);
	close(base);
}

/* ---- range ---- */

static void *close_names(void *argument)
{
	while (!over) {
		unsigned own = (unsigned)check(fcntl(base, F_DUPFD, NAMES_FROM), "F_DUPFD");

		check(close_range(own, own, 0), "close_range");
	}
	return argument;
}

static void *close_files(void *argument)
{
	const int file = check(open("/dev/null", O_RDONLY), "open");

	while (!over)
		check(close(check(fcntl(file, F_DUPFD, NAMES_FROM), "a file")), "close of a file");
	return argument;
}

static void range_server(void)
{
	pthread_t threads[2 * OWNERS];

	for (int i = 0; i < TRIPS; i++)
		trip(base, true);
	for (int i = 0; i < 2 * OWNERS; i++)
		pthread_create(&threads[i], NULL, i % 2 ? close_names : close_files, NULL);
	while (now_ms() < end_ms)
		trip(base, true);
	over = true;
	for (int i = 0; i < 2 * OWNERS; i++)
		pthread_join(threads[i], NULL);
	close(base);
}

/* ---- stale ---- */

static void take(const unsigned char *bytes, ssize_t n)
{
	long all = 0;

	for (ssize_t i = 0; i < n; i++)
		all += bytes[i];
	sum += all;
	received += n;
}

static ssize_t receive_somehow(int fd, unsigned char *bytes, unsigned int *seed)
{
	struct pollfd both[2] = { { fd, POLLIN, 0 }, { base, POLLIN, 0 } };

	switch (rand_r(seed) % 5) {
	case 0:
		return recv(fd, bytes, PIECE_MAX, MSG_DONTWAIT);
	case 1:
		poll(both, 2, 1);
		return recv(fd, bytes, 100, MSG_DONTWAIT);
	default:
		return recv(fd, bytes, 1 + (size_t)rand_r(seed) % PIECE_MAX, 0);
	}
}

static void *use_any(void *argument)
{
	unsigned int seed = (unsigned int)(uintptr_t)argument;
	unsigned char bytes[PIECE_MAX];

	for (;;) {
		int fd = names[rand_r(&seed) % NAMES];
		ssize_t n = receive_somehow(fd < 0 ? base : fd, bytes, &seed);

		if (n > 0)
			take(bytes, n);
		else if (n == 0 && over)
			return NULL;
		else if (n == 0)
			fail("an end");
		else if (errno != EAGAIN && errno != EBADF && errno != ENOTSOCK)
			fail("recv");
	}
}

static int new_name(void)
{
	static _Atomic int last;

	return check(fcntl(base, F_DUPFD, NAMES_FROM + ++last % NAMES_AHEAD), "F_DUPFD");
}

static void *change_names(void *argument)
{
	const int file = check(open("/dev/null", O_RDWR), "open");
	unsigned int seed = (unsigned int)(uintptr_t)argument;

	while (!over) {
		_Atomic int *name = &names[rand_r(&seed) % NAMES];
		int fd = atomic_exchange(name, -1);

		switch (fd < 0 ? -1 : rand_r(&seed) % 3) {
		case 0:
			check(dup2(file, fd), "dup2");
			usleep((useconds_t)rand_r(&seed) % 300);
			check(close(fd), "close");
			break;
		case 1:
			check(close_range((unsigned)fd, (unsigned)fd, 0), "close_range");
			break;
		case 2:
			check(close(fd), "close");
			break;
		default:
			fd = atomic_exchange(name, new_name());
			if (fd >= 0)
				close(fd);
		}
		if (rand_r(&seed) % 3 == 0)
			usleep((useconds_t)rand_r(&seed) % 500);
	}
	return NULL;
}

/* The end comes after the server has heard how much was sent. */
static void stale_client(int says, int heard)
{
	static unsigned char bytes[20000];
	unsigned int seed = 1;
	long said[2] = { 0 };
	int fd = dial(&address);
	char byte;

	for (int i = 0; i < TRIPS; i++)
		trip(fd, true);
	while (now_ms() < end_ms) {
		size_t count = 1 +
			       (size_t)rand_r(&seed) % (rand_r(&seed) % 9 ? 300 : sizeof(bytes));
		ssize_t n;

		for (size_t i = 0; i < count; i++)
			bytes[i] = (unsigned char)rand_r(&seed);
		n = check((int)send(fd, bytes, count, MSG_NOSIGNAL), "send");
		for (ssize_t i = 0; i < n; i++)
			said[1] += bytes[i];
		said[0] += n;
		if (rand_r(&seed) % 2)
			usleep((useconds_t)rand_r(&seed) % 1500);
	}
	check((int)write(says, said, sizeof(said)), "pipe");
	check((int)read(heard, &byte, 1), "pipe");
	_exit(0);
}

static void stale_server(int heard, int says)
{
	pthread_t readers[READERS], closers[CLOSERS];
	long said[2];

	for (int i = 0; i < TRIPS; i++)
		trip(base, false);
	for (int i = 0; i < NAMES; i++)
		names[i] = new_name();
	for (uintptr_t i = 0; i < READERS; i++)
		pthread_create(&readers[i], NULL, use_any, (void *)(i + 1));
	for (uintptr_t i = 0; i < CLOSERS; i++)
		pthread_create(&closers[i], NULL, change_names, (void *)(i + 11));
	check((int)read(heard, said, sizeof(said)), "pipe");
	for (long late = now_ms() + LATE_MS; received < said[0] && now_ms() < late;)
		usleep(1000);
	if (received != said[0] || sum != said[1]) {
		fprintf(stderr, "names: %ld received of %ld, sum %ld of %ld\n", received, said[0],
			sum, said[1]);
		_exit(1);
	}
	over = true;
	check((int)write(says, "x", 1), "pipe");
}

int main(int argc, char **arguments)
{
	int listener, there[2], back[2], status;
	bool stale;
	pid_t client;

	if (argc != 3)
		return 2;
	which = arguments[1];
	stale = strcmp(which, "stale") == 0;
	end_ms = now_ms() + atol(arguments[2]);
	listener = listen_here(&address, 0, 1);
	check(pipe(there), "pipe");
	check(pipe(back), "pipe");
	client = check(fork(), "fork");
	if (client == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (stale)
			stale_client(there[1], back[0]);
		own_client();
	}
	base = check(accept(listener, NULL, NULL), "accept");
	if (stale)
		stale_server(there[0], back[1]);
	else if (strcmp(which, "range") == 0)
		range_server();
	else
		own_server();
	check(waitpid(client, &status, 0), "waitpid");
	_exit(status != 0); /* a reader may sleep by a number that is no more */
}
