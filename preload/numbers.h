/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A number is born: a call has just returned it, so whatever we knew of an earlier bearer is over.
 * That one may have been closed by a way that no hook sees.
 */
#ifndef SHMIPC_PRELOAD_NUMBERS_H
#define SHMIPC_PRELOAD_NUMBERS_H

#include "preload/config.h"
#include "preload/conn.h"

/* The number, or the -1 of a call that failed. */
static inline int shim_number_born(int fd)
{
	if (fd >= 0 && shim_config.enabled)
		shim_conn_flush(fd);
	return fd;
}

/* Two of them, if the call succeeded; its result. */
static inline int shim_numbers_born(int result, const int fds[2])
{
	if (result == 0) {
		shim_number_born(fds[0]);
		shim_number_born(fds[1]);
	}
	return result;
}

/* A terminal, or nothing, has taken the place of 0 to 2 inside libc. */
static inline void shim_standard_numbers_born(void)
{
	for (int fd = 0; fd <= 2; fd++)
		shim_number_born(fd);
}

#endif
