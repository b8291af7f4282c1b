/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection goes to somebody who has no shim: a program started by exec or spawn, a receiver of
 * SCM_RIGHTS.
 *
 * It is downgraded first (downgrade.h); the peer sends again by the kernel what we have not read.
 * Where it cannot (rest.h) a descriptor that holds the unread bytes and ends takes the place of the
 * socket as the new program's input (number 0; or every number where the peer is gone altogether).
 * This is the one case in which the number is not the kernel's real socket any more.
 */
#ifndef SHMIPC_PRELOAD_HANDOVER_H
#define SHMIPC_PRELOAD_HANDOVER_H

#include <stdbool.h>
#include <sys/socket.h>

#include "preload/conn.h"

/* exec: every connection that the new program inherits. */
void shim_handover_exec(void);

/* All go back to the kernel, and no other is begun.  Because the program is about to give itself a
 * seccomp filter, made for the calls that it makes itself: one of ours on its socket, as recvmsg()
 * for its read(), could kill it.  Or one of its threads is to have a table of descriptors of its
 * own, in which the numbers soon mean something else than in ours. */
void shim_handover_all(void);

/* This one.  True: something else stands at the number now, and the record may be nobody's. */
bool shim_handover(struct shim_conn *conn, int fd);
/* One that has become descriptor 0, 1 or 2 of this process. */
void shim_handover_standard(struct shim_conn *conn, int fd);
/* One that we keep as well, and a child may never use.  Where the peer has ended altogether, what
 * it left takes the socket's place under all our numbers; one that can still be written to keeps
 * its socket. */
void shim_handover_shared(struct shim_conn *conn, int fd);
bool shim_handover_is_inherited(int fd, const struct shim_conn *conn);

/* In a vfork child, which has numbers of its own but our tables: `to` has just become a name of
 * `from`. */
void shim_handover_number(int from, int to);

/* Before a message with descriptors is sent; after one has been received. */
void shim_handover_sent(const struct msghdr *message);
void shim_handover_received(const struct msghdr *message);

#endif
