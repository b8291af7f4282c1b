/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/young.h"

#include <pthread.h>

#include "core/postpone.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/pins.h"
#include "preload/transfer.h"
#include "preload/upgrade.h"

/* Other flags have a meaning for the bytes that are counted, or for acceleration. */
enum { PLAIN_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL };

/* A call that a signal handler may jump out of, or that is cancelled. */
struct call {
	struct shim_conn *conn;
	uint32_t birth;
	bool pinned; /* other threads may close the number, and the record serve another one */
	bool may_be_left;
	uint32_t process; /* its generation */
};

/* False: the number is not this connection's any more. */
static inline bool enter(struct call *call, struct shim_conn *conn, int fd, int flags)
{
	*call = (struct call){ conn, conn->birth, !shmipc_single_threaded(), false,
			       shmipc_process_generation() };
	if (call->pinned)
		pthread_testcancel();
	shmipc_postpone_begin();
	if (call->pinned && !shim_pin(conn, fd)) {
		shmipc_postpone_end();
		return false;
	}
	call->birth = conn->birth; /* pinned: it stays */
	call->may_be_left = !(flags & MSG_DONTWAIT) &&
			    (call->pinned || shmipc_postpone_expects_handlers());
	return true;
}

static inline void leave(const struct call *call)
{
	if (call->pinned)
		shim_unpin(call->conn);
	shmipc_postpone_end();
}

/* The record may serve another connection by now: a handler has closed the number. */
static inline bool is_still(const struct call *call)
{
	return call->conn->birth == call->birth;
}

/* Its number leads to it still: no other thread has closed that meanwhile. */
static inline bool may_grow_up(const struct call *call)
{
	return !call->pinned ||
	       atomic_load_explicit(shim_pins_moved(call->conn), memory_order_relaxed) == 0;
}

static void undo_send(void *argument)
{
	const struct call *call = argument;

	if (!is_still(call))
		return;
	atomic_store(&call->conn->tx.count_lost, true);
	shmipc_process_uncount(&call->conn->tx.kernel_senders, call->process);
	if (call->pinned)
		shim_unpin(call->conn);
}

static void undo_receive(void *argument)
{
	const struct call *call = argument;

	if (!is_still(call))
		return;
	atomic_store(&call->conn->rx.count_lost, true);
	shmipc_process_uncount(&call->conn->rx.kernel_readers, call->process);
	if (call->pinned)
		shim_unpin(call->conn);
}

__attribute__((hot)) bool shim_young_send(struct shim_conn *conn, int fd, const void *from,
					  size_t bytes, int flags, ssize_t *result)
{
	struct shmipc_sender *s = &conn->tx;
	struct call call;
	ssize_t n;

	if ((flags & ~PLAIN_FLAGS) != 0 || !enter(&call, conn, fd, flags))
		return false;
	atomic_fetch_add(&s->kernel_senders, 1);
	if (!conn->young) {
		atomic_fetch_sub(&s->kernel_senders, 1);
		leave(&call);
		return false;
	}
	if (call.may_be_left)
		n = SHMIPC_SLEEP(undo_send, &call, SYS_sendto, fd, from, bytes, flags, 0, 0);
	else
		n = sys_sendto(fd, from, bytes, flags, NULL, 0);
	if (is_still(&call)) {
		if (n > 0) {
			atomic_fetch_add_explicit(&s->kernel_bytes, (uint64_t)n,
						  memory_order_relaxed);
			atomic_fetch_add_explicit(&s->count->kernel_bytes, (uint64_t)n,
						  memory_order_relaxed);
		}
		shmipc_process_uncount(&s->kernel_senders, call.process);
		if (n > 0 && may_grow_up(&call))
			shim_upgrade_sent(conn, fd, (size_t)n);
	}
	leave(&call);
	*result = shim_edge(n);
	return true;
}

__attribute__((hot)) bool shim_young_receive(struct shim_conn *conn, int fd, void *to, size_t bytes,
					     int flags, ssize_t *result)
{
	struct shmipc_receiver *r = &conn->rx;
	struct call call;
	ssize_t n;

	if ((flags & ~PLAIN_FLAGS) != 0 || !enter(&call, conn, fd, flags))
		return false;
	atomic_fetch_add(&r->kernel_readers, 1);
	if (!conn->young) {
		atomic_fetch_sub(&r->kernel_readers, 1);
		leave(&call);
		return false;
	}
	if (call.may_be_left)
		n = SHMIPC_SLEEP(undo_receive, &call, SYS_recvfrom, fd, to, bytes, flags, 0, 0);
	else
		n = sys_recvfrom(fd, to, bytes, flags, NULL, NULL);
	if (is_still(&call)) {
		if (n > 0) {
			atomic_fetch_add_explicit(&r->kernel_read, (uint64_t)n,
						  memory_order_relaxed);
			atomic_fetch_add_explicit(&r->count->kernel_bytes, (uint64_t)n,
						  memory_order_relaxed);
		}
		shmipc_process_uncount(&r->kernel_readers, call.process);
		if (n >= 0 && may_grow_up(&call))
			shim_upgrade_received(conn, fd, (size_t)n);
	}
	leave(&call);
	*result = shim_edge(n);
	return true;
}
