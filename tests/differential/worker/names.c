/* SPDX-License-Identifier: Apache-2.0 */
/* Names of flags, events, options and errors. */
#include "tests/differential/worker/worker.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct name {
	const char *text;
	unsigned int value, second;
};

static const struct name flag_names[] = {
	{ "PEEK", MSG_PEEK, 0 },
	{ "WAITALL", MSG_WAITALL, 0 },
	{ "DONTWAIT", MSG_DONTWAIT, 0 },
	{ "TRUNC", MSG_TRUNC, 0 },
	{ "NOSIGNAL", MSG_NOSIGNAL, 0 },
	{ "MORE", MSG_MORE, 0 },
	{ "OOB", MSG_OOB, 0 },
	{ "EOR", MSG_EOR, 0 },
	{ "ERRQUEUE", MSG_ERRQUEUE, 0 },
	{ "WAITFORONE", MSG_WAITFORONE, 0 },
	{ "CMSG", MSG_CMSG_CLOEXEC, 0 },
	{ "DONTROUTE", MSG_DONTROUTE, 0 },
	{ "0", 0, 0 },
	{ NULL, 0, 0 },
};

/* for poll, for epoll */
static const struct name event_names[] = {
	{ "IN", POLLIN, EPOLLIN },
	{ "OUT", POLLOUT, EPOLLOUT },
	{ "PRI", POLLPRI, EPOLLPRI },
	{ "RDHUP", POLLRDHUP, EPOLLRDHUP },
	{ "RDNORM", POLLRDNORM, EPOLLRDNORM },
	{ "WRNORM", POLLWRNORM, EPOLLWRNORM },
	{ "RDBAND", POLLRDBAND, EPOLLRDBAND },
	{ "ET", 0, EPOLLET },
	{ "ONESHOT", 0, EPOLLONESHOT },
	{ "EXCLUSIVE", 0, EPOLLEXCLUSIVE },
	{ "0", 0, 0 },
	{ NULL, 0, 0 },
};

static const struct name option_names[] = {
	{ "NODELAY", IPPROTO_TCP, TCP_NODELAY },
	{ "CORK", IPPROTO_TCP, TCP_CORK },
	{ "QUICKACK", IPPROTO_TCP, TCP_QUICKACK },
	{ "INQ", IPPROTO_TCP, TCP_INQ },
	{ "RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT },
	{ "OOBINLINE", SOL_SOCKET, SO_OOBINLINE },
	{ "KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE },
	{ "ERROR", SOL_SOCKET, SO_ERROR },
	{ "TYPE", SOL_SOCKET, SO_TYPE },
	{ "DOMAIN", SOL_SOCKET, SO_DOMAIN },
	{ "PASSCRED", SOL_SOCKET, SO_PASSCRED },
	{ "TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP },
	{ "PEEK_OFF", SOL_SOCKET, SO_PEEK_OFF },
	{ "ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY },
	{ "SNDBUF", SOL_SOCKET, SO_SNDBUF },
	{ "RCVBUF", SOL_SOCKET, SO_RCVBUF },
	{ "PRIORITY", SOL_SOCKET, SO_PRIORITY },
	{ "ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN },
	{ "NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT },
	{ NULL, 0, 0 },
};

static const struct name *find(const struct name *names, const char *text, size_t length)
{
	for (; names->text; names++)
		if (strlen(names->text) == length && memcmp(names->text, text, length) == 0)
			return names;
	fprintf(stderr, "worker: unknown name: %s\n", text);
	abort();
}

static unsigned int sum(const struct name *names, const char *text, bool second)
{
	unsigned int value = 0;

	for (;;) {
		size_t length = strcspn(text, "|");
		const struct name *name = find(names, text, length);

		value |= second ? name->second : name->value;
		if (!text[length])
			return value;
		text += length + 1;
	}
}

int flags_of(const char *text)
{
	return (int)sum(flag_names, text, false);
}

int events_of(const char *text, bool epoll)
{
	return (int)sum(event_names, text, epoll);
}

const char *errno_name(int error)
{
	const char *name = strerrorname_np(error);

	return name ? name : "unknown";
}

void option_of(const char *text, int *level, int *option)
{
	const struct name *name = find(option_names, text, strlen(text));

	*level = (int)name->value;
	*option = (int)name->second;
}
