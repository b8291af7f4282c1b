/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interposer that is wrong on purpose, now and then, in the way that DIFFERENTIAL_WRONG names:
 * the differential test must find it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define EXPORT __attribute__((visibility("default")))

enum { NOW_AND_THEN = 3 };

static bool is_asked_for(const char *kind)
{
	const char *wanted = getenv("DIFFERENTIAL_WRONG");

	return wanted && strcmp(wanted, kind) == 0;
}

static bool is_wrong(const char *kind)
{
	static unsigned int calls;

	return is_asked_for(kind) && ++calls % NOW_AND_THEN == 0;
}

/* into: where a pointer to the function lies */
static void find(void *into, const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	memcpy(into, &found, sizeof(found));
}

/* Orders come by packets; only streams are lied about. */
static bool is_stream(int fd)
{
	int type = 0;
	socklen_t bytes = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 && type == SOCK_STREAM;
}

EXPORT ssize_t recv(int fd, void *to, size_t count, int flags)
{
	ssize_t (*real)(int, void *, size_t, int);
	ssize_t n;

	find(&real, "recv");
	n = real(fd, to, count, flags);
	if (n > 0 && is_stream(fd)) {
		if (is_wrong("byte"))
			((unsigned char *)to)[n - 1] ^= 1;
		else if (n > 1 && !(flags & MSG_PEEK) && is_wrong("lost"))
			n--;
	}
	return n;
}

EXPORT ssize_t send(int fd, const void *from, size_t count, int flags)
{
	ssize_t (*real)(int, const void *, size_t, int);
	ssize_t n;

	find(&real, "send");
	n = real(fd, from, count, flags);
	if (n < 0 && errno == EPIPE && is_wrong("error"))
		errno = ECONNRESET;
	return n;
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	int (*real)(struct pollfd *, nfds_t, int);
	int n;

	find(&real, "poll");
	n = real(fds, count, timeout);
	if (n == 1 && (fds[0].revents & POLLRDHUP) && is_asked_for("event"))
		fds[0].revents ^= POLLIN;
	return n;
}

EXPORT int epoll_wait(int set, struct epoll_event *events, int room, int timeout)
{
	int (*real)(int, struct epoll_event *, int, int);
	int n;

	find(&real, "epoll_wait");
	n = real(set, events, room, timeout);
	return n > 0 && timeout > 0 && is_asked_for("wake") ? 0 : n;
}
