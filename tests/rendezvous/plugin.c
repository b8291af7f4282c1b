/* SPDX-License-Identifier: Apache-2.0 */
/* A library that a program loads late, and that uses a connection for it. */
#include <sys/socket.h>
#include <sys/types.h>

ssize_t plugin_send(int fd, const void *bytes, size_t count);
ssize_t plugin_receive(int fd, void *bytes, size_t count);
int plugin_connect(const struct sockaddr *address, socklen_t bytes);

/* An address in a table, as libraries have them. */
extern ssize_t (*plugin_say)(int fd, const void *bytes, size_t count, int flags);
ssize_t (*plugin_say)(int fd, const void *bytes, size_t count, int flags) = send;

ssize_t plugin_send(int fd, const void *bytes, size_t count)
{
	return plugin_say(fd, bytes, count, MSG_NOSIGNAL);
}

ssize_t plugin_receive(int fd, void *bytes, size_t count)
{
	return recv(fd, bytes, count, MSG_WAITALL);
}

int plugin_connect(const struct sockaddr *address, socklen_t bytes)
{
	int fd = socket(address->sa_family, SOCK_STREAM, 0);

	return fd >= 0 && connect(fd, address, bytes) == 0 ? fd : -1;
}
