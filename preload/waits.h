/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting on several descriptors of which some are accelerated: the core of poll, select and their
 * kin.
 *
 * The kernel is always asked too (plain descriptors must not starve, and HUP, ERR and OUT are its
 * own); what the ring holds is added to its answer, and a readiness that is only a wake token is
 * taken out of it.
 */
#ifndef SHMIPC_PRELOAD_WAITS_H
#define SHMIPC_PRELOAD_WAITS_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "preload/conn.h"

/* Absolute end of a wait on CLOCK_MONOTONIC, in ns. */
#define SHIM_WAIT_FOR_EVER UINT64_MAX

/* The deadline, but soon: bytes that we owe to the kernel's stream found no room, and no event of
 * this wait tells when there is. */
uint64_t shim_wait_soon(uint64_t deadline_ns);
/* timeout NULL: for ever. */
uint64_t shim_wait_deadline(const struct timespec *timeout);
struct timespec shim_wait_left(uint64_t deadline_ns);
bool shim_wait_is_over(uint64_t deadline_ns);
/* The deadline, or the end of a nap from now on, whichever comes first. */
uint64_t shim_wait_nap(uint64_t deadline_ns, uint64_t nap_ns);

/* Does any of them need more than the kernel's own call? */
bool shim_wait_concerns_us(const struct pollfd *fds, nfds_t count, bool may_sleep);

/* As ppoll(2): number of ready entries, 0 on time-out, or -errno. */
int shim_wait_poll(struct pollfd *fds, nfds_t count, uint64_t deadline_ns, const sigset_t *mask);

/* Of a peer that died with bytes of the ring unread TCP's kernel knows only the end of the stream,
 * for which not every wait asks; of one that had ended its own direction not even that, unless a
 * token asks.  What it says, POLLRDHUP too; 0 where nothing is unread. */
uint32_t shim_wait_ask(struct shim_conn *conn, int fd);

/* What the kernel says of errors and hang-ups, corrected: an unread token makes a reset of an
 * orderly end, and unread ring bytes make none.  asked, told: POLL* or EPOLL* bits. */
uint32_t shim_wait_hangup(struct shim_conn *conn, uint32_t asked, uint32_t told);

/* After the kernel reported POLLIN/EPOLLIN (and no error or hang-up) for an accelerated descriptor:
 * is anything there for the application?  Takes a token that stands alone off the socket. */
bool shim_wait_is_true(struct shim_conn *conn, int fd);

#endif
