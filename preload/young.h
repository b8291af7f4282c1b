/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that is not yet worth a ring: the shortest way through the shim for calls on it.
 *
 * Short connections never become anything else, so all that they touch is the first line of their
 * record, the counts of both directions, and this file.  What is counted is what sender.h and
 * receiver.h count for a later cut; conn->young ends with the threshold (upgrade.c looks on from
 * there).
 *
 * Invariant for the cut: kernel_senders (kernel_readers) is raised before `young` is looked at, and
 * lowered after the bytes of the call are counted; no direction is cut over or settled while it is
 * not 0.  So a signal handler that lets the connection grow up under a call that it has interrupted
 * leaves that call's bytes on the right side of the cut.  One that closes it, and whose record
 * serves another connection when the call returns, is found out by `birth`.  One that jumps out of
 * the call leaves the count lost (count_lost), not the direction blocked.
 *
 * In a process of several threads a call pins the record (pins.h), and it is another thread that
 * may end `young` meanwhile: it does so before it looks at kernel_senders (kernel_readers), both
 * sequentially consistent, so a call that has found the connection young is seen by whoever cuts.
 * All other calls: transfer.h.
 */
#ifndef SHMIPC_PRELOAD_YOUNG_H
#define SHMIPC_PRELOAD_YOUNG_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "preload/conn.h"

/* True: the call is done, *result is its outcome and errno is set as by libc.  False: not for us.
 */
bool shim_young_send(struct shim_conn *conn, int fd, const void *from, size_t bytes, int flags,
		     ssize_t *result);
bool shim_young_receive(struct shim_conn *conn, int fd, void *to, size_t bytes, int flags,
			ssize_t *result);

#endif
