/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP_INQ: each recvmsg() tells beside its bytes how many more could be received now, and one for
 * the end.  An edge-triggered program that is told 0 waits for the next edge, so a
 * number that leaves out what lies in the ring would make it wait for ever.
 *
 * While the connection is attached the option is off on the real socket (options.h), and the number
 * comes from here.
 */
#ifndef SHMIPC_PRELOAD_INQ_H
#define SHMIPC_PRELOAD_INQ_H

#include "preload/conn.h"

static inline bool shim_inq_is_wanted(const struct shim_conn *conn, int flags)
{
	return atomic_load_explicit(&conn->options.inq, memory_order_relaxed) &&
	       !(flags & MSG_ERRQUEUE);
}

/* A receive has succeeded with this message, which had room for so much control data.  Pinned. */
void shim_inq_tell(struct shim_conn *conn, int fd, struct msghdr *message, size_t room);

#endif
