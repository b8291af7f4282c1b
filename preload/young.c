/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/young.h"

#include "core/postpone.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/transfer.h"
#include "preload/upgrade.h"

/* Other flags have a meaning for the bytes that are counted, or for acceleration. */
enum { PLAIN_FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL };

static bool is_plain_call(int flags)
{
	return (flags & ~PLAIN_FLAGS) == 0 && shmipc_single_threaded();
}

/* A call that a signal handler may jump out of. */
struct call {
	struct shim_conn *conn;
	uint32_t birth;
};

static void undo_send(void *argument)
{
	const struct call *call = argument;

	if (call->conn->birth != call->birth)
		return;
	atomic_store(&call->conn->tx.count_lost, true);
	atomic_fetch_sub(&call->conn->tx.kernel_senders, 1);
}

static void undo_receive(void *argument)
{
	const struct call *call = argument;

	if (call->conn->birth != call->birth)
		return;
	atomic_store(&call->conn->rx.count_lost, true);
	atomic_fetch_sub(&call->conn->rx.kernel_readers, 1);
}

__attribute__((hot)) bool shim_young_send(struct shim_conn *conn, int fd, const void *from,
					  size_t bytes, int flags, ssize_t *result)
{
	struct shmipc_sender *s = &conn->tx;
	uint32_t birth = conn->birth;
	ssize_t n;

	if (!is_plain_call(flags))
		return false;
	atomic_fetch_add(&s->kernel_senders, 1);
	if (!conn->young) {
		atomic_fetch_sub(&s->kernel_senders, 1);
		return false;
	}
	shmipc_postpone_begin();
	if (shmipc_postpone_expects_handlers())
		n = SHMIPC_SLEEP(undo_send, (&(struct call){ conn, birth }), SYS_sendto, fd, from,
				 bytes, flags, 0, 0);
	else
		n = sys_sendto(fd, from, bytes, flags, NULL, 0);
	*result = shim_edge(n);
	if (conn->birth != birth) {
		shmipc_postpone_end();
		return true;
	}
	if (n > 0) {
		atomic_fetch_add_explicit(&s->kernel_bytes, (uint64_t)n, memory_order_relaxed);
		atomic_fetch_add_explicit(&s->count->kernel_bytes, (uint64_t)n,
					  memory_order_relaxed);
	}
	atomic_fetch_sub_explicit(&s->kernel_senders, 1, memory_order_release);
	shmipc_postpone_end();
	if (n > 0)
		shim_upgrade_sent(conn, fd, (size_t)n);
	return true;
}

__attribute__((hot)) bool shim_young_receive(struct shim_conn *conn, int fd, void *to, size_t bytes,
					     int flags, ssize_t *result)
{
	struct shmipc_receiver *r = &conn->rx;
	uint32_t birth = conn->birth;
	ssize_t n;

	if (!is_plain_call(flags))
		return false;
	atomic_fetch_add(&r->kernel_readers, 1);
	if (!conn->young) {
		atomic_fetch_sub(&r->kernel_readers, 1);
		return false;
	}
	shmipc_postpone_begin();
	if (shmipc_postpone_expects_handlers())
		n = SHMIPC_SLEEP(undo_receive, (&(struct call){ conn, birth }), SYS_recvfrom, fd,
				 to, bytes, flags, 0, 0);
	else
		n = sys_recvfrom(fd, to, bytes, flags, NULL, NULL);
	*result = shim_edge(n);
	if (conn->birth != birth) {
		shmipc_postpone_end();
		return true;
	}
	if (n > 0) {
		atomic_fetch_add_explicit(&r->kernel_read, (uint64_t)n, memory_order_relaxed);
		atomic_fetch_add_explicit(&r->count->kernel_bytes, (uint64_t)n,
					  memory_order_relaxed);
	}
	atomic_fetch_sub_explicit(&r->kernel_readers, 1, memory_order_release);
	shmipc_postpone_end();
	if (n >= 0)
		shim_upgrade_received(conn, fd, (size_t)n);
	return true;
}
