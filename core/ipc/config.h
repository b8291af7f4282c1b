/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as the objects of one client or listener share it. */
#ifndef SHMIPC_CORE_IPC_CONFIG_H
#define SHMIPC_CORE_IPC_CONFIG_H

#include <stdatomic.h>
#include <stdint.h>

#include "shmipc.h"

struct shmipc_shared_config {
	_Atomic uint32_t refs;
	struct shmipc_config values; /* path_prefix is this struct's own copy */
};

/* A checked copy; given == NULL: the defaults.  NULL and *error_out on failure. */
struct shmipc_shared_config *shmipc_config_share(const struct shmipc_config *given, int *error_out);
struct shmipc_shared_config *shmipc_config_get(struct shmipc_shared_config *config);
void shmipc_config_put(struct shmipc_shared_config *config);

/* One line for the application's log; dropped if it did not ask for the level. */
void shmipc_log(const struct shmipc_shared_config *config, enum shmipc_log_level level,
		const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
