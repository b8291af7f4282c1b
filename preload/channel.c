/* SPDX-License-Identifier: Apache-2.0 */
/* The channel of a rendezvous: descriptors that the application does not see. */
#include <errno.h>

#include "core/sys.h"
#include "preload/fdtable.h"
#include "preload/upgrade_parts.h"

void shim_channel_close(int *fd)
{
	if (*fd >= 0) {
		shim_fd_unhide(*fd);
		sys_close(*fd);
	}
	*fd = -1;
}

/* A descriptor that the application could close, and then get again for something else, is no good.
 */
int shim_channel_hide(int fd)
{
	fd = shim_fd_hide(fd);
	if (shim_fd_is_hidden(fd))
		return fd;
	sys_close(fd);
	return -EMFILE;
}

int shim_channel_socket(void)
{
	int fd = sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? fd : shim_channel_hide(fd);
}

bool shim_channel_is_trusted(int channel, int *pid)
{
	struct ucred who;
	socklen_t bytes = sizeof(who);

	if (sys_getsockopt(channel, SOL_SOCKET, SO_PEERCRED, &who, &bytes) < 0)
		return false;
	*pid = who.pid;
	return shim_eligible_user(who.uid);
}
