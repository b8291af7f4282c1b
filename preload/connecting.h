/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of ours that are being connected: by connect(), or by a send that opens the connection.
 *
 * A socket may be connected more than once: after a refusal, after a disconnect (AF_UNSPEC).  Then
 * it is another connection, to an address of its own, and the same socket to those who wait for it.
 */
#ifndef SHMIPC_PRELOAD_CONNECTING_H
#define SHMIPC_PRELOAD_CONNECTING_H

#include <sys/socket.h>
#include <sys/types.h>

/* The kernel's answer to a connect(), which is returned; errno is kept. */
int shim_connecting(int result, int fd, const struct sockaddr *address, socklen_t bytes);

/* The same for a send with MSG_FASTOPEN of a socket that is no connection of ours yet. */
ssize_t shim_connecting_by_send(ssize_t result, int fd, const struct sockaddr *address,
				socklen_t bytes);

#endif
