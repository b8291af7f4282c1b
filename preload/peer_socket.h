/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer's end of a connection, as a descriptor of this process.
 *
 * The kernel names the peer's socket (netlink); a process that we may trace and that holds it is
 * looked for in /proc; pidfd_getfd() makes the copy.  All of it may be forbidden or hidden: then
 * there is none.  Whoever has a copy keeps the connection open by it: close it soon.
 */
#ifndef SHMIPC_PRELOAD_PEER_SOCKET_H
#define SHMIPC_PRELOAD_PEER_SOCKET_H

#include "preload/conn.h"

/* Close-on-exec; negative: not to be had. */
int shim_peer_socket(const struct shim_conn *conn, int fd);

#endif
