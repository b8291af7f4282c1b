/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: a message is put together in slices, and sent by a flush. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/copy.h"
#include "core/cpu.h"
#include "core/ipc/stream.h"

enum {
	FIRST_PIECES = 4,
	ORDINARY_MIN_BYTES = 4096,
	RESERVE_MAX_BYTES = 256 << 20,
	FALLBACK_PART_MAX = SHMIPC_MESSAGE_FALLBACK_MAX_BYTES - SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES
};

/* ---- pieces (lock held) --------------------------------------------------------------------- */

static int make_room(struct shmipc_tx *tx)
{
	uint32_t larger = tx->room ? tx->room * 2 : FIRST_PIECES;
	struct shmipc_tx_piece *pieces;

	if (tx->count < tx->room)
		return 0;
	pieces = realloc(tx->pieces, larger * sizeof(*pieces));
	if (!pieces)
		return -ENOMEM;
	tx->pieces = pieces;
	tx->room = larger;
	return 0;
}

static void give_piece(struct shmipc_stream *stream, const struct shmipc_tx_piece *piece)
{
	if (piece->slice.offset == 0)
		free(piece->at);
	else if (!shmipc_session_is_foreign(stream->session))
		shmipc_session_give(stream->session, piece->slice);
}

static void forget_message(struct shmipc_tx *tx)
{
	tx->count = tx->current = 0;
	tx->bytes = tx->reserved = 0;
	tx->ordinary = false;
}

void shmipc_tx_drop(struct shmipc_stream *stream)
{
	for (uint32_t i = 0; i < stream->tx.count; i++)
		give_piece(stream, &stream->tx.pieces[i]);
	forget_message(&stream->tx);
}

static void append_slice(struct shmipc_stream *stream, struct shmipc_slice slice)
{
	const struct shmipc_pool *pool = stream->session->pool;

	stream->tx.pieces[stream->tx.count++] = (struct shmipc_tx_piece){
		.at = shmipc_slice_payload(pool, slice),
		.capacity = pool->lists[slice.list].capacity,
		.slice = slice
	};
}

void shmipc_tx_keep(struct shmipc_stream *stream, struct shmipc_slice slice)
{
	if (make_room(&stream->tx)) {
		shmipc_session_give(stream->session, slice);
		return;
	}
	shmipc_pool_seal(stream->session->pool, slice, 0, 0);
	append_slice(stream, slice);
}

static int append_ordinary(struct shmipc_tx *tx, size_t bytes)
{
	size_t capacity = bytes > ORDINARY_MIN_BYTES ? bytes : ORDINARY_MIN_BYTES;
	uint8_t *at;
	int error = make_room(tx);

	if (error)
		return error;
	at = malloc(capacity);
	if (!at)
		return -ENOMEM;
	tx->pieces[tx->count++] = (struct shmipc_tx_piece){ .at = at, .capacity = capacity };
	tx->ordinary = true;
	return 0;
}

/* One slice that holds it all: of the smallest class that does and has one. */
static bool append_fitting(struct shmipc_stream *stream, size_t bytes)
{
	struct shmipc_session *s = stream->session;
	struct shmipc_slice slice;

	for (uint32_t i = shmipc_pool_list_for(s->pool, bytes); i < s->pool->list_count; i++)
		if (shmipc_session_take(s, i, &slice) == 0) {
			append_slice(stream, slice);
			return true;
		}
	return false;
}

/* Lock held.  Room for `bytes` more behind what there is, in as many pieces as it takes: one
 * fitting slice, else from the largest class downwards, else ordinary memory for the rest. */
static int extend(struct shmipc_stream *stream, size_t bytes)
{
	struct shmipc_session *s = stream->session;
	uint32_t list = s->pool->list_count;
	struct shmipc_slice slice;
	int error = make_room(&stream->tx);

	if (error)
		return error;
	/* for a stream that has to take the socket, or has begun to, shared memory is of no use */
	if (stream->fallback || stream->tx.ordinary || s->ended)
		return append_ordinary(&stream->tx, bytes);
	if (append_fitting(stream, bytes))
		return 0;
	while (bytes > 0 && list > 0) {
		if (shmipc_session_take(s, list - 1, &slice)) {
			list--;
			continue;
		}
		append_slice(stream, slice);
		bytes -= bytes < s->pool->lists[slice.list].capacity
				 ? bytes
				 : s->pool->lists[slice.list].capacity;
		error = make_room(&stream->tx);
		if (error)
			return error;
	}
	if (bytes == 0)
		return 0;
	s->metrics.allocation_failures++;
	return append_ordinary(&stream->tx, bytes);
}

/* Lock held.  What is not committed of [current, count) can take so many bytes. */
static int provide(struct shmipc_stream *stream, size_t bytes)
{
	struct shmipc_tx *tx = &stream->tx;
	size_t room = 0;

	for (uint32_t i = tx->current; i < tx->count && room < bytes; i++)
		room += tx->pieces[i].capacity - tx->pieces[i].bytes;
	return room >= bytes ? 0 : extend(stream, bytes - room);
}

/* ---- writing -------------------------------------------------------------------------------- */

static size_t room_in_current(const struct shmipc_tx *tx)
{
	const struct shmipc_tx_piece *piece;

	if (tx->current >= tx->count)
		return 0;
	piece = &tx->pieces[tx->current];
	return piece->capacity - piece->bytes;
}

static int cannot_write(const struct shmipc_stream *stream)
{
	return shmipc_session_is_foreign(stream->session) ? -ECHILD : 0;
}

int shmipc_stream_write(struct shmipc_stream *stream, const void *from, size_t bytes)
{
	struct shmipc_session *s = stream->session;
	struct shmipc_tx *tx = &stream->tx;
	const uint8_t *at = from;
	int error = cannot_write(stream);

	if (error)
		return error;
	tx->reserved = 0;
	if (room_in_current(tx) < bytes) {
		shmipc_session_lock(s);
		error = provide(stream, bytes);
		shmipc_session_unlock(s);
		if (error)
			return error;
	}
	while (bytes > 0) {
		struct shmipc_tx_piece *piece = &tx->pieces[tx->current];
		size_t here = piece->capacity - piece->bytes;

		if (here == 0) {
			tx->current++;
			continue;
		}
		here = here < bytes ? here : bytes;
		shmipc_copy(piece->at + piece->bytes, at, here);
		piece->bytes += here;
		tx->bytes += here;
		at += here;
		bytes -= here;
	}
	return 0;
}

/* Lock held.  A piece with so many bytes of room becomes the current one. */
static int make_contiguous(struct shmipc_stream *stream, size_t bytes)
{
	struct shmipc_tx *tx = &stream->tx;
	int error;

	for (uint32_t i = tx->current; i < tx->count; i++)
		if (tx->pieces[i].capacity - tx->pieces[i].bytes >= bytes) {
			tx->current = i;
			return 0;
		}
	error = make_room(tx);
	if (error)
		return error;
	if (stream->fallback || tx->ordinary || stream->session->ended ||
	    !append_fitting(stream, bytes)) {
		stream->session->metrics.allocation_failures++;
		error = append_ordinary(tx, bytes);
	}
	if (!error)
		tx->current = tx->count - 1;
	return error;
}

int shmipc_stream_reserve(struct shmipc_stream *stream, size_t bytes, void **room_out)
{
	struct shmipc_session *s = stream->session;
	struct shmipc_tx *tx = &stream->tx;
	int error = cannot_write(stream);

	if (bytes == 0)
		return -EINVAL;
	if (bytes > RESERVE_MAX_BYTES)
		return -EMSGSIZE;
	if (error)
		return error;
	if (room_in_current(tx) < bytes) {
		shmipc_session_lock(s);
		error = make_contiguous(stream, bytes);
		shmipc_session_unlock(s);
		if (error)
			return error;
	}
	tx->reserved_in = tx->current;
	tx->reserved = bytes;
	*room_out = tx->pieces[tx->current].at + tx->pieces[tx->current].bytes;
	return 0;
}

ssize_t shmipc_stream_reserve_some(struct shmipc_stream *stream, size_t bytes, void **room_out)
{
	struct shmipc_session *s = stream->session;
	struct shmipc_tx *tx = &stream->tx;
	int error = cannot_write(stream);

	if (bytes == 0)
		return -EINVAL;
	if (bytes > RESERVE_MAX_BYTES)
		bytes = RESERVE_MAX_BYTES;
	if (error)
		return error;
	while (tx->current < tx->count && room_in_current(tx) == 0)
		tx->current++;
	if (tx->current == tx->count) {
		shmipc_session_lock(s);
		error = provide(stream, bytes);
		shmipc_session_unlock(s);
		if (error)
			return error;
	}
	tx->reserved_in = tx->current;
	tx->reserved = room_in_current(tx) < bytes ? room_in_current(tx) : bytes;
	*room_out = tx->pieces[tx->current].at + tx->pieces[tx->current].bytes;
	return (ssize_t)tx->reserved;
}

int shmipc_stream_commit(struct shmipc_stream *stream, size_t bytes)
{
	struct shmipc_tx *tx = &stream->tx;

	if (bytes > tx->reserved)
		return -EINVAL;
	if (bytes > 0) {
		tx->pieces[tx->reserved_in].bytes += bytes;
		tx->current = tx->reserved_in;
		tx->bytes += bytes;
	}
	tx->reserved = 0;
	return 0;
}

size_t shmipc_stream_unflushed(const struct shmipc_stream *stream)
{
	return stream->tx.bytes;
}

void shmipc_stream_drop_unflushed(struct shmipc_stream *stream)
{
	if (cannot_write(stream))
		return;
	shmipc_session_lock(stream->session);
	shmipc_tx_drop(stream);
	shmipc_session_unlock(stream->session);
}

/* ---- flushing (lock held) ------------------------------------------------------------------- */

/* When a flush gives up. */
static uint64_t give_up_at(const struct shmipc_stream *stream)
{
	if (stream->write_deadline_ns != SHMIPC_NEVER)
		return stream->write_deadline_ns;
	return shmipc_deadline_after(stream->session->config->values.write_timeout_ms *
				     UINT64_C(1000000));
}

/* May the flush go on waiting?  0: yes. */
static int patience_left(struct shmipc_stream *stream, uint64_t deadline_ns)
{
	int error = shmipc_stream_write_error(stream);

	if (error)
		return error;
	if (deadline_ns == SHMIPC_NOWAIT) {
		stream->blocked = true;
		shmipc_session_retry_later(stream->session);
		return -EAGAIN;
	}
	return shmipc_clock_ns() >= deadline_ns ? -ETIMEDOUT : 0;
}

static int await_queue(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	uint32_t patience = 0;
	uint64_t deadline = 0;
	int room, error;

	while ((room = shmipc_queue_has_room(&s->send)) == 0) {
		if (patience == 0) {
			s->metrics.queue_full++;
			deadline = give_up_at(stream);
		}
		error = patience_left(stream, deadline);
		if (error)
			return error;
		shmipc_session_wait_room(s, &patience, false, deadline);
	}
	if (room < 0) {
		shmipc_session_end(s, room, false);
		return room;
	}
	return shmipc_stream_write_error(stream);
}

/* Closes the ranks: empty pieces are given back, the others become one chain.  Returns its start.
 */
static uint32_t seal_chain(struct shmipc_stream *stream)
{
	struct shmipc_tx *tx = &stream->tx;
	struct shmipc_pool *pool = stream->session->pool;
	uint32_t used = 0, next = 0;

	for (uint32_t i = 0; i < tx->count; i++) {
		if (tx->pieces[i].bytes > 0)
			tx->pieces[used++] = tx->pieces[i];
		else
			give_piece(stream, &tx->pieces[i]);
	}
	for (uint32_t i = used; i > 0; i--) {
		const struct shmipc_tx_piece *piece = &tx->pieces[i - 1];

		shmipc_pool_seal(pool, piece->slice, (uint32_t)piece->bytes, next);
		next = piece->slice.offset;
		/* the peer may give it back at once, and we may take it again */
		shmipc_pool_disown(pool, piece->slice);
	}
	return next;
}

static int flush_to_queue(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	struct shmipc_queue_element element = { .stream = stream->id };
	int error = await_queue(stream);

	if (error)
		return error;
	element.offset = seal_chain(stream);
	shmipc_queue_put(&s->send, &element);
	s->metrics.bytes_sent += stream->tx.bytes;
	s->metrics.messages_sent++;
	stream->used = true;
	forget_message(&stream->tx);
	if (shmipc_queue_must_wake(&s->send))
		shmipc_session_wake_peer(s);
	return 0;
}

/* One FallbackData message with the next `bytes` bytes from *piece on. */
static int queue_part(struct shmipc_stream *stream, size_t bytes, uint32_t *index, size_t *offset)
{
	struct shmipc_fallback fallback = { .stream = stream->id,
					    .payload_bytes = (uint32_t)bytes };
	struct shmipc_block *block = shmipc_block_new(SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES + bytes);
	uint8_t *to;

	if (!block)
		return -ENOMEM;
	shmipc_message_encode_fallback(block->data, block->bytes, stream->session->version,
				       &fallback);
	to = block->data + SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES;
	while (bytes > 0) {
		const struct shmipc_tx_piece *piece = &stream->tx.pieces[*index];
		size_t here = piece->bytes - *offset;

		here = here < bytes ? here : bytes;
		memcpy(to, piece->at + *offset, here);
		to += here;
		bytes -= here;
		*offset += here;
		if (*offset == piece->bytes) {
			++*index;
			*offset = 0;
		}
	}
	shmipc_session_queue_block(stream->session, block);
	return 0;
}

/* All that was put into the socket's queue for this stream has gone to the kernel. */
static int await_socket(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	uint32_t patience = 0;
	uint64_t deadline = 0;
	int error;

	shmipc_session_pump(s);
	while (s->out_sent < stream->out_mark) {
		if (patience == 0)
			deadline = give_up_at(stream);
		error = patience_left(stream, deadline);
		if (error)
			return error;
		shmipc_session_wait_room(s, &patience, true, deadline);
	}
	stream->out_mark = 0;
	/* The kernel has all of it.  That the peer has closed the stream meanwhile, perhaps because
	 * it has read it all, is for the next call to say. */
	return 0;
}

static int flush_to_socket(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	size_t left = stream->tx.bytes, offset = 0;
	uint32_t index = 0;
	int error = 0;

	while (left > 0 && !error) {
		size_t part = left < FALLBACK_PART_MAX ? left : FALLBACK_PART_MAX;

		error = queue_part(stream, part, &index, &offset);
		left -= part;
	}
	if (error) /* a part of the message can be on its way: the stream is of no use any more */
		stream->shut = true;
	s->metrics.fallback_sent++;
	s->metrics.messages_sent++;
	s->metrics.bytes_sent += stream->tx.bytes;
	if (s->config->values.breaker_ms)
		s->unhealthy_until_ns = shmipc_deadline_after(s->config->values.breaker_ms *
							      UINT64_C(1000000));
	stream->used = stream->fallback = true;
	stream->out_mark = s->out_queued;
	shmipc_tx_drop(stream);
	return error ? error : await_socket(stream);
}

int shmipc_stream_flush(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	int error = cannot_write(stream);

	if (error)
		return error;
	shmipc_session_lock(s);
	stream->tx.reserved = 0;
	error = shmipc_stream_write_error(stream);
	if (!error && stream->out_mark)
		error = await_socket(stream);
	if (!error && stream->tx.bytes > 0)
		error = stream->fallback || stream->tx.ordinary ? flush_to_socket(stream)
								: flush_to_queue(stream);
	if (error && error != -EAGAIN && error != -ETIMEDOUT)
		shmipc_tx_drop(stream);
	shmipc_session_unlock(s);
	return error;
}

int shmipc_stream_send(struct shmipc_stream *stream, const void *from, size_t bytes)
{
	int error = shmipc_stream_write(stream, from, bytes);

	return error ? error : shmipc_stream_flush(stream);
}
