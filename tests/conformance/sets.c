/* SPDX-License-Identifier: Apache-2.0 */
/* epoll sets in more hands than one, and their waits to the nanosecond and with a signal mask. */
#include "tests/conformance/lib/conf.h"

#include <spawn.h>

enum { ANY = CONF_COLD | CONF_SWAP, ROUNDS = 5, WARM_ROUNDS = 60, SOME_MS = 300 };

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static void pass(int sock, int fd)
{
	union control c = { .header = { .cmsg_level = SOL_SOCKET,
					.cmsg_type = SCM_RIGHTS,
					.cmsg_len = CMSG_LEN(sizeof(int)) } };
	char byte = 's';
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = CMSG_SPACE(sizeof(int)) };

	memcpy(CMSG_DATA(&c.header), &fd, sizeof(fd));
	obs("sendmsg", sendmsg(sock, &m, 0));
}

static int take(int sock)
{
	union control c;
	char byte;
	struct iovec v = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)
	};
	int fd = -1;

	if (recvmsg(sock, &m, 0) == 1)
		memcpy(&fd, CMSG_DATA(&c.header), sizeof(fd));
	return fd;
}

static int warm_by_set(int listener, int set)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 7 };
	int fd = conf_accept(listener), bad = 0;
	char bytes[16];

	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	for (int i = 0; i < WARM_ROUNDS; i++) {
		bad += epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1;
		bad += recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) != sizeof(bytes);
		bad += send(fd, bytes, sizeof(bytes), 0) != sizeof(bytes);
	}
	both(); /* of warm_up() */
	obs_val("bad", bad);
	return fd;
}

static void late_bytes(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, WARM_ROUNDS);
	for (int i = 0; i < ROUNDS; i++) {
		await();
		nap_ms(10);
		send_exact(fd, "r", 1);
	}
	both();
	close(fd);
}

/* A process that was there before waits on the set, the one that made it reads. */
static void passed_server(int listener)
{
	int pair[2], set, fd, status = 0;
	char word = 0, byte = 0;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return;
	child = fork();
	if (child == 0) {
		struct epoll_event e;
		int good = 0;

		close(pair[0]);
		set = take(pair[1]);
		for (int i = 0; i < ROUNDS; i++) {
			if (read(pair[1], &word, 1) != 1)
				break;
			good += epoll_wait(set, &e, 1, CONF_WAIT_MS) == 1 && e.data.u64 == 7;
			if (write(pair[1], "w", 1) != 1)
				break;
		}
		_exit(good);
	}
	close(pair[1]);
	set = epoll_create1(EPOLL_CLOEXEC);
	fd = warm_by_set(listener, set);
	pass(pair[0], set);
	for (int i = 0; i < ROUNDS; i++) {
		if (write(pair[0], "g", 1) != 1)
			break;
		tell(0);
		obs("told", read(pair[0], &word, 1));
		obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	}
	waitpid(child, &status, 0);
	obs_exit("child", status);
	both();
	close(set);
	close(pair[0]);
	close(fd);
}
CASE("sets.passed", passed_server, late_bytes, CONF_RAW);

/* Each of two processes has a set of its own that wants to be the only one to be woken. */
static void exclusive_server(int fd)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.u64 = 3 };
	int status = 0, ends[2], woken = 0;
	char byte = 0;
	pid_t child;

	if (pipe(ends) < 0)
		return;
	child = fork();
	if (child == 0) {
		int set = epoll_create1(0), n;

		epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
		n = epoll_wait(set, &e, 1, SOME_MS);
		_exit(n == 1 && write(ends[1], "w", 1) != 1);
	}
	nap_ms(CONF_NAP_MS);
	tell(0);
	{
		int set = epoll_create1(0);
		struct pollfd p = { .fd = ends[0], .events = POLLIN };

		epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
		woken = epoll_wait(set, &e, 1, SOME_MS) == 1;
		waitpid(child, &status, 0);
		/* one at least; the kernel does not promise that it is only one */
		obs_val("woken", woken || poll(&p, 1, 0) == 1);
		close(set);
	}
	obs_exit("child", status);
	obs("recv", recv(fd, &byte, 1, 0));
	close(ends[0]);
	close(ends[1]);
	both();
}

static void one_late_byte(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_exact(fd, "x", 1);
	both();
}
CASE("sets.exclusive_in_two_processes", exclusive_server, one_late_byte, ANY | CONF_EITHER);

/* ---- epoll_pwait2 ---- */

static long since_us(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000000 + (now.tv_nsec - start->tv_nsec) / 1000;
}

static void pwait2_server(int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 4 };
	struct timespec start, t = { 0, 1500000 }, wait = { CONF_WAIT_MS / 1000, 0 };
	int set = epoll_create1(0);
	sigset_t usr1, none;

	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	clock_gettime(CLOCK_MONOTONIC, &start);
	obs_epoll("time over", epoll_pwait2(set, &e, 1, &t, NULL), &e);
	obs_val("not too early", since_us(&start) >= 1500);
	obs_val("time kept", t.tv_nsec);
	t = (struct timespec){ 0, 1000000000 };
	obs("bad time", epoll_pwait2(set, &e, 1, &t, NULL));
	t = (struct timespec){ -1, 0 };
	obs("bad time", epoll_pwait2(set, &e, 1, &t, NULL));
	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	on_signal(SIGUSR1, SA_RESTART);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	kill(getpid(), SIGUSR1);
	obs("pending signal", epoll_pwait2(set, &e, 1, &wait, &none));
	obs_val("came", signal_count(SIGUSR1));
	kill(getpid(), SIGUSR1);
	tell(0);
	obs_epoll("blocked signal", epoll_pwait2(set, &e, 1, &wait, &usr1), &e);
	obs_val("kept back", signal_count(SIGUSR1));
	obs_epoll("bytes before a pending signal", epoll_pwait2(set, &e, 1, &wait, NULL), &e);
	recv_pat(fd, 100, 0);
	close(set);
	both();
}

static void one_late_send(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 100, 0);
	both();
}
CASE("sets.pwait2", pwait2_server, one_late_send, ANY);

/* ---- a set in the hands of a program that is started ---- */

static char python_path[] = "/usr/bin/python3";
static char flag[] = "-c";
static char script[] = "import select,sys;p=select.epoll.fromfd(int(sys.argv[1]));"
		       "sys.stdout.write('r');sys.stdout.flush();"
		       "sys.exit(0 if p.poll(5)==[(int(sys.argv[2]),1)] else 1)";

static void spawned_server(int listener)
{
	posix_spawn_file_actions_t actions;
	char set_text[12], data_text[12], byte = 0;
	char *const arguments[] = { python_path, flag, script, set_text, data_text, NULL };
	char *const no_env[] = { NULL };
	int set = epoll_create1(0), fd, status = 0, ends[2];
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 7 };
	pid_t child = -1;

	fd = warm_by_set(listener, set);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	snprintf(set_text, sizeof(set_text), "%d", set);
	snprintf(data_text, sizeof(data_text), "%d", 7);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
	obs("posix_spawn", posix_spawn(&child, python_path, &actions, NULL, arguments, no_env));
	posix_spawn_file_actions_destroy(&actions);
	obs("running", read(ends[0], &byte, 1));
	nap_ms(CONF_NAP_MS);
	for (int i = 0; i < ROUNDS; i++)
		tell(0);
	waitpid(child, &status, 0);
	obs_exit("child", status);
	for (int i = 0; i < ROUNDS; i++) {
		obs_val("set", epoll_wait(set, &e, 1, CONF_WAIT_MS));
		obs("recv", recv(fd, &byte, 1, 0));
	}
	both();
	close(set);
	close(fd);
	close(ends[0]);
	close(ends[1]);
}
CASE("sets.spawned", spawned_server, late_bytes, CONF_RAW);
