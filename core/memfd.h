/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealed memory files: how this host's processes share memory without trusting each other.
 *
 * SHRINK and GROW keep every mapping backed by the file for ever; SEAL keeps it so.  Whoever
 * receives a descriptor asks the kernel for all of that before the first access.
 */
#ifndef SHMIPC_CORE_MEMFD_H
#define SHMIPC_CORE_MEMFD_H

#include <stdint.h>

/* A close-on-exec descriptor of a sealed, zeroed, sparse file, or -errno. */
int shmipc_memfd_create(const char *name, uint64_t bytes);

/* Is this a file as shmipc_memfd_create() makes them?  0 and its size, or -EPROTO. */
int shmipc_memfd_check(int fd, uint64_t *bytes_out);

#endif
