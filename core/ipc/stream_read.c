/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: views of received slices, and copies of them. */
#include <errno.h>
#include <stdlib.h>

#include "core/copy.h"
#include "core/ipc/stream.h"

enum { FIRST_PIECES = 8, SPARE_STITCH_MAX = 4 << 20 };

static struct shmipc_rx_piece *piece_at(struct shmipc_rx *rx, uint32_t n)
{
	return &rx->pieces[n & rx->mask];
}

/* ---- arrivals ------------------------------------------------------------------------------- */

static int make_room(struct shmipc_rx *rx)
{
	uint32_t room = rx->pieces ? rx->mask + 1 : 0, larger = room ? room * 2 : FIRST_PIECES;
	struct shmipc_rx_piece *pieces;

	if (rx->end - rx->held < room)
		return 0;
	pieces = calloc(larger, sizeof(*pieces));
	if (!pieces)
		return -ENOMEM;
	for (uint32_t i = rx->held; i != rx->end; i++)
		pieces[i & (larger - 1)] = *piece_at(rx, i);
	free(rx->pieces);
	rx->pieces = pieces;
	rx->mask = larger - 1;
	return 0;
}

static int append(struct shmipc_rx *rx, const struct shmipc_rx_piece *piece)
{
	int error = make_room(rx);

	if (error)
		return error;
	*piece_at(rx, rx->end++) = *piece;
	rx->unread += piece->left;
	return 0;
}

int shmipc_stream_receive_slice(struct shmipc_stream *stream,
				const struct shmipc_slice_content *content)
{
	struct shmipc_rx_piece piece = {
		.at = shmipc_slice_payload(stream->session->pool, content->slice) + content->start,
		.left = content->bytes,
		.slice = content->slice,
	};
	int error = append(&stream->rx, &piece);

	if (!error)
		stream->session->metrics.bytes_received += content->bytes;
	return error;
}

int shmipc_stream_receive_block(struct shmipc_stream *stream, struct shmipc_block *block)
{
	struct shmipc_rx_piece piece = { .at = block->data,
					 .left = (uint32_t)block->bytes,
					 .block = block };
	int error = append(&stream->rx, &piece);

	if (!error)
		stream->session->metrics.bytes_received += block->bytes;
	return error;
}

/* ---- giving back ---------------------------------------------------------------------------- */

static void give_piece(struct shmipc_stream *stream, const struct shmipc_rx_piece *piece)
{
	struct shmipc_session *s = stream->session;

	if (piece->block) {
		s->fallback_held -= shmipc_block_weight(piece->block->bytes);
		free(piece->block);
	} else if (!shmipc_session_is_foreign(s)) {
		shmipc_session_give(s, piece->slice);
	}
}

static void give_read_pieces(struct shmipc_stream *stream)
{
	struct shmipc_rx *rx = &stream->rx;

	for (; rx->held != rx->next; rx->held++)
		give_piece(stream, piece_at(rx, rx->held));
}

static void free_stitches(struct shmipc_rx *rx)
{
	while (rx->stitches) {
		struct shmipc_stitch *stitch = rx->stitches, *other = rx->spare_stitch;

		rx->stitches = stitch->next;
		if (stitch->room <= SPARE_STITCH_MAX && (!other || other->room < stitch->room)) {
			rx->spare_stitch = stitch;
			stitch = other;
		}
		free(stitch);
	}
}

static void release(struct shmipc_stream *stream)
{
	give_read_pieces(stream);
	free_stitches(&stream->rx);
	stream->rx.viewed = false;
}

void shmipc_rx_drop(struct shmipc_stream *stream)
{
	struct shmipc_rx *rx = &stream->rx;

	rx->next = rx->end;
	rx->unread = 0;
	release(stream);
}

void shmipc_stream_release(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;

	if (shmipc_session_is_foreign(s))
		return;
	shmipc_session_lock(s);
	release(stream);
	shmipc_session_unlock(s);
}

void shmipc_stream_reuse(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	struct shmipc_rx *rx = &stream->rx;

	if (shmipc_session_is_foreign(s))
		return;
	shmipc_session_lock(s);
	if (rx->next - rx->held == 1 && rx->next == rx->end && stream->tx.count == 0 &&
	    !stream->fallback && !s->ended && !piece_at(rx, rx->held)->block) {
		shmipc_tx_keep(stream, piece_at(rx, rx->held)->slice);
		rx->held++;
	}
	release(stream);
	shmipc_session_unlock(s);
}

/* ---- waiting -------------------------------------------------------------------------------- */

struct want {
	struct shmipc_stream *stream;
	size_t bytes;
};

static bool enough(void *argument)
{
	const struct want *want = argument;

	return want->stream->rx.unread >= want->bytes ||
	       shmipc_stream_read_error(want->stream) != 0;
}

/* Lock held.  Until so many bytes are there. */
static int await(struct shmipc_stream *stream, size_t bytes)
{
	struct want want = { stream, bytes };
	int error;

	if (stream->shut)
		return -ESHUTDOWN;
	if (stream->rx.unread >= bytes)
		return 0;
	error = shmipc_session_wait(stream->session, stream, enough, &want,
				    stream->read_deadline_ns);
	if (error)
		return error;
	if (stream->shut || stream->rx.unread < bytes)
		return shmipc_stream_read_error(stream);
	return 0;
}

/* ---- consuming (lock held, enough is there) ------------------------------------------------- */

/* The first piece is read to its end, or not to its end. */
static void advance(struct shmipc_rx *rx, size_t bytes)
{
	struct shmipc_rx_piece *piece = piece_at(rx, rx->next);

	piece->at += bytes;
	piece->left -= (uint32_t)bytes;
	rx->unread -= bytes;
	if (piece->left == 0)
		rx->next++;
}

static void discard(struct shmipc_stream *stream, size_t bytes)
{
	struct shmipc_rx *rx = &stream->rx;

	while (bytes > 0) {
		size_t here = piece_at(rx, rx->next)->left;

		here = here < bytes ? here : bytes;
		advance(rx, here);
		bytes -= here;
	}
	if (!rx->viewed)
		give_read_pieces(stream);
}

static void copy_out(struct shmipc_rx *rx, void *to, size_t bytes)
{
	uint8_t *at = to;

	for (uint32_t n = rx->next; bytes > 0; n++) {
		const struct shmipc_rx_piece *piece = piece_at(rx, n);
		size_t here = piece->left < bytes ? piece->left : bytes;

		shmipc_copy(at, piece->at, here);
		at += here;
		bytes -= here;
	}
}

/* Copies and consumes piece by piece; the lock is let go for large copies, during which only the
 * end of the list can change. */
static void copy_and_consume(struct shmipc_stream *stream, void *to, size_t bytes)
{
	enum { SMALL = 4096 };
	struct shmipc_rx *rx = &stream->rx;
	struct shmipc_session *s = stream->session;
	uint8_t *at = to;

	while (bytes > 0) {
		struct shmipc_rx_piece piece = *piece_at(rx, rx->next);
		size_t here = piece.left < bytes ? piece.left : bytes;

		if (here > SMALL) {
			shmipc_mutex_unlock(&s->lock);
			shmipc_copy(at, piece.at, here);
			shmipc_mutex_lock(&s->lock);
		} else {
			shmipc_copy(at, piece.at, here);
		}
		discard(stream, here);
		at += here;
		bytes -= here;
	}
}

/* A view of bytes that do not lie together. */
static int stitch(struct shmipc_rx *rx, size_t bytes, const void **view_out)
{
	struct shmipc_stitch *stitch = rx->spare_stitch;

	if (stitch && stitch->room >= bytes) {
		rx->spare_stitch = NULL;
	} else {
		stitch = malloc(sizeof(*stitch) + bytes);
		if (!stitch)
			return -ENOMEM;
		stitch->room = bytes;
	}
	stitch->next = rx->stitches;
	rx->stitches = stitch;
	copy_out(rx, stitch->data, bytes);
	*view_out = stitch->data;
	return 0;
}

static int view(struct shmipc_rx *rx, size_t bytes, const void **view_out)
{
	const struct shmipc_rx_piece *piece = piece_at(rx, rx->next);

	if (piece->left < bytes)
		return stitch(rx, bytes, view_out);
	rx->viewed = true;
	*view_out = piece->at;
	return 0;
}

/* take: what is seen counts as read. */
static int wait_and_view(struct shmipc_stream *stream, size_t bytes, const void **view_out,
			 bool take)
{
	struct shmipc_session *s = stream->session;
	int error;

	if (bytes == 0)
		return -EINVAL;
	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	shmipc_session_lock(s);
	error = await(stream, bytes);
	if (!error)
		error = view(&stream->rx, bytes, view_out);
	if (!error && take)
		discard(stream, bytes);
	shmipc_session_unlock(s);
	return error;
}

/* ---- public --------------------------------------------------------------------------------- */

int shmipc_stream_peek(struct shmipc_stream *stream, size_t bytes, const void **view_out)
{
	return wait_and_view(stream, bytes, view_out, false);
}

int shmipc_stream_read_view(struct shmipc_stream *stream, size_t bytes, const void **view_out)
{
	return wait_and_view(stream, bytes, view_out, true);
}

ssize_t shmipc_stream_read_some_view(struct shmipc_stream *stream, size_t bytes,
				     const void **view_out)
{
	struct shmipc_session *s = stream->session;
	struct shmipc_rx *rx = &stream->rx;
	int error;

	if (bytes == 0)
		return -EINVAL;
	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	shmipc_session_lock(s);
	error = await(stream, 1);
	if (!error) {
		size_t here = piece_at(rx, rx->next)->left;

		bytes = here < bytes ? here : bytes;
		*view_out = piece_at(rx, rx->next)->at;
		rx->viewed = true;
		advance(rx, bytes);
	}
	shmipc_session_unlock(s);
	if (error)
		return error == -ENODATA ? 0 : error;
	return (ssize_t)bytes;
}

int shmipc_stream_discard(struct shmipc_stream *stream, size_t bytes)
{
	struct shmipc_session *s = stream->session;
	int error;

	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	shmipc_session_lock(s);
	error = await(stream, bytes);
	if (!error)
		discard(stream, bytes);
	shmipc_session_unlock(s);
	return error;
}

ssize_t shmipc_stream_read(struct shmipc_stream *stream, void *to, size_t bytes)
{
	struct shmipc_session *s = stream->session;
	int error;

	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	if (bytes == 0)
		return 0;
	shmipc_session_lock(s);
	error = await(stream, 1);
	if (!error) {
		bytes = stream->rx.unread < bytes ? stream->rx.unread : bytes;
		copy_and_consume(stream, to, bytes);
	}
	shmipc_session_unlock(s);
	if (error)
		return error == -ENODATA ? 0 : error;
	return (ssize_t)bytes;
}

int shmipc_stream_read_full(struct shmipc_stream *stream, void *to, size_t bytes)
{
	struct shmipc_session *s = stream->session;
	int error;

	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	shmipc_session_lock(s);
	error = await(stream, bytes);
	if (!error)
		copy_and_consume(stream, to, bytes);
	shmipc_session_unlock(s);
	return error;
}

static bool anything(void *argument)
{
	const struct shmipc_stream *stream = argument;

	return stream->rx.unread > 0 || shmipc_stream_read_error(stream) != 0;
}

size_t shmipc_stream_readable(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	size_t bytes;

	if (shmipc_session_is_foreign(s))
		return 0;
	shmipc_session_lock(s);
	if (stream->rx.unread == 0)
		shmipc_session_wait(s, stream, anything, stream, SHMIPC_NOWAIT);
	bytes = stream->rx.unread;
	shmipc_session_unlock(s);
	return bytes;
}
