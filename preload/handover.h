/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection goes to somebody who has no shim: a program started by exec or spawn, a receiver of
 * SCM_RIGHTS.
 *
 * It is downgraded first (downgrade.h); the peer sends again by the kernel what we have not read.
 * A peer that has ended its direction, or died, cannot: then the unread bytes exist in this
 * process's mapping only, and a descriptor that holds them and ends takes the place of the socket
 * as the new program's input (number 0; or every number where the peer is gone altogether).  This
 * is the one case in which the number is not the kernel's real socket any more.
 */
#ifndef SHMIPC_PRELOAD_HANDOVER_H
#define SHMIPC_PRELOAD_HANDOVER_H

#include <sys/socket.h>

/* exec: every connection that the new program inherits. */
void shim_handover_exec(void);

/* A child that runs no hook: it is sure to use numbers 0 to 2. */
void shim_handover_standard(void);

/* In a vfork child, which has numbers of its own but our tables: `to` has just become a name of
 * `from`. */
void shim_handover_number(int from, int to);

/* posix_spawn: `from` will be the child's number `to`.  The descriptor to be used in place of
 * `from`, which lives until `actions` are done. */
int shim_handover_spawned(const void *actions, int from, int to);
void shim_handover_spawn_done(const void *actions);

/* Before a message with descriptors is sent; after one has been received. */
void shim_handover_sent(const struct msghdr *message);
void shim_handover_received(const struct msghdr *message);

#endif
