/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does this process use io_uring?  Then it may wait for any descriptor by ways that no hook sees,
 * also one that it has read by calls of ours for long: its connections keep the kernel's readiness
 * true for every arrival.
 *
 * A ring shows when it is set up through syscall(), when its memory is mapped by mmap(), and, when
 * a connection is attached, among the process's descriptors.  One that is set up later by system
 * call instructions alone does not.
 */
#ifndef SHMIPC_PRELOAD_URING_H
#define SHMIPC_PRELOAD_URING_H

#include <stdbool.h>
#include <stdint.h>

struct shim_conn;

/* It does, from now on. */
void shim_uring_seen(void);

/* A descriptor has been mapped at this offset. */
void shim_uring_mapped(int fd, int64_t offset);

/* This connection is being attached. */
void shim_uring_look(struct shim_conn *conn);

#endif
