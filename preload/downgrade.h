/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From shared memory back to the kernel, at an exact byte: for everything that only the real socket
 * can serve (a program without the shim that inherits it, a FILE, urgent data, descriptors in
 * flight ...).
 */
#ifndef SHMIPC_PRELOAD_DOWNGRADE_H
#define SHMIPC_PRELOAD_DOWNGRADE_H

#include "preload/conn.h"

/* Both directions by the kernel from now on, for good.  Ours at once; the peer's as soon as it
 * serves our request, for which we wait a bounded time.  0, or -EBUSY: the peer has not answered,
 * the connection stays attached. */
int shim_downgrade(struct shim_conn *conn, int fd, enum shmipc_reason reason);

/* Both directions by the kernel for whatever is sent from now on, for good; what lies in the ring
 * is read from there.  For all that only calls of ours receive: nothing is waited for.  0 or
 * -EBUSY. */
int shim_retire(struct shim_conn *conn, int fd, enum shmipc_reason reason);

/* Our own direction only, as far as the socket has room for that now. */
void shim_downgrade_sending(struct shim_conn *conn, int fd);

/* Both directions of whatever the number is; nothing for an untracked one. */
void shim_downgrade_number(int fd);

#endif
