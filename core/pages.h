/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that are about to be touched for the first time.
 *
 * A fault costs each end more than the bytes of its page do, and on some virtual machines ten times
 * as much as a page that is asked for together with others: madvise(2), MADV_POPULATE_WRITE and
 * _READ, since Linux 5.14.  Nobody depends on the answer: what could not be had is faulted in.
 */
#ifndef SHMIPC_CORE_PAGES_H
#define SHMIPC_CORE_PAGES_H

#include <stddef.h>

/* Whole pages of a mapping, which the caller may write, or has been told to read.  Any thread, any
 * signal handler. */
void shmipc_pages_for_writing(void *at, size_t bytes);
void shmipc_pages_for_reading(void *at, size_t bytes);

#endif
