/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FILE whose bytes go through the entry points.
 *
 * stdio reaches no hook, so fdopen() gives a connection back to the kernel first.  Where that
 * cannot be done in time (the ring is full, and behind it the stream goes on by the kernel) the
 * FILE gets functions that call us.  It knows no wide characters.  The same for a connection that
 * becomes a standard stream.
 */
#ifndef SHMIPC_PRELOAD_STREAM_H
#define SHMIPC_PRELOAD_STREAM_H

#include <stdio.h>

FILE *shim_stream_open(int fd, const char *mode);

/* stdin, stdout or stderr, whichever has this number, becomes such a FILE. */
void shim_stream_stand_in(int fd);

#endif
