/* SPDX-License-Identifier: Apache-2.0 */
/* Event loops whose changes the kernel has not heard of when somebody else takes over: a child on
 * the same memory, or the kernel itself, because the process has got a filter. */
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
CASE("epoll_away.vfork", vfork_server, sender, ANY | CONF_EITHER);
