/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ring.h"

#include <errno.h>
#include <limits.h>

#include "core/copy.h"

__attribute__((hot)) int shmipc_cursor_init(struct shmipc_cursor *cursor, const struct iovec *iov,
					    size_t count)
{
	size_t total = 0;

	for (size_t i = 0; i < count; i++) {
		size_t room = SHMIPC_TRANSFER_MAX - total;

		if (iov[i].iov_len > (size_t)SSIZE_MAX)
			return -EINVAL;
		total += iov[i].iov_len < room ? iov[i].iov_len : room;
	}
	*cursor = (struct shmipc_cursor){ .iov = iov, .count = count, .left = total };
	return 0;
}

void shmipc_cursor_skip(struct shmipc_cursor *cursor, size_t bytes)
{
	cursor->left -= bytes;
	while (bytes > 0) {
		size_t here = cursor->iov->iov_len - cursor->offset;

		if (bytes < here) {
			cursor->offset += bytes;
			return;
		}
		bytes -= here;
		cursor->iov++;
		cursor->count--;
		cursor->offset = 0;
	}
}

__attribute__((hot)) bool shmipc_cursor_reaches(const struct shmipc_cursor *cursor, size_t bytes,
						enum shmipc_reach how)
{
	const struct iovec *iov = cursor->iov;
	size_t offset = cursor->offset;

	while (bytes > 0) {
		size_t here = iov->iov_len - offset;
		size_t n = bytes < here ? bytes : here;

		if (!shmipc_reach((const char *)iov->iov_base + offset, n, how))
			return false;
		bytes -= n;
		offset = 0;
		iov++;
	}
	return true;
}

bool shmipc_ring_check(const struct shmipc_ring *ring, uint64_t base, uint64_t head, uint64_t tail)
{
	return base <= head && head <= tail && tail - head <= ring->ring_bytes;
}

enum copy_way { COPY_IN, COPY_OUT };

/* One contiguous piece of ring memory against the cursor. */
static void copy_piece(unsigned char *memory, struct shmipc_cursor *cursor, size_t bytes,
		       enum copy_way way)
{
	while (bytes > 0) {
		size_t here = cursor->iov->iov_len - cursor->offset;
		size_t n = bytes < here ? bytes : here;
		unsigned char *user;

		if (n == 0) { /* an empty element, whose address may be anything */
			cursor->iov++;
			cursor->count--;
			cursor->offset = 0;
			continue;
		}
		user = (unsigned char *)cursor->iov->iov_base + cursor->offset;
		if (way == COPY_IN)
			shmipc_copy(memory, user, n);
		else
			shmipc_copy(user, memory, n);
		memory += n;
		bytes -= n;
		shmipc_cursor_skip(cursor, n);
	}
}

/* Where the byte at this offset lies, and how many lie there together. */
static inline unsigned char *place(const struct shmipc_ring *ring, uint64_t offset,
				   size_t *together)
{
	if (offset < ring->lead_bytes) {
		*together = (size_t)(ring->lead_bytes - offset);
		return ring->lead + offset;
	}
	offset = (offset - ring->lead_bytes) & (ring->ring_bytes - 1);
	*together = (size_t)(ring->ring_bytes - offset);
	return ring->loop + offset;
}

/* Almost every message: one element of the vector, one piece of the ring. */
static inline bool copy_simply(const struct shmipc_ring *ring, uint64_t base, uint64_t position,
			       struct shmipc_cursor *cursor, size_t bytes, enum copy_way way)
{
	size_t here = cursor->left ? cursor->iov->iov_len - cursor->offset : 0, together;
	unsigned char *memory = place(ring, position - base, &together), *user;

	if (bytes > here || bytes > together)
		return false;
	user = (unsigned char *)cursor->iov->iov_base + cursor->offset;
	if (way == COPY_IN)
		shmipc_copy(memory, user, bytes);
	else
		shmipc_copy(user, memory, bytes);
	cursor->left -= bytes;
	cursor->offset += bytes;
	if (bytes == here) {
		cursor->iov++;
		cursor->count--;
		cursor->offset = 0;
	}
	return true;
}

static void copy(const struct shmipc_ring *ring, uint64_t base, uint64_t position,
		 struct shmipc_cursor *cursor, size_t bytes, enum copy_way way)
{
	struct iovec pieces[2];
	int count;

	if (copy_simply(ring, base, position, cursor, bytes, way))
		return;
	count = shmipc_ring_pieces(ring, base, position, bytes, pieces);
	for (int i = 0; i < count; i++)
		copy_piece(pieces[i].iov_base, cursor, pieces[i].iov_len, way);
}

__attribute__((hot)) void shmipc_ring_put(const struct shmipc_ring *ring, uint64_t base,
					  uint64_t position, struct shmipc_cursor *from,
					  size_t bytes)
{
	copy(ring, base, position, from, bytes, COPY_IN);
}

__attribute__((hot)) void shmipc_ring_get(const struct shmipc_ring *ring, uint64_t base,
					  uint64_t position, struct shmipc_cursor *to, size_t bytes)
{
	copy(ring, base, position, to, bytes, COPY_OUT);
}

/* Two are enough: what begins in the lead ends in the loop before its end. */
int shmipc_ring_pieces(const struct shmipc_ring *ring, uint64_t base, uint64_t position,
		       size_t bytes, struct iovec pieces[2])
{
	size_t together;
	unsigned char *memory = place(ring, position - base, &together);

	if (bytes == 0)
		return 0;
	pieces[0] = (struct iovec){ memory, bytes < together ? bytes : together };
	if (bytes <= together)
		return 1;
	pieces[1] = (struct iovec){ ring->loop, bytes - together };
	return 2;
}
