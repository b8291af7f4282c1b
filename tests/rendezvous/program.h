/* SPDX-License-Identifier: Apache-2.0 */
/* What the small programs of this directory begin with: how they fail, and where they meet. */
#ifndef SHMIPC_TESTS_RENDEZVOUS_PROGRAM_H
#define SHMIPC_TESTS_RENDEZVOUS_PROGRAM_H

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Which of a program's cases runs, for what it says; or NULL. */
static const char *which;

static _Noreturn __attribute__((unused)) void fail(const char *what)
{
	fprintf(stderr, "%s%s%s: %s: %s\n", program_invocation_short_name, which ? " " : "",
		which ? which : "", what, strerror(errno));
	_exit(1);
}

static inline int check(int result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

/* On a port of the loopback address that nobody uses; *address becomes what clients connect to. */
static inline int listen_here(struct sockaddr_in *address, int flags, int backlog)
{
	int fd = check(socket(AF_INET, SOCK_STREAM | flags, 0), "socket");
	socklen_t bytes = sizeof(*address);

	*address = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_addr = { htonl(INADDR_LOOPBACK) } };
	check(bind(fd, (const struct sockaddr *)address, bytes), "bind");
	check(listen(fd, backlog), "listen");
	check(getsockname(fd, (struct sockaddr *)address, &bytes), "getsockname");
	return fd;
}

static inline int dial(const struct sockaddr_in *address)
{
	int fd = check(socket(AF_INET, SOCK_STREAM, 0), "socket");

	check(connect(fd, (const struct sockaddr *)address, sizeof(*address)), "connect");
	return fd;
}

#endif
