/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A buffer mapping and who uses it: sessions, and the views of streams that outlive them.
 *
 * A server finds out that two sessions brought the same memory by the kernel's word (device and
 * inode), never by its name: two clients in two containers may well use the same one.
 */
#ifndef SHMIPC_CORE_IPC_MAPPING_H
#define SHMIPC_CORE_IPC_MAPPING_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/ipc/area.h"
#include "core/ipc/config.h"
#include "core/ipc/pool.h"

struct shmipc_mapping {
	_Atomic uint32_t refs;
	uint32_t generation; /* of the process that mapped it */
	struct shmipc_area area;
	struct shmipc_pool pool;
	struct shmipc_mapping *next; /* of all that were received */
};

/* Client: new memory under this name, with one reference. */
int shmipc_mapping_create(const struct shmipc_config *config, const char *path,
			  struct shmipc_mapping **out);

/* Server: takes the area over, whatever the result.  A reference to the mapping of the same memory
 * if there is one, else to a new one.  -EPROTO: no buffer mapping. */
int shmipc_mapping_receive(struct shmipc_area *area, struct shmipc_mapping **out);

struct shmipc_mapping *shmipc_mapping_get(struct shmipc_mapping *mapping);
/* The last one removes the file and unmaps. */
void shmipc_mapping_put(struct shmipc_mapping *mapping);

#endif
