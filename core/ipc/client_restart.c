/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot restart, the client's side: a server says that another one has taken its address.  All slots
 * are dialled anew; when they have moved, the old sessions tell the old server so, and go on until
 * their last stream is closed.
 */
#include <errno.h>

#include "core/cpu.h"
#include "core/ipc/client.h"

void shmipc_client_begin_restart(struct shmipc_client *client, uint64_t epoch)
{
	bool begin;

	shmipc_mutex_lock(&client->lock);
	begin = !client->destroyed && !client->restarting;
	if (begin) {
		client->restarting = true;
		client->epoch = epoch;
		client->restart_deadline_ns = shmipc_clock_ns() +
					      client->config->values.hot_restart_timeout_ms *
						      UINT64_C(1000000);
		for (uint32_t i = 0; i < client->slot_count; i++) {
			client->slots[i].renew = true;
			client->slots[i].next_attempt_ns = 0;
		}
		if (client->buffer) { /* the new server gets memory of its own */
			shmipc_mapping_put(client->buffer);
			client->buffer = NULL;
			client->unmapped = 0;
		}
	}
	shmipc_mutex_unlock(&client->lock);
	if (!begin)
		return;
	shmipc_log(client->config, SHMIPC_LOG_INFO, "hot restart, epoch %llu",
		   (unsigned long long)epoch);
	if (client->loop)
		shmipc_client_schedule(client);
	else
		shmipc_client_maintain(client, SHMIPC_NOWAIT);
}

/* Lock held. */
static bool all_have_moved(const struct shmipc_client *client)
{
	for (uint32_t i = 0; i < client->slot_count; i++)
		if (client->slots[i].renew || !client->slots[i].session)
			return false;
	return true;
}

/* A retired session that has to say something yet, with a reference; lock held. */
static struct shmipc_session *next_to_acknowledge(struct shmipc_client *client)
{
	for (struct shmipc_session *s = client->retired; s; s = s->owner_next)
		if (s->owner_flag) {
			s->owner_flag = false;
			shmipc_session_get(s);
			return s;
		}
	return NULL;
}

static void acknowledge(struct shmipc_client *client, uint64_t epoch)
{
	struct shmipc_session *s;

	for (;;) {
		shmipc_mutex_lock(&client->lock);
		s = next_to_acknowledge(client);
		shmipc_mutex_unlock(&client->lock);
		if (!s)
			return;
		shmipc_session_lock(s);
		shmipc_session_send_epoch(s, SHMIPC_MESSAGE_HOT_RESTART_ACK, epoch);
		shmipc_session_check_idle(s);
		shmipc_session_unlock(s);
		shmipc_session_put(s);
	}
}

void shmipc_client_check_restart(struct shmipc_client *client)
{
	bool moved, late;
	uint64_t epoch;

	shmipc_mutex_lock(&client->lock);
	moved = client->restarting && all_have_moved(client);
	late = client->restarting && !moved && shmipc_clock_ns() >= client->restart_deadline_ns;
	epoch = client->epoch;
	if (moved || late)
		client->restarting = false;
	if (moved)
		client->metrics.hot_restarts++;
	if (late) {
		client->metrics.hot_restart_errors++;
		/* those that did not get there stay where they are */
		for (uint32_t i = 0; i < client->slot_count; i++)
			client->slots[i].renew = false;
	}
	shmipc_mutex_unlock(&client->lock);
	if (moved)
		acknowledge(client, epoch);
	if (late)
		shmipc_log(client->config, SHMIPC_LOG_ERROR,
			   "hot restart: the new server could not be reached in time");
}
