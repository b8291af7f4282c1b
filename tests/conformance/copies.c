/* SPDX-License-Identifier: Apache-2.0 */
/* pidfd_getfd(): a descriptor is copied out of a process, be it another or one's own. */
#include "tests/conformance/lib/conf.h"

#include <sys/pidfd.h>
#include <sys/syscall.h>

enum { ANY = CONF_COLD | CONF_SWAP };

static int copy_from(pid_t pid, int number)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int copy = pidfd_getfd(pidfd, number, 0);

	close(pidfd);
	return copy;
}

static void exchange_client(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	both();
}

static void own_server(int fd)
{
	int copy = copy_from(getpid(), fd);
	struct stat a, b;

	fstat(fd, &a);
	fstat(copy, &b);
	obs_val("same inode", a.st_ino == b.st_ino);
	obs("cloexec", fcntl(copy, F_GETFD));
	recv_pat(copy, 60, 0);
	recv_pat(fd, 40, 60);
	send_pat(copy, 50, 0);
	send_pat(fd, 50, 50);
	obs("close", close(copy));
	both();
}
CASE("copies.own", own_server, exchange_client, ANY);

/* The first number is closed; the connection lives on in the copy, and ends with it. */
static void own_alone_server(int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	close(pidfd);
	recv_pat(fd, 40, 0);
	obs("close", close(fd));
	goes_on_server(copy);
}

static void own_alone_client(int fd)
{
	send_pat(fd, 40, 0);
	goes_on_client(fd);
}
CASE("copies.own_alone", own_alone_server, own_alone_client, ANY);

/* A set that has been waited for by its first number for long, and then by both. */
static void own_set_server(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 7 };
	int set = epoll_create1(0), copy;
	uint64_t position = 0;

	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	for (; position < 300; position += 10) {
		tell(AT_ONCE);
		epoll_wait(set, &event, 1, CONF_WAIT_MS);
		recv_pat(fd, 10, position);
		await();
	}
	copy = copy_from(getpid(), set);
	event = (struct epoll_event){ .events = EPOLLIN, .data.u64 = 8 };
	obs("epoll_ctl", epoll_ctl(copy, EPOLL_CTL_MOD, fd, &event));
	for (; position < 330; position += 10) {
		demand();
		obs_epoll("by the first", epoll_wait(set, &event, 1, CONF_WAIT_MS), &event);
		recv_pat(fd, 10, position);
	}
	for (; position < 360; position += 10) {
		tell(WHEN_ASLEEP);
		obs_epoll("by the copy", epoll_wait(copy, &event, 1, CONF_WAIT_MS), &event);
		recv_pat(fd, 10, position);
		await();
	}
	tell(NO_MORE);
	close(copy);
	close(set);
}
CASE("copies.own_set", own_set_server, on_demand_client, ANY);

/* Parent and child hold the connection; the parent goes on by a copy of the child's number. */
static void relative_server(int fd)
{
	pid_t child = fork();
	int copy, status;

	if (child == 0) {
		pause();
		_exit(1);
	}
	copy = copy_from(child, fd);
	close(fd);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	goes_on_server(copy);
}
CASE("copies.relative", relative_server, goes_on_client, ANY);

/* Somebody else looks at the socket, and no more: nothing happens to the connection. */
static void watched_server(int fd)
{
	tell((uint64_t)fd);
	await();
	goes_on_server(fd);
}

static void watching_client(int fd)
{
	int copy = copy_from(conf.peer_pid, (int)await());
	struct sockaddr_storage theirs, mine;
	socklen_t their_bytes = sizeof(theirs), my_bytes = sizeof(mine);

	obs("getsockname", getsockname(copy, (struct sockaddr *)&theirs, &their_bytes));
	obs("getpeername", getpeername(fd, (struct sockaddr *)&mine, &my_bytes));
	obs_val("is the peer's", my_bytes == their_bytes && memcmp(&mine, &theirs, my_bytes) == 0);
	obs("close", close(copy));
	tell(0);
	goes_on_client(fd);
}
CASE("copies.watched", watched_server, watching_client, CONF_COLD);

static void wrong_server(int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	obs("not open", pidfd_getfd(pidfd, 4242, 0));
	obs("a flag", pidfd_getfd(pidfd, fd, 1));
	obs("no pidfd", pidfd_getfd(fd, fd, 0));
	obs("by its number", syscall(SYS_pidfd_getfd, pidfd, 4242, 0));
	close(pidfd);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	both();
}
CASE("copies.wrong", wrong_server, exchange_client, ANY);
