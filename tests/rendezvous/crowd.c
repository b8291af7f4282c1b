/* SPDX-License-Identifier: Apache-2.0 */
/* crowd CONNECTIONS CLIENTS ROUNDS [BYTES [KEPT]]: one server process, so many client processes,
 * and between them so many connections that all become worth a ring at once: in each round every
 * client sends on all of its connections, then reads all the replies.  In the last two rounds
 * messages have BYTES, before that 64.  Then each client closes all but its first KEPT connections.
 * Every byte is checked.  Prints "done" and the numbers of the processes, the server's first, and
 * waits for the end of its input before the rest is closed; meanwhile the clients sleep in poll().
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/rendezvous/program.h"

enum { EVENTS = 256, BYTES_MAX = 4 << 20 };

static struct sockaddr_in address;
static char out[BYTES_MAX], in[BYTES_MAX];

static void send_all(int fd, const char *from, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = send(fd, from + done, bytes - done, MSG_NOSIGNAL);

		if (n <= 0)
			fail("send");
		done += (size_t)n;
	}
}

static void receive_all(int fd, char *to, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = recv(fd, to + done, bytes - done, 0);

		if (n <= 0)
			fail(n ? "recv" : "the stream ended early");
		done += (size_t)n;
	}
}

/* ---- server ---- */

static void take(int set, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (fd < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0)
		fail("accept");
}

static void echo(int fd)
{
	ssize_t n = recv(fd, in, sizeof(in), 0);

	if (n > 0)
		send_all(fd, in, (size_t)n);
	else
		close(fd);
}

static void serve(int listener)
{
	struct epoll_event events[EVENTS], event = { .events = EPOLLIN, .data.fd = listener };
	int set = epoll_create1(EPOLL_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) < 0)
		fail("epoll");
	for (;;) {
		int n = epoll_wait(set, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				take(set, listener);
			else
				echo(events[i].data.fd);
		}
	}
}

/* ---- client ---- */

static void open_all(int *fds, int count)
{
	for (int i = 0; i < count; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fds[i] < 0 ||
		    connect(fds[i], (const struct sockaddr *)&address, sizeof(address)) < 0)
			fail("connect");
	}
}

static void talk(const int *fds, int count, int rounds, size_t bytes)
{
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < count; i++) {
			memset(out, round + i, bytes);
			send_all(fds[i], out, bytes);
		}
		for (int i = 0; i < count; i++) {
			memset(out, round + i, bytes);
			receive_all(fds[i], in, bytes);
			if (memcmp(out, in, bytes) != 0)
				fail("wrong bytes");
		}
	}
}

struct plan {
	int connections, rounds, kept;
	size_t bytes;
};

/* Until the other end of `until` is closed. */
static void sleep_on(const int *fds, int count, int until)
{
	struct pollfd *all = calloc((size_t)count + 1, sizeof(*all));

	for (int i = 0; i < count; i++)
		all[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	all[count] = (struct pollfd){ .fd = until, .events = POLLIN };
	if (poll(all, (nfds_t)count + 1, -1) != 1 || !all[count].revents)
		fail("poll");
	free(all);
}

/* Says on `tell` that it is done. */
static void ask(const struct plan *plan, int tell, int until)
{
	int *fds = calloc((size_t)plan->connections, sizeof(*fds));
	pid_t self = getpid();

	open_all(fds, plan->connections);
	talk(fds, plan->connections, plan->rounds, 64);
	if (plan->bytes > 64)
		talk(fds, plan->connections, 2, plan->bytes);
	for (int i = plan->kept; i < plan->connections; i++)
		close(fds[i]);
	talk(fds, plan->kept, 1, 64);
	if (write(tell, &self, sizeof(self)) != sizeof(self))
		fail("write");
	sleep_on(fds, plan->kept, until);
	talk(fds, plan->kept, 1, 64); /* they still work */
	for (int i = 0; i < plan->kept; i++)
		close(fds[i]);
	exit(0);
}

static void raise_limit(void)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

static pid_t start(void)
{
	pid_t child = fork();

	if (child < 0)
		fail("fork");
	return child;
}

static void wait_for_clients(int clients)
{
	for (int i = 0; i < clients; i++) {
		int status;

		if (wait(&status) < 0 || status != 0)
			fail("a process ended");
	}
}

int main(int count, char **arguments)
{
	int clients = atoi(arguments[2]);
	struct plan plan = {
		.connections = atoi(arguments[1]) / clients,
		.rounds = atoi(arguments[3]),
		.bytes = count > 4 ? strtoul(arguments[4], NULL, 10) : 64,
	};
	int listener, tell[2], hold[2];
	pid_t server, client;
	char byte;

	plan.kept = count > 5 ? atoi(arguments[5]) : plan.connections;
	raise_limit();
	listener = listen_here(&address, SOCK_CLOEXEC, 4096);
	server = start();
	if (server == 0)
		serve(listener);
	close(listener);
	if (pipe(tell) < 0 || pipe(hold) < 0)
		fail("pipe");
	for (int i = 0; i < clients; i++) {
		if (start() != 0)
			continue;
		close(hold[1]);
		ask(&plan, tell[1], hold[0]);
	}
	close(hold[0]);
	close(tell[1]); /* its end: a client has failed */
	printf("done %d", (int)server);
	for (int i = 0; i < clients; i++) {
		if (read(tell[0], &client, sizeof(client)) != sizeof(client))
			fail("a client ended");
		printf(" %d", (int)client);
	}
	puts("");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	close(hold[1]);
	wait_for_clients(clients);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}
