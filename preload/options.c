/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/options.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "core/sys.h"
#include "core/thread.h"
#include "preload/conn.h"
#include "preload/pointers.h"
#include "preload/transfer.h"

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif
#ifndef TCP_INQ
#define TCP_INQ 36
#endif
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72 /* Linux 5.14 */
#endif

enum {
	/* As set; the kernel doubles it.  A ring holds what a socket would: behind a full one
	 * little more is wanted, and none of it on the slow way for long. */
	OVERFLOW_BYTES = 128 * 1024,
	LOCK_SNDBUF = 1, /* of SO_BUF_LOCK */
	LOCK_RCVBUF = 2,
	RECEIVE_BUFFER = SHIM_OPTION_COUNT - 1, /* the rule that comes later than the others */
};

enum rule_kind {
	FLAG,	/* any value but 0 reads back as 1 */
	BIT,	/* 0 or 1, all else is refused */
	BUFFER, /* what the application sets it sets for real, and we let go */
};

struct rule {
	int level, name;
	int ours;
	enum rule_kind kind;
};

static const struct rule rules[SHIM_OPTION_COUNT] = {
	{ IPPROTO_TCP, TCP_NODELAY, 1, FLAG },
	{ IPPROTO_TCP, TCP_CORK, 0, FLAG },
	{ IPPROTO_TCP, TCP_INQ, 0, BIT },
	{ SOL_SOCKET, SO_SNDBUF, OVERFLOW_BYTES, BUFFER },
	[RECEIVE_BUFFER] = { SOL_SOCKET, SO_RCVBUF, OVERFLOW_BYTES, BUFFER },
};

/* The kernel keeps the bytes of one call together as long as it finds room for them; several
 * writers rely on that.  It finds as much as without us. */
static bool has_several_writers(int name)
{
	return name == SO_SNDBUF && !shmipc_single_threaded();
}

static int get(int fd, int level, int name, int *value)
{
	socklen_t bytes = sizeof(*value);

	return sys_getsockopt(fd, level, name, value, &bytes);
}

static int set(int fd, int level, int name, int value)
{
	return sys_setsockopt(fd, level, name, &value, sizeof(value));
}

/* Remember the value of one option, and set ours. */
static void take_over_one(struct shim_conn *conn, int fd, unsigned int i)
{
	struct shim_options *options = &conn->options;
	int value = 0;

	if (get(fd, rules[i].level, rules[i].name, &value) < 0)
		return;
	if (rules[i].kind == BUFFER && value <= 2 * rules[i].ours)
		return; /* it is small as it is */
	atomic_store(&options->value[i], value);
	/* never to false: another thread may have asked for it just now */
	if (rules[i].name == TCP_INQ && rules[i].level == IPPROTO_TCP && value)
		atomic_store(&options->inq, true);
	if (value == rules[i].ours || set(fd, rules[i].level, rules[i].name, rules[i].ours) == 0)
		atomic_fetch_or(&options->taken_over, 1u << i);
}

bool shim_options_sends_little(const struct shim_conn *conn)
{
	return !conn->is_unix && atomic_load(&conn->options.late) &&
	       !has_several_writers(SO_SNDBUF);
}

void shim_options_limit_receive(struct shim_conn *conn, int fd)
{
	if (!shmipc_receiver_is_on_ring(&conn->rx) || !atomic_exchange(&conn->options.late, false))
		return;
	if (!shmipc_receiver_peer_sends_little(&conn->rx))
		return;
	take_over_one(conn, fd, RECEIVE_BUFFER);
	if (atomic_load(&conn->options.over)) /* meanwhile */
		shim_options_restore(conn, fd);
}

void shim_options_take_over(struct shim_conn *conn, int fd)
{
	struct shim_options *options = &conn->options;
	bool can_unlock;

	if (conn->is_unix)
		return;
	/* a buffer size that is set is fixed from then on; without SO_BUF_LOCK there is no way back
	 */
	can_unlock = get(fd, SOL_SOCKET, SO_BUF_LOCK, &options->buffer_lock) == 0;
	atomic_store(&options->over, false);
	atomic_store(&options->late, can_unlock);
	for (unsigned int i = 0; i < RECEIVE_BUFFER; i++)
		if (rules[i].kind != BUFFER || (can_unlock && !has_several_writers(rules[i].name)))
			take_over_one(conn, fd, i);
}

void shim_options_restore(struct shim_conn *conn, int fd)
{
	struct shim_options *options = &conn->options;
	int locks = 0, lock = 0;
	uint32_t taken;

	atomic_store(&options->over, true); /* first: see shim_options_limit_receive() */
	atomic_store(&options->late, false);
	taken = atomic_exchange(&options->taken_over, 0);
	for (unsigned int i = 0; i < SHIM_OPTION_COUNT; i++) {
		int value = atomic_load(&options->value[i]);

		if (!(taken >> i & 1))
			continue;
		if (rules[i].kind == BUFFER) {
			set(fd, rules[i].level, rules[i].name, value / 2);
			locks |= rules[i].name == SO_SNDBUF ? LOCK_SNDBUF : LOCK_RCVBUF;
		} else if (value != rules[i].ours) {
			set(fd, rules[i].level, rules[i].name, value);
		}
	}
	/* only those: the other may be locked by what the application has set since */
	if (locks && get(fd, SOL_SOCKET, SO_BUF_LOCK, &lock) == 0)
		set(fd, SOL_SOCKET, SO_BUF_LOCK, (lock & ~locks) | (options->buffer_lock & locks));
	/* an end that still reads by the rules takes tokens, which would move the kernel's */
	if (!conn->rx.ready || conn->rx.stopped)
		shmipc_receiver_leave_peek_offset(&conn->rx, fd);
}

/* Index of an option that has our value now, or -1. */
static int index_of(const struct shim_conn *conn, int level, int name)
{
	uint32_t taken = atomic_load_explicit(&conn->options.taken_over, memory_order_relaxed);

	for (unsigned int i = 0; taken && i < SHIM_OPTION_COUNT; i++)
		if (rules[i].level == level && rules[i].name == name && (taken >> i & 1))
			return (int)i;
	return -1;
}

/* SO_PEEK_OFF would move our own looks at the socket: it is the receiver's as long as the
 * connection is attached.  The kernel is asked whether it knows the option for such a socket. */
static bool set_peek_offset(struct shim_conn *conn, int fd, const void *value, socklen_t bytes,
			    int *result)
{
	const int none = -1;
	int number;

	if (!shim_conn_is_attached(conn) || (int)bytes < (int)sizeof(number))
		return false;
	memcpy(&number, value, sizeof(number));
	*result = sys_setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, value, bytes);
	if (*result == 0) {
		sys_setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof(none));
		shmipc_receiver_set_peek_offset(&conn->rx, number);
	}
	*result = (int)shim_edge(*result);
	return true;
}

bool shim_options_set(struct shim_conn *conn, int fd, int level, int name, const void *value,
		      socklen_t bytes, int *result)
{
	int i = index_of(conn, level, name);
	int number;

	if (level == SOL_SOCKET && name == SO_PEEK_OFF)
		return set_peek_offset(conn, fd, value, bytes, result);
	if (i < 0 || !value || (int)bytes < (int)sizeof(number))
		return false;
	if (rules[i].kind == BUFFER) {
		atomic_fetch_and(&conn->options.taken_over, ~(1u << (unsigned int)i));
		return false;
	}
	memcpy(&number, value, sizeof(number));
	*result = 0;
	if (rules[i].kind == BIT && number != (number & 1)) {
		*result = (int)shim_edge(-EINVAL);
		return true;
	}
	atomic_store(&conn->options.value[i], number != 0);
	shim_options_note(conn, level, name, value);
	return true;
}

void shim_options_note(struct shim_conn *conn, int level, int name, const void *value)
{
	bool is_low_water = level == SOL_SOCKET && name == SO_RCVLOWAT;
	bool is_inq = level == IPPROTO_TCP && name == TCP_INQ;
	int number;

	if (level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_RCVBUFFORCE))
		atomic_store(&conn->options.late, false); /* the application's choice stays */
	if (!is_low_water && !is_inq)
		return; /* whose value may be shorter */
	memcpy(&number, value, sizeof(number));
	if (is_low_water)
		atomic_store(&conn->rx.low_water, number);
	else
		atomic_store(&conn->options.inq, number != 0);
}

bool shim_options_get(struct shim_conn *conn, int level, int name, void *value, socklen_t *bytes,
		      int *result)
{
	int i = index_of(conn, level, name);
	bool is_peek_offset = level == SOL_SOCKET && name == SO_PEEK_OFF &&
			      shmipc_receiver_peek_offset(&conn->rx) >= 0;
	int number;

	if ((i < 0 && !is_peek_offset) || shim_pointer_is_bad_result(bytes, sizeof(*bytes)) ||
	    shim_pointer_is_bad_result(value, *bytes))
		return false;
	number = i < 0 ? shmipc_receiver_peek_offset(&conn->rx)
		       : atomic_load(&conn->options.value[i]);
	if (*bytes > sizeof(number))
		*bytes = sizeof(number);
	memcpy(value, &number, *bytes);
	*result = 0;
	return true;
}
