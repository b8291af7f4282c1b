/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection still holds for a program without the shim, and the kernel does not.
 *
 * The peer sends again by the kernel what we have not read of the ring.  It cannot when it has
 * ended its direction or died; and it need not when the kernel's bytes are not payload alone: LAST
 * before an unread ring, tokens behind unread payload.  Then the stream is read here, by the rules,
 * to its end, and a descriptor that holds it takes the socket's place.  A stream that does not end
 * soon cannot be handed over at all: an error stands in for it, never a wrong byte.
 */
#ifndef SHMIPC_PRELOAD_REST_H
#define SHMIPC_PRELOAD_REST_H

#include <stdbool.h>

#include "preload/conn.h"

/* The connection goes to the kernel.  A close-on-exec descriptor that stands for it, or negative:
 * the socket itself is right. */
int shim_rest_of(struct shim_conn *conn, int fd);

/* Both directions have ended. */
bool shim_rest_peer_is_gone(const struct shim_conn *conn, int fd);

/* After a downgrade.  False: what others write to the socket would be tokens, because LAST found no
 * way, or come before what a peer that stopped has not read, or behind a hole. */
bool shim_rest_may_write(const struct shim_conn *conn);

/* The descriptor of shim_rest_of() stands for the number that is written to as well. */
bool shim_rest_is_for_writing(const struct shim_conn *conn, int fd);

#endif
