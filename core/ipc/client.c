/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/client.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/sys.h"

enum { STREAMS_PER_TURN = 32, LOOK_EVERY_US = 1000, PAUSE_MIN_NS = 1000 * 1000 };

static struct shmipc_client *client_of(struct shmipc_session_owner *owner)
{
	return (struct shmipc_client *)(void *)((char *)owner -
						offsetof(struct shmipc_client, owner));
}

/* ---- what sessions tell --------------------------------------------------------------------- */

/* Every server has the memory: nobody will open the files again. */
static void session_mapped(struct shmipc_session_owner *owner, struct shmipc_session *s)
{
	struct shmipc_client *client = client_of(owner);

	shmipc_mutex_lock(&client->lock);
	shmipc_area_unlink(&s->queues);
	if (s->buffer == client->buffer && client->unmapped > 0 && --client->unmapped == 0 &&
	    s->buffer->area.is_file) {
		bool all = true;

		for (uint32_t i = 0; i < client->slot_count; i++)
			all = all && client->slots[i].session;
		if (all)
			shmipc_area_unlink(&s->buffer->area);
	}
	shmipc_mutex_unlock(&client->lock);
}

/* Lock held.  True: it was there, and the client's handle is the caller's now. */
static bool take_out_retired(struct shmipc_client *client, const struct shmipc_session *s)
{
	struct shmipc_session **at = &client->retired;

	while (*at && *at != s)
		at = &(*at)->owner_next;
	if (!*at)
		return false;
	*at = s->owner_next;
	return true;
}

/* A peer that died may have had slices of the memory that its sessions share. */
static void abandon_buffer(struct shmipc_client *client, const struct shmipc_mapping *buffer)
{
	for (uint32_t i = 0; i < client->slot_count; i++) {
		struct shmipc_slot *slot = &client->slots[i];

		if (slot->session && slot->session->buffer == buffer)
			slot->renew = true;
	}
	if (client->buffer == buffer) {
		shmipc_mapping_put(client->buffer);
		client->buffer = NULL;
		client->unmapped = 0;
	}
}

static struct shmipc_stream *take_idle(struct shmipc_slot *slot)
{
	struct shmipc_stream *all = slot->idle_first;

	slot->idle_first = slot->idle_last = NULL;
	slot->idle_count = 0;
	return all;
}

static void close_idle(struct shmipc_stream *stream)
{
	while (stream) {
		struct shmipc_stream *next = stream->next;

		shmipc_stream_close(stream);
		stream = next;
	}
}

static void set_next_attempt(struct shmipc_client *client, struct shmipc_slot *slot)
{
	slot->pause_ms = client->config->values.reconnect_min_ms;
	slot->next_attempt_ns = shmipc_clock_ns() + slot->pause_ms * UINT64_C(1000000);
}

static void session_ended(struct shmipc_session_owner *owner, struct shmipc_session *s)
{
	struct shmipc_client *client = client_of(owner);
	struct shmipc_stream *idle = NULL;
	struct shmipc_metrics figures;
	bool mine;

	shmipc_session_metrics(s, &figures, sizeof(figures));
	shmipc_mutex_lock(&client->lock);
	mine = take_out_retired(client, s);
	for (uint32_t i = 0; i < client->slot_count; i++) {
		struct shmipc_slot *slot = &client->slots[i];

		if (slot->session != s)
			continue;
		mine = true;
		slot->session = NULL;
		slot->renew = false;
		idle = take_idle(slot);
		set_next_attempt(client, slot);
	}
	if (!s->counted)
		shmipc_metrics_add(&client->metrics, &figures);
	s->counted = true;
	if (!client->destroyed)
		abandon_buffer(client, s->buffer);
	shmipc_mutex_unlock(&client->lock);
	close_idle(idle);
	if (mine)
		shmipc_session_close(s);
	shmipc_client_schedule(client);
}

static void session_idle(struct shmipc_session_owner *owner, struct shmipc_session *s)
{
	struct shmipc_client *client = client_of(owner);
	bool mine;

	shmipc_mutex_lock(&client->lock);
	/* who has not been acknowledged yet still has that to say */
	mine = !(client->restarting && s->owner_flag) && take_out_retired(client, s);
	shmipc_mutex_unlock(&client->lock);
	if (mine)
		shmipc_session_close(s);
}

static void session_restarts(struct shmipc_session_owner *owner, struct shmipc_session *s,
			     uint64_t epoch)
{
	struct shmipc_client *client = client_of(owner);
	bool moved;

	shmipc_mutex_lock(&client->lock);
	moved = true;
	for (uint32_t i = 0; i < client->slot_count; i++)
		moved = moved && client->slots[i].session != s;
	shmipc_mutex_unlock(&client->lock);
	if (!moved) /* else another session has told us already, and this one is replaced */
		shmipc_client_begin_restart(client, epoch);
}

static void session_acknowledged(struct shmipc_session_owner *owner, struct shmipc_session *s,
				 uint64_t epoch)
{
	(void)owner;
	(void)s;
	(void)epoch; /* session_input.c lets no server's acknowledgement through */
}

static void free_client(struct shmipc_session_owner *owner)
{
	struct shmipc_client *client = client_of(owner);

	if (client->buffer)
		shmipc_mapping_put(client->buffer);
	free(client->slots);
	shmipc_config_put(client->config);
	free(client);
}

/* ---- slots ---------------------------------------------------------------------------------- */

/* A loop in another thread may have learnt something of the session before it had its slot, and
 * told us of a session that we did not know. */
static void hear_again(struct shmipc_client *client, struct shmipc_session *s)
{
	bool ended;
	uint64_t epoch;

	shmipc_session_lock(s);
	ended = s->ended;
	epoch = s->epoch;
	shmipc_session_unlock(s);
	if (ended)
		session_ended(&client->owner, s);
	else if (epoch)
		session_restarts(&client->owner, s, epoch);
}

bool shmipc_client_install(struct shmipc_client *client, uint32_t index,
			   struct shmipc_session *session)
{
	struct shmipc_slot *slot = &client->slots[index];
	struct shmipc_session *before;
	struct shmipc_stream *idle;

	shmipc_mutex_lock(&client->lock);
	if (client->destroyed) {
		shmipc_mutex_unlock(&client->lock);
		return false;
	}
	before = slot->session;
	idle = take_idle(slot);
	slot->session = session;
	slot->renew = false;
	slot->pause_ms = 0;
	if (before) {
		before->owner_next = client->retired;
		client->retired = before;
		before->owner_flag = client->restarting;
	}
	shmipc_session_get(session);
	shmipc_mutex_unlock(&client->lock);
	close_idle(idle);
	if (before) {
		shmipc_session_lock(before);
		before->retired = true;
		shmipc_session_check_idle(before);
		shmipc_session_unlock(before);
	}
	hear_again(client, session);
	shmipc_session_put(session);
	return true;
}

/* ---- life ----------------------------------------------------------------------------------- */

static int connect_all(struct shmipc_client *client)
{
	uint64_t deadline = shmipc_clock_ns() +
			    client->config->values.handshake_timeout_ms * UINT64_C(1000000);
	int error = 0;

	for (uint32_t i = 0; i < client->slot_count; i++)
		client->slots[i].dialling = true; /* by nobody else meanwhile */
	for (uint32_t i = 0; i < client->slot_count && !error; i++) {
		error = shmipc_client_dial(client, i, deadline);
		shmipc_mutex_lock(&client->lock);
		client->slots[i].dialling = false;
		shmipc_mutex_unlock(&client->lock);
	}
	return error;
}

int shmipc_client_create(const char *address, const struct shmipc_config *config,
			 struct shmipc_loop *loop, struct shmipc_client **client_out)
{
	struct shmipc_client *client;
	int error = shmipc_process_init();

	if (error)
		return error;
	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	client->owner = (struct shmipc_session_owner){ .refs = 1,
						       .free = free_client,
						       .mapped = session_mapped,
						       .hot_restart = session_restarts,
						       .acknowledged = session_acknowledged,
						       .idle = session_idle,
						       .ended = session_ended };
	client->generation = shmipc_process_generation();
	client->timer.fire = shmipc_client_timer;
	client->config = shmipc_config_share(config, &error);
	if (!client->config) {
		free(client);
		return error;
	}
	client->slot_count = client->config->values.sessions;
	client->slots = calloc(client->slot_count, sizeof(*client->slots));
	error = client->slots ? shmipc_address_parse(address, &client->address) : -ENOMEM;
	if (!error && client->config->values.memory == SHMIPC_MEMORY_FILE)
		shmipc_area_sweep(client->config->values.path_prefix);
	if (error) {
		shmipc_owner_put(&client->owner);
		return error;
	}
	client->loop = loop;
	if (loop)
		shmipc_loop_use(loop);
	error = connect_all(client);
	if (error) {
		shmipc_client_destroy(client);
		return error;
	}
	*client_out = client;
	return 0;
}

/* Takes one session out of the client, wherever it is; NULL: there is none left. */
static struct shmipc_session *take_any(struct shmipc_client *client, struct shmipc_stream **idle)
{
	struct shmipc_session *s = NULL;

	*idle = NULL;
	for (uint32_t i = 0; i < client->slot_count && !s; i++) {
		s = client->slots[i].session;
		client->slots[i].session = NULL;
		*idle = take_idle(&client->slots[i]);
	}
	if (!s && client->retired) {
		s = client->retired;
		client->retired = s->owner_next;
	}
	return s;
}

static void drop_sessions(struct shmipc_client *client, bool child)
{
	struct shmipc_session *session;
	struct shmipc_stream *idle;

	do {
		if (!child)
			shmipc_mutex_lock(&client->lock);
		session = take_any(client, &idle);
		if (!child)
			shmipc_mutex_unlock(&client->lock);
		close_idle(idle);
		if (session)
			shmipc_session_close(session);
	} while (session);
}

static void stop_dials(struct shmipc_client *client)
{
	for (uint32_t i = 0; i < client->slot_count; i++) {
		struct shmipc_dial *dial = client->slots[i].dial;

		client->slots[i].dial = NULL;
		if (dial && !dial->over) {
			dial->over = true;
			shmipc_loop_remove(client->loop, &dial->source);
		}
	}
}

void shmipc_client_destroy(struct shmipc_client *client)
{
	if (client->generation != shmipc_process_generation()) {
		drop_sessions(client, true);
		shmipc_owner_put(&client->owner);
		return;
	}
	shmipc_mutex_lock(&client->lock);
	client->destroyed = true;
	if (client->loop)
		stop_dials(client);
	shmipc_mutex_unlock(&client->lock);
	if (client->loop && shmipc_loop_disarm(client->loop, &client->timer))
		shmipc_owner_put(&client->owner);
	drop_sessions(client, false);
	if (client->loop)
		shmipc_loop_leave(client->loop);
	shmipc_owner_put(&client->owner);
}

/* ---- streams -------------------------------------------------------------------------------- */

/* Without a loop nobody else would notice that a peer has died or wants us to move. */
static void look_at_sockets(struct shmipc_client *client)
{
	uint64_t now = shmipc_ticks();

	if (now - atomic_load_explicit(&client->last_look, memory_order_relaxed) <
	    LOOK_EVERY_US * shmipc_ticks_per_us())
		return;
	atomic_store_explicit(&client->last_look, now, memory_order_relaxed);
	for (uint32_t i = 0; i < client->slot_count; i++) {
		struct shmipc_session *s;

		shmipc_mutex_lock(&client->lock);
		s = client->slots[i].session;
		if (s)
			shmipc_session_get(s);
		shmipc_mutex_unlock(&client->lock);
		if (s) {
			shmipc_session_poke(s);
			shmipc_session_put(s);
		}
	}
}

/* The session whose turn it is, with a reference, and an idle stream of it if there is one. */
static struct shmipc_session *next_session(struct shmipc_client *client, bool move_on,
					   struct shmipc_stream **idle_out)
{
	struct shmipc_session *s;
	struct shmipc_slot *slot;

	*idle_out = NULL;
	shmipc_mutex_lock(&client->lock);
	if (move_on || ++client->taken > STREAMS_PER_TURN) {
		client->turn = (client->turn + 1) % client->slot_count;
		client->taken = 1;
	}
	slot = &client->slots[client->turn];
	s = slot->session;
	if (s)
		shmipc_session_get(s);
	if (s && slot->idle_first) {
		*idle_out = slot->idle_first;
		slot->idle_first = slot->idle_first->next;
		if (!slot->idle_first)
			slot->idle_last = NULL;
		slot->idle_count--;
	}
	shmipc_mutex_unlock(&client->lock);
	return s;
}

static int stream_of(struct shmipc_session *s, struct shmipc_stream *idle,
		     struct shmipc_stream **out)
{
	int error = shmipc_session_health(s);

	if (idle) {
		idle->next = NULL;
		if (!error && shmipc_stream_is_open(idle)) {
			*out = idle;
			return 0;
		}
		shmipc_stream_close(idle);
	}
	return error ? error : shmipc_session_open_stream(s, out);
}

static int from_some_session(struct shmipc_client *client, struct shmipc_stream **stream_out)
{
	int error, result = -ENOTCONN;

	for (uint32_t i = 0; i < client->slot_count; i++) {
		struct shmipc_stream *idle;
		struct shmipc_session *s = next_session(client, i > 0, &idle);

		if (!s)
			continue;
		error = stream_of(s, idle, stream_out);
		shmipc_session_put(s);
		if (!error)
			return 0;
		if (error == -EBUSY || error == -EUSERS || error == -ENOMEM)
			result = error;
	}
	return result;
}

static void pause_until(uint64_t due_ns, uint64_t now_ns)
{
	uint64_t ns = due_ns > now_ns ? due_ns - now_ns : 0;
	struct timespec pause = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	sys_nanosleep(&pause);
}

int shmipc_client_get_stream(struct shmipc_client *client, uint64_t deadline_ns,
			     struct shmipc_stream **stream_out)
{
	int error;

	if (client->generation != shmipc_process_generation())
		return -ECHILD;
	if (!client->loop)
		look_at_sockets(client);
	for (;;) {
		uint64_t due, now;

		if (!client->loop)
			shmipc_client_maintain(client, deadline_ns);
		error = from_some_session(client, stream_out);
		if (error != -ENOTCONN || client->loop || deadline_ns == SHMIPC_NOWAIT)
			return error;
		shmipc_mutex_lock(&client->lock);
		due = shmipc_client_next_due(client);
		shmipc_mutex_unlock(&client->lock);
		now = shmipc_clock_ns();
		if (now >= deadline_ns)
			return error;
		due = due > now + PAUSE_MIN_NS ? due : now + PAUSE_MIN_NS;
		pause_until(due < deadline_ns ? due : deadline_ns, now);
	}
}

static bool can_be_kept(struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	bool kept;

	shmipc_session_lock(s);
	shmipc_stream_mute(stream);
	kept = shmipc_stream_write_error(stream) == 0 && !stream->fallback && !s->retired &&
	       stream->rx.unread == 0 && stream->tx.bytes == 0 && stream->out_mark == 0 &&
	       !stream->close_pending;
	if (kept) {
		bool used = stream->used;

		shmipc_stream_empty(stream);
		shmipc_stream_reset(stream);
		stream->used = used;
		stream->accepted = true;
	}
	shmipc_session_unlock(s);
	return kept;
}

void shmipc_client_put_stream(struct shmipc_client *client, struct shmipc_stream *stream)
{
	struct shmipc_session *s = stream->session;
	bool kept = client->generation == shmipc_process_generation() && can_be_kept(stream);

	if (kept) {
		struct shmipc_slot *slot = NULL;

		shmipc_mutex_lock(&client->lock);
		for (uint32_t i = 0; i < client->slot_count && !slot; i++)
			if (client->slots[i].session == s)
				slot = &client->slots[i];
		kept = slot && slot->idle_count < client->config->values.pooled_streams_max;
		if (kept) {
			stream->next = NULL;
			if (slot->idle_last)
				slot->idle_last->next = stream;
			else
				slot->idle_first = stream;
			slot->idle_last = stream;
			slot->idle_count++;
		}
		shmipc_mutex_unlock(&client->lock);
	}
	if (!kept)
		shmipc_stream_close(stream);
}

/* ---- figures -------------------------------------------------------------------------------- */

unsigned int shmipc_client_healthy_sessions(struct shmipc_client *client)
{
	unsigned int healthy = 0;

	if (client->generation != shmipc_process_generation())
		return 0;
	for (uint32_t i = 0; i < client->slot_count; i++) {
		struct shmipc_session *s;

		shmipc_mutex_lock(&client->lock);
		s = client->slots[i].session;
		if (s)
			shmipc_session_get(s);
		shmipc_mutex_unlock(&client->lock);
		if (!s)
			continue;
		if (!client->loop)
			shmipc_session_poke(s);
		healthy += shmipc_session_health(s) == 0;
		shmipc_session_put(s);
	}
	return healthy;
}

void shmipc_client_metrics(struct shmipc_client *client, struct shmipc_metrics *out, size_t bytes)
{
	struct shmipc_metrics sum = { 0 }, part;
	struct shmipc_session *sessions[64];
	uint32_t n = 0;

	if (client->generation == shmipc_process_generation()) {
		shmipc_mutex_lock(&client->lock);
		sum = client->metrics;
		shmipc_mutex_unlock(&client->lock);
		for (uint32_t i = 0; i < client->slot_count; i += n) {
			shmipc_mutex_lock(&client->lock);
			for (n = 0; n < 64 && i + n < client->slot_count; n++) {
				sessions[n] = client->slots[i + n].session;
				if (sessions[n])
					shmipc_session_get(sessions[n]);
			}
			shmipc_mutex_unlock(&client->lock);
			for (uint32_t k = 0; k < n; k++) {
				if (!sessions[k])
					continue;
				shmipc_session_metrics(sessions[k], &part, sizeof(part));
				shmipc_metrics_add(&sum, &part);
				shmipc_session_put(sessions[k]);
			}
		}
	}
	shmipc_metrics_copy(&sum, out, bytes);
}
