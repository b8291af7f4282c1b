/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program leaves to the one that exec puts in its place.
 *
 * Whatever that program is, its connections are the kernel's when it starts (handover.h).  If its
 * environment loads the shim again, it also finds a sealed memfd under a high number: for each
 * connection the number, the socket's cookie, which side it is, and how many bytes have gone by.
 * With that it can take part in a new rendezvous; the peer has been told that there may be one
 * (SHMIPC_TX_AGAIN).  Nothing in it is trusted for more than that: another process than the one
 * that wrote it (the number survives exec), another socket under the number, a descriptor without
 * these seals or of another size are none of ours.  A program without the shim inherits one
 * descriptor that it does not know.
 */
#ifndef SHMIPC_PRELOAD_BEQUEST_H
#define SHMIPC_PRELOAD_BEQUEST_H

/* Before exec, after the hand-over.  environment: of the new program. */
void shim_bequest_leave(char *const environment[]);
/* The exec has failed. */
void shim_bequest_withdraw(void);

/* When the shim has started, in each program. */
void shim_bequest_take(void);

#endif
