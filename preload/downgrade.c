/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/downgrade.h"

#include <errno.h>
#include <fcntl.h>

#include "core/cpu.h"
#include "core/ending.h"
#include "core/socket_room.h"
#include "core/sys.h"
#include "preload/peer_socket.h"

enum {
	ANSWER_TRIES = 400, /* how long the peer may take: naps of ANSWER_NAP_NS */
	ANSWER_NAP_NS = 500 * 1000,
	TRIES_BEFORE_HELP = 20,
	TRIES_BEFORE_MORE_HELP = 1, /* where a peer has been helped a moment ago */
	MOMENT_US = 100 * 1000,
	LAST_TRIES = 100,
	REST_TRIES = 4000, /* without any progress: as long as a close waits */
};

static void nap(void)
{
	const struct timespec time = { 0, ANSWER_NAP_NS };

	sys_nanosleep(&time);
}

/* The peer may sleep: a token makes it look. */
static void nudge(struct shim_conn *conn, int fd, bool alone)
{
	if (!shmipc_sender_lock(&conn->tx, fd, alone))
		return;
	shmipc_sender_nudge(&conn->tx, fd);
	shmipc_lock_drop(&conn->tx.lock, alone);
}

static void help_by(struct shim_conn *conn, int socket, bool alone)
{
	struct shmipc_socket_room before = { 0 };

	shmipc_socket_room_make(socket, shmipc_receiver_arrived(&conn->rx) - conn->rx.head,
				&before);
	shmipc_receiver_help(&conn->rx, socket, alone);
	shmipc_socket_room_restore(socket, &before);
}

/* The peer's socket is looked for only where nothing else helps. */
static void untangle(struct shim_conn *conn, int fd, bool alone)
{
	int socket = shmipc_receiver_is_mixed(&conn->rx, alone) ? shim_peer_socket(conn, fd) : -1;

	if (socket < 0)
		return;
	shmipc_receiver_untangle(&conn->rx, fd, socket, alone);
	sys_close(socket);
}

/* Many connections often lead to one peer, and if that has been silent about one of them it will be
 * about the others. */
static _Atomic uint64_t helped_ticks;

static int tries_before_help(void)
{
	uint64_t helped = atomic_load_explicit(&helped_ticks, memory_order_relaxed);

	return helped && shmipc_ticks() - helped < MOMENT_US * shmipc_ticks_per_us()
		       ? TRIES_BEFORE_MORE_HELP
		       : TRIES_BEFORE_HELP;
}

/* It may make no call for long, and wait for what the new program does with these bytes. */
static void help_sender(struct shim_conn *conn, int fd, bool alone)
{
	int socket = conn->rx.stopped ? shim_peer_socket(conn, fd) : -1;

	if (socket < 0)
		return;
	help_by(conn, socket, alone);
	sys_close(socket);
	atomic_store_explicit(&helped_ticks, shmipc_ticks(), memory_order_relaxed);
}

static bool stop_receiving(struct shim_conn *conn, int fd, bool alone)
{
	const int patience = tries_before_help();
	bool stopped;

	untangle(conn, fd, alone);
	stopped = shmipc_receiver_stop(&conn->rx, fd, alone);
	if (!stopped && !shmipc_receiver_is_stranded(&conn->rx, fd))
		nudge(conn, fd, alone);
	for (int i = 0; i < ANSWER_TRIES && !stopped; i++) {
		if (shmipc_receiver_is_stranded(&conn->rx, fd))
			break; /* no answer will come */
		if (i == patience || i == TRIES_BEFORE_HELP)
			help_sender(conn, fd, alone);
		nap();
		stopped = shmipc_receiver_stop(&conn->rx, fd, alone);
	}
	return stopped && shmipc_receiver_leave_ring(&conn->rx, fd, alone) == 0;
}

/* all: also what a peer that has stopped has not read, before others send; as long as it reads. */
static bool stop_sending(struct shim_conn *conn, int fd, bool alone, bool all)
{
	int error = -EAGAIN;

	for (int i = 0;
	     i < (shmipc_sender_owes(&conn->tx) ? REST_TRIES : LAST_TRIES) && error == -EAGAIN;
	     i++) {
		uint64_t head;

		if (!shmipc_sender_lock(&conn->tx, fd, alone))
			return false;
		head = conn->tx.head;
		error = shmipc_sender_downgrade(&conn->tx, fd);
		if (error == -EAGAIN && !all && !shmipc_sender_on_ring(&conn->tx))
			error = 0;
		if (conn->tx.head != head)
			i = 0;
		shmipc_lock_drop(&conn->tx.lock, alone);
		if (error == -EAGAIN)
			nap();
	}
	return error == 0;
}

/* A token, or LAST, would be answered by a reset. */
static void look_for_peer(struct shim_conn *conn, int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };

	shmipc_ending_look_behind_shutdown(&conn->tx, fd);
	if (sys_poll(&real, 1, 0) > 0)
		shmipc_ending_of(&conn->tx, real.revents);
}

static int downgraded(struct shim_conn *conn, int fd, enum shmipc_reason reason, bool done)
{
	if (!done)
		return -EBUSY;
	shim_options_restore(conn, fd);
	/* the record stays in use: the peer may still read what lies in the ring */
	shim_conn_set_reason(conn, reason);
	shim_conn_log(conn, fd, "downgraded", false);
	return 0;
}

int shim_downgrade(struct shim_conn *conn, int fd, enum shmipc_reason reason)
{
	bool alone = shim_conn_private(conn);
	bool received, sent;

	/* unless a rendezvous in another thread ends first */
	if (atomic_load(&conn->state) == SHMIPC_STATE_CANDIDATE)
		shim_conn_make_plain(conn, reason);
	if (!shim_conn_is_attached(conn))
		return 0;
	look_for_peer(conn, fd);
	shmipc_sender_lose_count(&conn->tx, fd); /* others will send by it */
	received = stop_receiving(conn, fd, alone);
	/* the peer can send it no more: whoever shares it reads on by the rules */
	shmipc_receiver_go_on(&conn->rx, fd, alone);
	sent = stop_sending(conn, fd, alone, true);
	return downgraded(conn, fd, reason, received && sent);
}

int shim_retire(struct shim_conn *conn, int fd, enum shmipc_reason reason)
{
	bool alone = shim_conn_private(conn);

	if (atomic_load(&conn->state) == SHMIPC_STATE_CANDIDATE)
		shim_conn_make_plain(conn, reason);
	if (!shim_conn_is_attached(conn))
		return 0;
	shmipc_receiver_ask_to_leave(&conn->rx, alone);
	return downgraded(conn, fd, reason, stop_sending(conn, fd, alone, false));
}

void shim_downgrade_sending(struct shim_conn *conn, int fd)
{
	if (shim_conn_is_attached(conn))
		stop_sending(conn, fd, shim_conn_private(conn), false);
}

void shim_downgrade_number(int fd)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (conn)
		shim_downgrade(conn, fd, SHMIPC_REASON_DOWNGRADE);
}
