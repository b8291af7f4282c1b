/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From when on is a connection worth accelerating?
 *
 * A rendezvous costs both ends together about as much as the kernel's way for the first traffic
 * that makes a connection worth it.  So one that ends soon after has paid twice, and a program that
 * opens many of that kind would pay for each.  What became of earlier ones, of the same role and
 * family in this process, decides how long the next ones wait: each two that did not earn their
 * ring double the threshold, up to 32 times, and one that did takes that back, as do those which it
 * kept from doing so.
 *
 * Who the peer of a Unix socket is the kernel finds out by a walk over all Unix sockets of the
 * network namespace.  With thousands of them that is dear, and a connection has to carry as much
 * as pays for it.
 *
 * Not for whoever names a number by SHMIPC_UPGRADE_AFTER.
 */
#ifndef SHMIPC_PRELOAD_WORTH_H
#define SHMIPC_PRELOAD_WORTH_H

#include <stdbool.h>
#include <stdint.h>

#include "preload/conn.h"

/* Has it carried enough?  Any thread, without a lock; for each call of a young connection. */
bool shim_worth_it(const struct shim_conn *conn);

/* To find out who the peer of a Unix socket is has taken so long. */
void shim_worth_asking_took(uint64_t ticks);

/* What became of one: it ends, attached; or it ended, or was given up, in the middle of the
 * rendezvous. */
void shim_worth_ended(const struct shim_conn *conn);
void shim_worth_failed(const struct shim_conn *conn);
/* It ends, and was never tried.  Would it have earned its ring?  Then the threshold was too high.
 */
void shim_worth_missed(const struct shim_conn *conn);

#endif
