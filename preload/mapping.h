/* SPDX-License-Identifier: Apache-2.0 */
/* What may be done with an address, as the kernel says (proc_pid_maps(5)). */
#ifndef SHMIPC_PRELOAD_MAPPING_H
#define SHMIPC_PRELOAD_MAPPING_H

#include <stdint.h>

enum {
	SHIM_MAPPING_READ = 1,
	SHIM_MAPPING_WRITE = 2,
	SHIM_MAPPING_RUN = 4,
};

/* 0: nothing lies there, or the kernel does not say.  Any thread, any handler; a millisecond where
 * there are thousands of mappings. */
int shim_mapping_rights(uintptr_t at);

#endif
