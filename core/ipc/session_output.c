/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to the peer by the socket, and where slices come from. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/ipc/session.h"
#include "core/sys.h"

/* ---- slices --------------------------------------------------------------------------------- */

/*
 * Slices that were just read are the first to be written again: they are warm in this core's cache,
 * and the free lists, whose words both processes fight for, are left in peace.
 */
int shmipc_session_take(struct shmipc_session *s, uint32_t list, struct shmipc_slice *out)
{
	struct shmipc_slice_cache *cache = &s->cache[list];

	if (cache->count > 0) {
		*out = (struct shmipc_slice){ cache->offsets[--cache->count], list };
		return 0;
	}
	return shmipc_pool_take(s->pool, list, out);
}

void shmipc_session_give(struct shmipc_session *s, struct shmipc_slice slice)
{
	struct shmipc_slice_cache *cache = &s->cache[slice.list];

	if (cache->count < cache->limit)
		cache->offsets[cache->count++] = slice.offset;
	else
		shmipc_pool_give(s->pool, slice);
}

/* ---- the socket ----------------------------------------------------------------------------- */

struct shmipc_block *shmipc_block_new(size_t bytes)
{
	struct shmipc_block *block = malloc(sizeof(*block) + bytes);

	if (block) {
		block->next = NULL;
		block->bytes = bytes;
		block->done = 0;
	}
	return block;
}

void shmipc_session_queue_block(struct shmipc_session *s, struct shmipc_block *block)
{
	if (s->out_last)
		s->out_last->next = block;
	else
		s->out_first = block;
	s->out_last = block;
	s->out_queued += block->bytes;
}

/* The one thread that is in send(); the lock is let go meanwhile. */
static ssize_t send_unlocked(struct shmipc_session *s, const void *from, size_t bytes)
{
	ssize_t n;

	s->writing = true;
	shmipc_mutex_unlock(&s->lock);
	do
		n = sys_sendto(s->fd, from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
	while (n == -EINTR);
	shmipc_mutex_lock(&s->lock);
	s->writing = false;
	return n;
}

/* The connection refuses: the peer is gone.  What it had sent before is still to be had. */
static void connection_failed(struct shmipc_session *s)
{
	shmipc_session_read(s);
	shmipc_session_end(s, -ECONNRESET, false);
}

static void free_sent(struct shmipc_session *s)
{
	struct shmipc_block *block = s->out_first;

	s->out_first = block->next;
	if (!s->out_first)
		s->out_last = NULL;
	free(block);
}

void shmipc_session_pump(struct shmipc_session *s)
{
	uint64_t before = s->out_sent;
	ssize_t n = 0;

	while (s->out_first && !s->writing && !s->ended) {
		struct shmipc_block *block = s->out_first;

		s->out_busy = block; /* the end of the session leaves it to us */
		n = send_unlocked(s, block->data + block->done, block->bytes - block->done);
		s->out_busy = NULL;
		if (s->ended) {
			free(block);
			return;
		}
		if (n < 0)
			break;
		block->done += (size_t)n;
		s->out_sent += (size_t)n;
		if (block->done == block->bytes)
			free_sent(s);
	}
	if (n < 0 && n != -EAGAIN)
		connection_failed(s);
	if (s->loop && !s->ended)
		shmipc_session_want_writable(s, s->out_first != NULL);
	if (s->out_sent != before)
		shmipc_session_notify_all(s);
}

/* Whoever takes in must not let the lock go meanwhile: another thread would read the socket before
 * what this one has in its hands of the queue, which the peer sent first. */
static bool may_unlock(const struct shmipc_session *s)
{
	return !s->harvesting && !s->reading;
}

/* first: before what others have queued meanwhile; it has been counted already. */
static void queue_bytes(struct shmipc_session *s, const void *from, size_t bytes, bool first)
{
	struct shmipc_block *block = shmipc_block_new(bytes);

	if (!block) {
		shmipc_session_end(s, -ENOMEM, false);
		return;
	}
	memcpy(block->data, from, bytes);
	if (first) {
		block->next = s->out_first;
		s->out_first = block;
		if (!s->out_last)
			s->out_last = block;
	} else {
		shmipc_session_queue_block(s, block);
	}
	if (may_unlock(s))
		shmipc_session_pump(s);
	else
		s->sends_later = true;
}

/* Without a copy and an allocation, if nobody else is sending.  Over TCP the kernel may take a part
 * of it, behind which nothing else may come. */
static void send_small(struct shmipc_session *s, const uint8_t *from, size_t bytes)
{
	ssize_t n;

	if (s->writing || s->out_first || !may_unlock(s)) {
		queue_bytes(s, from, bytes, false);
		return;
	}
	s->out_queued += bytes;
	n = send_unlocked(s, from, bytes);
	if (s->ended)
		return;
	if (n < 0 && n != -EAGAIN) {
		connection_failed(s);
		return;
	}
	n = n < 0 ? 0 : n;
	s->out_sent += (size_t)n;
	if ((size_t)n < bytes)
		queue_bytes(s, from + n, bytes - (size_t)n, true);
	else if (s->out_first)
		shmipc_session_pump(s);
}

void shmipc_session_wake_peer(struct shmipc_session *s)
{
	uint8_t message[SHMIPC_MESSAGE_HEADER_BYTES];

	if (s->ended)
		return;
	s->metrics.wakeups_sent++;
	shmipc_message_encode_plain(message, sizeof(message), s->version, SHMIPC_MESSAGE_POLLING);
	send_small(s, message, sizeof(message));
}

/* The queue, or where it is full or could overtake what the stream has in the socket, a message. */
void shmipc_session_send_close(struct shmipc_session *s, uint32_t stream, bool by_socket)
{
	const struct shmipc_queue_element element = { .stream = stream, .status = 1 };
	uint8_t message[SHMIPC_MESSAGE_HEADER_BYTES + 4];

	if (s->ended)
		return;
	if (!by_socket) {
		int error = shmipc_queue_put(&s->send, &element);

		if (!error) {
			if (shmipc_queue_must_wake(&s->send))
				shmipc_session_wake_peer(s);
			return;
		}
		if (error != -EAGAIN) {
			shmipc_session_end(s, error, false);
			return;
		}
		s->metrics.queue_full++;
	}
	shmipc_message_encode_stream_close(message, sizeof(message), s->version, stream);
	send_small(s, message, sizeof(message));
}

void shmipc_session_send_epoch(struct shmipc_session *s, uint8_t type, uint64_t epoch)
{
	uint8_t message[SHMIPC_MESSAGE_HEADER_BYTES + 8];

	if (s->ended)
		return;
	shmipc_message_encode_epoch(message, sizeof(message), s->version, type, epoch);
	send_small(s, message, sizeof(message));
}
