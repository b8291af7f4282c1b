/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the configuration says of a listening side's address, and how that address is written.
 *
 * Short connections come in hundreds from or to the same address: the last answers are remembered,
 * so that a connection does not pay for the list of endpoints, for a text, or for asking the kernel
 * for the name of an accepted socket.  Remembered only while the process has one thread; a signal
 * handler that comes into the middle of it finds or leaves nothing half written.
 */
#ifndef SHMIPC_PRELOAD_VERDICT_H
#define SHMIPC_PRELOAD_VERDICT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/status.h"

struct shim_verdict {
	bool wanted; /* an endpoint names it */
	sa_family_t family;
	uint8_t text_bytes; /* of the text, with its NUL */
	char text[SHMIPC_STATUS_ENDPOINT_BYTES];
};

_Static_assert(SHMIPC_STATUS_ENDPOINT_BYTES <= UINT8_MAX, "a length in a byte");

/* Of the address that a client connects to. */
void shim_verdict_of_address(struct shim_verdict *verdict, const struct sockaddr *address,
			     socklen_t bytes);

/* Of a connection that `listener` has just handed out as `fd`. */
void shim_verdict_of_accepted(struct shim_verdict *verdict, int listener, int fd);

/* The number is born again, or listens anew: what was known of it is true no more. */
void shim_verdict_forget(int listener);

#endif
