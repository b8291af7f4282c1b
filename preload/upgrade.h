/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the kernel to shared memory: the rendezvous of one connection.
 *
 * The connecting end offers: first in memory that it already shares with a process at this
 * endpoint, then under an abstract name made from the connection itself.  The accepting process,
 * whichever it is, looks for the offer when its own count says that the connection is worth it.
 * Nobody waits; what has not come is looked at again on later calls, ever more rarely, a bounded
 * number of times.
 */
#ifndef SHMIPC_PRELOAD_UPGRADE_H
#define SHMIPC_PRELOAD_UPGRADE_H

#include "preload/conn.h"

int shim_upgrade_start(void);

/* One more call on a candidate: count it, and when it is due, go one step. */
void shim_upgrade_sent(struct shim_conn *conn, int fd, size_t bytes);
void shim_upgrade_received(struct shim_conn *conn, int fd, size_t bytes);

/* Attached, but a direction's byte count is not settled yet: try, at the start of a call in that
 * direction. */
void shim_upgrade_settle_tx(struct shim_conn *conn, int fd);
void shim_upgrade_settle_rx(struct shim_conn *conn, int fd);

/* Attached, both directions by the kernel: has the peer's program been replaced?  Then the
 * connection is a candidate again. */
void shim_upgrade_again(struct shim_conn *conn, int fd);

/* The application takes this number of ours, if a rendezvous uses it: false, none does. */
bool shim_upgrade_vacate(int fd);
/* Stop a rendezvous that is under way; nothing of it stays. */
void shim_upgrade_abandon(struct shim_conn *conn);
/* From candidate to plain.  False: it is no candidate (any more). */
bool shim_upgrade_forbid(struct shim_conn *conn);
/* Give the stream back. */
void shim_upgrade_detach(struct shim_conn *conn);
/* This process holds the connection no more, another one does. */
void shim_upgrade_release(int session, uint32_t stream);

/* fork: one more process holds it; false: nobody does any more. */
bool shim_upgrade_share(struct shim_conn *conn);
void shim_upgrade_before_fork(void);
void shim_upgrade_after_fork(void);
/* The process, or its program, ends in good order. */
void shim_upgrade_exit(void);
/* A forked child closes the offers that it inherited. */
void shim_upgrade_in_child(void);

#endif
