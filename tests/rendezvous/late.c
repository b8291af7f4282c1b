/* SPDX-License-Identifier: Apache-2.0 */
/* late shim PATH            loads the shim when it is running already
 * late plugin PATH          loads a library that uses its connection
 * late deep PATH            the same with RTLD_DEEPBIND: the loader binds the library's calls to
 *                           libc's own functions
 * late mixed PATH           ... and the connection is made, and used at first, by the program; by
 *                           the other end always
 * Then two processes make 200 round trips with checked content, one of them forks meanwhile. */
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/rendezvous/program.h"

enum { ROUNDS = 200, BYTES = 300 };

static ssize_t (*send_bytes)(int fd, const void *bytes, size_t count);
static ssize_t (*receive_bytes)(int fd, void *bytes, size_t count);
static int (*connect_to)(const struct sockaddr *address, socklen_t bytes);

static ssize_t (*later_send)(int fd, const void *bytes, size_t count);
static ssize_t (*later_receive)(int fd, void *bytes, size_t count);

static ssize_t own_send(int fd, const void *bytes, size_t count)
{
	return write(fd, bytes, count);
}

static ssize_t own_receive(int fd, void *bytes, size_t count)
{
	return recv(fd, bytes, count, MSG_WAITALL);
}

static int own_connect(const struct sockaddr *address, socklen_t bytes)
{
	int fd = socket(address->sa_family, SOCK_STREAM, 0);

	return fd >= 0 && connect(fd, address, bytes) == 0 ? fd : -1;
}

static void expect(int fd, int round)
{
	char bytes[BYTES];

	if (receive_bytes(fd, bytes, BYTES) != BYTES)
		fail("receive");
	for (int i = 0; i < BYTES; i++)
		if (bytes[i] != (char)(round + i))
			fail("a wrong byte");
}

static void say(int fd, int round)
{
	char bytes[BYTES];

	for (int i = 0; i < BYTES; i++)
		bytes[i] = (char)(round + i);
	if (send_bytes(fd, bytes, BYTES) != BYTES)
		fail("send");
}

static void look_up(void *library)
{
	*(void **)&send_bytes = dlsym(library, "plugin_send");
	*(void **)&receive_bytes = dlsym(library, "plugin_receive");
	*(void **)&connect_to = dlsym(library, "plugin_connect");
	if (!send_bytes || !receive_bytes || !connect_to)
		fail("dlsym");
}

/* The library's calls are kept for the second half. */
static void use_own_first(void)
{
	later_send = send_bytes;
	later_receive = receive_bytes;
	send_bytes = own_send;
	receive_bytes = own_receive;
	connect_to = own_connect;
}

static void begin_round(int round)
{
	if (later_send && round == ROUNDS / 2) {
		send_bytes = later_send;
		receive_bytes = later_receive;
	}
}

static void fork_once(void)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(7);
	if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7)
		fail("fork");
}

int main(int argc, char **argv)
{
	struct sockaddr_in address;
	int listener, fd, status;
	bool mixed = argc > 2 && strcmp(argv[1], "mixed") == 0;
	bool deep = mixed || (argc > 2 && strcmp(argv[1], "deep") == 0);
	void *library = argc > 2 ? dlopen(argv[2],
					  RTLD_LAZY | RTLD_GLOBAL | (deep ? RTLD_DEEPBIND : 0))
				 : NULL;
	pid_t child;

	if (!library) {
		fprintf(stderr, "late: %s\n", argc > 2 ? dlerror() : "nothing to load");
		return 2;
	}
	send_bytes = own_send;
	receive_bytes = own_receive;
	connect_to = own_connect;
	if (strcmp(argv[1], "shim") == 0)
		dlclose(library);
	else
		look_up(library);
	if (mixed)
		use_own_first();
	listener = listen_here(&address, 0, 4);
	child = fork();
	if (child == 0) {
		fd = connect_to((struct sockaddr *)&address, sizeof(address));
		for (int i = 0; i < ROUNDS; i++) {
			begin_round(i);
			say(fd, i);
			expect(fd, i);
		}
		close(fd);
		exit(0);
	}
	fd = accept(listener, NULL, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		expect(fd, i);
		if (i % 50 == 49)
			fork_once();
		say(fd, i);
	}
	close(fd);
	if (waitpid(child, &status, 0) != child || status != 0)
		fail("the other end");
	return 0;
}
