/* SPDX-License-Identifier: Apache-2.0 */
#include "core/socket_room.h"

#include <limits.h>
#include <sys/socket.h>

#include "core/sys.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 /* Linux 5.14 */
#endif

/* As SO_SNDBUF says it: twice what it was set to, for what lies around the bytes. */
static int room_of(int socket)
{
	int bytes = 0;
	socklen_t size = sizeof(bytes);

	return sys_getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, &size) == 0 ? bytes : 0;
}

/* What any socket of ours may hold, without privilege. */
static int most_room(void)
{
	int most = INT_MAX / 4, socket = sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (socket < 0)
		return 0;
	sys_setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most));
	most = room_of(socket);
	sys_close(socket);
	return most;
}

static bool set_room(int socket, int bytes)
{
	return sys_setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) == 0 ||
	       sys_setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) == 0;
}

/* TCP may have given it more than it lets us ask for. */
void shmipc_socket_room_make(int socket, uint64_t bytes, struct shmipc_socket_room *before)
{
	int wanted = bytes < SHMIPC_SOCKET_ROOM_MAX ? (int)bytes : SHMIPC_SOCKET_ROOM_MAX;
	int now = room_of(socket);
	socklen_t size = sizeof(before->lock);

	if (now <= 0 || now / 2 >= wanted)
		return;
	if (!before->changed) {
		before->bytes = now;
		sys_getsockopt(socket, SOL_SOCKET, SO_BUF_LOCK, &before->lock, &size);
	}
	if (sys_setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof(wanted)) == 0 ||
	    (now < most_room() && set_room(socket, wanted)))
		before->changed = true;
}

void shmipc_socket_room_restore(int socket, const struct shmipc_socket_room *before)
{
	if (!before->changed)
		return;
	set_room(socket, before->bytes / 2); /* the kernel doubles it */
	sys_setsockopt(socket, SOL_SOCKET, SO_BUF_LOCK, &before->lock, sizeof(before->lock));
}

uint64_t shmipc_socket_room_bytes(int socket)
{
	return (uint64_t)room_of(socket) / 2;
}
