/* SPDX-License-Identifier: Apache-2.0 */
/* Event loops whose changes the kernel has not heard of when somebody else takes over: a child on
 * the same memory, or the kernel itself, because the process has got a filter. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/conformance/lib/running_set.h"

enum { ANY = CONF_COLD | CONF_SWAP };

/* ---- vfork: the child's numbers are its own, what we know is not ---- */

static void run_in_vfork(int set, int fd)
{
	char *arguments[] = { "true", NULL };
	char *environment[] = { NULL };
	pid_t child = vfork();
	int status = -1;

	if (child == 0) {
		close(set);
		close(fd);
		execve("/bin/true", arguments, environment);
		_exit(127);
	}
	waitpid(child, &status, 0);
	obs_exit("child", status);
}

static void vfork_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);

	run_in_vfork(set, fd);
	tell(WHEN_ASLEEP);
	see("changed", set, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	run_in_vfork(set, fd);
	tell(WHEN_ASLEEP);
	see("removed", set, 2 * CONF_NAP_MS);
	await();
	recv_pat(fd, 10, 10);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_away.vfork", vfork_server, on_demand_client, ANY | CONF_EITHER);

/* ---- a filter: from there on the connection is the kernel's ---- */

static int forbid(unsigned int call)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void changes_after_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);

	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("filter", forbid(SYS_acct));
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 2));
	tell(WHEN_ASLEEP);
	see("woken", set, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("del again", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	see("removed", set, 0);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_away.changes_after_filter", changes_after_server, on_demand_client, ANY | CONF_EITHER);

/* What is changed by then is the kernel's own, whatever becomes of the set. */
static void oneshot_after_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLONESHOT, 1);

	see("idle", set, 0);
	obs("filter", forbid(SYS_acct));
	demand();
	see("once", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 0);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 2));
	ready(set, 0); /* from here on others may look at it */
	tell(WHEN_ASLEEP);
	see("woken", set, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 10);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_away.oneshot_after_filter", oneshot_after_server, on_demand_client, ANY | CONF_EITHER);

/* The kernel hears of a change while it may. */
static void change_before_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);

	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 2));
	obs("filter", forbid(SYS_epoll_ctl));
	tell(WHEN_ASLEEP);
	see("changed", set, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_away.change_before_filter", change_before_server, on_demand_client, ANY | CONF_EITHER);

/* Told by memory, and then the kernel's: a one-shot that was told hears of no end. */
static void silent_after_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLONESHOT, 1);

	demand();
	see("once", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 0);
	obs("filter", forbid(SYS_acct));
	tell(NO_MORE);
	both(); /* the peer closes it */
	nap_ms(CONF_NAP_MS);
	see("silent", set, 0);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLRDHUP, 2));
	see("the end", set, CONF_WAIT_MS);
	close(set);
}

static void close_when_done(int fd)
{
	on_demand_client(fd);
	shutdown(fd, SHUT_RDWR);
	both();
}
CASE("epoll_away.silent_after_filter", silent_after_server, close_when_done, ANY | CONF_EITHER);

/* Our own end of the other's direction: bytes that come after it are read, and each of their edges
 * tells of the end too. */
static void shut_read_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET, 1);

	obs("shutdown", shutdown(fd, SHUT_RD));
	see("the end", set, CONF_WAIT_MS);
	for (uint64_t i = 0; i < 5; i++) {
		demand();
		ready(fd, POLLIN);
		see("bytes and the end", set, CONF_WAIT_MS);
		recv_pat(fd, 10, i * 10);
	}
	close(set);
	tell(NO_MORE);
}
CASE("epoll_away.shut_read", shut_read_server, on_demand_client, ANY | CONF_TCP_ONLY);
