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
	UPGRADE_AFTER_DEFAULT = 8,
	UPGRADE_AFTER_MAX = 1000000
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

void shim_config_read(void)
{
	const char *disable = getenv("SHMIPC_DISABLE");
	const char *endpoints = getenv("SHMIPC_ENDPOINTS");

	shim_config.spin_us = SPIN_US_DEFAULT;
	shim_config.upgrade_after = UPGRADE_AFTER_DEFAULT;
	if (getauxval(AT_SECURE) || (disable && *disable && strcmp(disable, "0") != 0))
		return;
	shim_log_configure(getenv("SHMIPC_LOG"));
	if (!endpoints || !*endpoints)
		return;
	shim_endpoints_parse(&shim_config.endpoints, endpoints, complain_endpoint);
	shim_config.spin_us = number("SHMIPC_SPIN_US", SPIN_US_DEFAULT, SPIN_US_MAX);
	shim_config.upgrade_after = number("SHMIPC_UPGRADE_AFTER", UPGRADE_AFTER_DEFAULT,
					   UPGRADE_AFTER_MAX);
	read_peers();
	shim_config.enabled = shim_config.endpoints.count > 0;
}
