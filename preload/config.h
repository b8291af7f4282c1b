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
	SHIM_UPGRADE_BYTES_PER_TRIP = 8192,
};

struct shim_config {
	bool enabled;	     /* false: every entry point is libc's own */
	_Atomic bool closed; /* no further connection is looked at; handover.h */
	struct shim_endpoints endpoints;
	uint32_t spin_us;
	uint32_t upgrade_after; /* round trips, or times 8 KiB */
	unsigned int peer_count;
	uid_t peers[SHIM_PEERS_MAX]; /* other users with whom to accelerate */
};

extern struct shim_config shim_config;

void shim_config_read(void);

#endif
