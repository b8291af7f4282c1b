/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listener from the inside.  Connections that are not sessions yet are `pending`; with a loop
 * each is a source of it, without one whoever is in shmipc_listener_accept() moves all of them
 * forward.
 *
 * Files: listener.c life, listener_accept.c from connection to session, listener_restart.c hot
 * restarts.
 */
#ifndef SHMIPC_CORE_IPC_LISTENER_H
#define SHMIPC_CORE_IPC_LISTENER_H

#include "core/ipc/address.h"
#include "core/ipc/session.h"

struct shmipc_pending {
	struct shmipc_listener *listener;
	struct shmipc_pending *next;
	uint64_t deadline_ns;
	bool over;
	struct shmipc_source source;
	struct shmipc_handshake handshake;
};

struct shmipc_listener {
	struct shmipc_session_owner owner;
	struct shmipc_mutex lock;
	uint32_t generation;
	struct shmipc_shared_config *config;
	struct shmipc_loop *loop;
	struct shmipc_session_callbacks callbacks;
	void *user;
	struct shmipc_source source; /* the listening socket */
	bool listening;
	bool in_loop;
	bool destroyed;
	bool owns_path;
	uint64_t device, inode; /* of the path that we bound */
	char address[SHMIPC_ADDRESS_TEXT_ROOM];

	struct shmipc_pending *pending;
	uint32_t pending_count;
	struct shmipc_timer timer;    /* late handshakes; armed, it holds a reference */
	struct shmipc_session *ready; /* without a loop: complete, not accepted; by owner_next */
	_Atomic uint32_t accepting;   /* somebody is in accept() */

	struct shmipc_session **sessions; /* alive, with a reference each */
	uint32_t session_count, session_room;
	struct shmipc_metrics metrics; /* of those that have ended */

	/* hot restart */
	bool restarting, restarted;
	uint64_t epoch, restart_deadline_ns;
	uint32_t unacknowledged;
};

/* ---- listener_accept.c ---------------------------------------------------------------------- */

void shmipc_listener_ready(struct shmipc_source *source, uint32_t events);
void shmipc_listener_timer(struct shmipc_timer *timer);
/* Takes every connection that the kernel has, up to handshakes_max. */
void shmipc_listener_take_connections(struct shmipc_listener *listener);
/* The listening socket is the loop's business no longer. */
void shmipc_listener_leave_loop(struct shmipc_listener *listener);
void shmipc_pending_free(struct shmipc_pending *pending);
/* All sessions, with a reference each; the caller frees the array. */
struct shmipc_session **shmipc_listener_sessions(struct shmipc_listener *listener,
						 uint32_t *count_out);

/* ---- listener_restart.c --------------------------------------------------------------------- */

void shmipc_listener_acknowledged(struct shmipc_session_owner *owner,
				  struct shmipc_session *session, uint64_t epoch);
/* Lock held: a session has ended that may not have answered. */
void shmipc_listener_no_answer(struct shmipc_listener *listener, struct shmipc_session *session);

static inline struct shmipc_listener *shmipc_listener_of(struct shmipc_session_owner *owner)
{
	/* the first member */
	return (struct shmipc_listener *)(void *)owner;
}

#endif
