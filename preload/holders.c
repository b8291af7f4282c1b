/* SPDX-License-Identifier: Apache-2.0 */
/* Which processes hold a connection: fork, exec, and children that no table of ours knows. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>

#include "core/gone.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"
#include "preload/conn_parts.h"
#include "preload/handlers.h"
#include "preload/identity.h"
#include "preload/loaded.h"
#include "preload/pins.h"
#include "preload/process_lock.h"
#include "preload/real.h"
#include "preload/rebind.h"
#include "preload/sets.h"
#include "preload/upgrade.h"

static uint32_t *marks;	 /* by record: the fork that counted it, or MARK_LEFT; private memory */
static uint32_t *births; /* by record: the connection that exec is about to leave */
static uint32_t forks;
static struct shim_process_lock fork_lock;
static _Atomic uint32_t spawns;
static int own_pid;
static uint32_t own_generation;

/* A child that nobody has named yet, by the fork that makes it: negative.  Of the thread that
 * forks.
 */
static __thread int unborn __attribute__((tls_model("initial-exec")));
static __thread int child_pid __attribute__((tls_model("initial-exec")));

enum { PIDS_MAX = 1 << 22, FORKS_TOLD_APART = 64 };

#define MARK_LEFT UINT32_MAX /* exec is about to end our hold on it */

int shim_holders_start(void)
{
	long seen = sys_mmap(NULL, 2 * SHIM_CONN_MAX * sizeof(uint32_t), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (seen < 0 && seen > -4096)
		return -ENOMEM;
	marks = (uint32_t *)seen;
	births = marks + SHIM_CONN_MAX;
	own_pid = sys_getpid();
	own_generation = shmipc_process_generation();
	return 0;
}

__attribute__((hot)) int shim_process_id(void)
{
	return own_pid;
}

__attribute__((hot)) uint32_t shim_process_spawns(void)
{
	return atomic_load_explicit(&spawns, memory_order_relaxed);
}

void shim_process_spawned(void)
{
	atomic_fetch_add(&spawns, 1);
}

__attribute__((hot)) bool shim_process_is_borrowed(void)
{
	/* forked without a handler (_Fork, clone), or vfork */
	return shmipc_process_generation() != own_generation ||
	       (shim_vfork_was_used() && sys_getpid() != own_pid);
}

__attribute__((hot)) bool shim_process_shares_numbers(void)
{
	return !shmipc_single_threaded() && !shim_process_is_borrowed();
}

/* ---- who ---- */

static void rename_holder(struct shim_conn *conn, int from, int to)
{
	for (int i = 0; i < SHIM_CONN_HOLDERS_KNOWN; i++) {
		int old = from;

		if (atomic_compare_exchange_strong(&conn->holder_pids[i], &old, to))
			return;
	}
}

static void enlist(struct shim_conn *conn)
{
	for (int i = 0; i < SHIM_CONN_HOLDERS_KNOWN; i++)
		if (atomic_load(&conn->holder_pids[i]) == own_pid)
			return;
	rename_holder(conn, 0, own_pid);
}

/* Off the list first: a holder that dies between is counted for ever, never twice less. */
static void strike_off(struct shim_conn *conn)
{
	rename_holder(conn, own_pid, 0);
}

static void count_holders(struct shim_conn *conn, bool (*is_gone)(uint32_t pid))
{
	/* a filter may kill for such calls */
	if (atomic_load(&conn->holders) <= 1 || shim_identity_seccomp_filtered())
		return;
	for (int i = 0; i < SHIM_CONN_HOLDERS_KNOWN; i++) {
		int pid = atomic_load(&conn->holder_pids[i]);

		if (pid > 0 && pid != own_pid && is_gone((uint32_t)pid) &&
		    atomic_compare_exchange_strong(&conn->holder_pids[i], &pid, 0))
			atomic_fetch_sub(&conn->holders, 1);
	}
}

void shim_conn_count_holders(struct shim_conn *conn)
{
	count_holders(conn, shmipc_process_is_gone);
}

/* Of a thousand connections at once, perhaps: a holder that was killed and that nobody has waited
 * for may be missed, the kernel tells the end of the stream too. */
uint32_t shim_conn_leave(struct shim_conn *conn)
{
	if (atomic_load(&conn->shared)) {
		count_holders(conn, shmipc_process_is_reaped);
		strike_off(conn);
	}
	return atomic_fetch_sub(&conn->holders, 1);
}

/* ---- fork ---- */

static void one_more_holder(struct shim_conn *conn)
{
	if (!shim_upgrade_share(conn))
		return;
	enlist(conn);
	rename_holder(conn, 0, unborn);
	marks[shim_conn_index(conn)] = forks;
	if (shim_conn_is_attached(conn) && conn->rx.ready)
		shmipc_receiver_strict(&conn->rx, true);
	atomic_fetch_or(&conn->rx.foreign, SHMIPC_FOREIGN_HOLDERS);
}

static void one_holder_less(struct shim_conn *conn)
{
	if (marks[shim_conn_index(conn)] != forks)
		return;
	rename_holder(conn, unborn, 0);
	atomic_fetch_sub(&conn->holders, 1);
}

void shim_conn_before_fork(void)
{
	if (!shim_config.enabled)
		return;
	shim_rebind_look(); /* a child of several threads cannot */
	shim_process_lock_take(&fork_lock);
	shim_loaded_before_fork(); /* first: whoever makes a step may want the locks of sets */
	forks = forks + 1 == MARK_LEFT ? 1 : forks + 1;
	unborn = -(own_pid % PIDS_MAX * FORKS_TOLD_APART + (int)(forks % FORKS_TOLD_APART));
	shim_sets_before_fork();
	shim_conn_for_each_held(one_more_holder);
	shim_upgrade_before_fork();
}

void shim_conn_after_fork(void)
{
	if (!shim_config.enabled)
		return;
	shim_upgrade_after_fork();
	shim_sets_after_fork();
	shim_loaded_after_fork();
	shim_process_lock_drop(&fork_lock);
}

static void name_child(struct shim_conn *conn)
{
	rename_holder(conn, unborn, child_pid);
}

/* The child names itself too; whoever comes first.  It may have been killed before it could. */
void shim_conn_forked(int pid)
{
	if (!shim_config.enabled || pid == 0)
		return;
	child_pid = pid;
	shim_conn_for_each_held(pid > 0 ? name_child : one_holder_less);
}

/* Between the counting and the copy other threads may have made connections, which nobody counted
 * for us, and closed some that were counted: the former we do not know, the latter are not ours. */
static void reconcile(void)
{
	uint32_t limit = shim_conn_touched();

	for (uint32_t i = 0; i < limit; i++)
		atomic_store_explicit(&shim_conn_descriptors[i], 0, memory_order_relaxed);
	for (int fd = 0; fd < shim_fd_limit(); fd++) {
		uint32_t word = shim_fd_word(fd);

		if (word == 0 || shim_fd_kind(word) == SHIM_FD_SET)
			continue;
		shim_fd_set(fd, word & ~SHIM_FD_CLOSING); /* who closes it is not here */
		if (marks[shim_fd_index(word)] == forks)
			atomic_fetch_add(&shim_conn_descriptors[shim_fd_index(word)], 1);
		else
			shim_fd_set(fd, 0);
	}
	for (uint32_t i = 0; i < limit; i++) {
		if (marks[i] != forks)
			continue;
		rename_holder(&shim_conns[i], unborn, own_pid);
		if (atomic_load(&shim_conn_descriptors[i]) == 0)
			shim_conn_end(&shim_conns[i], -1);
	}
}

void shim_conn_in_child(void)
{
	own_pid = sys_getpid();
	own_generation = shmipc_process_generation();
	shim_handlers_in_child();
	if (!shim_config.enabled)
		return;
	shim_loaded_in_child();
	shim_upgrade_in_child();
	shim_sets_in_child();
	shim_pins_in_child();
	reconcile();
}

/* The record's order: reclaim() asks for the process of one that is not shared. */
bool shim_conn_adopt(struct shim_conn *conn)
{
	uint8_t holders_only = SHMIPC_FOREIGN_HOLDERS;

	if (shim_process_is_borrowed() || atomic_load(&conn->holders) != 1 ||
	    atomic_load(&conn->state) != SHMIPC_STATE_CANDIDATE)
		return false;
	conn->upgrade = NULL; /* it was in the memory of a process that holds it no more */
	conn->generation = shmipc_process_generation();
	conn->pid = own_pid;
	if (conn->row)
		atomic_store(&conn->row->pid, (uint32_t)own_pid);
	shim_conn_set_reason(conn, SHMIPC_REASON_YOUNG);
	/* sets of before the fork would have made it foreign for good: those that watch it are ours
	 * alone, unless one of a former holder is counted still */
	if (atomic_load(&conn->rx.watchers) == shim_sets_watching(conn))
		atomic_compare_exchange_strong(&conn->rx.foreign, &holders_only,
					       SHMIPC_FOREIGN_NONE);
	atomic_store(&conn->shared, 0);
	return true;
}

/* ---- exec ---- */

static void leave_for_exec(struct shim_conn *conn)
{
	uint32_t index = shim_conn_index(conn);
	uint32_t holders;

	if (marks[index] == forks) /* inherited by the program */
		return;
	births[index] = conn->birth;
	strike_off(conn);
	holders = atomic_load(&conn->holders);
	while (holders > 1 && !atomic_compare_exchange_weak(&conn->holders, &holders, holders - 1))
		;
	if (holders > 1)
		marks[index] = MARK_LEFT;
	else
		enlist(conn);
}

/* The last holder keeps it: if the call fails it must still be there, and if not, the kernel ends
 * the connection. */
void shim_conn_before_exec(void)
{
	if (!shim_config.enabled || shim_process_is_borrowed())
		return;
	forks = forks + 1 == MARK_LEFT ? 1 : forks + 1;
	for (int fd = 0; fd < shim_fd_limit(); fd++) {
		uint32_t word = shim_fd_word(fd);

		if (word != 0 && shim_fd_kind(word) != SHIM_FD_SET &&
		    !(sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC))
			marks[shim_fd_index(word)] = forks;
	}
	shim_conn_for_each_held(leave_for_exec);
}

/* The others have closed it meanwhile, and the record may serve another connection. */
static void forget_numbers(uint32_t index)
{
	for (int fd = 0; fd < shim_fd_limit(); fd++)
		if (shim_fd_word(fd) && shim_fd_kind(shim_fd_word(fd)) != SHIM_FD_SET &&
		    shim_fd_index(shim_fd_word(fd)) == index)
			shim_fd_set(fd, 0);
	atomic_store(&shim_conn_descriptors[index], 0);
}

static void stay(struct shim_conn *conn)
{
	uint32_t index = shim_conn_index(conn), holders = atomic_load(&conn->holders);
	bool back = false;

	if (marks[index] != MARK_LEFT)
		return;
	marks[index] = 0;
	while (!back && holders > 0 && conn->birth == births[index])
		back = atomic_compare_exchange_weak(&conn->holders, &holders, holders + 1);
	if (back && conn->birth == births[index]) {
		enlist(conn);
		return;
	}
	if (back) /* born again between the two looks */
		atomic_fetch_sub(&conn->holders, 1);
	forget_numbers(index);
}

void shim_conn_exec_failed(void)
{
	if (shim_config.enabled && !shim_process_is_borrowed())
		shim_conn_for_each_held(stay);
}
