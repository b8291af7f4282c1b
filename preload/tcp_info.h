/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP_INFO of an accelerated connection: programs print and add up the byte counters of their
 * connections (iperf3, ss's users, exporters), so what went by the rings is added to what the
 * kernel has counted, and what is no payload taken away.
 */
#ifndef SHMIPC_PRELOAD_TCP_INFO_H
#define SHMIPC_PRELOAD_TCP_INFO_H

#include <sys/socket.h>

struct shim_conn;

/* `value` is what the kernel has answered to getsockopt(TCP_INFO), `bytes` of it. */
void shim_tcp_info_complete(struct shim_conn *conn, int fd, void *value, socklen_t bytes);

#endif
