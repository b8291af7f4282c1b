/* SPDX-License-Identifier: Apache-2.0 */
/* storm SECONDS [fork]: threads of two processes open, use and close connections between them all
 * the time, some long enough to be accelerated; with `fork` both processes fork children meanwhile,
 * of which some execute /bin/true.  Every byte is checked.  Prints the number of connections. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/rendezvous/program.h"

enum { THREADS = 8, BYTES_MAX = 3000, TRIPS_MAX = 80 };

static struct sockaddr_in address;
static _Atomic long connections;
static double limit;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool write_all(int fd, const char *from, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = send(fd, from + done, bytes - done, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void round_trip(int fd, unsigned int *seed)
{
	char sent[BYTES_MAX], got[BYTES_MAX];
	size_t bytes = 1 + (size_t)rand_r(seed) % BYTES_MAX, done = 0;
	int mark = rand_r(seed);

	for (size_t i = 0; i < bytes; i++)
		sent[i] = (char)(mark + (int)(i * 7));
	if (!write_all(fd, sent, bytes))
		fail("send");
	while (done < bytes) {
		ssize_t n = recv(fd, got + done, bytes - done, 0);

		if (n <= 0)
			fail(n ? "recv" : "the stream ended early");
		done += (size_t)n;
	}
	if (memcmp(sent, got, bytes) != 0)
		fail("wrong bytes");
}

static void *client(void *argument)
{
	unsigned int seed = (unsigned int)(size_t)argument;

	while (now() < limit) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int trips = 1 + rand_r(&seed) % TRIPS_MAX;

		if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
			fail("connect");
		for (int i = 0; i < trips; i++)
			round_trip(fd, &seed);
		close(fd);
		atomic_fetch_add(&connections, 1);
	}
	return NULL;
}

static void *echo(void *argument)
{
	int fd = (int)(size_t)argument;
	char bytes[BYTES_MAX];
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		if (!write_all(fd, bytes, (size_t)n))
			break;
	close(fd);
	return NULL;
}

static void *forker(void *argument)
{
	const struct timespec nap = { 0, 3000000 };

	for (unsigned int i = 0; now() < limit; i++) {
		pid_t child = fork();

		if (child == 0 && i % 4 == 0)
			execl("/bin/true", "true", (char *)NULL);
		if (child == 0)
			_exit(0);
		if (child < 0 || waitpid(child, NULL, 0) != child)
			fail("fork");
		nanosleep(&nap, NULL);
	}
	return argument;
}

static void start(void *(*routine)(void *), void *argument, pthread_t *thread)
{
	pthread_t unused;

	if (pthread_create(thread ? thread : &unused, NULL, routine, argument))
		fail("pthread_create");
	if (!thread)
		pthread_detach(unused);
}

static void serve(int listener, bool forks)
{
	if (forks)
		start(forker, NULL, NULL);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			fail("accept");
		start(echo, (void *)(size_t)fd, NULL);
	}
}

int main(int count, char **arguments)
{
	bool forks = count > 2;
	int listener = listen_here(&address, SOCK_CLOEXEC, 100), status;
	pthread_t threads[THREADS];
	pid_t server;

	limit = now() + (count > 1 ? atof(arguments[1]) : 3);
	server = fork();
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(listener, forks);
	}
	for (size_t i = 0; i < THREADS; i++)
		start(client, (void *)(i + 1), &threads[i]);
	if (forks)
		start(forker, NULL, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (waitpid(server, &status, WNOHANG) != 0)
		fail("the server died");
	kill(server, SIGKILL);
	waitpid(server, &status, 0);
	printf("done %ld\n", atomic_load(&connections));
	return 0;
}
