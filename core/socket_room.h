/* SPDX-License-Identifier: Apache-2.0 */
/* More room in a socket for a while: what is unread of a ring may be more than a socket holds by
 * default. */
#ifndef SHMIPC_CORE_SOCKET_ROOM_H
#define SHMIPC_CORE_SOCKET_ROOM_H

#include <stdbool.h>
#include <stdint.h>

enum { SHMIPC_SOCKET_ROOM_MAX = 16 * 1024 * 1024 };

/* Begins as zeros. */
struct shmipc_socket_room {
	int bytes, lock; /* as they were */
	bool changed;
};

/* Room for `bytes` that are sent, as far as that may be asked for (SHMIPC_SOCKET_ROOM_MAX, or
 * net.core.wmem_max without CAP_NET_ADMIN; never less than there is).  May be called again. */
void shmipc_socket_room_make(int socket, uint64_t bytes, struct shmipc_socket_room *before);

/* As it was, but for the bytes that lie in it. */
void shmipc_socket_room_restore(int socket, const struct shmipc_socket_room *before);

/* So many bytes it takes, if there are none; what lies around them is allowed for. */
uint64_t shmipc_socket_room_bytes(int socket);

#endif
