/* SPDX-License-Identifier: Apache-2.0 */
/* What the peer sends: elements in the queue, messages on the socket. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/ipc/session.h"
#include "core/ipc/stream.h"
#include "core/sys.h"

enum {
	STATE_MASK = 0xff, /* the rest of a status word means nothing */
	STATE_OPEN = 0,
	STATE_CLOSED = 1,
	STATE_HALF_CLOSED = 2,
	READS_MAX = 64,		/* in a row */
	GROUP = 8,		/* elements looked at together */
	FETCH_BYTES = 256,	/* of a slice, before anything of it is known */
	FETCH_MAX_BYTES = 4096, /* of a message; the processor itself sees longer runs coming */
	LINE_BYTES = 64
};

/* ---- the queue ------------------------------------------------------------------------------ */

/* The stream that a message is for; a server learns of new ones so.  NULL: nobody wants it. */
static struct shmipc_stream *stream_for(struct shmipc_session *s, uint32_t id)
{
	const struct shmipc_config *config = &s->config->values;
	struct shmipc_stream *stream = shmipc_streams_find(s, id);

	if (stream)
		return stream->peer_closed || stream->close_pending ? NULL : stream;
	if (s->role == SHMIPC_ROLE_CLIENT || shmipc_streams_was_closed(s, id))
		return NULL;
	if (s->streams.count >= config->streams_max || s->accept_count >= config->accept_backlog ||
	    shmipc_streams_open(s, id, &stream)) {
		shmipc_streams_forget(s, id);
		shmipc_session_send_close(s, id, false);
		return NULL;
	}
	stream->used = true;
	if (s->accept_last)
		s->accept_last->next = stream;
	else
		s->accept_first = stream;
	s->accept_last = stream;
	s->accept_count++;
	shmipc_session_notify(s, s);
	shmipc_session_tell(s);
	return stream;
}

/* The rest of a message whose length is known now: read one after the other, each line of it would
 * be a trip of its own (4 KiB: an eighth less for a round trip that spins). */
static void fetch_rest(const struct shmipc_session *s, const struct shmipc_slice_content *content)
{
	const uint8_t *payload = shmipc_slice_payload(s->pool, content->slice) + content->start;
	uint32_t bytes = content->bytes < FETCH_MAX_BYTES ? content->bytes : FETCH_MAX_BYTES;

	for (uint32_t at = FETCH_BYTES - SHMIPC_SLICE_HEADER_BYTES; at < bytes; at += LINE_BYTES)
		__builtin_prefetch(payload + at);
}

/* Takes a chain of slices over.  stream == NULL: and gives it back. */
static int take_chain(struct shmipc_session *s, struct shmipc_stream *stream, uint32_t offset)
{
	struct shmipc_slice_content content;
	int error;

	do {
		error = shmipc_pool_adopt(s->pool, offset, &content);
		if (error)
			return error;
		if (stream && content.bytes > 0) {
			fetch_rest(s, &content);
			error = shmipc_stream_receive_slice(stream, &content);
		} else {
			shmipc_session_give(s, content.slice);
		}
		if (error) {
			shmipc_session_give(s, content.slice);
			return error;
		}
		offset = content.next;
	} while (offset != 0);
	return 0;
}

static void close_by_queue(struct shmipc_session *s, uint32_t id)
{
	struct shmipc_stream *stream = shmipc_streams_find(s, id);

	if (!stream || stream->peer_closed || stream->close_pending)
		return;
	stream->close_pending = true;
	stream->next_closing = s->closing;
	s->closing = stream;
}

static int take_element(struct shmipc_session *s, struct shmipc_queue_element element)
{
	struct shmipc_stream *stream;
	int error;

	switch (element.status & STATE_MASK) {
	case STATE_OPEN:
		stream = stream_for(s, element.stream);
		error = take_chain(s, stream, element.offset);
		if (stream && !error)
			shmipc_stream_arrived(stream);
		return error;
	case STATE_CLOSED:
	case STATE_HALF_CLOSED:
		close_by_queue(s, element.stream);
		return 0;
	default:
		return -EPROTO;
	}
}

static void the_peer_has_mapped(struct shmipc_session *s)
{
	if (s->peer_has_mapped)
		return;
	s->peer_has_mapped = true;
	s->news |= SHMIPC_NEWS_MAPPED;
}

/* The peer has just written them: each first touch is a trip to its cache.  The trips for several
 * elements, and for header and payload of each, are made at once. */
static void fetch_ahead(const struct shmipc_session *s, const struct shmipc_queue_element *elements,
			uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t offset = elements[i].offset;

		if (offset >= s->pool->bytes || s->pool->bytes - offset < FETCH_BYTES)
			continue;
		for (uint32_t at = 0; at < FETCH_BYTES; at += LINE_BYTES)
			__builtin_prefetch(s->pool->base + offset + at);
	}
}

static void take_elements(struct shmipc_session *s)
{
	int64_t n = shmipc_queue_available(&s->receive);
	struct shmipc_queue_element elements[GROUP];
	int error = n < 0 ? (int)n : 0;

	if (n <= 0) {
		if (error)
			shmipc_session_end(s, error, false);
		return;
	}
	the_peer_has_mapped(s);
	for (uint32_t done = 0; done < (uint32_t)n && !error; done += GROUP) {
		uint32_t some = (uint32_t)n - done < GROUP ? (uint32_t)n - done : GROUP;

		for (uint32_t i = 0; i < some; i++)
			elements[i] = shmipc_queue_look(&s->receive, done + i);
		fetch_ahead(s, elements, some);
		for (uint32_t i = 0; i < some && !error; i++)
			error = take_element(s, elements[i]);
	}
	shmipc_queue_consume(&s->receive, (uint32_t)n);
	if (error)
		shmipc_session_end(s, error, false);
}

/* A close in the queue can overtake fallback data in the socket (peers in Go send it so): the
 * socket was read after the close was seen, so what is not there now never was. */
static void close_streams(struct shmipc_session *s)
{
	struct shmipc_stream **at = &s->closing;

	while (*at) {
		struct shmipc_stream *stream = *at;

		if (s->incoming && s->incoming->fallback.stream == stream->id) {
			at = &stream->next_closing; /* still arriving */
			continue;
		}
		*at = stream->next_closing;
		stream->close_pending = false;
		shmipc_stream_peer_closed(stream);
	}
}

/* Taking in is over: what came up to be sent meanwhile. */
static void send_now(struct shmipc_session *s)
{
	if (!s->sends_later || s->harvesting || s->reading)
		return;
	s->sends_later = false;
	shmipc_session_pump(s);
}

void shmipc_session_harvest(struct shmipc_session *s)
{
	if (s->harvesting || s->ended)
		return;
	s->harvesting = true;
	take_elements(s);
	s->harvesting = false;
	if (s->closing && !s->ended && !s->reading) {
		shmipc_session_read(s);
		close_streams(s);
	}
	send_now(s);
}

void shmipc_session_reclaim(struct shmipc_session *s)
{
	struct shmipc_queue_element element;

	if (!s->buffer->area.is_ours)
		return;
	shmipc_queue_is_drained(&s->send);
	while (shmipc_queue_take_back(&s->send, &element))
		if ((element.status & STATE_MASK) == STATE_OPEN &&
		    take_chain(s, NULL, element.offset))
			return;
}

/* ---- the socket ----------------------------------------------------------------------------- */

static struct shmipc_block *fallback_block(struct shmipc_session *s,
					   const struct shmipc_fallback *fallback)
{
	uint64_t weight = shmipc_block_weight(fallback->payload_bytes);
	struct shmipc_block *block;

	if (s->fallback_held + weight > s->config->values.fallback_bytes_max) {
		shmipc_session_end(s, -ENOBUFS, false);
		return NULL;
	}
	block = malloc(sizeof(*block) + fallback->payload_bytes);
	if (!block) {
		shmipc_session_end(s, -ENOMEM, false);
		return NULL;
	}
	block->next = NULL;
	block->bytes = fallback->payload_bytes;
	block->done = 0;
	block->fallback = *fallback;
	s->fallback_held += weight;
	return block;
}

/* A whole fallback message.  What the peer had put into the queue before comes first. */
static void take_fallback(struct shmipc_session *s)
{
	struct shmipc_block *block = s->incoming;
	struct shmipc_stream *stream;
	uint32_t status = block->fallback.status;

	shmipc_session_harvest(s);
	if (s->ended)
		return; /* which freed the block */
	s->incoming = NULL;
	s->metrics.fallback_received++;
	s->unhealthy_until_ns = s->config->values.breaker_ms
					? shmipc_clock_ns() +
						  s->config->values.breaker_ms * UINT64_C(1000000)
					: 0;
	stream = shmipc_streams_find(s, block->fallback.stream);
	if (!stream || !stream->close_pending)
		stream = stream_for(s, block->fallback.stream);
	if (!stream || block->bytes == 0 || shmipc_stream_receive_block(stream, block)) {
		s->fallback_held -= shmipc_block_weight(block->bytes);
		free(block);
	}
	if (!stream)
		return;
	stream->fallback = true;
	shmipc_stream_arrived(stream);
	if ((status & STATE_MASK) != STATE_OPEN)
		close_by_queue(s, stream->id);
}

static void take_close(struct shmipc_session *s, uint32_t id)
{
	struct shmipc_stream *stream;

	shmipc_session_harvest(s);
	stream = s->ended ? NULL : shmipc_streams_find(s, id);
	if (stream && !stream->close_pending)
		shmipc_stream_peer_closed(stream);
}

/* One message whose header and small body lie in `input`; returns the bytes used, 0 for "more". */
static size_t take_message(struct shmipc_session *s, const uint8_t *at, size_t bytes)
{
	struct shmipc_message_header header;
	struct shmipc_fallback fallback;
	uint32_t stream;
	int error = shmipc_message_decode_header(at, bytes, &header);

	if (error == -EAGAIN)
		return 0;
	if (!error)
		switch (header.type) {
		case SHMIPC_MESSAGE_POLLING:
			s->metrics.wakeups_received++;
			return header.length;
		case SHMIPC_MESSAGE_STREAM_CLOSE:
			error = shmipc_message_decode_stream_close(at, bytes, &stream);
			if (!error)
				take_close(s, stream);
			break;
		case SHMIPC_MESSAGE_FALLBACK_DATA:
			error = shmipc_message_decode_fallback(at, bytes, &fallback);
			if (!error)
				s->incoming = fallback_block(s, &fallback);
			if (s->incoming && s->incoming->bytes == 0)
				take_fallback(s);
			header.length = SHMIPC_MESSAGE_FALLBACK_HEADER_BYTES;
			break;
		case SHMIPC_MESSAGE_HOT_RESTART:
		case SHMIPC_MESSAGE_HOT_RESTART_ACK:
			error = (header.type == SHMIPC_MESSAGE_HOT_RESTART) !=
						(s->role == SHMIPC_ROLE_CLIENT)
					? -EPROTO
					: shmipc_message_decode_epoch(at, bytes, &s->epoch);
			if (!error)
				s->news |= header.type == SHMIPC_MESSAGE_HOT_RESTART
						   ? SHMIPC_NEWS_HOT_RESTART
						   : SHMIPC_NEWS_ACKNOWLEDGED;
			break;
		default:
			error = -EPROTO;
		}
	if (error == -EAGAIN)
		return 0;
	if (error) {
		shmipc_session_end(s, error, false);
		return 0;
	}
	return header.length;
}

/* Moves what follows a fallback header from `input` to where it belongs. */
static size_t fill_incoming(struct shmipc_session *s, const uint8_t *at, size_t bytes)
{
	struct shmipc_block *block = s->incoming;
	size_t n = block->bytes - block->done;

	n = n < bytes ? n : bytes;
	memcpy(block->data + block->done, at, n);
	block->done += n;
	if (block->done == block->bytes)
		take_fallback(s);
	return n;
}

static void take_input(struct shmipc_session *s)
{
	size_t used = 0, n;

	while (!s->ended) {
		if (s->incoming)
			n = fill_incoming(s, s->input + used, s->input_bytes - used);
		else
			n = take_message(s, s->input + used, s->input_bytes - used);
		used += n;
		if (n == 0)
			break;
	}
	if (s->ended)
		return;
	s->input_bytes -= used;
	memmove(s->input, s->input + used, s->input_bytes);
}

void *shmipc_session_input(struct shmipc_session *s, size_t *room)
{
	if (s->incoming) {
		*room = s->incoming->bytes - s->incoming->done;
		return s->incoming->data + s->incoming->done;
	}
	*room = sizeof(s->input) - s->input_bytes;
	return s->input + s->input_bytes;
}

void shmipc_session_got(struct shmipc_session *s, ssize_t n)
{
	if (n == -EAGAIN || n == -EINTR || s->ended)
		return;
	if (n <= 0) {
		/* what the peer wrote before it ended is all there now */
		shmipc_session_harvest(s);
		close_streams(s);
		shmipc_session_end(s, -ECONNRESET, n == 0);
		return;
	}
	the_peer_has_mapped(s);
	if (s->incoming) {
		s->incoming->done += (size_t)n;
		if (s->incoming->done == s->incoming->bytes)
			take_fallback(s);
		return;
	}
	s->input_bytes += (size_t)n;
	take_input(s);
}

void shmipc_session_read(struct shmipc_session *s)
{
	bool any = false;
	size_t room;
	ssize_t n;

	if (s->reading)
		return;
	s->reading = true;
	s->looks = 0;
	for (int i = 0; i < READS_MAX && !s->ended; i++) {
		void *to = shmipc_session_input(s, &room);

		n = sys_recvfrom(s->fd, to, room, MSG_DONTWAIT, NULL, NULL);
		any = any || n > 0;
		shmipc_session_got(s, n);
		if (n != -EINTR && n < (ssize_t)room)
			break;
	}
	s->reading = false;
	if (s->closing && !s->ended)
		close_streams(s);
	/* that may have been the leader's wake-up, and the peer believes us awake now */
	if (any && s->leader_sleeps)
		shmipc_session_kick(s);
	send_now(s);
}
