/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that move payload between the kernel and the real socket without passing through us
 * (sendfile, splice): a direction that is by the kernel now stays there while such a call is under
 * way, and its bytes are counted.
 */
#ifndef SHMIPC_CORE_BYPASS_H
#define SHMIPC_CORE_BYPASS_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/receiver.h"
#include "core/sender.h"

/* Of the peer's end the kernel does not know all: a token may lie unread.  Not locked: a hint. */
bool shmipc_bypass_send_is_judged(const struct shmipc_sender *s);
/* Before the direction leaves the ring, then: `bytes` (> 0) are about to go to a peer that may have
 * ended.  The error to be told, or `bytes`: they count as sent, and are the caller's to throw away.
 * 0: go on. */
ssize_t shmipc_bypass_send_to_ended(struct shmipc_sender *s, int fd, bool private_use,
				    size_t bytes);

/* 0: call.  -EAGAIN: the direction is on the ring, or owes bytes of it, and not shut.  -EDEADLK:
 * this thread is inside it.  -ECONNRESET: it is broken.  *ended: the peer is known to have. */
int shmipc_bypass_send_begin(struct shmipc_sender *s, int fd, bool private_use, bool *ended);
/* n: what the call returned, bytes or an error. */
void shmipc_bypass_send_end(struct shmipc_sender *s, ssize_t n, bool ended);
/* Instead, when the call was left (cancelled, jumped out of): nobody knows what it has moved. */
void shmipc_bypass_send_abandon(struct shmipc_sender *s);

/* False: the peer may cut to the ring at any time: bytes must be received by receiver.c. */
bool shmipc_bypass_receive_begin(struct shmipc_receiver *r, int fd, bool private_use);
/* n: what the call returned, of so many bytes that it was asked for.  What the application is told.
 */
ssize_t shmipc_bypass_receive_end(struct shmipc_receiver *r, int fd, bool private_use, size_t bytes,
				  ssize_t n);
void shmipc_bypass_receive_abandon(struct shmipc_receiver *r);

#endif
