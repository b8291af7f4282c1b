/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/bench/rawring.h"

enum { BACKLOG = 128 };

union any_address {
	struct sockaddr generic;
	struct sockaddr_in tcp;
	struct sockaddr_un local;
};

static socklen_t make_address(union any_address *out, const struct bench_job *job)
{
	memset(out, 0, sizeof(*out));
	if (job->family == BENCH_UNIX) {
		out->local.sun_family = AF_UNIX;
		memcpy(out->local.sun_path, job->address, strlen(job->address));
		return sizeof(out->local);
	}
	out->tcp.sin_family = AF_INET;
	out->tcp.sin_port = htons((uint16_t)strtoul(job->address, NULL, 10));
	out->tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(out->tcp);
}

static int open_socket(const struct bench_job *job)
{
	int domain = job->family == BENCH_UNIX ? AF_UNIX : AF_INET;
	int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		bench_child_fail("socket");
	if (job->family == BENCH_TCP && job->congestion[0] &&
	    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, job->congestion,
		       (socklen_t)strlen(job->congestion)) < 0)
		bench_child_fail("TCP_CONGESTION");
	return fd;
}

int channel_listen(const struct bench_job *job, char *address_out)
{
	union any_address address;
	socklen_t bytes = make_address(&address, job);
	int fd = open_socket(job);

	if (bind(fd, &address.generic, bytes) < 0 || listen(fd, BACKLOG) < 0)
		bench_child_fail("listen");
	if (job->family == BENCH_UNIX) {
		snprintf(address_out, BENCH_ADDRESS_BYTES, "%s", job->address);
		return fd;
	}
	bytes = sizeof(address.tcp);
	if (getsockname(fd, &address.generic, &bytes) < 0)
		bench_child_fail("getsockname");
	snprintf(address_out, BENCH_ADDRESS_BYTES, "%u", ntohs(address.tcp.sin_port));
	return fd;
}

int channel_accept(int listener)
{
	int fd;

	do
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		bench_child_fail("accept");
	return fd;
}

int channel_connect(const struct bench_job *job)
{
	union any_address address;
	socklen_t bytes = make_address(&address, job);
	int fd = open_socket(job);

	if (connect(fd, &address.generic, bytes) < 0)
		bench_child_fail("connect");
	return fd;
}

void channel_open(struct channel *channel, int fd, const struct bench_job *job)
{
	struct epoll_event event = { .events = EPOLLIN };
	int one = 1;

	*channel = (struct channel){ .fd = fd, .epoll_fd = -1, .wait = job->wait };
	if (job->family == BENCH_TCP && job->workload == BENCH_PINGPONG)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (job->wait != BENCH_BLOCK && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		bench_child_fail("O_NONBLOCK");
	if (job->wait != BENCH_EPOLL)
		return;
	channel->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (channel->epoll_fd < 0 || epoll_ctl(channel->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		bench_child_fail("epoll");
}

static void wait_for(struct channel *channel)
{
	struct epoll_event event;

	while (epoll_wait(channel->epoll_fd, &event, 1, -1) < 0)
		if (errno != EINTR)
			bench_child_fail("epoll_wait");
}

static void watch(struct channel *channel, uint32_t events)
{
	struct epoll_event event = { .events = events };

	if (epoll_ctl(channel->epoll_fd, EPOLL_CTL_MOD, channel->fd, &event) < 0)
		bench_child_fail("epoll_ctl");
}

void channel_send(struct channel *channel, const void *from, size_t bytes)
{
	const char *at = from;
	bool watched = false;

	if (channel->raw) {
		rawring_send(channel->raw, from, bytes);
		return;
	}
	while (bytes > 0) {
		ssize_t n = send(channel->fd, at, bytes, MSG_NOSIGNAL);

		if (n >= 0) {
			at += n;
			bytes -= (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			bench_child_fail("send");
		} else if (errno == EAGAIN && channel->wait == BENCH_EPOLL) {
			if (!watched)
				watch(channel, EPOLLOUT);
			watched = true;
			wait_for(channel);
		}
	}
	if (watched)
		watch(channel, EPOLLIN);
}

size_t channel_recv_some(struct channel *channel, void *to, size_t bytes)
{
	if (channel->raw)
		return rawring_recv(channel->raw, to, bytes);
	for (;;) {
		ssize_t n;

		if (channel->wait == BENCH_EPOLL)
			wait_for(channel);
		n = recv(channel->fd, to, bytes, 0);
		if (n >= 0)
			return (size_t)n;
		if (errno != EAGAIN && errno != EINTR)
			bench_child_fail("recv");
	}
}

bool channel_recv(struct channel *channel, void *to, size_t bytes)
{
	size_t got = 0;

	while (got < bytes) {
		size_t n = channel_recv_some(channel, (char *)to + got, bytes - got);

		if (n == 0 && got == 0)
			return false;
		if (n == 0) {
			errno = EPIPE;
			bench_child_fail("end of stream inside a message");
		}
		got += n;
	}
	return true;
}

void channel_finish(struct channel *channel)
{
	if (channel->raw)
		rawring_finish(channel->raw);
	else if (shutdown(channel->fd, SHUT_WR) < 0)
		bench_child_fail("shutdown");
}

void channel_close(struct channel *channel)
{
	if (channel->raw)
		return;
	if (channel->epoll_fd >= 0)
		close(channel->epoll_fd);
	close(channel->fd);
}
