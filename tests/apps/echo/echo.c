// SPDX-License-Identifier: Apache-2.0
/* The echo program (lib/echo.sh) in C; the test links it statically, so no preload reaches it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { QUESTIONS = 2000, BLOCK_BYTES = 65536 };

union address {
	struct sockaddr any;
	struct sockaddr_in inet;
	struct sockaddr_un local;
};

static void need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int make_socket(const char *text, union address *address, socklen_t *bytes)
{
	char host[64];
	unsigned int port;

	memset(address, 0, sizeof(*address));
	if (strncmp(text, "unix:", 5) == 0) {
		address->local.sun_family = AF_UNIX;
		strncpy(address->local.sun_path, text + 5, sizeof(address->local.sun_path) - 1);
		*bytes = sizeof(address->local);
	} else {
		need(sscanf(text, "tcp:%63[^:]:%u", host, &port) == 2, "address");
		address->inet.sin_family = AF_INET;
		address->inet.sin_port = htons((uint16_t)port);
		need(inet_pton(AF_INET, host, &address->inet.sin_addr) == 1, "address");
		*bytes = sizeof(address->inet);
	}
	return socket(address->any.sa_family, SOCK_STREAM, 0);
}

static void send_all(int fd, const char *from, size_t bytes)
{
	while (bytes > 0) {
		ssize_t sent = write(fd, from, bytes);

		need(sent > 0, "write");
		from += sent;
		bytes -= (size_t)sent;
	}
}

static void echo(int fd)
{
	static char block[BLOCK_BYTES];
	ssize_t got;

	while ((got = read(fd, block, sizeof(block))) > 0)
		send_all(fd, block, (size_t)got);
	need(got == 0, "read");
}

static void serve(const char *text)
{
	union address address;
	socklen_t bytes;
	int listener = make_socket(text, &address, &bytes), on = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	need(bind(listener, &address.any, bytes) == 0, "bind");
	need(listen(listener, 16) == 0, "listen");
	signal(SIGCHLD, SIG_IGN);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		need(fd >= 0, "accept");
		if (fork() == 0) {
			echo(fd);
			_exit(0);
		}
		close(fd);
	}
}

static int connected(const char *text)
{
	union address address;
	socklen_t bytes;
	int fd = make_socket(text, &address, &bytes);

	need(connect(fd, &address.any, bytes) == 0, "connect");
	return fd;
}

static void ask(const char *text)
{
	int fd = connected(text);

	for (int i = 0; i < QUESTIONS; i++) {
		char question[32], answer[32];
		size_t length = (size_t)snprintf(question, sizeof(question), "question %d\n", i);

		send_all(fd, question, length);
		need(recv(fd, answer, length, MSG_WAITALL) == (ssize_t)length &&
			     memcmp(answer, question, length) == 0,
		     "answer");
	}
	close(fd);
}

static unsigned char pattern(size_t at)
{
	return (unsigned char)((at * 2654435761u) >> 13);
}

static void send_much(const char *text, size_t size)
{
	char *block = malloc(size), part[BLOCK_BYTES];
	size_t sent = 0, received = 0;
	int fd = connected(text), limit_ms = 1000 * atoi(getenv("APP_LIMIT_S"));
	ssize_t n = 1;

	for (size_t i = 0; i < size; i++)
		block[i] = (char)pattern(i);
	while (n != 0) {
		struct pollfd p = { fd, POLLIN | (sent < size ? POLLOUT : 0), 0 };

		need(poll(&p, 1, limit_ms) == 1, "poll");
		if (p.revents & POLLOUT) {
			n = send(fd, block + sent, size - sent, MSG_DONTWAIT);
			sent += n > 0 ? (size_t)n : 0;
			if (sent == size)
				shutdown(fd, SHUT_WR);
			n = 1;
		}
		if (p.revents & ~POLLOUT) {
			n = read(fd, part, sizeof(part));
			need(n >= 0 && received + (size_t)n <= size &&
				     memcmp(part, block + received, (size_t)n) == 0,
			     "what came back");
			received += (size_t)n;
		}
	}
	need(received == size, "the rest");
	free(block);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "server") == 0)
		serve(argv[2]);
	need(argc == 4, "arguments");
	ask(argv[2]);
	send_much(argv[2], strtoul(argv[3], NULL, 10));
	return 0;
}
