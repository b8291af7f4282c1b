/* SPDX-License-Identifier: Apache-2.0 */
/* The rendezvous that are under way in this process. */
#include <string.h>
#include <sys/mman.h>

#include "core/sys.h"
#include "core/thread.h"
#include "preload/process_lock.h"
#include "preload/upgrade_parts.h"

/* Records of which the memory stays: giving it back costs more than the few pages are worth. */
enum { RECORDS_KEPT = 96 };

static struct shim_upgrade *upgrades; /* by connection record */
static struct shim_process_lock lock; /* for the two below */
static uint32_t under_way;
static uint32_t touched; /* records at and above were not used since nothing was under way */

int shim_rendezvous_start(void)
{
	long at = sys_mmap(NULL, SHIM_CONN_MAX * sizeof(struct shim_upgrade),
			   PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			   0);

	if (at < 0 && at > -4096)
		return (int)at;
	upgrades = (struct shim_upgrade *)at;
	return shim_meetings_start();
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

struct shim_upgrade *shim_rendezvous_take(struct shim_conn *conn,
					  const struct shim_rendezvous_keys *keys)
{
	uint32_t index = shim_conn_index(conn);
	struct shim_upgrade *u = &upgrades[index];

	if (!shim_process_lock_take(&lock))
		return NULL;
	under_way++;
	if (index >= touched)
		touched = index + 1;
	shim_process_lock_drop(&lock);
	memset(u, 0, sizeof(*u));
	u->session = SHIM_SESSION_NONE;
	u->keys = *keys;
	return u;
}

/* Of a burst of new connections. */
static void give_memory_back(void)
{
	sys_madvise(upgrades, touched * sizeof(struct shim_upgrade), MADV_DONTNEED);
	touched = 0;
}

void shim_rendezvous_drop(struct shim_conn *conn)
{
	shim_meeting_end(conn->upgrade);
	conn->upgrade = NULL;
	if (!shim_process_lock_take(&lock))
		return; /* then the memory stays */
	if (--under_way == 0 && touched > RECORDS_KEPT)
		give_memory_back();
	shim_process_lock_drop(&lock);
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

struct shim_session_claim shim_rendezvous_claim(const struct shim_upgrade *u, const uint8_t *key)
{
	return (struct shim_session_claim){ key, u->keys.self.cookie, u->keys.peer_cookie };
}

void shim_rendezvous_in_child(void)
{
	shim_meetings_in_child();
	under_way = 0;
	give_memory_back();
}
