/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that are inside a call on a connection while another one closes the number.
 *
 * The kernel keeps a socket alive until the last system call on it has returned; so do we: in a
 * process with several threads a call pins the record, and a close that finds it pinned leaves the
 * end of the stream to the last one who leaves.  Until then a hidden duplicate stands for the
 * number, which may be anything by then.
 *
 * One record's pins are private to the process: threads of others hold the connection by
 * themselves.
 *
 * A process with one thread does so as well if it has signal handlers: one of those may close the
 * number whose call it has interrupted.
 *
 * [pin] a call counts itself, then looks at the number; a close takes the number away, then looks
 * at the count.
 *
 * [closing] a close that takes the number away behind the kernel, where other numbers remain, says
 * so, then looks at the count, and makes the duplicate if that is not 0.  A call that may sleep
 * counts itself, then looks whether a number is closing: so it is found, or waits until the kernel
 * has closed that one and looks again where its own leads.  It holds no lock meanwhile.
 */
#ifndef SHMIPC_PRELOAD_PINS_H
#define SHMIPC_PRELOAD_PINS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/postpone.h"
#include "core/thread.h"
#include "preload/conn.h"

struct shim_pins {
	_Alignas(64) _Atomic uint32_t inside; /* calls of this process */
	_Atomic uint32_t leaving; /* the number is gone; the last one out ends the connection */
	_Atomic int moved;	  /* hidden duplicate + 1 */
	_Atomic uint32_t closing; /* numbers that are closed and not yet taken away, in any order */
};

int shim_pins_start(void);
void shim_pins_in_child(void);

/* May the number be closed, or the call be left, while it is under way? */
static inline bool shim_pins_wanted(void)
{
	return !shmipc_single_threaded() || shmipc_postpone_expects_handlers();
}

/* False: the number is not this connection's any more. */
bool shim_pin(struct shim_conn *conn, int fd);
/* The same for a call that will use the number again behind its first look; holds no lock. */
bool shim_pin_for_use(struct shim_conn *conn, int fd);
void shim_unpin(struct shim_conn *conn);

/* For a call that does not sleep: the connection of the number, pinned, and no handler meanwhile.
 * NULL: there is none, libc's call is right. */
struct shim_conn *shim_hold(int fd);
void shim_let_go(struct shim_conn *conn); /* or NULL */

/* At least one call is. */
bool shim_pins_are_inside(const struct shim_conn *conn);
/* Pinned by us.  Others are? */
bool shim_pins_hold_others(const struct shim_conn *conn);

/* No call of this process but the caller's own, if that is pinned, is inside. */
bool shim_pins_are_alone(const struct shim_conn *conn);

/* Where calls that are inside find the descriptor, see struct shmipc_io. */
const _Atomic int *shim_pins_moved(const struct shim_conn *conn);

/* The number is going to be closed: calls under way go on by a duplicate.  Before it is forgotten,
 * for from then on whoever calls asks the kernel by it.  False: nobody is inside, or there is none
 * to be had. */
bool shim_pins_move(struct shim_conn *conn, int fd);

/* A number of it goes by another way than that it is taken away, then closed: until that is over
 * nobody may use a number of it but by a duplicate, or under a lock that the close waits for behind
 * this. */
void shim_pins_closing(struct shim_conn *conn, bool begins);
bool shim_pins_are_closing(const struct shim_conn *conn);

/* The number has been taken away and is still open (fd < 0: it is not).  True: calls are inside,
 * and the last one will call shim_conn_end(). */
bool shim_pins_leave(struct shim_conn *conn, int fd);

#endif
