/* SPDX-License-Identifier: Apache-2.0 */
/* Event loops that change what they wait for, and others who look at the same set: processes, sets,
 * holders of a copy, threads. */
#include "tests/conformance/lib/running_set.h"

enum { ANY = CONF_COLD | CONF_SWAP };

/* ---- others look at the set ---- */

static void forked_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);
	int status;
	pid_t child;

	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
	child = fork();
	if (child == 0) {
		see("child", set, CONF_WAIT_MS);
		_exit(0);
	}
	waitpid(child, &status, 0);
	obs_exit("child", status);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	child = fork();
	if (child == 0) {
		see("child", set, 20);
		obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 3));
		_exit(0);
	}
	waitpid(child, &status, 0);
	obs_exit("child", status);
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 4));
	tell(WHEN_ASLEEP);
	see("parent", set, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_shared.forked", forked_server, on_demand_client, ANY);

static void nested_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);
	int outer = epoll_create1(0);
	struct pollfd p = { .fd = set, .events = POLLIN };

	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
	obs_poll("poll", poll(&p, 1, CONF_WAIT_MS), p.revents);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 3));
	obs_poll("poll", poll(&p, 1, 0), p.revents);
	close(set);
	set = running_set(fd, EPOLLIN, 1);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
	obs("nest", change(outer, EPOLL_CTL_ADD, set, EPOLLIN, 4));
	see("outer", outer, CONF_WAIT_MS);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 3));
	see("outer", outer, 10);
	tell(WHEN_ASLEEP);
	see("outer", outer, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	close(set);
	close(outer);
	tell(NO_MORE);
}
CASE("epoll_shared.nested", nested_server, on_demand_client, ANY);

static void copied_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);
	int copy;

	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
	copy = dup(set);
	see("copy", copy, CONF_WAIT_MS);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 3));
	see("copy", copy, 0);
	tell(WHEN_ASLEEP);
	see("copy", copy, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	close(copy);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_shared.copied", copied_server, on_demand_client, ANY);

/* What is changed by one number of the set holds for all of them. */
static void changed_copy_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);
	int copy = dup(set);

	demand();
	ready(fd, POLLIN);
	see("set", set, CONF_WAIT_MS);
	obs("mod by the copy", change(copy, EPOLL_CTL_MOD, fd, EPOLLIN, 2));
	see("set", set, CONF_WAIT_MS);
	obs("del by the copy", change(copy, EPOLL_CTL_DEL, fd, 0, 0));
	see("set", set, 10);
	obs("add by the copy", change(copy, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, 3));
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 4));
	see("set", set, CONF_WAIT_MS);
	see("copy", copy, 10);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 5));
	see("copy", copy, CONF_WAIT_MS);
	recv_pat(fd, 10, 0);
	see("copy", copy, 10);
	close(copy);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_shared.changed_copy", changed_copy_server, on_demand_client, ANY);

/* The copy outlives the number that the set had first. */
static void outlived_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLET, 1);
	int copy = fcntl(set, F_DUPFD_CLOEXEC, 0);

	obs("close", close(set));
	obs("mod", change(copy, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 2));
	see("room", copy, CONF_WAIT_MS);
	for (uint64_t i = 0; i < 3; i++) {
		tell(WHEN_ASLEEP);
		see("copy", copy, CONF_WAIT_MS);
		await();
		recv_pat(fd, 10, 10 * i);
	}
	set = epoll_create1(0); /* by the number that is free again */
	see("other", set, 10);
	obs("mod", change(copy, EPOLL_CTL_MOD, fd, EPOLLIN, 3));
	tell(WHEN_ASLEEP);
	see("copy", copy, CONF_WAIT_MS);
	see("other", set, 0);
	await();
	recv_pat(fd, 10, 30);
	obs("del", change(copy, EPOLL_CTL_DEL, fd, 0, 0));
	close(copy);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_shared.outlived", outlived_server, on_demand_client, ANY);

static void *close_and_demand(void *argument)
{
	nap_ms(CONF_NAP_MS);
	obs("close", close(*(int *)argument));
	tell(AT_ONCE);
	return NULL;
}

/* The set is closed while a thread sleeps in it: for that thread it lives on. */
static void closed_asleep_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);
	pthread_t thread = spawn(close_and_demand, &set);

	see("closed", set, CONF_WAIT_MS);
	pthread_join(thread, NULL);
	await();
	recv_pat(fd, 10, 0);
	tell(NO_MORE);
}
CASE("epoll_shared.closed_asleep", closed_asleep_server, on_demand_client, ANY);

static void pass(int by, int fd)
{
	char byte = 'x', room[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = room,
			    .msg_controllen = sizeof(room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(by, &m, 0) != 1)
		obs_text("not passed");
}

static int passed(int by)
{
	char byte, room[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = room,
			    .msg_controllen = sizeof(room) };
	int fd = -1;

	if (recvmsg(by, &m, 0) == 1 && m.msg_controllen > 0)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* The set is passed on, if only to this process itself, while a change is on its way. */
static void passed_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);
	int ends[2], other;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		return;
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
	pass(ends[0], set);
	other = passed(ends[1]);
	see("passed", other, CONF_WAIT_MS);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 3));
	tell(WHEN_ASLEEP);
	see("passed", other, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	close(other);
	close(ends[0]);
	close(ends[1]);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_shared.passed", passed_server, on_demand_client, ANY);

/* By its new number others see it, who know only the data that was given. */
static void passed_same_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 7);
	int ends[2], pipe_ends[2], other;
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || pipe(pipe_ends) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, pipe_ends[0], EPOLLIN, 7));
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 7));
	pass(ends[0], set);
	other = passed(ends[1]);
	obs("write", write(pipe_ends[1], "x", 1));
	see("pipe", other, CONF_WAIT_MS);
	see("pipe", set, CONF_WAIT_MS);
	obs("read", read(pipe_ends[0], &byte, 1));
	tell(WHEN_ASLEEP);
	see("bytes", other, CONF_WAIT_MS);
	await();
	see("bytes", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 0);
	close(other);
	close(ends[0]);
	close(ends[1]);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_shared.passed_same_data", passed_same_server, on_demand_client, ANY);

/* ---- threads ---- */

struct other {
	int set;
	int fd;
};

static void *remove_and_add(void *argument)
{
	struct other *o = argument;

	nap_ms(CONF_NAP_MS);
	epoll_ctl(o->set, EPOLL_CTL_DEL, o->fd, NULL);
	change(o->set, EPOLL_CTL_ADD, o->fd, EPOLLOUT, 5);
	return NULL;
}

static void *ask_for_bytes(void *argument)
{
	struct other *o = argument;

	change(o->set, EPOLL_CTL_MOD, o->fd, EPOLLIN, 6);
	tell(WHEN_ASLEEP);
	return NULL;
}

/* Another thread changes what the sleeper waits for. */
static void threads_server(int fd)
{
	struct other o = { running_set(fd, EPOLLIN, 1), fd };
	pthread_t thread = spawn(remove_and_add, &o);

	see("room", o.set, CONF_WAIT_MS);
	pthread_join(thread, NULL);
	obs("mod", change(o.set, EPOLL_CTL_MOD, fd, 0, 4));
	thread = spawn(ask_for_bytes, &o);
	see("bytes", o.set, CONF_WAIT_MS);
	pthread_join(thread, NULL);
	await();
	recv_pat(fd, 10, 0);
	see("empty", o.set, 0);
	close(o.set);
	tell(NO_MORE);
}
CASE("epoll_shared.threads", threads_server, on_demand_client, ANY);
