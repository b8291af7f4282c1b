/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the rendezvous share, and nobody else includes. */
#ifndef SHMIPC_PRELOAD_UPGRADE_PARTS_H
#define SHMIPC_PRELOAD_UPGRADE_PARTS_H

#include <stddef.h>

#include "core/negotiate.h"
#include "preload/eligible.h"
#include "preload/session.h"
#include "preload/upgrade.h"

/* Two processes that share no session yet, or none with room: a connection that meets under its
 * name.  Private memory of the process; few, because each costs descriptors. */
struct shim_meeting {
	_Atomic uint32_t used;
	struct shim_conn *conn;
	uint64_t endpoint;
	uint64_t since_ticks;
	int listener; /* client: hidden descriptors, -1 = none */
	int channel;
	struct shmipc_negotiator negotiator;
};

/* One rendezvous under way.  Private memory of the process that made it, one for each connection
 * record: however many become worth it at once, none waits for another to end. */
struct shim_upgrade {
	struct shim_rendezvous_keys keys;
	struct shim_meeting *meeting; /* NULL: none */
	int session; /* client: announced there; server: made by us, for the meeting */
	uint32_t stream;
	uint32_t steps;
	uint32_t announced; /* client: the step at which it was */
	uint32_t resets;    /* meetings that the other end has broken off */
	bool second_name;   /* server: the other name is tried in turn */
	bool agreed;	    /* server: the meeting is over, the client has said yes */
};

/* ---- rendezvous.c: those under way ---- */

int shim_rendezvous_start(void);
void shim_rendezvous_in_child(void);

/* Step lock held, also below.  NULL in a signal handler that came at a bad moment. */
struct shim_upgrade *shim_rendezvous_take(struct shim_conn *conn,
					  const struct shim_rendezvous_keys *keys);
/* It has led to something / to nothing. */
void shim_rendezvous_drop(struct shim_conn *conn);
void shim_rendezvous_give_up(struct shim_conn *conn);
struct shim_session_claim shim_rendezvous_claim(const struct shim_upgrade *u, const uint8_t *key);

/* The step lock.  A signal handler inside a step of its own thread must leave the rest to that step
 * (false). */
bool shim_rendezvous_hold(struct shim_conn *conn);
bool shim_rendezvous_try_hold(struct shim_conn *conn);
void shim_rendezvous_go_on(struct shim_conn *conn);

/* ---- meetings.c ---- */

int shim_meetings_start(void);
void shim_meetings_in_child(void);

/* NULL: too many.  One of long ago makes place for it. */
struct shim_meeting *shim_meeting_take(struct shim_conn *conn);
/* Its descriptors are closed. */
void shim_meeting_end(struct shim_upgrade *u);
/* The one that uses this hidden number, if any, ends; its connection may begin another. */
bool shim_meeting_vacate(int fd);
/* Has another connection a name at this endpoint? */
bool shim_meeting_is_offered(const struct shim_conn *conn, uint64_t endpoint);

/* ---- channel.c: its descriptors ---- */

/* The hidden number, or -errno. */
int shim_channel_hide(int fd);
int shim_channel_socket(void);
void shim_channel_close(int *fd);
/* Who is at the other end, as the kernel says; false: nobody whom we trust. */
bool shim_channel_is_trusted(int channel, int *pid);

/* ---- upgrade_attach.c ---- */

void shim_upgrade_attach(struct shim_conn *conn, int fd, int session, uint32_t stream);
/* The other side has agreed to the stream of this rendezvous.  0, or a reason. */
int shim_upgrade_take_stream(struct shim_conn *conn, int fd);

/* ---- upgrade_client.c, upgrade_server.c: one step.  -1: nothing decided, look again later; else 0
 * or a reason ---- */

int shim_upgrade_client_step(struct shim_conn *conn, int fd);
int shim_upgrade_server_step(struct shim_conn *conn, int fd);

/* The meeting makes place for another one, the connection goes on without. */
void shim_upgrade_server_break_off(struct shim_upgrade *u);

#endif
