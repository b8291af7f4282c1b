/* SPDX-License-Identifier: Apache-2.0 */
/* The rendezvous that are under way in this process. */
#include <string.h>
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/upgrade_parts.h"

enum {
	UPGRADES_MAX = 128,	   /* rendezvous of this process under way at a time */
	UPGRADES_AT_ENDPOINT = 32, /* of them: one plain peer must not keep others waiting */
	PATIENCE_MS = 200,	   /* a rendezvous of this age makes place for another */
};

static struct shim_upgrade *upgrades;

int shim_rendezvous_start(void)
{
	long at = sys_mmap(NULL, UPGRADES_MAX * sizeof(struct shim_upgrade), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -4096)
		return (int)at;
	upgrades = (struct shim_upgrade *)at;
	return 0;
}

/* ---- the step lock ---- */

bool shim_rendezvous_try_hold(struct shim_conn *conn)
{
	return shmipc_lock_try(&conn->step_lock);
}

bool shim_rendezvous_hold(struct shim_conn *conn)
{
	return shmipc_lock_take(&conn->step_lock, false) != SHMIPC_LOCK_REENTERED;
}

void shim_rendezvous_go_on(struct shim_conn *conn)
{
	shmipc_lock_drop(&conn->step_lock, false);
}

/* ---- take, leave ---- */

/* Connections that fell silent in the middle of it would keep others out: the oldest goes, and
 * begins again if it speaks again.  Only tried: the caller holds the step lock of its own. */
static void make_place(uint64_t endpoint)
{
	const uint64_t patience_ticks = PATIENCE_MS * 1000 * shmipc_ticks_per_us();
	uint64_t now = shmipc_ticks();
	struct shim_upgrade *oldest = NULL;

	for (int i = 0; i < UPGRADES_MAX; i++) {
		struct shim_upgrade *u = &upgrades[i];

		if (atomic_load(&u->used) && u->conn && u->keys.endpoint == endpoint &&
		    now - u->since_ticks > patience_ticks &&
		    (!oldest || u->since_ticks < oldest->since_ticks))
			oldest = u;
	}
	if (!oldest || !shim_rendezvous_try_hold(oldest->conn))
		return;
	if (oldest->conn->upgrade == oldest)
		shim_rendezvous_give_up(oldest->conn);
	shmipc_lock_drop(&oldest->conn->step_lock, false);
}

static uint32_t under_way(uint64_t endpoint)
{
	uint32_t count = 0;

	for (int i = 0; i < UPGRADES_MAX; i++)
		count += atomic_load(&upgrades[i].used) && upgrades[i].keys.endpoint == endpoint;
	return count;
}

struct shim_upgrade *shim_rendezvous_take(struct shim_conn *conn,
					  const struct shim_rendezvous_keys *keys)
{
	if (under_way(keys->endpoint) >= UPGRADES_AT_ENDPOINT) {
		make_place(keys->endpoint);
		if (under_way(keys->endpoint) >= UPGRADES_AT_ENDPOINT)
			return NULL;
	}
	for (int i = 0; i < UPGRADES_MAX; i++) {
		struct shim_upgrade *u = &upgrades[i];
		uint32_t used = 0;

		if (atomic_load(&u->used) || !atomic_compare_exchange_strong(&u->used, &used, 1))
			continue;
		memset((char *)u + sizeof(u->used), 0, sizeof(*u) - sizeof(u->used));
		u->listener = u->channel = -1;
		u->session = SHIM_SESSION_NONE;
		u->keys = *keys;
		u->conn = conn;
		u->since_ticks = shmipc_ticks();
		shmipc_negotiator_init(&u->negotiator);
		return u;
	}
	return NULL;
}

void shim_rendezvous_drop(struct shim_conn *conn)
{
	struct shim_upgrade *u = conn->upgrade;

	conn->upgrade = NULL;
	shim_channel_close(&u->listener);
	shim_channel_close(&u->channel);
	shmipc_negotiator_close(&u->negotiator);
	atomic_store(&u->used, 0);
}

/* Step lock held. */
void shim_rendezvous_give_up(struct shim_conn *conn)
{
	struct shim_upgrade *u = conn->upgrade;

	if (!u || conn->generation != shmipc_process_generation())
		return;
	if (u->session != SHIM_SESSION_NONE)
		shim_session_withdraw(u->session, u->stream);
	shim_rendezvous_drop(conn);
}

bool shim_rendezvous_vacate(int fd)
{
	for (int i = 0; i < UPGRADES_MAX; i++) {
		struct shim_upgrade *u = &upgrades[i];
		struct shim_conn *conn = u->conn;

		if (!atomic_load(&u->used) || !conn || (u->listener != fd && u->channel != fd) ||
		    !shim_rendezvous_hold(conn))
			continue;
		if (conn->upgrade == u && (u->listener == fd || u->channel == fd))
			shim_rendezvous_give_up(conn);
		shim_rendezvous_go_on(conn);
		return !shim_fd_is_hidden(fd);
	}
	return false;
}

bool shim_rendezvous_is_offered(const struct shim_upgrade *u)
{
	for (int i = 0; i < UPGRADES_MAX; i++)
		if (&upgrades[i] != u && atomic_load(&upgrades[i].used) &&
		    upgrades[i].listener >= 0 && upgrades[i].keys.endpoint == u->keys.endpoint)
			return true;
	return false;
}

struct shim_session_claim shim_rendezvous_claim(const struct shim_upgrade *u, const uint8_t *key)
{
	return (struct shim_session_claim){ key, u->keys.self.cookie, u->keys.peer_cookie };
}

void shim_rendezvous_in_child(void)
{
	for (int i = 0; i < UPGRADES_MAX; i++) {
		if (!atomic_load(&upgrades[i].used))
			continue;
		shim_channel_close(&upgrades[i].listener);
		shim_channel_close(&upgrades[i].channel);
		atomic_store(&upgrades[i].used, 0);
	}
}
