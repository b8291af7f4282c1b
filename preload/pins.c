/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/pins.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "core/sys.h"

enum { HIGH_NUMBER = 256 };

static struct shim_pins *table;
static _Atomic uint32_t touched;

int shim_pins_start(void)
{
	long at = sys_mmap(NULL, SHIM_CONN_MAX * sizeof(struct shim_pins), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -4096)
		return -ENOMEM;
	table = (struct shim_pins *)at;
	return 0;
}

__attribute__((hot)) const _Atomic int *shim_pins_moved(const struct shim_conn *conn)
{
	return &table[shim_conn_index(conn)].moved;
}

static void drop_duplicate(struct shim_pins *pins)
{
	int fd = atomic_exchange(&pins->moved, 0) - 1;

	if (fd < 0)
		return;
	shim_fd_unhide(fd);
	sys_close(fd);
}

/* While there is one thread nobody else counts: a plain sum. */
static __attribute__((hot)) uint32_t change(struct shim_pins *pins, uint32_t by)
{
	uint32_t before = atomic_load_explicit(&pins->inside, memory_order_relaxed);

	if (!shmipc_single_threaded())
		return atomic_fetch_add(&pins->inside, by);
	atomic_store_explicit(&pins->inside, before + by, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	return before;
}

/* False: the number is another one's by now, and the pin is taken back. */
static inline bool stays_pinned(struct shim_conn *conn, int fd)
{
	uint32_t word = shim_fd_word(fd);

	if (shim_fd_index(word) == shim_conn_index(conn) &&
	    (shim_fd_kind(word) == SHIM_FD_CONN || shim_fd_kind(word) == SHIM_FD_PLAIN))
		return true;
	shim_unpin(conn);
	return false;
}

__attribute__((hot)) bool shim_pin(struct shim_conn *conn, int fd)
{
	change(&table[shim_conn_index(conn)], 1); /* [pin] */
	return stays_pinned(conn, fd);
}

/* [closing] */
bool shim_pin_for_use(struct shim_conn *conn, int fd)
{
	static const struct timespec nap = { .tv_nsec = 50000 };
	const struct shim_pins *pins = &table[shim_conn_index(conn)];

	if (!shim_pin(conn, fd))
		return false;
	if (__builtin_expect(atomic_load(&pins->closing) == 0, 1) || atomic_load(&pins->moved))
		return true;
	while (atomic_load(&pins->closing) != 0 && atomic_load(&pins->moved) == 0)
		sys_nanosleep(&nap);
	return stays_pinned(conn, fd); /* counted all the time, so the next close finds it too */
}

__attribute__((hot)) void shim_unpin(struct shim_conn *conn)
{
	struct shim_pins *pins = &table[shim_conn_index(conn)];

	/* a handler has forked in this call's sleep, and nobody is inside in the child */
	if (atomic_load_explicit(&pins->inside, memory_order_relaxed) == 0)
		return;
	if (change(pins, UINT32_MAX) != 1 || atomic_load(&pins->leaving) == 0)
		return;
	if (atomic_exchange(&pins->leaving, 0) == 0)
		return; /* another one does it */
	/* no number leads here any more, so nobody comes in */
	shim_conn_end(conn, atomic_load(&pins->moved) - 1);
	drop_duplicate(pins);
}

__attribute__((hot)) struct shim_conn *shim_hold(int fd)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (!conn)
		return NULL;
	shmipc_postpone_begin();
	if (shim_pin(conn, fd))
		return conn;
	shmipc_postpone_end();
	return NULL;
}

__attribute__((hot)) void shim_let_go(struct shim_conn *conn)
{
	if (!conn)
		return;
	shim_unpin(conn);
	shmipc_postpone_end();
}

bool shim_pins_are_alone(const struct shim_conn *conn)
{
	uint32_t inside = atomic_load(&table[shim_conn_index(conn)].inside);

	return inside == (shim_pins_wanted() ? 1 : 0);
}

__attribute__((hot)) bool shim_pins_are_inside(const struct shim_conn *conn)
{
	return atomic_load(&table[shim_conn_index(conn)].inside) != 0;
}

bool shim_pins_hold_others(const struct shim_conn *conn)
{
	return atomic_load(&table[shim_conn_index(conn)].inside) > 1;
}

static void raise_touched(uint32_t limit)
{
	uint32_t now = atomic_load(&touched);

	while (now < limit && !atomic_compare_exchange_weak(&touched, &now, limit))
		;
}

/* From here on no call uses the number under a lock, but the duplicate (core/io.h). */
static void let_calls_follow(struct shim_conn *conn, int fd)
{
	if (shmipc_sender_lock(&conn->tx, fd, false))
		shmipc_lock_drop(&conn->tx.lock, false);
	if (shmipc_receiver_lock(&conn->rx, false))
		shmipc_lock_drop(&conn->rx.lock, false);
}

bool shim_pins_move(struct shim_conn *conn, int fd)
{
	struct shim_pins *pins = &table[shim_conn_index(conn)];
	int copy, none = 0;

	if (atomic_load(&pins->inside) == 0 || atomic_load(&pins->moved) != 0)
		return atomic_load(&pins->moved) != 0;
	copy = sys_fcntl(fd, F_DUPFD_CLOEXEC, HIGH_NUMBER);
	if (copy < 0)
		return false;
	copy = shim_fd_hide(copy);
	raise_touched(shim_conn_index(conn) + 1);
	if (atomic_compare_exchange_strong(&pins->moved, &none, copy + 1)) {
		let_calls_follow(conn, fd);
	} else { /* another thread closes it too */
		shim_fd_unhide(copy);
		sys_close(copy);
	}
	return true;
}

void shim_pins_closing(struct shim_conn *conn, bool begins)
{
	atomic_fetch_add(&table[shim_conn_index(conn)].closing, begins ? 1 : UINT32_MAX);
}

__attribute__((hot)) bool shim_pins_are_closing(const struct shim_conn *conn)
{
	return atomic_load(&table[shim_conn_index(conn)].closing) != 0;
}

bool shim_pins_leave(struct shim_conn *conn, int fd)
{
	struct shim_pins *pins = &table[shim_conn_index(conn)];

	atomic_thread_fence(memory_order_seq_cst); /* [pin] */
	if (fd >= 0)
		shim_pins_move(conn, fd); /* nobody ends the connection before `leaving` */
	if (atomic_load(&pins->inside) == 0) {
		drop_duplicate(pins);
		return false;
	}
	raise_touched(shim_conn_index(conn) + 1);
	atomic_store(&pins->leaving, 1);
	if (atomic_load(&pins->inside) != 0 || atomic_exchange(&pins->leaving, 0) == 0)
		return true;
	drop_duplicate(pins); /* they have left meanwhile */
	return false;
}

/* The other threads of the parent are not here. */
void shim_pins_in_child(void)
{
	uint32_t limit = atomic_load(&touched);

	for (uint32_t i = 0; i < limit; i++) {
		atomic_store(&table[i].leaving, 0);
		drop_duplicate(&table[i]);
	}
	sys_madvise(table, SHIM_CONN_MAX * sizeof(struct shim_pins), MADV_DONTNEED);
}
