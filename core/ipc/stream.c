/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu.h"
#include "core/ipc/stream.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define OWNER_OF(pointer) \
	((struct shmipc_stream *)(void *)((char *)(pointer)-offsetof(struct shmipc_stream, task)))

/* ---- what happens to it --------------------------------------------------------------------- */

int shmipc_stream_read_error(const struct shmipc_stream *stream)
{
	if (stream->shut)
		return -ESHUTDOWN;
	if (stream->peer_closed)
		return -ENODATA;
	return stream->session->ended ? stream->session->reason : 0;
}

int shmipc_stream_write_error(const struct shmipc_stream *stream)
{
	if (stream->shut)
		return -ESHUTDOWN;
	if (stream->session->ended)
		return stream->session->reason;
	return stream->peer_closed ? -EPIPE : 0;
}

void shmipc_stream_arrived(struct shmipc_stream *stream)
{
	stream->session->metrics.messages_received++;
	shmipc_session_notify(stream->session, stream);
	shmipc_stream_tell(stream, SHMIPC_STREAM_DATA);
}

void shmipc_stream_peer_closed(struct shmipc_stream *stream)
{
	if (stream->peer_closed)
		return;
	stream->peer_closed = true;
	shmipc_session_notify(stream->session, stream);
	shmipc_stream_tell(stream, SHMIPC_STREAM_CLOSE);
}

void shmipc_stream_session_ended(struct shmipc_stream *stream)
{
	stream->next_closing = NULL;
	if (stream->close_pending)
		stream->close_pending = false;
	if (!stream->peer_closed)
		shmipc_stream_tell(stream, SHMIPC_STREAM_CLOSE);
}

void shmipc_stream_try_again(struct shmipc_stream *stream)
{
	if (!stream->blocked)
		return;
	stream->blocked = false;
	shmipc_stream_tell(stream, SHMIPC_STREAM_WRITABLE);
}

/* ---- callbacks ------------------------------------------------------------------------------ */

void shmipc_stream_tell(struct shmipc_stream *stream, uint32_t news)
{
	const struct shmipc_stream_callbacks *callbacks = &stream->callbacks;

	if (!callbacks->on_data)
		news &= ~(uint32_t)SHMIPC_STREAM_DATA;
	if (!callbacks->on_close)
		news &= ~(uint32_t)SHMIPC_STREAM_CLOSE;
	if (!callbacks->on_writable)
		news &= ~(uint32_t)SHMIPC_STREAM_WRITABLE;
	if (!news)
		return;
	stream->news |= news;
	shmipc_loop_queue(stream->session->loop, &stream->task);
}

/* Data first, the end last; each callback may close the stream. */
static uint32_t next_news(struct shmipc_stream *stream, size_t *unread, int *reason)
{
	uint32_t news = stream->news & (SHMIPC_STREAM_DATA | SHMIPC_STREAM_WRITABLE);

	if (news & SHMIPC_STREAM_DATA)
		news = SHMIPC_STREAM_DATA;
	else if (!news)
		news = stream->told_close ? 0 : stream->news & SHMIPC_STREAM_CLOSE;
	stream->news &= ~news;
	if (news == SHMIPC_STREAM_CLOSE)
		stream->told_close = true;
	*unread = stream->rx.unread;
	*reason = stream->peer_closed ? 0 : stream->session->reason;
	return news;
}

static int run_stream(struct shmipc_task *task)
{
	struct shmipc_stream *stream = OWNER_OF(task);
	struct shmipc_session *s = stream->session;
	struct shmipc_loop *loop = s->loop;
	struct shmipc_stream_callbacks callbacks;
	size_t before;
	uint32_t news;
	void *user;
	int reason, calls = 0;

	for (;;) {
		shmipc_session_lock(s);
		news = next_news(stream, &before, &reason);
		callbacks = stream->callbacks;
		user = stream->callback_user;
		shmipc_session_unlock(s);
		if (news == SHMIPC_STREAM_DATA && callbacks.on_data && before > 0)
			callbacks.on_data(stream, user);
		else if (news == SHMIPC_STREAM_WRITABLE && callbacks.on_writable)
			callbacks.on_writable(stream, user);
		else if (news == SHMIPC_STREAM_CLOSE && callbacks.on_close)
			callbacks.on_close(stream, reason, user);
		else if (news == 0)
			return calls;
		else
			continue;
		calls++;
		if (!shmipc_loop_still_runs(loop, task))
			return calls;
		if (news != SHMIPC_STREAM_DATA)
			continue;
		shmipc_session_lock(s);
		if (stream->rx.unread > 0 && stream->rx.unread < before)
			shmipc_stream_tell(stream, SHMIPC_STREAM_DATA);
		/* others have their turn before this one is asked again */
		news = stream->news & SHMIPC_STREAM_DATA;
		if (news)
			shmipc_loop_queue(loop, task);
		shmipc_session_unlock(s);
		if (news)
			return calls;
	}
}

void shmipc_stream_mute(struct shmipc_stream *stream)
{
	const struct shmipc_stream_callbacks none = { 0 }, *some = &stream->callbacks;
	struct shmipc_session *s = stream->session;

	if (!some->on_data && !some->on_close && !some->on_writable)
		return; /* then the task is not queued either */
	stream->callbacks = none;
	stream->news = 0; /* a run under way sees no reason to queue itself again */
	shmipc_mutex_unlock(&s->lock);
	shmipc_loop_cancel(s->loop, &stream->task);
	shmipc_mutex_lock(&s->lock);
}

int shmipc_stream_set_callbacks(struct shmipc_stream *stream,
				const struct shmipc_stream_callbacks *callbacks, void *user)
{
	struct shmipc_session *s = stream->session;

	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	if (!s->loop)
		return -ENOTSUP;
	shmipc_session_lock(s);
	shmipc_stream_mute(stream);
	stream->callbacks = callbacks ? *callbacks : (struct shmipc_stream_callbacks){ 0 };
	stream->callback_user = user;
	stream->news = 0;
	if (stream->rx.unread > 0)
		shmipc_stream_tell(stream, SHMIPC_STREAM_DATA);
	if (stream->peer_closed || s->ended)
		shmipc_stream_tell(stream, SHMIPC_STREAM_CLOSE);
	shmipc_session_unlock(s);
	return 0;
}

/* ---- life ----------------------------------------------------------------------------------- */

void shmipc_stream_reset(struct shmipc_stream *stream)
{
	struct shmipc_rx rx = { .pieces = stream->rx.pieces,
				.mask = stream->rx.mask,
				.spare_stitch = stream->rx.spare_stitch };
	struct shmipc_tx tx = { .pieces = stream->tx.pieces, .room = stream->tx.room };

	*stream = (struct shmipc_stream){ .session = stream->session,
					  .id = stream->id,
					  .rx = rx,
					  .tx = tx,
					  .read_deadline_ns = SHMIPC_NEVER,
					  .write_deadline_ns = SHMIPC_NEVER,
					  .task = { .run = run_stream } };
}

void shmipc_stream_empty(struct shmipc_stream *stream)
{
	shmipc_tx_drop(stream);
	shmipc_rx_drop(stream);
}

void shmipc_stream_free(struct shmipc_stream *stream)
{
	free(stream->rx.pieces);
	free(stream->rx.spare_stitch);
	free(stream->tx.pieces);
	free(stream);
}

void shmipc_stream_hand_out(struct shmipc_stream *stream)
{
	stream->next = NULL;
	stream->accepted = true;
	stream->session->active_streams++;
	shmipc_session_get(stream->session);
}

void shmipc_stream_end(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;

	shmipc_streams_remove(s, stream);
	if (stream->peer_closed || s->ended)
		return;
	if (stream->used)
		shmipc_session_send_close(s, stream->id, stream->fallback);
	if (s->role == SHMIPC_ROLE_SERVER)
		shmipc_streams_forget(s, stream->id);
}

void shmipc_stream_close(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;

	if (shmipc_session_is_foreign(s)) {
		/* the parent's: nothing of it is given back, only this copy is freed */
		shmipc_stream_empty(stream);
		shmipc_stream_free(stream);
	} else {
		shmipc_session_lock(s);
		shmipc_stream_mute(stream);
		shmipc_stream_end(stream);
		shmipc_stream_empty(stream);
		s->active_streams--;
		shmipc_streams_recycle(s, stream);
		shmipc_session_check_idle(s);
		shmipc_session_unlock(s);
	}
	shmipc_session_put(s);
}

void shmipc_stream_shutdown(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;

	if (shmipc_session_is_foreign(s))
		return;
	shmipc_session_lock(s);
	stream->shut = true;
	shmipc_session_notify(s, stream);
	shmipc_session_unlock(s);
}

/* ---- small ---------------------------------------------------------------------------------- */

void shmipc_stream_set_user(struct shmipc_stream *stream, void *user)
{
	stream->user = user;
}

void *shmipc_stream_user(const struct shmipc_stream *stream)
{
	return stream->user;
}

uint32_t shmipc_stream_id(const struct shmipc_stream *stream)
{
	return stream->id;
}

struct shmipc_session *shmipc_stream_session(const struct shmipc_stream *stream)
{
	return stream->session;
}

bool shmipc_stream_is_open(const struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	bool open;

	if (shmipc_session_is_foreign(s))
		return false;
	shmipc_session_lock(s);
	open = shmipc_stream_write_error(stream) == 0;
	shmipc_session_unlock(s);
	return open;
}

void shmipc_stream_set_read_deadline(struct shmipc_stream *stream, uint64_t deadline_ns)
{
	stream->read_deadline_ns = deadline_ns;
}

void shmipc_stream_set_write_deadline(struct shmipc_stream *stream, uint64_t deadline_ns)
{
	stream->write_deadline_ns = deadline_ns;
}

uint64_t shmipc_deadline_after(uint64_t timeout_ns)
{
	uint64_t now = shmipc_clock_ns();

	return timeout_ns >= SHMIPC_NEVER - now ? SHMIPC_NEVER : now + timeout_ns;
}

/* ---- streams of a session ------------------------------------------------------------------- */

static uint32_t unused_id(struct shmipc_session *s)
{
	while (s->next_id == 0 || shmipc_streams_find(s, s->next_id))
		s->next_id++;
	return s->next_id++;
}

int shmipc_session_open_stream(struct shmipc_session *s, struct shmipc_stream **stream_out)
{
	int error = 0;

	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	if (s->role != SHMIPC_ROLE_CLIENT)
		return -ENOTSUP;
	shmipc_session_lock(s);
	if (s->ended)
		error = s->reason;
	else if (s->unhealthy_until_ns && shmipc_clock_ns() < s->unhealthy_until_ns)
		error = -EBUSY;
	else if (s->streams.count >= s->config->values.streams_max)
		error = -EUSERS;
	if (!error)
		error = shmipc_streams_open(s, unused_id(s), stream_out);
	if (!error)
		shmipc_stream_hand_out(*stream_out);
	shmipc_session_unlock(s);
	return error;
}

static bool can_accept(void *argument)
{
	const struct shmipc_session *s = argument;

	return s->accept_first || s->ended;
}

int shmipc_session_accept_stream(struct shmipc_session *s, uint64_t deadline_ns,
				 struct shmipc_stream **stream_out)
{
	struct shmipc_stream *stream;
	int error;

	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	if (s->role != SHMIPC_ROLE_SERVER)
		return -ENOTSUP;
	shmipc_session_lock(s);
	error = shmipc_session_wait(s, s, can_accept, s, deadline_ns);
	stream = s->accept_first;
	if (!error && stream) {
		s->accept_first = stream->next;
		if (!s->accept_first)
			s->accept_last = NULL;
		s->accept_count--;
		shmipc_stream_hand_out(stream);
		*stream_out = stream;
	} else if (!error) {
		error = s->reason;
	}
	shmipc_session_unlock(s);
	return error;
}
