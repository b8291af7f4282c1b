/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared segments: creation, passing on, validation, mapping.
 *
 * A segment is a memfd with the seals SHRINK, GROW and SEAL, so that no mapping of it can ever
 * fault.  The receiver of a descriptor verifies the seals and the whole geometry before it believes
 * a word.
 */
#ifndef SHMIPC_CORE_SEGMENT_H
#define SHMIPC_CORE_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "core/layout.h"
#include "core/ring.h"

struct shmipc_segment {
	struct shmipc_segment_header *header;
	/* private copies of the validated geometry, of what is mapped: the header is writable by
	 * the peer */
	uint64_t segment_bytes;
	uint64_t loops_at;
	uint64_t ring_bytes;
	uint32_t stream_count;
};

/* Create, seal and map a segment.  The descriptor (close-on-exec) is the caller's, to pass on and
 * close. Errors: -EINVAL (geometry), or what memfd_create, ftruncate, fcntl or mmap say. */
int shmipc_segment_create(struct shmipc_segment *segment, uint32_t stream_count,
			  uint64_t ring_bytes, int *fd_out);

/* Validate a received descriptor and map it; the descriptor stays the caller's.  Where all is more
 * than bytes_max, or than there is address space for, only the first streams, one at least: so a
 * caller must be the one who hands them out.
 * -EPROTO: not a regular sealed memfd of a geometry that we accept. */
int shmipc_segment_map(struct shmipc_segment *segment, int fd, uint64_t bytes_max);

void shmipc_segment_unmap(struct shmipc_segment *segment);

struct shmipc_stream_control *shmipc_segment_stream(const struct shmipc_segment *segment,
						    uint32_t index);
struct shmipc_ring shmipc_segment_ring(const struct shmipc_segment *segment, uint32_t index,
				       unsigned int direction);

#endif
