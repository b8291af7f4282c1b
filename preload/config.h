/* SPDX-License-Identifier: Apache-2.0 */
/* What the environment asks for; read once at start-up, never changed. */
#ifndef SHMIPC_PRELOAD_CONFIG_H
#define SHMIPC_PRELOAD_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "preload/endpoints.h"

enum {
	SHIM_PEERS_MAX = 16,
};

struct shim_config {
	bool enabled;	     /* false: every entry point is libc's own */
	_Atomic bool closed; /* no further connection is looked at; handover.h */
	struct shim_endpoints endpoints;
	uint32_t spin_us;
	/* a connection is worth it after so many round trips, or so much traffic: bytes, and for
	 * each call that moves some, which costs as much as they do, so many more */
	uint32_t upgrade_trips;
	uint32_t upgrade_per_call_bytes;
	uint64_t upgrade_bytes;
	bool upgrade_learns; /* worth.h */
	unsigned int peer_count;
	uid_t peers[SHIM_PEERS_MAX]; /* other users with whom to accelerate */
};

extern struct shim_config shim_config;

void shim_config_read(void);

#endif
