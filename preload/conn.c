/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"
#include "preload/log.h"
#include "preload/pins.h"
#include "preload/real.h"
#include "preload/sets.h"
#include "preload/upgrade.h"

struct shim_conn *shim_conns;

static struct shmipc_status status;
static _Atomic int status_fd = -1;
static _Atomic uint32_t status_state; /* 0 not tried, 1 being made, 2 there, 3 not to be had */
static _Atomic uint32_t search_from;
static _Atomic uint32_t
	touched; /* records at and above were never used in this family of processes */
static _Atomic uint16_t *descriptors; /* by record: numbers of this process; private memory */
static uint32_t *marks; /* by record: the fork that counted it, or MARK_LEFT; private memory */
static uint32_t forks;
static struct shmipc_lock fork_lock;
static uint32_t fork_lock_generation;
static _Atomic uint32_t spawns;
static int own_pid;
static uint32_t own_generation;

#define MARK_LEFT UINT32_MAX /* exec is about to end our hold on it */

int shim_conn_start(void)
{
	long at = sys_mmap(NULL, SHIM_CONN_MAX * sizeof(struct shim_conn), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long counts = sys_mmap(NULL, SHIM_CONN_MAX * sizeof(uint16_t), PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	long seen = sys_mmap(NULL, SHIM_CONN_MAX * sizeof(uint32_t), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if ((at < 0 && at > -4096) || (counts < 0 && counts > -4096) || (seen < 0 && seen > -4096))
		return -ENOMEM;
	marks = (uint32_t *)seen;
	shim_conns = (struct shim_conn *)at;
	descriptors = (_Atomic uint16_t *)counts;
	own_pid = sys_getpid();
	own_generation = shmipc_process_generation();
	return 0;
}

bool shim_conn_private(const struct shim_conn *conn)
{
	return shmipc_single_threaded() &&
	       atomic_load_explicit(&conn->shared, memory_order_relaxed) == 0;
}

/* ---- processes ---- */

uint32_t shim_process_spawns(void)
{
	return atomic_load_explicit(&spawns, memory_order_relaxed);
}

void shim_process_spawned(void)
{
	atomic_fetch_add(&spawns, 1);
}

bool shim_process_is_borrowed(void)
{
	/* forked without a handler (_Fork, clone), or vfork */
	return shmipc_process_generation() != own_generation ||
	       (shim_vfork_was_used() && sys_getpid() != own_pid);
}

/* ---- records ---- */

static void raise_touched(uint32_t limit)
{
	uint32_t now = atomic_load(&touched);

	while (now < limit && !atomic_compare_exchange_weak(&touched, &now, limit))
		;
}

/* Records of processes that are gone, killed ones too.  Only a record that was never shared tells
 * who held it. */
static void reclaim(void)
{
	for (uint32_t i = 0; i < SHIM_CONN_MAX; i++) {
		struct shim_conn *conn = &shim_conns[i];
		uint32_t used = atomic_load(&conn->used);
		bool alone = atomic_load(&conn->holders) == 1 && atomic_load(&conn->shared) == 0;

		if ((used == SHIM_CONN_LEFT || (used == SHIM_CONN_USED && alone)) &&
		    conn->pid > 0 && sys_call3(SYS_kill, conn->pid, 0, 0) == -ESRCH)
			atomic_compare_exchange_strong(&conn->used, &used, SHIM_CONN_FREE);
	}
}

static struct shim_conn *find_record(void)
{
	uint32_t start = atomic_load_explicit(&search_from, memory_order_relaxed);

	for (uint32_t i = 0; i < SHIM_CONN_MAX; i++) {
		struct shim_conn *conn = &shim_conns[(start + i) % SHIM_CONN_MAX];
		uint32_t used = 0;

		if (atomic_load_explicit(&conn->used, memory_order_relaxed) ||
		    !atomic_compare_exchange_strong(&conn->used, &used, 1))
			continue;
		raise_touched((start + i) % SHIM_CONN_MAX + 1);
		/* low indices first keeps the touched memory small */
		atomic_store_explicit(&search_from, i > 64 ? (start + i) % SHIM_CONN_MAX : start,
				      memory_order_relaxed);
		return conn;
	}
	return NULL;
}

static struct shim_conn *take_record(void)
{
	struct shim_conn *conn = find_record();

	if (conn)
		return conn;
	reclaim();
	return find_record();
}

static void make_status_table(void)
{
	uint32_t untried = 0;
	int fd;

	if (!atomic_compare_exchange_strong(&status_state, &untried, 1))
		return;
	if (shmipc_status_create(&status, &fd) < 0) {
		atomic_store(&status_state, 3);
		return;
	}
	fd = shim_fd_hide(fd);
	atomic_store(&status_fd, fd);
	sys_readlink("/proc/self/exe", status.header->command, sizeof(status.header->command) - 1);
	atomic_store(&status_state, 2);
}

static void fill_row(struct shim_conn *conn, int fd, const struct sockaddr_storage *listener,
		     socklen_t bytes)
{
	struct shmipc_status_row *row;

	if (atomic_load(&status_state) == 0)
		make_status_table();
	row = atomic_load(&status_state) == 2 ? shmipc_status_take(&status) : NULL;
	conn->row = row;
	if (!row)
		return;
	atomic_store(&row->fd, fd);
	atomic_store(&row->state, SHMIPC_STATE_CANDIDATE);
	atomic_store(&row->reason, SHMIPC_REASON_YOUNG);
	atomic_store(&row->family, (uint32_t)conn->family);
	atomic_store(&row->is_server, conn->is_server);
	if (shim_endpoint_text(listener, bytes, row->endpoint, sizeof(row->endpoint)) < 0)
		row->endpoint[sizeof(row->endpoint) - 1] = '\0';
	conn->tx.count = &row->tx;
	conn->rx.count = &row->rx;
	atomic_store(&row->pid, (uint32_t)own_pid); /* last: an observer passes over pid 0 */
}

/* connect() is also for UDP.  A Unix datagram or a record socket is passed on as it is until
 * eligible.c finds it out. */
static bool is_datagram(int fd)
{
	int value = 0;
	socklen_t bytes = sizeof(value);

	return sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &bytes) < 0 || value != SOCK_STREAM;
}

void shim_conn_track(int fd, const struct sockaddr_storage *listener, socklen_t bytes,
		     bool is_server)
{
	struct shim_conn *conn;
	int family = listener->ss_family;

	if (!shim_config.enabled || (uint32_t)fd >= SHIM_FD_MAX)
		return;
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return;
	if (!shim_endpoints_match(&shim_config.endpoints, listener, bytes) ||
	    (!is_server && family != AF_UNIX && is_datagram(fd)))
		return;
	conn = take_record();
	if (!conn)
		return;
	memset((char *)conn + sizeof(conn->used), 0, sizeof(*conn) - sizeof(conn->used));
	conn->family = family;
	conn->is_unix = family == AF_UNIX;
	conn->is_server = is_server;
	conn->generation = shmipc_process_generation();
	conn->pid = own_pid;
	conn->spawns = shim_process_spawns();
	conn->session = SHIM_SESSION_NONE;
	atomic_store(&conn->holders, 1);
	shmipc_sender_init(&conn->tx, conn->is_unix);
	shmipc_receiver_init(&conn->rx, conn->is_unix);
	conn->rx.sibling = &conn->tx;
	fill_row(conn, fd, listener, bytes);
	atomic_store(&descriptors[shim_conn_index(conn)], 1);
	shim_fd_touch(fd);
	shim_fd_set(fd, shim_fd_make(SHIM_FD_CONN, shim_conn_index(conn)));
	shim_set_adopt_early(conn, fd);
}

/* ---- logging ---- */

void shim_conn_log(const struct shim_conn *conn, int fd, const char *event, bool with_counts)
{
	const struct shmipc_status_row *row = conn->row;
	const char *role = conn->is_server ? "server" : "client";
	const char *endpoint = row ? row->endpoint : "?";

	if (shim_log_level < SHIM_LOG_INFO)
		return;
	if (!with_counts) {
		uint32_t reason = row ? atomic_load(&row->reason) : 0;

		if (reason)
			shim_log(SHIM_LOG_INFO,
				 "pid=%d fd=%d endpoint=%s role=%s event=%s reason=%s",
				 sys_getpid(), fd, endpoint, role, event,
				 shmipc_reason_name(reason));
		else
			shim_log(SHIM_LOG_INFO, "pid=%d fd=%d endpoint=%s role=%s event=%s",
				 sys_getpid(), fd, endpoint, role, event);
		return;
	}
	shim_log(
		SHIM_LOG_INFO,
		"pid=%d fd=%d endpoint=%s role=%s event=%s state=%s ring_tx=%lu ring_rx=%lu kernel_tx=%lu "
		"kernel_rx=%lu tokens=%lu sleeps=%lu spins_won=%lu spins_lost=%lu",
		sys_getpid(), fd, endpoint, role, event,
		shmipc_state_name(atomic_load(&conn->state)),
		(unsigned long)atomic_load(&conn->tx.count->ring_bytes),
		(unsigned long)atomic_load(&conn->rx.count->ring_bytes),
		(unsigned long)atomic_load(&conn->tx.count->kernel_bytes),
		(unsigned long)atomic_load(&conn->rx.count->kernel_bytes),
		(unsigned long)atomic_load(&conn->tx.count->tokens),
		(unsigned long)atomic_load(&conn->rx.count->waits),
		(unsigned long)atomic_load(&conn->rx.count->spins_won),
		(unsigned long)atomic_load(&conn->rx.count->spins_lost));
}

void shim_conn_set_reason(struct shim_conn *conn, enum shmipc_reason reason)
{
	if (conn->row)
		atomic_store(&conn->row->reason, (uint32_t)reason);
}

void shim_conn_make_plain(struct shim_conn *conn, enum shmipc_reason reason)
{
	uint32_t index = shim_conn_index(conn);

	if (!shim_upgrade_forbid(conn))
		return;
	if (conn->row)
		atomic_store(&conn->row->state, SHMIPC_STATE_PLAIN);
	shim_conn_set_reason(conn, reason);
	for (int fd = 0; fd < shim_fd_limit(); fd++) {
		if (shim_fd_word(fd) == shim_fd_make(SHIM_FD_CONN, index)) {
			shim_fd_set(fd, shim_fd_make(SHIM_FD_PLAIN, index));
			shim_conn_log(conn, fd, "plain", false);
		}
	}
}

/* ---- the end ---- */

/* TCP: the kernel would have reset a connection that is closed with unread bytes; make it do so. */
static void close_with_unread(struct shim_conn *conn, int fd)
{
	const struct linger reset = { 1, 0 };

	shmipc_sender_finish(&conn->tx, SHMIPC_TX_RESET);
	if (!conn->is_unix)
		sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

/* SO_LINGER {1,0}: the kernel resets, whatever was read. */
static bool is_closed_hard(const struct shim_conn *conn, int fd)
{
	struct linger linger = { 0, 0 };
	socklen_t bytes = sizeof(linger);

	return !conn->is_unix && sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &bytes) == 0 &&
	       linger.l_onoff && linger.l_linger == 0;
}

static void end_stream(struct shim_conn *conn, int fd)
{
	bool unread = shmipc_receiver_close(&conn->rx, fd);

	shmipc_sender_serve_finally(&conn->tx, fd);
	if (unread || is_closed_hard(conn, fd))
		close_with_unread(conn, fd);
	shmipc_sender_finish(&conn->tx, SHMIPC_TX_FIN | SHMIPC_TX_CLOSED);
}

static void give_back(struct shim_conn *conn)
{
	shim_upgrade_detach(conn);
	if (conn->row)
		shmipc_status_give_back(conn->row);
	conn->row = NULL;
	atomic_store_explicit(&conn->used, 0, memory_order_release);
}

void shim_conn_end(struct shim_conn *conn, int fd)
{
	int session = conn->session;

	if (atomic_fetch_sub(&conn->holders, 1) != 1) {
		shim_upgrade_release(session);
		return;
	}
	if (fd < 0) {
		shmipc_sender_finish(&conn->tx, SHMIPC_TX_FIN | SHMIPC_TX_CLOSED);
		give_back(conn);
		return;
	}
	/* other processes may have died inside */
	shmipc_lock_take(&conn->tx.lock, false);
	shmipc_lock_take(&conn->rx.lock, false);
	if (shim_conn_is_attached(conn))
		end_stream(conn, fd);
	shmipc_lock_drop(&conn->rx.lock, false);
	shmipc_lock_drop(&conn->tx.lock, false);
	give_back(conn);
}

/* This process has no number of it any more; fd < 0: the descriptor is gone too. */
static void last_number_gone(struct shim_conn *conn, int number, int fd)
{
	shim_conn_log(conn, number, "closed", true);
	shim_upgrade_abandon(conn);
	if (!shim_pins_leave(conn, fd))
		shim_conn_end(conn, fd);
}

void shim_conn_forget(int fd)
{
	uint32_t word = shim_fd_word(fd);
	struct shim_conn *conn;
	uint32_t index;

	if (shim_fd_kind(word) == SHIM_FD_SET) {
		if (!shim_process_is_borrowed())
			shim_set_closed(fd);
		return;
	}
	if (shim_fd_kind(word) != SHIM_FD_CONN && shim_fd_kind(word) != SHIM_FD_PLAIN)
		return;
	if (shim_process_is_borrowed())
		return;
	index = shim_fd_index(word);
	conn = shim_conn_at(index);
	if (shim_fd_set(fd, 0) != word)
		return; /* another thread closes the same number */
	shim_set_number_closed(fd);
	if (atomic_fetch_sub(&descriptors[index], 1) == 1)
		last_number_gone(conn, fd, fd);
}

void shim_conn_flush(int fd)
{
	uint32_t word = shim_fd_word(fd);
	uint32_t index = shim_fd_index(word);

	shim_set_forget_early(fd);
	if (word == 0 || shim_process_is_borrowed())
		return;
	shim_fd_set(fd, 0);
	if (shim_fd_kind(word) == SHIM_FD_SET)
		return;
	shim_set_number_closed(fd);
	if (atomic_fetch_sub(&descriptors[index], 1) == 1)
		last_number_gone(shim_conn_at(index), fd, -1);
}

void shim_conn_duplicate(int from, int to)
{
	uint32_t word = shim_fd_word(from);
	enum shim_fd_kind kind = shim_fd_kind(word);

	shim_conn_flush(to);
	if (kind == SHIM_FD_SET)
		shim_set_is_foreign(from);
	if (kind != SHIM_FD_CONN && kind != SHIM_FD_PLAIN)
		return;
	atomic_fetch_add(&descriptors[shim_fd_index(word)], 1);
	shim_fd_touch(to);
	shim_fd_set(to, word);
}

/* ---- fork ---- */

static void for_each_held(void (*visit)(struct shim_conn *conn))
{
	uint32_t limit = atomic_load(&touched);

	for (uint32_t i = 0; i < limit; i++) {
		if (atomic_load_explicit(&shim_conns[i].used, memory_order_relaxed) &&
		    atomic_load_explicit(&descriptors[i], memory_order_relaxed) > 0)
			visit(&shim_conns[i]);
	}
}

static void one_more_holder(struct shim_conn *conn)
{
	if (!shim_upgrade_share(conn))
		return;
	marks[shim_conn_index(conn)] = forks;
	if (shim_conn_is_attached(conn) && conn->rx.ready)
		shmipc_receiver_strict(&conn->rx, true);
	conn->rx.foreign = true;
}

static void one_holder_less(struct shim_conn *conn)
{
	if (marks[shim_conn_index(conn)] == forks)
		atomic_fetch_sub(&conn->holders, 1);
}

void shim_conn_before_fork(void)
{
	uint32_t now = shmipc_process_generation();

	if (!shim_config.enabled)
		return;
	if (fork_lock_generation != now)
		atomic_store(&fork_lock.owner, 0);
	fork_lock_generation = now;
	shmipc_lock_take(&fork_lock, false);
	forks = forks + 1 == MARK_LEFT ? 1 : forks + 1;
	shim_sets_before_fork();
	for_each_held(one_more_holder);
	shim_upgrade_before_fork();
}

void shim_conn_after_fork(void)
{
	if (!shim_config.enabled)
		return;
	shim_upgrade_after_fork();
	shim_sets_after_fork();
	shmipc_lock_drop(&fork_lock, false);
}

void shim_conn_fork_failed(void)
{
	if (shim_config.enabled)
		for_each_held(one_holder_less);
}

/* Between the counting and the copy other threads may have made connections, which nobody counted
 * for us, and closed some that were counted: the former we do not know, the latter are not ours. */
static void reconcile(void)
{
	uint32_t limit = atomic_load(&touched);

	for (uint32_t i = 0; i < limit; i++)
		atomic_store_explicit(&descriptors[i], 0, memory_order_relaxed);
	for (int fd = 0; fd < shim_fd_limit(); fd++) {
		uint32_t word = shim_fd_word(fd);

		if (word == 0 || shim_fd_kind(word) == SHIM_FD_SET)
			continue;
		if (marks[shim_fd_index(word)] == forks)
			atomic_fetch_add(&descriptors[shim_fd_index(word)], 1);
		else
			shim_fd_set(fd, 0);
	}
	for (uint32_t i = 0; i < limit; i++)
		if (marks[i] == forks && atomic_load(&descriptors[i]) == 0)
			shim_conn_end(&shim_conns[i], -1);
}

void shim_conn_in_child(void)
{
	own_pid = sys_getpid();
	own_generation = shmipc_process_generation();
	if (!shim_config.enabled)
		return;
	shim_upgrade_in_child();
	shim_sets_in_child();
	shim_pins_in_child();
	reconcile();
}

/* ---- exec ---- */

static void leave_for_exec(struct shim_conn *conn)
{
	uint32_t index = shim_conn_index(conn);
	uint32_t holders = atomic_load(&conn->holders);

	if (marks[index] == forks) /* inherited by the program */
		return;
	while (holders > 1 && !atomic_compare_exchange_weak(&conn->holders, &holders, holders - 1))
		;
	if (holders > 1)
		marks[index] = MARK_LEFT;
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
	for_each_held(leave_for_exec);
}

static void stay(struct shim_conn *conn)
{
	uint32_t index = shim_conn_index(conn), holders = atomic_load(&conn->holders);

	if (marks[index] != MARK_LEFT)
		return;
	marks[index] = 0;
	while (holders > 0 && !atomic_compare_exchange_weak(&conn->holders, &holders, holders + 1))
		;
	/* else the others have closed it meanwhile: the record may serve another connection */
	for (int fd = 0; holders == 0 && fd < shim_fd_limit(); fd++)
		if (shim_fd_word(fd) && shim_fd_kind(shim_fd_word(fd)) != SHIM_FD_SET &&
		    shim_fd_index(shim_fd_word(fd)) == index)
			shim_fd_set(fd, 0);
}

void shim_conn_exec_failed(void)
{
	if (shim_config.enabled && !shim_process_is_borrowed())
		for_each_held(stay);
}

/* ---- exit ---- */

enum { EXIT_TRIES = 10, EXIT_NAP_NS = 500 * 1000 };

static void leave_at_exit(struct shim_conn *conn)
{
	uint32_t index = shim_conn_index(conn);
	int fd = 0;

	while (fd < shim_fd_limit() &&
	       (shim_fd_word(fd) == 0 || shim_fd_index(shim_fd_word(fd)) != index ||
		shim_fd_kind(shim_fd_word(fd)) == SHIM_FD_SET))
		fd++;
	if (fd == shim_fd_limit())
		return;
	shim_conn_log(conn, fd, "closed", true);
	shim_upgrade_abandon(conn);
	if (atomic_fetch_sub(&conn->holders, 1) != 1)
		return;
	conn->pid = own_pid;
	atomic_store(&conn->used, SHIM_CONN_LEFT);
	if (!shim_conn_is_attached(conn))
		return;
	/* another thread, or the one that runs this as a signal handler, may be inside for long */
	for (int i = 0; i < EXIT_TRIES && atomic_load(&conn->tx.lock.owner) != 0; i++)
		sys_nanosleep(&(const struct timespec){ 0, EXIT_NAP_NS });
	if (atomic_load(&conn->tx.lock.owner) != 0) {
		shmipc_sender_finish(&conn->tx, SHMIPC_TX_FIN | SHMIPC_TX_CLOSED);
		return;
	}
	shmipc_lock_take(&conn->tx.lock, false);
	end_stream(conn, fd);
	shmipc_lock_drop(&conn->tx.lock, false);
}

/* The numbers stay known: destructors that run after ours may still send. */
void shim_conn_exit_all(void)
{
	static _Atomic int done_by;

	if (!shim_config.enabled || shim_process_is_borrowed())
		return;
	if (atomic_exchange(&done_by, own_pid) == own_pid)
		return;
	for_each_held(leave_at_exit);
	shim_upgrade_exit();
}
