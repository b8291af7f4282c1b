/* SPDX-License-Identifier: Apache-2.0 */
/* The meetings of this process: its names and channels. */
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/upgrade_parts.h"

enum {
	MEETINGS_MAX = 128,
	NAMES_AT_ENDPOINT = 16, /* of them: one plain peer must not keep others waiting */
	PATIENCE_MS = 200,	/* one of this age makes place for another */
};

static struct shim_meeting *meetings;
/* Those behind it have never been taken.  It only rises, so walks, of which a fork makes one too,
 * touch no page for nothing. */
static _Atomic uint32_t touched;

static uint32_t count_of_touched(void)
{
	return atomic_load_explicit(&touched, memory_order_relaxed);
}

static void touch(uint32_t index)
{
	uint32_t now = count_of_touched();

	while (now <= index && !atomic_compare_exchange_weak(&touched, &now, index + 1))
		;
}

int shim_meetings_start(void)
{
	long at = sys_mmap(NULL, MEETINGS_MAX * sizeof(struct shim_meeting), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -4096)
		return (int)at;
	meetings = (struct shim_meeting *)at;
	return 0;
}

/* Walks decide nothing: they may meet one that is just being taken or ended. */
static bool is_name_at(const struct shim_meeting *meeting, uint64_t endpoint)
{
	return atomic_load(&meeting->used) && meeting->listener >= 0 &&
	       meeting->endpoint == endpoint;
}

static uint32_t names_at(uint64_t endpoint)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < count_of_touched(); i++)
		count += is_name_at(&meetings[i], endpoint);
	return count;
}

bool shim_meeting_is_offered(const struct shim_conn *conn, uint64_t endpoint)
{
	for (uint32_t i = 0; i < count_of_touched(); i++)
		if (is_name_at(&meetings[i], endpoint) && meetings[i].conn != conn)
			return true;
	return false;
}

/* ---- making place ---- */

/* name_at: only among the names at this endpoint; 0: any. */
static struct shim_meeting *oldest(uint64_t name_at)
{
	const uint64_t patience_ticks = PATIENCE_MS * 1000 * shmipc_ticks_per_us();
	uint64_t now = shmipc_ticks();
	struct shim_meeting *found = NULL;

	for (uint32_t i = 0; i < count_of_touched(); i++) {
		struct shim_meeting *one = &meetings[i];

		if (atomic_load(&one->used) && one->conn &&
		    (!name_at || is_name_at(one, name_at)) &&
		    now - one->since_ticks > patience_ticks &&
		    (!found || one->since_ticks < found->since_ticks))
			found = one;
	}
	return found;
}

/* The connection's step lock is held. */
static void break_off(struct shim_meeting *meeting, struct shim_conn *conn)
{
	if (conn->generation != shmipc_process_generation() || !conn->upgrade ||
	    conn->upgrade->meeting != meeting)
		return;
	if (conn->is_server)
		shim_upgrade_server_break_off(conn->upgrade);
	shim_meeting_end(conn->upgrade);
}

/* Connections that fell silent in the middle of it would keep others out: the oldest meeting ends,
 * and its connection begins another if it speaks again.  Only tried: the caller holds the step lock
 * of its own. */
static void make_place(uint64_t name_at)
{
	struct shim_meeting *one = oldest(name_at);
	struct shim_conn *conn = one ? one->conn : NULL;

	if (!conn || !shim_rendezvous_try_hold(conn))
		return;
	break_off(one, conn);
	shim_rendezvous_go_on(conn);
}

bool shim_meeting_vacate(int fd)
{
	for (uint32_t i = 0; i < count_of_touched(); i++) {
		struct shim_meeting *one = &meetings[i];
		struct shim_conn *conn = one->conn;

		if (!atomic_load(&one->used) || !conn ||
		    (one->listener != fd && one->channel != fd) || !shim_rendezvous_hold(conn))
			continue;
		if (one->listener == fd || one->channel == fd)
			break_off(one, conn);
		shim_rendezvous_go_on(conn);
		return !shim_fd_is_hidden(fd);
	}
	return false;
}

/* ---- take, end ---- */

static struct shim_meeting *free_one(void)
{
	for (uint32_t i = 0; i < MEETINGS_MAX; i++) {
		uint32_t used = 0;

		touch(i); /* before it is taken: a fork at this moment finds it */
		if (!atomic_load(&meetings[i].used) &&
		    atomic_compare_exchange_strong(&meetings[i].used, &used, 1))
			return &meetings[i];
	}
	return NULL;
}

struct shim_meeting *shim_meeting_take(struct shim_conn *conn)
{
	uint64_t endpoint = conn->upgrade->keys.endpoint;
	struct shim_meeting *meeting;

	if (!conn->is_server && names_at(endpoint) >= NAMES_AT_ENDPOINT) {
		make_place(endpoint);
		if (names_at(endpoint) >= NAMES_AT_ENDPOINT)
			return NULL;
	}
	meeting = free_one();
	if (!meeting) {
		make_place(0);
		meeting = free_one();
	}
	if (!meeting)
		return NULL;
	meeting->listener = meeting->channel = -1;
	meeting->endpoint = endpoint;
	meeting->since_ticks = shmipc_ticks();
	meeting->conn = conn;
	shmipc_negotiator_init(&meeting->negotiator);
	conn->upgrade->meeting = meeting;
	return meeting;
}

void shim_meeting_end(struct shim_upgrade *u)
{
	struct shim_meeting *meeting = u->meeting;

	if (!meeting)
		return;
	u->meeting = NULL;
	shim_channel_close(&meeting->listener);
	shim_channel_close(&meeting->channel);
	shmipc_negotiator_close(&meeting->negotiator);
	meeting->conn = NULL;
	atomic_store(&meeting->used, 0);
}

void shim_meetings_in_child(void)
{
	for (uint32_t i = 0; i < count_of_touched(); i++) {
		if (!atomic_load(&meetings[i].used))
			continue;
		shim_channel_close(&meetings[i].listener);
		shim_channel_close(&meetings[i].channel);
		atomic_store(&meetings[i].used, 0);
	}
}
