/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/handover.h"

#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "core/sys.h"
#include "preload/config.h"
#include "preload/conn.h"
#include "preload/downgrade.h"
#include "preload/identity.h"
#include "preload/pointers.h"
#include "preload/rest.h"
#include "preload/sets.h"
#include "preload/stream.h"

enum { FILTER_TRIES = 20 };

/* A vfork child may have put something else at the number: our table is its parent's. */
static bool is_still_there(int fd, const struct shim_conn *conn)
{
	return !shim_process_is_borrowed() || !shim_conn_is_attached(conn) ||
	       shim_identity_cookie(fd) == conn->cookie;
}

bool shim_handover_is_inherited(int fd, const struct shim_conn *conn)
{
	return shim_conn_of(fd) == conn && !(sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC) &&
	       is_still_there(fd, conn);
}

static void replace(int fd, int rest)
{
	int flags = sys_fcntl(fd, F_GETFD, 0);

	shim_conn_forget(fd); /* nothing in a vfork child: its numbers are not those of our table */
	sys_dup3(rest, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
}

/* ---- exec ---- */

bool shim_handover(struct shim_conn *conn, int fd)
{
	bool all, stands_in;
	int rest = shim_rest_of(conn, fd, shim_rest_use_of(fd));

	if (rest < 0)
		return false;
	all = shim_rest_is_for_writing(conn, fd);
	if (all) {
		for (int other = shim_fd_limit() - 1; other > fd; other--)
			if (shim_handover_is_inherited(other, conn))
				replace(other, rest);
	}
	/* half-closed: the lowest number is the one that is read, and 1 and 2 go on writing to the
	 * peer */
	stands_in = all || fd == 0 || fd > 2;
	if (stands_in)
		replace(fd, rest);
	sys_close(rest);
	return stands_in;
}

/* Under all our numbers, so that we and the others go on sharing one stream. */
static void replace_all(struct shim_conn *conn, int fd)
{
	int rest = shim_rest_of(conn, fd, SHIM_REST_READ);

	if (rest < 0)
		return;
	for (int other = shim_fd_limit() - 1; other >= 0; other--)
		if (other != fd && shim_conn_of(other) == conn)
			replace(other, rest);
	replace(fd, rest);
	sys_close(rest);
}

void shim_handover_shared(struct shim_conn *conn, int fd)
{
	shim_downgrade(conn, fd, SHMIPC_REASON_DOWNGRADE);
	if (shim_conn_is_attached(conn) && (shim_rest_peer_is_gone(conn, fd) || conn->rx.broken))
		replace_all(conn, fd);
}

/* stdin, stdout and stderr call no hook. */
void shim_handover_standard(struct shim_conn *conn, int fd)
{
	if (shim_downgrade(conn, fd, SHMIPC_REASON_DOWNGRADE) == 0)
		return;
	if (shmipc_receiver_is_stranded(&conn->rx, fd))
		shim_handover(conn, fd);
	else if (fd == STDIN_FILENO ? shmipc_receiver_is_entangled(&conn->rx)
				    : !shim_rest_may_write(conn))
		shim_stream_stand_in(fd);
}

/* Both directions, for good: a successor of ours may begin anew. */
static bool is_over(struct shim_conn *conn, int fd)
{
	/* one that still reads by the rules is not to be stopped by the question */
	return conn->rx.ready && !shmipc_receiver_is_entangled(&conn->rx) &&
	       conn->tx.no_more_ring && !shmipc_sender_on_ring(&conn->tx) &&
	       shmipc_receiver_leave_ring(&conn->rx, fd, shim_conn_private(conn)) == 0;
}

void shim_handover_exec(void)
{
	bool candidate;

	if (shim_process_is_borrowed())
		shim_process_spawned(); /* a child that its parent's table does not know */
	for (int fd = 0; fd < shim_fd_limit(); fd++) {
		struct shim_conn *conn = shim_conn_of(fd);

		if (!conn || !shim_handover_is_inherited(fd, conn))
			continue;
		candidate = atomic_load(&conn->state) == SHMIPC_STATE_CANDIDATE;
		if (!shim_handover(conn, fd)) /* else the record may be nobody's by now */
			conn->handed_over = candidate || is_over(conn, fd);
	}
}

void shim_handover_number(int from, int to)
{
	struct shim_conn *conn = shim_conn_of(from);
	int rest;

	if (!conn || !is_still_there(from, conn))
		return;
	rest = shim_rest_of(conn, from, shim_rest_use_of(to));
	if (rest < 0)
		return;
	if (to == 0 || to > 2 || shim_rest_is_for_writing(conn, from))
		sys_dup3(rest, to, 0);
	sys_close(rest);
}

/* ---- SCM_RIGHTS ---- */

static void for_each_descriptor(const struct msghdr *message, void (*visit)(int fd))
{
	struct msghdr copy = *message;

	if (shim_pointer_is_bad(message->msg_control, message->msg_controllen) ||
	    message->msg_controllen < sizeof(struct cmsghdr))
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c; c = CMSG_NXTHDR(&copy, c)) {
		const int *fds = (const int *)(const void *)CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		    c->cmsg_len < CMSG_LEN(0))
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++)
			visit(fds[i]);
	}
}

static void send_number(int fd)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (conn)
		replace_all(conn, fd);
	else if (shim_fd_kind(shim_fd_word(fd)) == SHIM_FD_SET)
		shim_set_is_given_away(fd); /* whoever gets it waits where we do not see it */
}

void shim_handover_sent(const struct msghdr *message)
{
	if (shim_config.enabled && message->msg_controllen > 0)
		for_each_descriptor(message, send_number);
}

void shim_handover_received(const struct msghdr *message)
{
	if (shim_config.enabled && message->msg_controllen > 0)
		for_each_descriptor(message, shim_conn_flush);
}

/* ---- all, for good ---- */

/* A peer that is slow to answer is waited for: a call of ours under a filter would be the end. */
static void leave_to_libc(struct shim_conn *conn, int fd)
{
	for (int i = 0; i < FILTER_TRIES; i++) {
		if (shim_downgrade(conn, fd, SHMIPC_REASON_SYSTEM) == 0) {
			shim_conn_leave_to_libc(conn);
			return;
		}
		/* somebody has to read the ring, or to send what is left of it: that is us */
		if (shmipc_receiver_is_stranded(&conn->rx, fd) ||
		    shmipc_receiver_is_entangled(&conn->rx) || shmipc_sender_owes(&conn->tx))
			return;
	}
}

void shim_handover_all(void)
{
	atomic_store(&shim_config.closed, true);
	for (int fd = 0; fd < shim_fd_limit(); fd++) {
		struct shim_conn *conn = shim_conn_of(fd);

		if (conn && shim_conn_is_attached(conn))
			leave_to_libc(conn, fd);
		else if (conn)
			shim_conn_make_plain(conn, SHMIPC_REASON_SYSTEM);
	}
	shim_sets_show(); /* a filter may forbid epoll_ctl */
}
