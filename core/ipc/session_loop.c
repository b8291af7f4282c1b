/* SPDX-License-Identifier: Apache-2.0 */
/* A session and the application's loop: when to look at it, and which callbacks are due. */
#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>

#include "core/cpu.h"
#include "core/ipc/session.h"
#include "core/ipc/stream.h"

enum { RETRY_NS = 1000 * 1000 };

#define OWNER_OF(pointer, member)                                                            \
	((struct shmipc_session *)(void *)((char *)(pointer)-offsetof(struct shmipc_session, \
								      member)))

/* ---- from the loop -------------------------------------------------------------------------- */

static void socket_ready(struct shmipc_source *source, uint32_t events)
{
	struct shmipc_session *s = OWNER_OF(source, source);

	shmipc_session_lock(s);
	if (!s->ended) {
		shmipc_queue_stay_awake(&s->receive);
		s->awake_in_loop.spin_us = shmipc_session_may_spin(s) ? s->config->values.spin_us
								      : 0;
		shmipc_loop_stays_awake(s->loop, &s->awake_in_loop);
		if (events & ~(uint32_t)EPOLLOUT)
			shmipc_session_read(s);
		shmipc_session_harvest(s);
		if (events & EPOLLOUT)
			shmipc_session_pump(s);
	}
	shmipc_session_unlock(s);
}

static bool look(struct shmipc_awake *awake)
{
	const struct shmipc_session *s = OWNER_OF(awake, awake_in_loop);

	/* without the lock: both words may be old, and the loop looks again before it sleeps */
	return atomic_load_explicit(s->receive.other, memory_order_relaxed) !=
	       atomic_load_explicit(s->receive.own, memory_order_relaxed);
}

static void take(struct shmipc_awake *awake)
{
	struct shmipc_session *s = OWNER_OF(awake, awake_in_loop);

	shmipc_session_lock(s);
	if (!s->ended)
		shmipc_queue_stay_awake(&s->receive);
	shmipc_session_harvest(s);
	shmipc_session_unlock(s);
}

/* The loop wants to sleep. */
static bool rest(struct shmipc_awake *awake)
{
	struct shmipc_session *s = OWNER_OF(awake, awake_in_loop);
	bool nothing;

	shmipc_session_lock(s);
	nothing = s->ended || shmipc_session_rest(s);
	if (!nothing)
		shmipc_session_harvest(s);
	shmipc_session_unlock(s);
	return nothing;
}

static void source_gone(struct shmipc_source *source)
{
	struct shmipc_session *s = OWNER_OF(source, source);

	shmipc_loop_forget_awake(s->loop, &s->awake_in_loop);
	shmipc_loop_leave(s->loop);
	shmipc_session_put(s);
}

static void retry_flushes(struct shmipc_timer *timer)
{
	struct shmipc_session *s = OWNER_OF(timer, timer);

	shmipc_session_lock(s);
	if (!s->ended)
		shmipc_streams_for_each(s, shmipc_stream_try_again);
	shmipc_session_unlock(s);
}

static void report(struct shmipc_timer *timer)
{
	struct shmipc_session *s = OWNER_OF(timer, monitor_timer);
	const struct shmipc_config *config = &s->config->values;
	struct shmipc_metrics metrics;

	shmipc_session_metrics(s, &metrics, sizeof(metrics));
	config->monitor(config->user, s->id, &metrics);
	shmipc_session_lock(s);
	if (!s->ended)
		shmipc_loop_arm(s->loop, timer,
				shmipc_clock_ns() +
					config->monitor_interval_ms * UINT64_C(1000000));
	shmipc_session_unlock(s);
}

/* ---- callbacks ------------------------------------------------------------------------------ */

static struct shmipc_stream *next_new_stream(struct shmipc_session *s)
{
	struct shmipc_stream *stream = s->accept_first;

	if (!stream || !s->callbacks.on_stream || s->closed)
		return NULL;
	s->accept_first = stream->next;
	if (!s->accept_first)
		s->accept_last = NULL;
	s->accept_count--;
	shmipc_stream_hand_out(stream);
	return stream;
}

/* Once: nobody has been told of it yet. */
static bool is_new(struct shmipc_session *s)
{
	bool yes;

	shmipc_session_lock(s);
	yes = s->begin_due;
	s->begin_due = false;
	shmipc_session_unlock(s);
	return yes;
}

/* A listener's, and the application has not closed it meanwhile. */
static bool frees_itself(struct shmipc_session *s)
{
	bool yes;

	shmipc_session_lock(s);
	yes = s->loop_owned && !s->closed;
	shmipc_session_unlock(s);
	return yes;
}

static int run_session(struct shmipc_task *task)
{
	struct shmipc_session *s = OWNER_OF(task, task);
	struct shmipc_loop *loop = s->loop;
	bool over;
	int calls = 0, reason;

	if (is_new(s) && s->callbacks.on_session) {
		bool refused = s->callbacks.on_session(s, s->user) != 0;

		calls++;
		if (!shmipc_loop_still_runs(loop, task))
			return calls;
		if (refused) {
			shmipc_session_close(s);
			return calls;
		}
	}
	for (;;) {
		struct shmipc_stream *stream;

		shmipc_session_lock(s);
		stream = next_new_stream(s);
		over = !stream && s->ended && !s->told_end && !s->closed;
		if (over)
			s->told_end = true;
		reason = s->orderly ? 0 : s->reason;
		shmipc_session_unlock(s);
		if (!stream)
			break;
		calls++;
		s->callbacks.on_stream(s, stream, s->user);
		if (!shmipc_loop_still_runs(loop, task))
			return calls;
	}
	if (!over)
		return calls;
	if (s->callbacks.on_shutdown) {
		s->callbacks.on_shutdown(s, reason, s->user);
		calls++;
	}
	if (shmipc_loop_still_runs(loop, task) && frees_itself(s))
		shmipc_session_close(s);
	return calls;
}

/* ---- to the loop (lock held) ---------------------------------------------------------------- */

/* With the lock: the loop may run in another thread, and the session end there at once. */
static int add_to_loop(struct shmipc_session *s, struct shmipc_loop *loop)
{
	int error = s->ended ? s->reason : shmipc_loop_add(loop, &s->source);

	if (error)
		return error;
	s->loop = loop;
	shmipc_session_get(s);
	if (s->config->values.monitor && s->config->values.monitor_interval_ms)
		shmipc_loop_arm(loop, &s->monitor_timer,
				shmipc_clock_ns() +
					s->config->values.monitor_interval_ms * UINT64_C(1000000));
	return 0;
}

int shmipc_session_join_loop(struct shmipc_session *s, struct shmipc_loop *loop)
{
	int error;

	s->source = (struct shmipc_source){ .fd = s->fd,
					    .events = EPOLLIN | EPOLLRDHUP,
					    .ready = socket_ready,
					    .gone = source_gone };
	s->task.run = run_session;
	s->timer.fire = retry_flushes;
	s->monitor_timer.fire = report;
	s->awake_in_loop = (struct shmipc_awake){ .look = look, .take = take, .rest = rest };
	shmipc_loop_use(loop);
	shmipc_session_lock(s);
	error = add_to_loop(s, loop);
	shmipc_session_unlock(s);
	if (error)
		shmipc_loop_leave(loop);
	return error;
}

void shmipc_session_tell(struct shmipc_session *s)
{
	if (!s->loop || s->closed)
		return;
	if (s->begin_due || (s->accept_first && s->callbacks.on_stream) ||
	    (s->ended && (s->callbacks.on_shutdown || s->loop_owned)))
		shmipc_loop_queue(s->loop, &s->task);
}

void shmipc_session_want_writable(struct shmipc_session *s, bool wanted)
{
	if (s->wants_writable == wanted)
		return;
	s->wants_writable = wanted;
	shmipc_loop_change(s->loop, &s->source,
			   EPOLLIN | EPOLLRDHUP | (wanted ? (uint32_t)EPOLLOUT : 0));
}

void shmipc_session_retry_later(struct shmipc_session *s)
{
	if (s->loop)
		shmipc_loop_arm(s->loop, &s->timer, shmipc_clock_ns() + RETRY_NS);
}

void shmipc_session_leave_loop(struct shmipc_session *s)
{
	if (!s->loop)
		return;
	shmipc_loop_disarm(s->loop, &s->timer);
	shmipc_loop_disarm(s->loop, &s->monitor_timer);
	shmipc_session_tell(s);
	shmipc_loop_remove(s->loop, &s->source);
}

bool shmipc_session_rest(struct shmipc_session *s)
{
	/* who looks at the queue by himself will rest when he stops */
	return s->awake > 0 || shmipc_queue_rest(&s->receive);
}
