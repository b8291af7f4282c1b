/* SPDX-License-Identifier: Apache-2.0 */
/* Sends back what it receives: one epoll set over all connections, or one connection by blocking
 * calls. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/load/address.h"
#include "tools/load/load.h"

static char buffer[READ_BYTES];

/* The rest of a reply waits for room: a client of ours always reads. */
static bool send_back(int fd, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = send(fd, buffer + done, length - done, MSG_NOSIGNAL);

		if (n > 0) {
			done += (size_t)n;
		} else if (errno == EAGAIN) {
			struct pollfd writable = { .fd = fd, .events = POLLOUT };

			(void)poll(&writable, 1, -1);
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* One read for each event, as most servers do; what is left makes another event. */
static void echo(int fd)
{
	ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || !send_back(fd, (size_t)n))
		close(fd);
}

static void accept_all(int set, int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

		if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0)
			load_fail("epoll_ctl");
	}
	if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		load_fail("accept");
}

static _Noreturn void serve_set(int listener)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };
	int set = epoll_create1(EPOLL_CLOEXEC);

	if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) < 0)
		load_fail("epoll");
	for (;;) {
		int n = epoll_wait(set, events, EVENTS_AT_ONCE, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(set, listener);
			else
				echo(events[i].data.fd);
		}
	}
}

static _Noreturn void serve_blocking(int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		ssize_t n;

		if (fd < 0)
			load_fail("accept");
		while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
			if (!send_back(fd, (size_t)n))
				break;
		close(fd);
	}
}

int load_serve(const struct load_options *options)
{
	int listener = address_listen(options->address);

	if (options->block)
		serve_blocking(listener);
	if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0)
		load_fail("fcntl");
	serve_set(listener);
}
