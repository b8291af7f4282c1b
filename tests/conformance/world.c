/* SPDX-License-Identifier: Apache-2.0 */
/* A process that changes what it is, or where, while it has a connection. */
#include "tests/conformance/lib/conf.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

enum { ANY = CONF_COLD | CONF_SWAP, ROUNDS = 30, NOBODY = 65534 };

static void one_round(int fd, uint64_t i)
{
	recv_pat(fd, 100, i * 100);
	send_pat(fd, 100, i * 100);
}

static void asks(int fd)
{
	for (uint64_t i = 0; i < 2 * ROUNDS; i++) {
		send_pat(fd, 100, i * 100);
		recv_pat(fd, 100, i * 100);
	}
	recv_to_eof(fd, 0);
}

/* Half of the rounds before, half of them after, in a child where the harness must not change. */
static void serve_around(int fd, void (*change)(void))
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		for (uint64_t i = 0; i < ROUNDS; i++)
			one_round(fd, i);
		change();
		for (uint64_t i = ROUNDS; i < 2 * ROUNDS; i++)
			one_round(fd, i);
		close(fd);
		fflush(stdout);
		_exit(0);
	}
	close(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
}

static char empty_root[] = "/tmp/conf-root-XXXXXX";

static void go_to_empty_root(void)
{
	obs("chroot", chroot(empty_root));
	obs("chdir", chdir("/"));
}

static void chroot_server(int fd)
{
	if (!mkdtemp(empty_root))
		return;
	serve_around(fd, go_to_empty_root);
	obs("rmdir", rmdir(empty_root));
}
CASE("world.chroot", chroot_server, asks, ANY | CONF_EITHER);

static void become_nobody(void)
{
	obs("setgid", setgid(NOBODY));
	obs("setuid", setuid(NOBODY));
}

static void setuid_server(int fd)
{
	serve_around(fd, become_nobody);
}
CASE("world.setuid", setuid_server, asks, ANY | CONF_EITHER);

static void go_elsewhere(void)
{
	obs("unshare", unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC));
}

static void unshare_server(int fd)
{
	serve_around(fd, go_elsewhere);
}
CASE("world.unshare", unshare_server, asks, ANY | CONF_EITHER);

/* A thread with a table of descriptors of its own: what it does with a number is its own affair. */
static void *use_own_numbers(void *number)
{
	int fd = *(int *)number;

	obs("unshare", unshare(CLONE_FILES));
	obs("close", close(fd));
	obs_val("the same number", dup2(open("/dev/null", O_RDWR), fd) == fd);
	obs("write", write(fd, "lost", 4));
	obs("close", close(fd));
	return NULL;
}

static void *use_own_range(void *number)
{
	int fd = *(int *)number;

	obs("close_range", close_range((unsigned)fd, (unsigned)fd, CLOSE_RANGE_UNSHARE));
	obs_val("the same number", dup2(open("/dev/null", O_RDWR), fd) == fd);
	obs("write", write(fd, "lost", 4));
	return NULL;
}

static void *(*use_own)(void *);
static int own_number;

static void own_numbers(void)
{
	pthread_t thread = spawn(use_own, &own_number);

	pthread_join(thread, NULL);
}

static void own_numbers_server(int fd)
{
	own_number = fd;
	use_own = use_own_numbers;
	serve_around(fd, own_numbers);
}
CASE("world.own_numbers", own_numbers_server, asks, ANY | CONF_EITHER);

static void own_range_server(int fd)
{
	own_number = fd;
	use_own = use_own_range;
	serve_around(fd, own_numbers);
}
CASE("world.own_range", own_range_server, asks, ANY | CONF_EITHER);

static void allow_few_descriptors(void)
{
	struct rlimit few = { 32, 32 };
	int files[40], n = 0;

	obs("setrlimit", setrlimit(RLIMIT_NOFILE, &few));
	while (n < 40 && (files[n] = dup(0)) >= 0)
		n++;
	obs_val("full", n < 40 && errno == EMFILE);
	while (n > 0)
		close(files[--n]);
}

static void nofile_server(int fd)
{
	serve_around(fd, allow_few_descriptors);
}
CASE("world.few_descriptors", nofile_server, asks, ANY | CONF_EITHER);

/* The child numbers its processes anew, and both use the connection: turn by turn, so that each
 * finds the lock that the other has left. */
static void pid_namespace_server(int fd)
{
	int turns[2][2], status = 0;
	char turn = 0;
	pid_t child;

	if (pipe(turns[0]) < 0 || pipe(turns[1]) < 0)
		return;
	obs("unshare", unshare(CLONE_NEWPID));
	child = fork();
	for (uint64_t i = 0; i < 2 * ROUNDS; i++) {
		if ((i & 1) != (child == 0)) {
			if (read(turns[child == 0][0], &turn, 1) != 1)
				break;
			continue;
		}
		one_round(fd, i);
		if (write(turns[child != 0][1], &turn, 1) != 1)
			break;
	}
	if (child == 0) {
		fflush(stdout);
		_exit(getpid());
	}
	waitpid(child, &status, 0);
	obs_exit("child", status);
	close(fd);
}

static void asks_quietly(int fd)
{
	char bytes[100];
	bool good = true;

	for (uint64_t i = 0; i < 2 * ROUNDS; i++) {
		pat_fill(bytes, 100, i * 100);
		send_exact(fd, bytes, 100);
		good = good && recv_exact(fd, bytes, 100) == 100 && pat_good(bytes, 100, i * 100);
	}
	obs_val("right", good);
	recv_to_eof(fd, 0);
}
CASE("world.pid_namespace", pid_namespace_server, asks_quietly, ANY | CONF_EITHER);

/* Another user may run it: the linker does not look at the environment then. */
static void secure_server(int fd)
{
	char path[] = "/tmp/conf-secure-XXXXXX", command[256], program[64];
	char *argv[] = { program, NULL };
	int status = 0;
	pid_t child;

	if (!mkdtemp(path))
		return;
	snprintf(program, sizeof(program), "%s/cat", path);
	snprintf(command, sizeof(command), "cp /bin/cat %s && chmod 4755 %s && chmod 755 %s",
		 program, program, path);
	obs("made", system(command));
	child = fork();
	if (child == 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		if (setuid(NOBODY) < 0)
			_exit(1);
		execv(program, argv);
		_exit(127);
	}
	close(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
	unlink(program);
	obs("rmdir", rmdir(path));
}

static void echo_client(int fd)
{
	send_pat(fd, 30000, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	recv_to_eof(fd, 0);
}
CASE("world.secure_exec", secure_server, echo_client, ANY | CONF_EITHER);

/* ---- a thread sleeps on a set, and joining it must wake it, without one descriptor left ---- */

static int the_set;

static void *waits_for_one(void *argument)
{
	struct epoll_event e = { 0 };
	int n = epoll_wait(the_set, &e, 1, CONF_WAIT_MS);

	obs_epoll("wait", n, &e);
	return argument;
}

static void joins_without_descriptors_server(int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 1 };
	int files[64], n = 0, added;
	struct rlimit before;
	pthread_t sleeper;

	for (uint64_t i = 0; i < 4 * ROUNDS; i++)
		one_round(fd, i);
	the_set = epoll_create1(0);
	sleeper = spawn(waits_for_one, NULL);
	getrlimit(RLIMIT_NOFILE, &before);
	obs("setrlimit", setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 64, before.rlim_max }));
	while (n < 64 && (files[n] = dup(0)) >= 0)
		n++;
	obs_val("full", n < 64 && errno == EMFILE);
	both();
	both(); /* the bytes have been sent */
	nap_ms(CONF_NAP_MS);
	added = epoll_ctl(the_set, EPOLL_CTL_ADD, fd, &e);
	pthread_join(sleeper, NULL);
	obs("add", added);
	setrlimit(RLIMIT_NOFILE, &before);
	while (n > 0)
		close(files[--n]);
	close(the_set);
	recv_pat(fd, 100, 0);
	both();
}

static void sends_before_joining(int fd)
{
	for (uint64_t i = 0; i < 4 * ROUNDS; i++) {
		usleep(300); /* the other end sleeps */
		send_pat(fd, 100, i * 100);
		recv_pat(fd, 100, i * 100);
	}
	both();
	send_pat(fd, 100, 0);
	both();
	both();
}
CASE("world.no_descriptor_to_wake", joins_without_descriptors_server, sends_before_joining, ANY);
