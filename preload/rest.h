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

/* Where the program gets it. */
enum shim_rest_use {
	SHIM_REST_READ,	     /* it was made the program's input */
	SHIM_REST_WRITTEN,   /* its output: what is unread is left to those who read */
	SHIM_REST_INHERITED, /* under a number that nobody chose for it, or that the program was
				told: it reads if no other process holds the connection any more */
};

static inline enum shim_rest_use shim_rest_use_of(int number)
{
	return number == 0 ? SHIM_REST_READ : number <= 2 ? SHIM_REST_WRITTEN : SHIM_REST_INHERITED;
}

/* The connection goes to the kernel.  A close-on-exec descriptor that stands for it, or negative:
 * the socket itself is right. */
int shim_rest_of(struct shim_conn *conn, int fd, enum shim_rest_use use);

/* Both directions have ended. */
bool shim_rest_peer_is_gone(const struct shim_conn *conn, int fd);

/* After a downgrade.  False: what others write to the socket would be tokens, because LAST found no
 * way, or come before what a peer that stopped has not read, or behind a hole. */
bool shim_rest_may_write(const struct shim_conn *conn);

/* The descriptor of shim_rest_of() stands for the number that is written to as well. */
bool shim_rest_is_for_writing(const struct shim_conn *conn, int fd);

#endif
