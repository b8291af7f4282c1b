/* SPDX-License-Identifier: Apache-2.0 */
#include "core/segment.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "core/memfd.h"
#include "core/sys.h"

enum { RING_BYTES_MAX = 64 << 20 };

static bool geometry_is_sane(uint32_t stream_count, uint64_t ring_bytes)
{
	return stream_count >= 1 && stream_count <= SHMIPC_STREAM_COUNT_MAX &&
	       ring_bytes >= SHMIPC_PAGE_BYTES && ring_bytes <= RING_BYTES_MAX &&
	       (ring_bytes & (ring_bytes - 1)) == 0;
}

static uint64_t loops_at(uint32_t stream_count)
{
	return SHMIPC_PAGE_BYTES * (1 + (uint64_t)stream_count);
}

static uint64_t bytes_of(uint32_t stream_count, uint64_t ring_bytes)
{
	return loops_at(stream_count) + stream_count * 2 * ring_bytes;
}

static int map_bytes(struct shmipc_segment *segment, int fd, uint64_t bytes)
{
	long at = sys_mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			   fd, 0);

	if (at < 0 && at > -SHMIPC_PAGE_BYTES)
		return (int)at;
	segment->header = (struct shmipc_segment_header *)at;
	return 0;
}

/* A core dump reads all memory that it writes down, and so makes the kernel provide that of loops
 * that were never used: gigabytes, which the other end would keep. */
static void keep_loops_out_of_dumps(const struct shmipc_segment *segment)
{
	sys_madvise((unsigned char *)segment->header + segment->loops_at,
		    (size_t)(segment->segment_bytes - segment->loops_at), MADV_DONTDUMP);
}

int shmipc_segment_create(struct shmipc_segment *segment, uint32_t stream_count,
			  uint64_t ring_bytes, int *fd_out)
{
	uint64_t bytes = bytes_of(stream_count, ring_bytes);
	int fd, error;

	if (!geometry_is_sane(stream_count, ring_bytes))
		return -EINVAL;
	fd = shmipc_memfd_create("shmipc-segment", bytes);
	if (fd < 0)
		return fd;
	error = map_bytes(segment, fd, bytes);
	if (error) {
		sys_close(fd);
		return error;
	}
	segment->segment_bytes = bytes;
	segment->loops_at = loops_at(stream_count);
	segment->ring_bytes = ring_bytes;
	segment->stream_count = stream_count;
	segment->header->magic = SHMIPC_SEGMENT_MAGIC;
	segment->header->layout_version = SHMIPC_LAYOUT_VERSION;
	segment->header->stream_count = stream_count;
	segment->header->ring_bytes = ring_bytes;
	segment->header->loops_at = segment->loops_at;
	segment->header->segment_bytes = bytes;
	keep_loops_out_of_dumps(segment);
	*fd_out = fd;
	return 0;
}

/* Read the peer's geometry once, into private memory, and judge the copy. */
static int adopt_geometry(struct shmipc_segment *segment, uint64_t file_bytes)
{
	struct shmipc_segment_header seen;

	memcpy(&seen, segment->header, offsetof(struct shmipc_segment_header, letters));
	__asm__ volatile("" ::: "memory");
	if (seen.magic != SHMIPC_SEGMENT_MAGIC || seen.layout_version != SHMIPC_LAYOUT_VERSION)
		return -EPROTO;
	if (!geometry_is_sane(seen.stream_count, seen.ring_bytes))
		return -EPROTO;
	if (seen.loops_at != loops_at(seen.stream_count) || seen.segment_bytes != file_bytes ||
	    file_bytes != bytes_of(seen.stream_count, seen.ring_bytes))
		return -EPROTO;
	segment->segment_bytes = file_bytes;
	segment->loops_at = seen.loops_at;
	segment->ring_bytes = seen.ring_bytes;
	segment->stream_count = seen.stream_count;
	return 0;
}

/* The loops lie in the order of their streams: the first ones are a shorter mapping. */
static int map_first_streams(struct shmipc_segment *segment, int fd, uint64_t bytes_max)
{
	const uint64_t stream_bytes = 2 * segment->ring_bytes;
	uint64_t streams = segment->stream_count;
	int error;

	if (segment->segment_bytes > bytes_max)
		streams = bytes_max > segment->loops_at + stream_bytes
				  ? (bytes_max - segment->loops_at) / stream_bytes
				  : 1;
	do {
		segment->stream_count = (uint32_t)streams;
		segment->segment_bytes = segment->loops_at + streams * stream_bytes;
		error = map_bytes(segment, fd, segment->segment_bytes);
		streams /= 2;
	} while (error == -ENOMEM && streams > 0);
	return error;
}

int shmipc_segment_map(struct shmipc_segment *segment, int fd, uint64_t bytes_max)
{
	uint64_t bytes;
	int error = shmipc_memfd_check(fd, &bytes);

	if (error)
		return error;
	if (bytes < SHMIPC_PAGE_BYTES || bytes % SHMIPC_PAGE_BYTES != 0)
		return -EPROTO;
	error = map_bytes(segment, fd, SHMIPC_PAGE_BYTES);
	if (error)
		return error;
	error = adopt_geometry(segment, bytes);
	sys_munmap(segment->header, SHMIPC_PAGE_BYTES);
	segment->header = NULL;
	if (!error)
		error = map_first_streams(segment, fd, bytes_max);
	if (!error)
		keep_loops_out_of_dumps(segment);
	return error;
}

void shmipc_segment_unmap(struct shmipc_segment *segment)
{
	if (segment->header)
		sys_munmap(segment->header, (size_t)segment->segment_bytes);
	segment->header = NULL;
}

struct shmipc_stream_control *shmipc_segment_stream(const struct shmipc_segment *segment,
						    uint32_t index)
{
	return (struct shmipc_stream_control *)(void *)((unsigned char *)segment->header +
							SHMIPC_PAGE_BYTES * (1 + (size_t)index));
}

struct shmipc_ring shmipc_segment_ring(const struct shmipc_segment *segment, uint32_t index,
				       unsigned int direction)
{
	return (struct shmipc_ring){
		.lead = shmipc_segment_stream(segment, index)->lead[direction],
		.lead_bytes = SHMIPC_LEAD_BYTES,
		.loop = (unsigned char *)segment->header + segment->loops_at +
			(2 * (uint64_t)index + direction) * segment->ring_bytes,
		.ring_bytes = segment->ring_bytes,
	};
}
