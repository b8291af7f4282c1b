/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/upgrade.h"

#include "core/cpu.h"
#include "core/postpone.h"
#include "core/restart.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"
#include "preload/pins.h"
#include "preload/rebind.h"
#include "preload/sets.h"
#include "preload/upgrade_parts.h"
#include "preload/worth.h"

enum {
	STEPS_MAX = 4096,   /* calls after the threshold, and */
	PATIENCE_MS = 2000, /* so long: then the peer is plain */
};

int shim_upgrade_start(void)
{
	return shim_rendezvous_start();
}

bool shim_upgrade_vacate(int fd)
{
	return shim_meeting_vacate(fd);
}

void shim_upgrade_abandon(struct shim_conn *conn)
{
	if (!conn->upgrade || conn->generation != shmipc_process_generation() ||
	    !shim_rendezvous_hold(conn))
		return;
	if (conn->upgrade)
		shim_worth_failed(conn);
	shim_rendezvous_give_up(conn);
	shim_rendezvous_go_on(conn);
}

bool shim_upgrade_forbid(struct shim_conn *conn)
{
	bool held = shim_rendezvous_hold(conn);
	uint32_t candidate = SHMIPC_STATE_CANDIDATE;
	bool done = atomic_compare_exchange_strong(&conn->state, &candidate, SHMIPC_STATE_PLAIN);

	if (held) {
		if (done)
			shim_rendezvous_give_up(conn);
		shim_rendezvous_go_on(conn);
	}
	return done;
}

/* ---- fork ---- */

/* Another thread may be closing it: what has no holder left is not touched, what we have counted
 * stays.  A step that finds more than one holder does not attach, a child would not have the
 * mapping; one that is under way ends first. */
bool shim_upgrade_share(struct shim_conn *conn)
{
	uint32_t holders = atomic_load(&conn->holders);

	while (holders > 0 && !atomic_compare_exchange_weak(&conn->holders, &holders, holders + 1))
		;
	if (holders == 0)
		return false;
	atomic_store(&conn->shared, 1);
	if (shim_rendezvous_hold(conn))
		shim_rendezvous_go_on(conn);
	return true;
}

void shim_upgrade_before_fork(void)
{
	shim_session_before_fork();
}

void shim_upgrade_after_fork(void)
{
	shim_session_after_fork();
}

void shim_upgrade_exit(void)
{
	shim_session_exit();
}

void shim_upgrade_in_child(void)
{
	shim_rendezvous_in_child();
}

void shim_upgrade_release(int session, uint32_t stream)
{
	if (session != SHIM_SESSION_NONE)
		shim_session_release(session, stream);
}

__attribute__((hot)) void shim_upgrade_detach(struct shim_conn *conn)
{
	if (conn->session != SHIM_SESSION_NONE) {
		shim_worth_ended(conn);
		shim_session_leave(conn->session, conn->stream);
	}
	conn->session = SHIM_SESSION_NONE;
	while (conn->formers > 0) {
		const struct shim_former *former = &conn->former[--conn->formers];

		shim_session_leave(former->session, former->stream);
	}
}

/* ---- again ---- */

/* Step lock held.  A candidate first: no wait of a set arms it any more; then what is armed is
 * taken back; then nothing can stand on the old words but calls that are inside, of which there are
 * none.
 */
static bool restart(struct shim_conn *conn, int fd)
{
	bool done = false;

	atomic_store(&conn->rx.ready, false);
	shim_sets_disarm(conn);
	shmipc_sender_lock(&conn->tx, fd, false);
	shmipc_receiver_lock(&conn->rx, false);
	if (shim_pins_are_alone(conn))
		done = shmipc_restart(&conn->tx, &conn->rx);
	if (!done && conn->rx.attached)
		atomic_store(&conn->rx.ready, true);
	shmipc_lock_drop(&conn->rx.lock, false);
	shmipc_lock_drop(&conn->tx.lock, false);
	return done;
}

/* Only where this process alone holds it: others might be inside. */
static bool may_restart(const struct shim_conn *conn)
{
	return conn->formers < SHIM_CONN_LIVES - 1 && conn->rx.ready &&
	       atomic_load(&conn->holders) == 1 &&
	       conn->generation == shmipc_process_generation() &&
	       shmipc_restart_is_offered(&conn->tx, &conn->rx);
}

void shim_upgrade_again(struct shim_conn *conn, int fd)
{
	if (!may_restart(conn) || !shim_rendezvous_try_hold(conn))
		return;
	if (may_restart(conn) && restart(conn, fd)) {
		conn->former[conn->formers++] = (struct shim_former){ conn->session, conn->stream };
		conn->session = SHIM_SESSION_NONE;
		shim_options_restore(conn, fd);
		atomic_store(&conn->steps, 0);
		atomic_store(&conn->next_step, 0);
		atomic_store(&conn->state, SHMIPC_STATE_CANDIDATE);
		if (conn->row)
			atomic_store(&conn->row->state, SHMIPC_STATE_CANDIDATE);
		shim_conn_set_reason(conn, SHMIPC_REASON_YOUNG);
		shim_conn_log(conn, fd, "again", false);
	}
	shim_rendezvous_go_on(conn);
}

/* ---- when ---- */

/* Each of the first calls, then every 4th, 16th, 64th, 256th. */
static uint32_t pause_after(uint32_t steps)
{
	return steps < 32 ? 1 : steps < 128 ? 4 : steps < 1024 ? 16 : steps < STEPS_MAX ? 64 : 256;
}

/* Calls alone do not tell: thousands of small sends are over before a peer on a busy machine has
 * had the processor once. */
static bool has_waited_enough(const struct shim_conn *conn, uint32_t calls)
{
	return calls >= STEPS_MAX && shmipc_ticks() - atomic_load(&conn->steps_since_ticks) >=
					     PATIENCE_MS * 1000 * shmipc_ticks_per_us();
}

static bool is_shared(const struct shim_conn *conn)
{
	return atomic_load(&conn->holders) != 1;
}

static int begin(struct shim_conn *conn, int fd)
{
	struct shim_rendezvous_keys keys;
	enum shmipc_reason reason;

	if (!shim_rebind_look())
		return -1;
	reason = shim_eligible(conn, fd, &keys);
	if (reason == SHMIPC_REASON_SHARED && is_shared(conn)) {
		shim_conn_set_reason(conn, reason); /* the others may close it yet, or exec */
		return -1;
	}
	if (reason == SHMIPC_REASON_YOUNG)
		return -1;
	if (reason)
		return (int)reason;
	conn->upgrade = shim_rendezvous_take(conn, &keys);
	return conn->upgrade ? 0 : -1;
}

static bool is_mine(const struct shmipc_lock *lock)
{
	return (atomic_load_explicit(&lock->owner, memory_order_relaxed) & ~SHMIPC_LOCK_WAITERS) ==
	       shmipc_thread_id();
}

/* A step is for one thread at a time, and not for a signal handler that has interrupted a call on
 * this connection. */
static bool may_step(struct shim_conn *conn)
{
	if (is_mine(&conn->tx.lock) || is_mine(&conn->rx.lock) || !shim_rendezvous_try_hold(conn))
		return false;
	if (conn->generation == shmipc_process_generation() || shim_conn_adopt(conn))
		return true;
	if (atomic_load(&conn->state) == SHMIPC_STATE_CANDIDATE)
		shim_conn_set_reason(conn, SHMIPC_REASON_SHARED);
	shim_rendezvous_go_on(conn);
	return false;
}

static void step(struct shim_conn *conn, int fd)
{
	uint32_t calls = atomic_load(&conn->steps);
	int result = 0;

	if (calls == 0)
		atomic_store(&conn->steps_since_ticks, shmipc_ticks());
	atomic_store(&conn->next_step, calls + pause_after(calls));
	shim_conn_count_holders(conn);
	if (!may_step(conn)) {
		if (has_waited_enough(conn, calls) && is_shared(conn))
			shim_conn_make_plain(conn, SHMIPC_REASON_SHARED);
		return;
	}
	if (atomic_load(&conn->state) != SHMIPC_STATE_CANDIDATE) {
		shim_rendezvous_give_up(conn);
		shim_rendezvous_go_on(conn);
		return;
	}
	if (!conn->upgrade)
		result = begin(conn, fd);
	if (conn->upgrade) {
		result = conn->is_server ? shim_upgrade_server_step(conn, fd)
					 : shim_upgrade_client_step(conn, fd);
		if (conn->upgrade)
			conn->upgrade->steps++;
	}
	if (result == -1 && has_waited_enough(conn, calls))
		result = is_shared(conn) ? SHMIPC_REASON_SHARED : SHMIPC_REASON_PEER_PLAIN;
	if (result > 0)
		shim_rendezvous_give_up(conn);
	if (result == SHMIPC_REASON_CLOSED || result == SHMIPC_REASON_PEER_PLAIN)
		shim_worth_failed(conn);
	shim_rendezvous_go_on(conn);
	if (result > 0)
		shim_conn_make_plain(conn, (enum shmipc_reason)result);
}

static __attribute__((hot)) void one_more_call(struct shim_conn *conn, int fd)
{
	uint32_t calls;

	/* one that has grown up stays so */
	if (conn->young && !shim_worth_it(conn))
		return;
	conn->young = false;
	calls = atomic_fetch_add(&conn->steps, 1);
	if (calls < atomic_load_explicit(&conn->next_step, memory_order_relaxed))
		return;
	/* handlers wait: what one of them decides in the middle, attaching would overrule */
	shmipc_postpone_begin();
	step(conn, fd);
	shmipc_postpone_end();
}

static inline void count_traffic(struct shim_conn *conn, size_t bytes)
{
	if (bytes)
		atomic_fetch_add_explicit(&conn->traffic,
					  bytes + shim_config.upgrade_per_call_bytes,
					  memory_order_relaxed);
}

__attribute__((hot)) void shim_upgrade_sent(struct shim_conn *conn, int fd, size_t bytes)
{
	count_traffic(conn, bytes);
	atomic_store_explicit(&conn->sent_last, 1, memory_order_relaxed);
	one_more_call(conn, fd);
}

__attribute__((hot)) void shim_upgrade_received(struct shim_conn *conn, int fd, size_t bytes)
{
	count_traffic(conn, bytes);
	if (bytes && atomic_load_explicit(&conn->sent_last, memory_order_relaxed)) {
		atomic_store_explicit(&conn->sent_last, 0, memory_order_relaxed);
		atomic_fetch_add_explicit(&conn->trips, 1, memory_order_relaxed);
	}
	one_more_call(conn, fd);
}
