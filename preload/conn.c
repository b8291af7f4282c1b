/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/conn.h"

#include <stddef.h>
#include <string.h>

#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"
#include "preload/conn_parts.h"
#include "preload/pins.h"
#include "preload/sets.h"
#include "preload/upgrade.h"

__attribute__((hot)) bool shim_conn_private(const struct shim_conn *conn)
{
	return shmipc_single_threaded() &&
	       atomic_load_explicit(&conn->shared, memory_order_relaxed) == 0;
}

/* connect() is also for UDP.  A Unix datagram or a record socket is passed on as it is until
 * eligible.c finds it out. */
static bool is_datagram(int fd)
{
	int value = 0;
	socklen_t bytes = sizeof(value);

	return sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &bytes) < 0 || value != SOCK_STREAM;
}

/* All but `used`, which is ours already, and the row, whose place the caller fills. */
static void start_anew(struct shim_conn *conn, sa_family_t family, bool is_server)
{
	uint32_t birth = conn->birth + 1;

	memset((char *)conn + sizeof(conn->used), 0,
	       offsetof(struct shim_conn, tx) - sizeof(conn->used));
	conn->birth = birth;
	conn->young = shim_config.upgrade_trips > 0;
	conn->family = family;
	conn->is_unix = family == AF_UNIX;
	conn->is_server = is_server;
	conn->generation = shmipc_process_generation();
	conn->pid = shim_process_id();
	conn->spawns = shim_process_spawns();
	conn->session = SHIM_SESSION_NONE;
	atomic_store(&conn->holders, 1);
	shmipc_sender_init(&conn->tx, conn->is_unix);
	shmipc_receiver_init(&conn->rx, conn->is_unix);
	conn->rx.sibling = &conn->tx;
}

__attribute__((hot)) void shim_conn_track(int fd, const struct shim_verdict *verdict,
					  bool is_server)
{
	struct shim_conn *conn;

	if (!verdict->wanted || atomic_load_explicit(&shim_config.closed, memory_order_relaxed) ||
	    (uint32_t)fd >= SHIM_FD_MAX ||
	    (!is_server && verdict->family != AF_UNIX && is_datagram(fd)))
		return;
	conn = shim_conn_take_record();
	if (!conn)
		return;
	start_anew(conn, verdict->family, is_server);
	shim_conn_fill_row(conn, fd, verdict);
	atomic_store(&shim_conn_descriptors[shim_conn_index(conn)], 1);
	shim_fd_touch(fd);
	shim_fd_set(fd, shim_fd_make(SHIM_FD_CONN, shim_conn_index(conn)));
	shim_set_adopt_early(conn, fd);
}

void shim_conn_inherit(int fd, bool is_server, uint64_t sent, uint64_t received, uint32_t trips)
{
	struct sockaddr_storage listener = { 0 };
	socklen_t bytes = sizeof(listener);
	struct shim_verdict verdict;
	struct shim_conn *conn;
	int error = is_server ? sys_getsockname(fd, &listener, &bytes)
			      : sys_getpeername(fd, &listener, &bytes);

	if (error < 0)
		return;
	shim_verdict_of_address(&verdict, (const struct sockaddr *)&listener, bytes);
	shim_conn_track(fd, &verdict, is_server);
	conn = shim_conn_of(fd);
	if (!conn)
		return;
	atomic_store(&conn->tx.kernel_bytes, sent);
	atomic_store(&conn->rx.kernel_read, received);
	atomic_store(&conn->trips, trips);
	atomic_fetch_or(&conn->rx.foreign, SHMIPC_FOREIGN_WAITS); /* sets of before are inherited */
}

void shim_conn_waits_unseen(struct shim_conn *conn)
{
	atomic_fetch_or(&conn->rx.foreign, SHMIPC_FOREIGN_WAITS);
	if (shim_conn_is_attached(conn) && conn->rx.ready)
		shmipc_receiver_strict(&conn->rx, true);
}

/* From here on this process's calls on its numbers are libc's own. */
static void show_plain(const struct shim_conn *conn)
{
	const uint32_t ours = shim_fd_make(SHIM_FD_CONN, shim_conn_index(conn));
	const uint32_t plain = shim_fd_make(SHIM_FD_PLAIN, shim_conn_index(conn));

	for (int fd = 0; fd < shim_fd_limit(); fd++)
		/* [life] not over the mark of who is closing it */
		if (shim_fd_word(fd) == ours && shim_fd_change(fd, ours, plain))
			shim_conn_log(conn, fd, "plain", false);
}

void shim_conn_make_plain(struct shim_conn *conn, enum shmipc_reason reason)
{
	if (!shim_upgrade_forbid(conn))
		return;
	if (conn->row)
		atomic_store(&conn->row->state, SHMIPC_STATE_PLAIN);
	shim_conn_set_reason(conn, reason);
	show_plain(conn);
}

void shim_conn_leave_to_libc(struct shim_conn *conn)
{
	atomic_store(&conn->state, SHMIPC_STATE_PLAIN);
	if (conn->row)
		atomic_store(&conn->row->state, SHMIPC_STATE_PLAIN);
	show_plain(conn);
}

/* ---- numbers ---- */

/* This process has no number of it any more; fd < 0: the descriptor is gone too. */
static __attribute__((hot)) void last_number_gone(struct shim_conn *conn, int number, int fd)
{
	shim_conn_log(conn, number, "closed", true);
	/* a duplicate that calls went on by, when other numbers remained, ends with it */
	if (atomic_load_explicit(shim_pins_moved(conn), memory_order_relaxed) == 0 &&
	    shim_conn_end_young(conn))
		return;
	shim_upgrade_abandon(conn);
	if (!shim_pins_leave(conn, fd))
		shim_conn_end(conn, fd);
}

static inline bool leads_to(uint32_t word, uint32_t index)
{
	enum shim_fd_kind kind = shim_fd_kind(word);

	return shim_fd_index(word) == index && (kind == SHIM_FD_CONN || kind == SHIM_FD_PLAIN);
}

__attribute__((hot)) void shim_conn_forget(int fd)
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
	/* calls that are inside go on by a duplicate, also where other numbers remain.  Pinned, for
	 * another thread may close it too, and the record serve another connection */
	if (shim_pins_are_inside(conn) && shim_pin(conn, fd)) {
		shim_pins_move(conn, fd);
		shim_unpin(conn);
	}
	if (!leads_to(shim_fd_set(fd, 0), index))
		return;			/* another thread closes the same number */
	if (shim_pins_are_inside(conn)) /* since then; the number of ours still counts */
		shim_pins_move(conn, fd);
	shim_set_number_closed(fd);
	if (atomic_fetch_sub(&shim_conn_descriptors[index], 1) == 1)
		last_number_gone(conn, fd, fd);
}

__attribute__((hot)) void shim_conn_flush(int fd)
{
	uint32_t word = shim_fd_word(fd);
	uint32_t index = shim_fd_index(word);

	shim_set_forget_early(fd);
	shim_verdict_forget(fd);
	if (word == 0 || shim_process_is_borrowed())
		return;
	if (shim_fd_kind(word) == SHIM_FD_SET) {
		shim_set_number_lost(fd);
		return;
	}
	if (!shim_fd_forget(fd, word))
		return; /* by the thread that has closed it, see shim_conn_close_held() */
	shim_set_number_closed(fd);
	if (atomic_fetch_sub(&shim_conn_descriptors[index], 1) == 1)
		last_number_gone(shim_conn_at(index), fd, -1);
}

/* False: another thread has taken the last one away. */
static bool one_more_number(uint32_t index)
{
	uint32_t numbers = atomic_load(&shim_conn_descriptors[index]);

	while (numbers > 0 &&
	       !atomic_compare_exchange_weak(&shim_conn_descriptors[index], &numbers, numbers + 1))
		;
	return numbers > 0;
}

bool shim_conn_duplicate(const struct shim_conn *held, int from, int to)
{
	uint32_t word = shim_fd_word(from), index = shim_fd_index(word);
	enum shim_fd_kind kind = shim_fd_kind(word);
	bool is_conn = kind == SHIM_FD_CONN || kind == SHIM_FD_PLAIN;

	shim_conn_flush(to);
	if (held && (!is_conn || index != shim_conn_index(held)))
		return false;
	if (kind == SHIM_FD_SET)
		shim_set_duplicated(from, to);
	if (!is_conn)
		return true;
	if (!one_more_number(index))
		return false;
	shim_fd_touch(to);
	shim_fd_set(to, word & ~SHIM_FD_CLOSING);
	shim_set_number_reborn(to, shim_conn_at(index));
	return true;
}

/* The connection may become libc's own meanwhile: its word changes, and is marked as it is then. */
static bool mark_closing(int fd, uint32_t index, uint32_t *word)
{
	for (;;) {
		*word = shim_fd_word(fd);
		if (!leads_to(*word, index) || (*word & SHIM_FD_CLOSING))
			return false;
		if (shim_fd_mark_closing(fd, *word))
			return true;
	}
}

bool shim_conn_close_held(struct shim_conn *conn, int fd, int *result)
{
	uint32_t word = shim_fd_word(fd), index = shim_conn_index(conn);
	bool is_gone, moves;

	if (!leads_to(word, index) || (word & SHIM_FD_CLOSING))
		return false;
	shim_pins_closing(conn, true); /* [closing] */
	/* of two that close the last two numbers at once the second one finds the first inside */
	moves = atomic_load(&shim_conn_descriptors[index]) == 1 || shim_pins_hold_others(conn);
	if (moves && !shim_pins_move(conn, fd)) {
		shim_pins_closing(conn, false);
		return false;
	}
	shim_set_number_closed(fd); /* [number] while the kernel knows it */
	is_gone = mark_closing(fd, index, &word);
	*result = sys_close(fd);
	/* [life] else another thread has closed it too, or has it anew */
	is_gone = is_gone && shim_fd_forget(fd, word | SHIM_FD_CLOSING);
	shim_pins_closing(conn, false);
	if (is_gone && atomic_fetch_sub(&shim_conn_descriptors[index], 1) == 1)
		last_number_gone(conn, fd, -1);
	return true;
}
