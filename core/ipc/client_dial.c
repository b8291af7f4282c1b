/* SPDX-License-Identifier: Apache-2.0 */
/* How a client gets its sessions: memory, connection, handshake; at once or in the loop. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/cpu.h"
#include "core/ipc/client.h"
#include "core/sys.h"

enum { QUEUE_NAME_ROOM = 576 };

/* ---- memory --------------------------------------------------------------------------------- */

/* "<prefix>_<pid>[_epoch_<epoch>]_c<random>": no two clients of any container make the same. */
static void make_name(struct shmipc_client *client)
{
	char tag[SHMIPC_AREA_TAG_ROOM], epoch[40] = "";

	shmipc_area_make_tag(tag);
	if (client->epoch)
		snprintf(epoch, sizeof(epoch), "_epoch_%llu", (unsigned long long)client->epoch);
	snprintf(client->name, sizeof(client->name), "%s_%d%s%s",
		 client->config->values.path_prefix, sys_getpid(), epoch, tag);
	client->queues_named = 0;
}

/* Lock held.  A reference to the memory for the next session. */
static int get_buffer(struct shmipc_client *client, struct shmipc_mapping **out)
{
	char path[QUEUE_NAME_ROOM];
	int error;

	/* a file that was removed cannot be opened by another server */
	if (client->buffer && !client->buffer->area.path) {
		shmipc_mapping_put(client->buffer);
		client->buffer = NULL;
	}
	if (!client->buffer) {
		make_name(client);
		snprintf(path, sizeof(path), "%s_buffer", client->name);
		error = shmipc_mapping_create(&client->config->values, path, &client->buffer);
		if (error)
			return error;
		client->unmapped = 0;
	}
	*out = shmipc_mapping_get(client->buffer);
	client->unmapped++;
	return 0;
}

static int start_handshake(struct shmipc_client *client, struct shmipc_handshake *h, int fd)
{
	char queue[QUEUE_NAME_ROOM], path[QUEUE_NAME_ROOM];
	struct shmipc_mapping *buffer = NULL;
	int error;

	shmipc_mutex_lock(&client->lock);
	error = get_buffer(client, &buffer);
	if (!error) {
		snprintf(queue, sizeof(queue), "%s_queue_%u", client->name, client->queues_named++);
		snprintf(path, sizeof(path), "%s_buffer", client->name);
	}
	shmipc_mutex_unlock(&client->lock);
	return error ? error
		     : shmipc_handshake_start(h, SHMIPC_ROLE_CLIENT, fd, &client->config->values,
					      buffer, queue, path);
}

/* ---- one dial ------------------------------------------------------------------------------- */

static int connect_result(int fd)
{
	int error = 0;
	socklen_t bytes = sizeof(error);
	int result = sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);

	return result ? result : -error;
}

/* The connection is made or under way. */
static int dial_begin(struct shmipc_client *client, uint32_t slot, struct shmipc_dial **out)
{
	struct shmipc_dial *dial = calloc(1, sizeof(*dial));

	if (!dial)
		return -ENOMEM;
	dial->client = client;
	dial->slot = slot;
	dial->handshake.queues.fd = -1;
	dial->source.fd = shmipc_address_connect(&client->address, &dial->connecting);
	if (dial->source.fd < 0) {
		int error = dial->source.fd;

		free(dial);
		return error;
	}
	dial->deadline_ns = shmipc_clock_ns() +
			    client->config->values.handshake_timeout_ms * UINT64_C(1000000);
	*out = dial;
	return 0;
}

/* -EAGAIN: poll for *events_out. */
static int dial_step(struct shmipc_dial *dial, short *events_out)
{
	struct shmipc_handshake *h = &dial->handshake;
	struct pollfd now = { .fd = dial->source.fd, .events = POLLOUT };
	int error;

	*events_out = POLLOUT;
	if (dial->connecting) {
		if (sys_poll(&now, 1, 0) == 0)
			return -EAGAIN;
		error = connect_result(dial->source.fd);
		if (error)
			return error;
		dial->connecting = false;
	}
	if (!h->config) {
		error = start_handshake(dial->client, h, dial->source.fd);
		if (error) {
			h->config = NULL;
			return error;
		}
	}
	error = shmipc_handshake_step(h);
	*events_out = h->events;
	return error;
}

static int dial_finish(struct shmipc_dial *dial)
{
	struct shmipc_client *client = dial->client;
	struct shmipc_session *session;
	int error = shmipc_session_new(&dial->handshake, client->config, &session);

	if (error)
		return error;
	dial->source.fd = -1; /* the session's */
	shmipc_session_set_owner(session, &client->owner);
	if (client->loop)
		error = shmipc_session_attach(session, client->loop, NULL, NULL);
	if (!error && !shmipc_client_install(client, dial->slot, session))
		error = -ESHUTDOWN;
	if (error) {
		shmipc_session_close(session);
		return error;
	}
	shmipc_log(client->config, SHMIPC_LOG_INFO, "session %s connected", session->id);
	return 0;
}

static void dial_end(struct shmipc_dial *dial)
{
	struct shmipc_client *client = dial->client;

	/* nobody will map the memory for this one */
	shmipc_mutex_lock(&client->lock);
	if (dial->handshake.buffer && dial->handshake.buffer == client->buffer)
		client->unmapped--;
	shmipc_mutex_unlock(&client->lock);
	if (dial->handshake.config)
		shmipc_handshake_end(&dial->handshake);
	if (dial->source.fd >= 0)
		sys_close(dial->source.fd);
	free(dial);
}

/* ---- the slot's books ----------------------------------------------------------------------- */

static void dialled(struct shmipc_client *client, uint32_t index, bool was_renewal, int error)
{
	struct shmipc_slot *slot = &client->slots[index];

	shmipc_mutex_lock(&client->lock);
	slot->dialling = false;
	slot->dial = NULL;
	if (!error) {
		client->metrics.reconnects += !was_renewal;
	} else {
		uint32_t pause = slot->pause_ms ? slot->pause_ms * 2
						: client->config->values.reconnect_min_ms;

		slot->pause_ms = pause < client->config->values.reconnect_max_ms
					 ? pause
					 : client->config->values.reconnect_max_ms;
		slot->next_attempt_ns = shmipc_clock_ns() + slot->pause_ms * UINT64_C(1000000);
	}
	shmipc_mutex_unlock(&client->lock);
	if (error)
		shmipc_log(client->config, SHMIPC_LOG_WARNING, "cannot connect: %s",
			   strerror(-error));
	shmipc_client_check_restart(client);
}

static int dial_to_the_end(struct shmipc_dial *dial, uint64_t deadline_ns)
{
	short events;
	int error;

	if (dial->deadline_ns < deadline_ns)
		deadline_ns = dial->deadline_ns;
	while ((error = dial_step(dial, &events)) == -EAGAIN) {
		struct pollfd wait = { .fd = dial->source.fd, .events = events };
		uint64_t now = shmipc_clock_ns();

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		sys_poll(&wait, 1, (int)((deadline_ns - now) / 1000000) + 1);
	}
	return error;
}

int shmipc_client_dial(struct shmipc_client *client, uint32_t slot, uint64_t deadline_ns)
{
	struct shmipc_dial *dial;
	int error = dial_begin(client, slot, &dial);

	if (error)
		return error;
	error = dial_to_the_end(dial, deadline_ns);
	if (!error)
		error = dial_finish(dial);
	dial_end(dial);
	return error;
}

/* ---- in the loop ---------------------------------------------------------------------------- */

static struct shmipc_dial *dial_of(struct shmipc_source *source)
{
	return (struct shmipc_dial *)(void *)((char *)source -
					      offsetof(struct shmipc_dial, source));
}

static void dial_gone(struct shmipc_source *source)
{
	struct shmipc_dial *dial = dial_of(source);
	struct shmipc_client *client = dial->client;

	dial_end(dial);
	shmipc_owner_put(&client->owner);
}

/* Only in the loop.  The client's destruction may have been quicker. */
static void dial_over(struct shmipc_dial *dial, int error)
{
	struct shmipc_client *client = dial->client;
	bool renewal;

	shmipc_mutex_lock(&client->lock);
	if (dial->over) {
		shmipc_mutex_unlock(&client->lock);
		return;
	}
	dial->over = true;
	renewal = client->slots[dial->slot].session != NULL;
	shmipc_mutex_unlock(&client->lock);
	shmipc_loop_remove(client->loop, &dial->source);
	if (!error)
		error = dial_finish(dial);
	dialled(client, dial->slot, renewal, error);
	shmipc_client_schedule(client);
}

static void dial_ready(struct shmipc_source *source, uint32_t epoll_events)
{
	struct shmipc_dial *dial = dial_of(source);
	short events;
	int error = dial_step(dial, &events);

	(void)epoll_events;
	if (error == -EAGAIN)
		shmipc_loop_change(dial->client->loop, source,
				   events == POLLIN ? EPOLLIN : EPOLLOUT);
	else
		dial_over(dial, error);
}

static void dial_in_loop(struct shmipc_client *client, uint32_t slot)
{
	struct shmipc_dial *dial;
	int error = dial_begin(client, slot, &dial);
	bool over;

	if (!error) {
		dial->source.events = EPOLLOUT;
		dial->source.ready = dial_ready;
		dial->source.gone = dial_gone;
		error = shmipc_loop_add(client->loop, &dial->source);
		if (error)
			dial_end(dial);
	}
	if (error) {
		dialled(client, slot, false, error);
		return;
	}
	shmipc_owner_get(&client->owner);
	shmipc_mutex_lock(&client->lock);
	dial->over = client->destroyed; /* too late to be stopped with the others */
	if (!dial->over)
		client->slots[slot].dial = dial;
	over = dial->over;
	shmipc_mutex_unlock(&client->lock);
	if (over)
		shmipc_loop_remove(client->loop, &dial->source);
}

static void end_late_dials(struct shmipc_client *client, uint64_t now)
{
	for (uint32_t i = 0; i < client->slot_count; i++) {
		struct shmipc_dial *dial;

		shmipc_mutex_lock(&client->lock);
		dial = client->slots[i].dial;
		shmipc_mutex_unlock(&client->lock);
		if (dial && dial->deadline_ns <= now)
			dial_over(dial, -ETIMEDOUT);
	}
}

/* ---- what is due ---------------------------------------------------------------------------- */

static bool wants_dial(const struct shmipc_slot *slot)
{
	return !slot->dialling && (!slot->session || slot->renew);
}

uint64_t shmipc_client_next_due(const struct shmipc_client *client)
{
	uint64_t due = 0;

	for (uint32_t i = 0; i < client->slot_count; i++) {
		const struct shmipc_slot *slot = &client->slots[i];
		uint64_t at = slot->dial ? slot->dial->deadline_ns : slot->next_attempt_ns;

		if ((slot->dial || wants_dial(slot)) && (due == 0 || at < due))
			due = at ? at : 1;
	}
	if (client->restarting && (due == 0 || client->restart_deadline_ns < due))
		due = client->restart_deadline_ns;
	return due;
}

/* Claims a slot that is due; slot_count: none is. */
static uint32_t claim(struct shmipc_client *client, uint64_t now, bool *renewal_out)
{
	uint32_t i;

	shmipc_mutex_lock(&client->lock);
	for (i = 0; i < client->slot_count && !client->destroyed; i++) {
		struct shmipc_slot *slot = &client->slots[i];

		if (!wants_dial(slot) || slot->next_attempt_ns > now)
			continue;
		slot->dialling = true;
		*renewal_out = slot->session != NULL;
		break;
	}
	if (client->destroyed)
		i = client->slot_count;
	shmipc_mutex_unlock(&client->lock);
	return i;
}

void shmipc_client_maintain(struct shmipc_client *client, uint64_t deadline_ns)
{
	uint64_t now = shmipc_clock_ns();
	bool renewal = false;
	uint32_t slot;

	if (deadline_ns <= now)
		deadline_ns = now + client->config->values.handshake_timeout_ms * UINT64_C(1000000);
	while ((slot = claim(client, now, &renewal)) < client->slot_count) {
		if (client->loop)
			dial_in_loop(client, slot);
		else
			dialled(client, slot, renewal,
				shmipc_client_dial(client, slot, deadline_ns));
	}
	shmipc_client_check_restart(client);
}

void shmipc_client_schedule(struct shmipc_client *client)
{
	uint64_t due;

	if (!client->loop)
		return;
	shmipc_mutex_lock(&client->lock);
	due = client->destroyed ? 0 : shmipc_client_next_due(client);
	if (due && !shmipc_loop_arm(client->loop, &client->timer, due))
		shmipc_owner_get(&client->owner);
	shmipc_mutex_unlock(&client->lock);
}

void shmipc_client_timer(struct shmipc_timer *timer)
{
	struct shmipc_client
		*client = (struct shmipc_client *)(void *)((char *)timer -
							   offsetof(struct shmipc_client, timer));

	end_late_dials(client, shmipc_clock_ns());
	shmipc_client_maintain(client, SHMIPC_NOWAIT);
	shmipc_client_schedule(client);
	shmipc_owner_put(&client->owner);
}

/* ---- a session over the application's own connection ---------------------------------------- */

static int own_memory(struct shmipc_handshake *h, int fd, struct shmipc_shared_config *config)
{
	char tag[SHMIPC_AREA_TAG_ROOM], name[512], queue[QUEUE_NAME_ROOM], path[QUEUE_NAME_ROOM];
	struct shmipc_mapping *buffer;
	int error;

	shmipc_area_make_tag(tag);
	snprintf(name, sizeof(name), "%s_%d%s", config->values.path_prefix, sys_getpid(), tag);
	snprintf(queue, sizeof(queue), "%s_queue_0", name);
	snprintf(path, sizeof(path), "%s_buffer", name);
	error = shmipc_mapping_create(&config->values, path, &buffer);
	return error ? error
		     : shmipc_handshake_start(h, SHMIPC_ROLE_CLIENT, fd, &config->values, buffer,
					      queue, path);
}

int shmipc_session_over(int fd, enum shmipc_role role, struct shmipc_shared_config *config,
			struct shmipc_session **out)
{
	uint64_t deadline = shmipc_clock_ns() +
			    config->values.handshake_timeout_ms * UINT64_C(1000000);
	struct shmipc_handshake *h = malloc(sizeof(*h));
	int error;

	if (!h)
		return -ENOMEM;
	if (role == SHMIPC_ROLE_CLIENT)
		error = own_memory(h, fd, config);
	else
		error = shmipc_handshake_start(h, role, fd, &config->values, NULL, NULL, NULL);
	if (!error) {
		error = shmipc_session_shake(h, deadline);
		if (!error)
			error = shmipc_session_new(h, config, out);
		shmipc_handshake_end(h);
	}
	free(h);
	return error;
}
