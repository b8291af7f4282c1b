/* SPDX-License-Identifier: Apache-2.0 */
/* The birth of connections, their options, their half-close. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>

#include "core/ending.h"
#include "core/reach.h"
#include "core/sys.h"
#include "preload/config.h"
#include "preload/conn.h"
#include "preload/connecting.h"
#include "preload/downgrade.h"
#include "preload/eligible.h"
#include "preload/options.h"
#include "preload/pins.h"
#include "preload/pointers.h"
#include "preload/real.h"
#include "preload/sets.h"
#include "preload/tcp_info.h"
#include "preload/transfer.h"
#include "preload/waits.h"

/* ---- birth ---- */

SHIM_EXPORT __attribute__((hot)) int socket(int family, int type, int protocol)
{
	int fd = real.socket(family, type, protocol);

	if (fd >= 0)
		shim_conn_flush(fd);
	return fd;
}

SHIM_EXPORT int __socket(int family, int type, int protocol)
{
	return socket(family, type, protocol);
}

SHIM_EXPORT int socketpair(int family, int type, int protocol, int fds[2])
{
	int result = real.socketpair(family, type, protocol, fds);

	if (result == 0) {
		shim_conn_flush(fds[0]);
		shim_conn_flush(fds[1]);
	}
	return result;
}

/* It may have another address than when this number listened before. */
SHIM_EXPORT int listen(int fd, int backlog)
{
	shim_verdict_forget(fd);
	return real.listen(fd, backlog);
}

SHIM_EXPORT __attribute__((hot)) int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t bytes)
{
	return shim_connecting(real.connect(fd, address, bytes), fd, address.__sockaddr__, bytes);
}

SHIM_EXPORT int __connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
	return shim_connecting(real.__connect(fd, address, bytes), fd, address, bytes);
}

static int accepted(int listener, int fd)
{
	struct shim_verdict verdict;

	if (fd < 0)
		return fd;
	shim_conn_flush(fd);
	if (!shim_config.enabled)
		return fd;
	shim_verdict_of_accepted(&verdict, listener, fd);
	shim_conn_track(fd, &verdict, true);
	return fd;
}

SHIM_EXPORT int accept(int fd, __SOCKADDR_ARG address, socklen_t *restrict bytes)
{
	return accepted(fd, real.accept(fd, address, bytes));
}

SHIM_EXPORT __attribute__((hot)) int accept4(int fd, __SOCKADDR_ARG address,
					     socklen_t *restrict bytes, int flags)
{
	return accepted(fd, real.accept4(fd, address, bytes, flags));
}

/* ---- half-close ---- */

static enum shmipc_ending ending_of(struct shim_conn *conn, int fd)
{
	struct pollfd entry = { .fd = fd, .events = POLLRDHUP };

	shim_wait_ask(conn, fd);
	if (sys_poll(&entry, 1, 0) <= 0)
		return SHMIPC_ENDING_KERNEL;
	return shmipc_ending_of(&conn->tx, entry.revents);
}

/* Of a peer that died with bytes unread TCP's kernel may know no more than an orderly end ... */
static bool was_reset(struct shim_conn *conn, int fd)
{
	/* asked of both families: our own shutdown would hide it */
	return ending_of(conn, fd) == SHMIPC_ENDING_LEFT_BYTES && !conn->is_unix;
}

static void before_shutdown(struct shim_conn *conn, int fd, int how)
{
	bool alone = shim_conn_private(conn);

	/* first: another process that the kernel's edge wakes finds it, input_is_true() */
	atomic_fetch_add(&conn->shutdowns, 1);
	if (how == SHUT_WR || how == SHUT_RDWR) {
		if (shmipc_sender_lock(&conn->tx, fd, alone)) {
			shmipc_sender_serve_finally(&conn->tx, fd);
			shmipc_sender_ask(&conn->tx, fd);
			shmipc_sender_end(&conn->tx, fd, SHMIPC_TX_FIN);
			conn->tx.shut = true;
			shmipc_lock_drop(&conn->tx.lock, alone);
		}
	}
	/* also where this end only sends by the ring */
	if (how == SHUT_RD || how == SHUT_RDWR)
		conn->rx.shut = conn->tx.reverse_shut = true;
	/* the peer's next write fails, or brings a reset: it must go by the kernel to find out */
	if (conn->rx.attached && conn->rx.shut && (conn->is_unix || conn->tx.shut))
		atomic_fetch_or(&conn->rx.want->want, SHMIPC_WANT_CLOSED | SHMIPC_WANT_FENCE);
}

/* ... and one that died with nothing but a token unread it takes for a reset. */
static int after_shutdown(struct shim_conn *conn, int fd, bool was_shut, int result)
{
	int saved = errno;

	if (result == 0 || saved != ENOTCONN || conn->is_unix || was_shut || conn->tx.swallowed ||
	    conn->tx.answered || !shim_conn_is_attached(conn) ||
	    ending_of(conn, fd) != SHMIPC_ENDING_ORDERLY) {
		errno = saved;
		return result;
	}
	return 0;
}

static int shutdown_held(struct shim_conn *conn, int fd, int how)
{
	bool was_shut;
	int result;

	/* no ring any more for what ends before it has one */
	shim_conn_make_plain(conn, SHMIPC_REASON_CLOSED);
	if (!shim_conn_is_attached(conn))
		return real.shutdown(fd, how);
	if (was_reset(conn, fd)) {	    /* an error, and an edge all the same */
		conn->tx.edge_made = false; /* this one is the application's */
		real.shutdown(fd, how);
		return (int)shim_edge(-ENOTCONN);
	}
	was_shut = conn->tx.shut;
	shmipc_ending_before_shutdown(&conn->tx, fd);
	before_shutdown(conn, fd, how);
	result = after_shutdown(conn, fd, was_shut, real.shutdown(fd, how));
	shim_sets_edge(conn);
	return result;
}

SHIM_EXPORT int shutdown(int fd, int how)
{
	struct shim_conn *conn = shim_hold(fd);
	int result = conn ? shutdown_held(conn, fd, how) : real.shutdown(fd, how);

	shim_let_go(conn);
	return result;
}

/* ---- the peer's name ---- */

static int tell_name(const struct shim_conn *conn, struct sockaddr *address, socklen_t *bytes)
{
	socklen_t room = *bytes < conn->peer_name_bytes ? *bytes : conn->peer_name_bytes;

	memcpy(address, &conn->peer_name, room);
	*bytes = conn->peer_name_bytes;
	return 0;
}

/* TCP names no peer of a connection that was reset.  Of bytes that a killed peer left unread in the
 * ring the kernel knows nothing, and of a token it has made a reset. */
static int getpeername_held(struct shim_conn *conn, int fd, __SOCKADDR_ARG address,
			    socklen_t *restrict bytes)
{
	enum shmipc_ending ending = ending_of(conn, fd);
	int saved = errno, result;

	if (ending == SHMIPC_ENDING_LEFT_BYTES)
		return (int)shim_edge(-ENOTCONN);
	result = real.getpeername(fd, address, bytes);
	if (result == 0 || errno != ENOTCONN || ending != SHMIPC_ENDING_ORDERLY || conn->tx.shut ||
	    conn->tx.swallowed || conn->tx.answered || conn->peer_name_bytes == 0 ||
	    shim_pointer_is_bad_result(bytes, sizeof(*bytes)) || (int)*bytes < 0 ||
	    shim_pointer_is_bad_result(address.__sockaddr__, *bytes))
		return result;
	errno = saved;
	return tell_name(conn, address.__sockaddr__, bytes);
}

SHIM_EXPORT int getpeername(int fd, __SOCKADDR_ARG address, socklen_t *restrict bytes)
{
	struct shim_conn *conn = shim_hold(fd);
	int result = conn && !conn->is_unix && shim_conn_is_attached(conn)
			     ? getpeername_held(conn, fd, address, bytes)
			     : real.getpeername(fd, address, bytes);

	shim_let_go(conn);
	return result;
}

/* ---- options ---- */

enum { OPTION_BYTES_MAX = 64 /* more than any that we look into */ };

/* TCP then tells anew of bytes, and of an end that is no reset.  Of what lies in the ring, and of
 * an end that a token has made a reset of, its socket knows nothing. */
static void after_low_water(struct shim_conn *conn, int fd)
{
	const struct shmipc_receiver *rx = &conn->rx;

	if (!conn->is_unix && shim_conn_is_attached(conn) &&
	    ((shmipc_receiver_hint(rx) && shmipc_receiver_holds_bytes(rx)) ||
	     ending_of(conn, fd) == SHMIPC_ENDING_ORDERLY))
		shim_sets_edge(conn);
}

static int setsockopt_held(struct shim_conn *conn, int fd, int level, int name, const void *value,
			   socklen_t bytes)
{
	bool is_unfit, asks_first;
	int result;

	if (shim_options_set(conn, fd, level, name, value, bytes, &result))
		return result;
	is_unfit = !shim_eligible_option(level, name, value, bytes);
	asks_first = is_unfit && shim_eligible_option_is_of_one_family(level, name);
	if (is_unfit && !asks_first)
		shim_retire(conn, fd, SHMIPC_REASON_OPTION);
	result = real.setsockopt(fd, level, name, value, bytes);
	if (asks_first && result == 0)
		shim_retire(conn, fd, SHMIPC_REASON_OPTION);
	if (result == 0)
		shim_options_note(conn, level, name, value);
	if (result == 0 && level == SOL_SOCKET && name == SO_RCVLOWAT)
		after_low_water(conn, fd);
	return result;
}

/* A pointer that is bad: the kernel knows the right error. */
SHIM_EXPORT __attribute__((hot)) int setsockopt(int fd, int level, int name, const void *value,
						socklen_t bytes)
{
	struct shim_conn *conn = shim_hold(fd);
	int result;

	if (conn &&
	    !shim_pointer_is_bad(value, bytes < OPTION_BYTES_MAX ? bytes : OPTION_BYTES_MAX))
		result = setsockopt_held(conn, fd, level, name, value, bytes);
	else
		result = real.setsockopt(fd, level, name, value, bytes);
	shim_let_go(conn);
	return result;
}

/* nginx asks before each request that it passes on.  What the kernel would refuse is its to say. */
static bool has_no_error(const struct shim_conn *conn, void *value, socklen_t *bytes)
{
	const int none = 0;

	if (!shim_conn_is_attached(conn) || !shmipc_receiver_has_no_error(&conn->rx) ||
	    !shmipc_reach(bytes, sizeof(*bytes), SHMIPC_REACH_WRITE) || *bytes != sizeof(none) ||
	    !shmipc_reach(value, sizeof(none), SHMIPC_REACH_WRITE))
		return false;
	memcpy(value, &none, sizeof(none));
	return true;
}

static int getsockopt_held(struct shim_conn *conn, int fd, int level, int name,
			   void *restrict value, socklen_t *restrict bytes)
{
	bool is_error = level == SOL_SOCKET && name == SO_ERROR;
	int number, result;

	if (shim_options_get(conn, level, name, value, bytes, &result))
		return result;
	if (is_error) {
		if (has_no_error(conn, value, bytes))
			return 0;
		shim_wait_ask(conn, fd);
	}
	result = real.getsockopt(fd, level, name, value, bytes);
	if (result != 0 || !shim_conn_is_attached(conn))
		return result;
	if (level == IPPROTO_TCP && name == TCP_INFO)
		shim_tcp_info_complete(conn, fd, value, *bytes);
	if (is_error && *bytes == sizeof(number)) {
		memcpy(&number, value, sizeof(number));
		number = shmipc_receiver_take_error(&conn->rx, fd, number, shim_conn_private(conn));
		memcpy(value, &number, sizeof(number));
	}
	return result;
}

SHIM_EXPORT int getsockopt(int fd, int level, int name, void *restrict value,
			   socklen_t *restrict bytes)
{
	struct shim_conn *conn = shim_hold(fd);
	int result = conn ? getsockopt_held(conn, fd, level, name, value, bytes)
			  : real.getsockopt(fd, level, name, value, bytes);

	shim_let_go(conn);
	return result;
}
