/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of the real TCP socket of an attached pair.
 *
 * Tokens must not wait for acknowledgements (Nagle, cork), and what overflows from a full ring must
 * stay little (the ring already holds what a socket would): so some options have our value while
 * the connection is attached. What the application has set is remembered: getsockopt() answers it,
 * and a downgrade gives it back.  TCP_INQ counts what the socket holds, not the ring: it is off,
 * and inq.h tells the number.
 */
#ifndef SHMIPC_PRELOAD_OPTIONS_H
#define SHMIPC_PRELOAD_OPTIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct shim_conn;

enum { SHIM_OPTION_COUNT = 5 };

struct shim_options {
	_Atomic int value[SHIM_OPTION_COUNT]; /* the application's */
	int buffer_lock;		      /* SO_BUF_LOCK as it was */
	_Atomic uint32_t
		taken_over; /* bit i: the socket has our value, value[i] is the application's */
	_Atomic bool late;  /* SO_RCVBUF waits for shim_options_limit_receive() */
	_Atomic bool over;  /* given back: nothing is taken over any more */
	_Atomic bool inq;   /* TCP_INQ, as far as a call of ours has seen it; stays at a downgrade:
			       what the ring still holds is counted as well */
};

/* At attach: remember, and set ours. Nothing for Unix sockets. */
void shim_options_take_over(struct shim_conn *conn, int fd);
/* Does little fit into the socket's sending buffer now? */
bool shim_options_sends_little(const struct shim_conn *conn);
/*
 * The receiving buffer is made small when the first bytes are taken from the ring, and not before:
 * bytes that come by the kernel have been granted room, and where it is gone the kernel drops them,
 * of which the sender learns after 200 ms.  For the same reason only where the peer's socket has
 * little to send.
 */
void shim_options_limit_receive(struct shim_conn *conn, int fd);
/* The way back. */
void shim_options_restore(struct shim_conn *conn, int fd);

/* true: answered here (0 or -errno in *result) */
bool shim_options_set(struct shim_conn *conn, int fd, int level, int name, const void *value,
		      socklen_t bytes, int *result);
/* An option that the kernel has taken: what lies in the ring must follow SO_RCVLOWAT and TCP_INQ
 * too. */
void shim_options_note(struct shim_conn *conn, int level, int name, const void *value);
bool shim_options_get(struct shim_conn *conn, int level, int name, void *value, socklen_t *bytes,
		      int *result);

#endif
