/* SPDX-License-Identifier: Apache-2.0 */
/* Several registrations of one set that carry the same data: whose event is it? */
#include "tests/conformance/lib/running_set.h"

enum { ANY = CONF_COLD | CONF_SWAP, SAME = 7 };

static void *late_byte(void *argument)
{
	nap_ms(CONF_NAP_MS);
	if (write(*(int *)argument, "x", 1) != 1)
		obs_text("pipe");
	return NULL;
}

/* Asleep in a set with the connection, which is quiet, and a pipe. */
static void wakes(int fd, uint32_t events)
{
	int set = running_set(fd, events, SAME);
	int ends[2];
	pthread_t thread;
	char byte;

	if (pipe(ends) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, SAME));
	for (int i = 0; i < 3; i++) {
		demand();
		ready(fd, POLLIN);
		see("bytes", set, CONF_WAIT_MS);
		recv_pat(fd, 10, (uint64_t)i * 10);
		see("nothing", set, 10);
		thread = spawn(late_byte, &ends[1]);
		see("pipe", set, CONF_WAIT_MS);
		pthread_join(thread, NULL);
		obs("read", read(ends[0], &byte, 1));
	}
	close(ends[0]);
	close(ends[1]);
	close(set);
	tell(NO_MORE);
}

static void level_server(int fd)
{
	wakes(fd, EPOLLIN);
}
CASE("epoll_data.level", level_server, on_demand_client, ANY);

static void edge_server(int fd)
{
	wakes(fd, EPOLLIN | EPOLLET);
}
CASE("epoll_data.edge", edge_server, on_demand_client, ANY);

/* The pipe comes first, and the set is in use before the connection joins it. */
static void joins_server(int fd)
{
	int set = epoll_create1(0);
	struct epoll_event e;
	int ends[2];
	char byte;

	if (pipe(ends) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, SAME));
	obs("wait", epoll_wait(set, &e, 1, 0));
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, SAME));
	for (int i = 0; i < 3; i++) {
		tell(WHEN_ASLEEP);
		see("bytes", set, CONF_WAIT_MS);
		await();
		recv_pat(fd, 10, (uint64_t)i * 10);
		obs("write", write(ends[1], "x", 1));
		see("pipe", set, CONF_WAIT_MS);
		obs("read", read(ends[0], &byte, 1));
		see("nothing", set, 10);
	}
	close(ends[0]);
	close(ends[1]);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_data.joins", joins_server, on_demand_client, ANY);

/* The pipe's hang-up is not the connection's, which goes on. */
static void hangup_server(int fd)
{
	int set = running_set(fd, EPOLLIN, SAME);
	int ends[2];

	if (pipe(ends) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, SAME));
	close(ends[1]);
	see("hang-up", set, CONF_WAIT_MS);
	see("hang-up", set, CONF_WAIT_MS);
	obs("del", change(set, EPOLL_CTL_DEL, ends[0], 0, 0));
	see("nothing", set, 10);
	close(ends[0]);
	close(set);
	goes_on_server(fd);
}
CASE("epoll_data.hangup", hangup_server, goes_on_client, ANY);

/* Room in the pipe is told although the connection's has been. */
static void room_server(int fd)
{
	int set = running_set(fd, EPOLLOUT | EPOLLET, SAME);
	int ends[2];

	if (pipe(ends) < 0)
		return;
	see("room", set, CONF_WAIT_MS);
	obs("add", change(set, EPOLL_CTL_ADD, ends[1], EPOLLOUT, SAME));
	see("pipe", set, CONF_WAIT_MS);
	see("pipe", set, CONF_WAIT_MS);
	obs("mod", change(set, EPOLL_CTL_MOD, ends[1], EPOLLOUT | EPOLLONESHOT, SAME));
	see("pipe", set, CONF_WAIT_MS);
	see("nothing", set, 10);
	close(ends[0]);
	close(ends[1]);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_data.room", room_server, on_demand_client, ANY);

/* A one-shot registration of the connection is spent; the pipe's goes on. */
static void oneshot_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLONESHOT, SAME);
	int ends[2];
	char byte;

	if (pipe(ends) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, SAME));
	obs("write", write(ends[1], "x", 1));
	see("pipe", set, CONF_WAIT_MS);
	obs("read", read(ends[0], &byte, 1));
	demand();
	ready(fd, POLLIN);
	see("bytes", set, CONF_WAIT_MS);
	see("spent", set, 10);
	obs("write", write(ends[1], "x", 1));
	see("pipe", set, CONF_WAIT_MS);
	obs("read", read(ends[0], &byte, 1));
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, SAME));
	see("bytes", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 0);
	close(ends[0]);
	close(ends[1]);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_data.oneshot", oneshot_server, on_demand_client, ANY);

/* The number joins its set, with data that a pipe carries, before it is a connection. */
static void early_server(int listener)
{
	int fd = conf_accept(listener);

	warm_up(fd, CONF_WARM_ROUNDS);
	on_demand_client(fd);
	close(fd);
}

static void early_client(int none)
{
	int set = epoll_create1(0), fd = conf_socket(0), ends[2];
	char byte;

	(void)none;
	if (pipe(ends) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, SAME));
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, SAME));
	obs("connect", connect(fd, (const struct sockaddr *)&conf.name, conf.name_len));
	warm_up(fd, CONF_WARM_ROUNDS);
	for (int i = 0; i < 3; i++) {
		see("nothing", set, 10);
		tell(WHEN_ASLEEP);
		see("bytes", set, CONF_WAIT_MS);
		await();
		recv_pat(fd, 10, (uint64_t)i * 10);
		obs("write", write(ends[1], "x", 1));
		see("pipe", set, CONF_WAIT_MS);
		obs("read", read(ends[0], &byte, 1));
	}
	tell(NO_MORE);
	close(ends[0]);
	close(ends[1]);
	close(fd);
	close(set);
}
CASE("epoll_data.early", early_server, early_client, CONF_RAW | CONF_MUST);

/* A set of several owners, who see the same data. */
static void forked_server(int fd)
{
	int set = running_set(fd, EPOLLIN, SAME);
	int ends[2], status;
	pid_t child;

	if (pipe(ends) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, SAME));
	obs("write", write(ends[1], "x", 1));
	child = fork();
	if (child == 0) {
		see("child", set, CONF_WAIT_MS);
		close(fd);
		close(ends[0]);
		see("child", set, CONF_WAIT_MS);
		_exit(0);
	}
	waitpid(child, &status, 0);
	obs_exit("child", status);
	see("parent", set, CONF_WAIT_MS);
	obs("del", change(set, EPOLL_CTL_DEL, ends[0], 0, 0));
	see("parent", set, 10);
	tell(WHEN_ASLEEP);
	see("parent", set, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, SAME));
	see("parent", set, CONF_WAIT_MS);
	close(ends[0]);
	close(ends[1]);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_data.forked", forked_server, on_demand_client, ANY);

/* The peer has the child's descriptor of it too: what was closed here is told of still. */
static void closed_server(int fd)
{
	int set = running_set(fd, EPOLLIN, SAME);
	int ends[2], go[2], status;
	pid_t child;
	char byte;

	if (pipe(ends) < 0 || pipe(go) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, SAME));
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, SAME));
	child = fork();
	if (child == 0) {
		close(go[1]);
		_exit(read(go[0], &byte, 1) == 0 ? 0 : 1);
	}
	obs("close", close(fd));
	obs("close", close(ends[0]));
	demand();
	nap_ms(CONF_NAP_MS);
	see("closed", set, CONF_WAIT_MS);
	close(go[0]);
	close(go[1]);
	waitpid(child, &status, 0);
	obs_exit("child", status);
	see("gone", set, 10);
	close(ends[1]);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_data.closed", closed_server, on_demand_client, ANY);

static void *joins_late(void *argument)
{
	const int *numbers = argument; /* the set, and a pipe */

	nap_ms(CONF_NAP_MS);
	obs("add", change(numbers[0], EPOLL_CTL_ADD, numbers[1], EPOLLIN, SAME));
	if (write(numbers[2], "x", 1) != 1) /* said by nobody: the sleeper is awake now */
		obs_text("pipe");
	return NULL;
}

/* It joins while a thread sleeps in the set. */
static void late_server(int fd)
{
	int numbers[3] = { running_set(fd, EPOLLIN, SAME) };
	pthread_t thread;
	char byte;

	if (pipe(numbers + 1) < 0)
		return;
	thread = spawn(joins_late, numbers);
	see("pipe", numbers[0], CONF_WAIT_MS);
	pthread_join(thread, NULL);
	obs("read", read(numbers[1], &byte, 1));
	tell(WHEN_ASLEEP);
	see("bytes", numbers[0], CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	see("nothing", numbers[0], 10);
	for (int i = 0; i < 3; i++)
		close(numbers[i]);
	tell(NO_MORE);
}
CASE("epoll_data.late", late_server, on_demand_client, ANY);
