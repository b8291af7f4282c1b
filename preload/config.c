/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "preload/log.h"

struct shim_config shim_config;

enum {
	SPIN_US_DEFAULT = 50,
	SPIN_US_MAX = 100000,
	UPGRADE_TRIPS_DEFAULT = 8,
	UPGRADE_BYTES_DEFAULT = 512 * 1024,
	UPGRADE_CALL_BYTES_DEFAULT = 4096,
	UPGRADE_AFTER_MAX = 1000000,
	UPGRADE_TRIP_BYTES = 8192
};

static void complain_endpoint(const char *entry, const char *why)
{
	shim_log_complain("SHMIPC_ENDPOINTS: ignoring \"%s\": %s", entry, why);
}

static uint32_t number(const char *name, uint32_t fallback, uint32_t most)
{
	const char *text = getenv(name);
	char *end;
	unsigned long value;

	if (!text || !*text)
		return fallback;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || end == text || text[0] == '-' || value > most) {
		shim_log_complain("%s: ignoring \"%s\": not a number from 0 to %u", name, text,
				  most);
		return fallback;
	}
	return (uint32_t)value;
}

/* User names would need NSS, which must not run inside somebody else's constructor: numbers only.
 */
static void read_peers(void)
{
	const char *text = getenv("SHMIPC_PEERS");

	while (text && *text) {
		char *end;
		unsigned long uid = strtoul(text, &end, 10);

		if (end == text || (*end && *end != ',') || uid > UINT32_MAX - 1) {
			shim_log_complain(
				"SHMIPC_PEERS: ignoring \"%s\": a comma list of user ids is wanted",
				text);
			return;
		}
		if (shim_config.peer_count < SHIM_PEERS_MAX)
			shim_config.peers[shim_config.peer_count++] = (uid_t)uid;
		text = *end ? end + 1 : end;
	}
}

/* A rendezvous costs both ends together about as much as the kernel's way for so much traffic.
 * Whoever names a number is taken by his word. */
static void read_upgrade_after(void)
{
	uint32_t after = number("SHMIPC_UPGRADE_AFTER", UINT32_MAX, UPGRADE_AFTER_MAX);

	if (after == UINT32_MAX)
		return;
	shim_config.upgrade_trips = after;
	shim_config.upgrade_bytes = (uint64_t)after * UPGRADE_TRIP_BYTES;
	shim_config.upgrade_per_call_bytes = 0;
	shim_config.upgrade_learns = false;
}

void shim_config_read(void)
{
	const char *disable = getenv("SHMIPC_DISABLE");
	const char *endpoints = getenv("SHMIPC_ENDPOINTS");

	shim_config.spin_us = SPIN_US_DEFAULT;
	shim_config.upgrade_trips = UPGRADE_TRIPS_DEFAULT;
	shim_config.upgrade_bytes = UPGRADE_BYTES_DEFAULT;
	shim_config.upgrade_per_call_bytes = UPGRADE_CALL_BYTES_DEFAULT;
	shim_config.upgrade_learns = true;
	if (getauxval(AT_SECURE) || (disable && *disable && strcmp(disable, "0") != 0))
		return;
	shim_log_configure(getenv("SHMIPC_LOG"));
	if (!endpoints || !*endpoints)
		return;
	shim_endpoints_parse(&shim_config.endpoints, endpoints, complain_endpoint);
	shim_config.spin_us = number("SHMIPC_SPIN_US", SPIN_US_DEFAULT, SPIN_US_MAX);
	read_upgrade_after();
	read_peers();
	shim_config.enabled = shim_config.endpoints.count > 0;
}
