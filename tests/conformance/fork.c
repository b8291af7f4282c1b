/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that live in more than one process. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP };

static void reap(pid_t child)
{
	int status = 0;

	waitpid(child, &status, 0);
	obs_exit("child", status);
}

/* The child writes, the parent reads. */
static void child_writes_server(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		send_pat(fd, 100000, 0);
		_exit(0);
	}
	recv_pat(fd, 100000, 5);
	reap(child);
	send_pat(fd, 100, 100000);
}

static void child_writes_client(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		send_pat(fd, 100000, 5);
		_exit(0);
	}
	recv_pat(fd, 100100, 0);
	reap(child);
}
CASE("fork.child_writes", child_writes_server, child_writes_client, CONF_COLD);

/* Parent and child take turns. */
static void turns_server(int fd)
{
	for (uint64_t i = 0; i < 6; i++) {
		if (i % 2) {
			pid_t child = fork();

			if (child == 0) {
				recv_pat(fd, 1000, i);
				send_pat(fd, 500, i);
				_exit(0);
			}
			reap(child);
		} else {
			recv_pat(fd, 1000, i);
			send_pat(fd, 500, i);
		}
	}
}

static void turns_client(int fd)
{
	for (uint64_t i = 0; i < 6; i++) {
		send_pat(fd, 1000, i);
		recv_pat(fd, 500, i);
	}
}
CASE("fork.turns", turns_server, turns_client, ANY);

/* The parent closes its copy: no EOF while the child holds one. */
static void child_serves_server(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		recv_pat(fd, 5000, 0);
		send_pat(fd, 5000, 0);
		_exit(0);
	}
	close(fd);
	reap(child);
}

static void child_serves_client(int fd)
{
	send_pat(fd, 5000, 0);
	recv_to_eof(fd, 0);
}
CASE("fork.child_serves", child_serves_server, child_serves_client, ANY);

static void child_closes_server(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		obs("child close", close(fd));
		_exit(0);
	}
	reap(child);
	recv_pat(fd, 5000, 0);
	send_pat(fd, 5000, 0);
	close(fd);
}
CASE("fork.child_closes", child_closes_server, child_serves_client, ANY);

/* The parent ends; the orphan goes on. */
static void orphan_server(int fd)
{
	int alive[2], go[2];
	char byte;
	pid_t child;

	if (pipe(alive) < 0 || pipe(go) < 0)
		return;
	child = fork();
	if (child == 0) {
		pid_t grandchild = fork();

		if (grandchild)
			_exit(0);
		close(alive[0]);
		close(go[1]);
		if (read(go[0], &byte, 1) != 0)
			_exit(1);
		recv_pat(fd, 3000, 0);
		send_pat(fd, 3000, 0);
		_exit(0);
	}
	close(alive[1]);
	close(fd);
	reap(child);
	close(go[0]);
	close(go[1]);
	obs("orphan done", read(alive[0], &byte, 1));
	close(alive[0]);
}

static void orphan_client(int fd)
{
	send_pat(fd, 3000, 0);
	recv_to_eof(fd, 0);
}
CASE("fork.orphan", orphan_server, orphan_client, ANY);

/* A child that dies takes nothing with it. */
static void child_killed_server(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		recv_pat(fd, 100, 0);
		kill(getpid(), SIGKILL);
	}
	reap(child);
	tell(0);
	recv_pat(fd, 100, 100);
	send_pat(fd, 100, 0);
}

static void child_killed_client(int fd)
{
	send_pat(fd, 100, 0);
	await();
	send_pat(fd, 100, 100);
	recv_pat(fd, 100, 0);
}
CASE("fork.child_killed", child_killed_server, child_killed_client, ANY);

/* A sleeping reader in the child, woken by the peer, while the parent waits for it. */
static void child_sleeps_server(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		char byte = 0;

		tell(0);
		obs("child recv", recv(fd, &byte, 1, 0));
		_exit(byte);
	}
	reap(child);
	send_pat(fd, 10, 0);
}

static void child_sleeps_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_exact(fd, "\7", 1);
	recv_pat(fd, 10, 0);
}
CASE("fork.child_sleeps", child_sleeps_server, child_sleeps_client, ANY);

/* vfork and _exit: nothing of the connection may change. */
static void vfork_server(int fd)
{
	pid_t child = vfork();

	if (child == 0)
		_exit(4);
	reap(child);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
}

static void vfork_client(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
}
CASE("fork.vfork", vfork_server, vfork_client, ANY);

/* Forked before there is traffic; the child serves, as a pre-fork server does. */
static void prefork_server(int listener)
{
	pid_t child = fork();

	if (child == 0) {
		int fd = conf_accept(listener);

		warm_up(fd, CONF_WARM_ROUNDS);
		recv_pat(fd, 5000, 0);
		send_pat(fd, 5000, 0);
		close(fd);
		_exit(0);
	}
	reap(child);
}

static void prefork_client(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, CONF_WARM_ROUNDS);
	send_pat(fd, 5000, 0);
	recv_to_eof(fd, 0);
	close(fd);
}
CASE("fork.prefork", prefork_server, prefork_client, CONF_RAW | CONF_MUST);

/* Accepted by the parent, served by a child from the first byte on.  The parent closes at once,
 * but on a busy machine that may be when all is over: the child waits for it. */
static void per_connection_server(int listener)
{
	int fd = conf_accept(listener), closed[2];
	pid_t child;
	char byte;

	obs("pipe", pipe(closed));
	child = fork();
	if (child == 0) {
		close(listener);
		close(closed[1]);
		obs("read", read(closed[0], &byte, 1)); /* the end */
		warm_up(fd, CONF_WARM_ROUNDS);
		recv_pat(fd, 5000, 0);
		send_pat(fd, 5000, 0);
		_exit(0);
	}
	close(fd);
	close(closed[1]);
	close(closed[0]);
	reap(child);
}
CASE("fork.per_connection", per_connection_server, prefork_client, CONF_RAW | CONF_MUST);

/* Both have used it before the parent leaves it to the child. */
static void leave_to_child(int fd)
{
	int left[2];
	pid_t child;
	char byte;

	obs("pipe", pipe(left));
	warm_up(fd, 1);
	child = fork();
	if (child == 0) {
		close(left[1]);
		obs("read", read(left[0], &byte, 1)); /* the end: the parent has closed */
		warm_up(fd, CONF_WARM_ROUNDS);
		send_pat(fd, 5000, 0);
		recv_pat(fd, 5000, 0);
		close(fd);
		_exit(0);
	}
	close(left[0]);
	warm_up(fd, 1);
	close(fd);
	close(left[1]);
	reap(child);
}

static void left_server(int listener)
{
	leave_to_child(conf_accept(listener));
}

static void left_client(int none)
{
	(void)none;
	leave_to_child(conf_connect());
}
CASE("fork.left_to_child", left_server, left_client, CONF_RAW | CONF_MUST);

/* A child that shared it was killed: the parent has it alone again. */
static void killed_sharer_server(int listener)
{
	int fd = conf_accept(listener);
	int status = 0;
	pid_t child;

	warm_up(fd, 1);
	child = fork();
	if (child == 0) {
		for (;;)
			pause();
	}
	obs("kill", kill(child, SIGKILL));
	obs("waitpid", waitpid(child, &status, 0) == child ? 0 : -1);
	obs_exit("child", status);
	warm_up(fd, CONF_WARM_ROUNDS);
	recv_pat(fd, 5000, 0);
	send_pat(fd, 5000, 0);
	obs("close", close(fd));
}

static void killed_sharer_client(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, 1);
	warm_up(fd, CONF_WARM_ROUNDS);
	send_pat(fd, 5000, 0);
	recv_to_eof(fd, 0);
	close(fd);
}
CASE("fork.killed_sharer", killed_sharer_server, killed_sharer_client, CONF_RAW | CONF_MUST);
