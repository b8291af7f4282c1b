/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client from the inside: slots, each with a session and the idle streams of it.
 *
 * A slot is dialled anew when its session has ended (with growing pauses), and when it is to be
 * renewed although it lives: in a hot restart, and when another session over the same memory has
 * died, whose peer may have taken slices with it.  The session that is replaced is retired: it ends
 * with its last stream, and the memory with its last session.  So nothing that a dead peer held is
 * lost for long.
 *
 * The client's lock is never held while a session is called: sessions call back.
 *
 * Files: client.c the pool, client_dial.c connecting, client_restart.c hot restarts.
 */
#ifndef SHMIPC_CORE_IPC_CLIENT_H
#define SHMIPC_CORE_IPC_CLIENT_H

#include "core/ipc/address.h"
#include "core/ipc/session.h"
#include "core/ipc/stream.h"

struct shmipc_dial {
	struct shmipc_client *client;
	uint32_t slot;
	uint64_t deadline_ns;
	bool connecting;
	bool over;
	struct shmipc_source source;
	struct shmipc_handshake handshake;
};

struct shmipc_slot {
	struct shmipc_session *session; /* a reference, or NULL */
	struct shmipc_stream *idle_first, *idle_last;
	uint32_t idle_count;
	bool dialling;
	bool renew;
	uint64_t next_attempt_ns;
	uint32_t pause_ms;	  /* 0: the next attempt is the first one */
	struct shmipc_dial *dial; /* in the loop */
};

struct shmipc_client {
	struct shmipc_session_owner owner;
	struct shmipc_mutex lock;
	uint32_t generation;
	struct shmipc_shared_config *config;
	struct shmipc_address address;
	struct shmipc_loop *loop;
	struct shmipc_timer timer; /* an armed one holds a reference */
	bool destroyed;

	struct shmipc_mapping *buffer; /* for the next session, or NULL */
	char name[512];		       /* what its queue and buffer are called, but for the end */
	uint32_t queues_named;

	struct shmipc_slot *slots;
	uint32_t slot_count;
	uint32_t turn, taken;	    /* whose turn it is, and how many streams it has given */
	_Atomic uint64_t last_look; /* ticks: when the sessions' sockets were read last */
	uint32_t unmapped; /* sessions over `buffer` that have not shown that they mapped it */

	struct shmipc_session *retired; /* by owner_next */
	bool restarting;
	uint64_t epoch, restart_deadline_ns;

	struct shmipc_metrics metrics; /* of sessions that have ended, and the client's own */
};

/* ---- client.c ------------------------------------------------------------------------------- */

/* Puts a fresh session into a slot; the one before it is retired.  False: the client has been
 * destroyed meanwhile, and takes none. */
bool shmipc_client_install(struct shmipc_client *client, uint32_t slot,
			   struct shmipc_session *session);

/* ---- client_dial.c -------------------------------------------------------------------------- */

/* Connects the slot, waiting until the deadline. */
int shmipc_client_dial(struct shmipc_client *client, uint32_t slot, uint64_t deadline_ns);
/* Dials what is due: in the loop without waiting, else until the deadline. */
void shmipc_client_maintain(struct shmipc_client *client, uint64_t deadline_ns);
/* Calls maintain in the loop when the next thing is due; lock not held. */
void shmipc_client_schedule(struct shmipc_client *client);
void shmipc_client_timer(struct shmipc_timer *timer);
/* When the next attempt may be made; 0: nothing has to be dialled.  Lock held. */
uint64_t shmipc_client_next_due(const struct shmipc_client *client);

/* ---- client_restart.c ----------------------------------------------------------------------- */

void shmipc_client_begin_restart(struct shmipc_client *client, uint64_t epoch);
/* Acknowledges if all slots have moved, gives up if it took too long. */
void shmipc_client_check_restart(struct shmipc_client *client);

#endif
