/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: the segments that this process shares with others, and the streams in them.
 *
 * The client of a session (whose connections go out to the other) hands out its streams; the server
 * answers.  A stream is reused only when both have said that they are through with it: generation *
 * 256 + state, one word for each side, each written by that side only.  Whoever says so last gives
 * the memory of a large conversation back.  No descriptor stays open for a session.
 *
 * A pair of processes has few sessions however many connections it has: each new one is four times
 * as large as the one before.
 *
 * The table is private to the process; a forked child uses what it inherited for its inherited
 * connections, and makes sessions of its own for new ones.
 */
#ifndef SHMIPC_PRELOAD_SESSION_H
#define SHMIPC_PRELOAD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/segment.h"

enum {
	SHIM_SESSION_MAX = 1024,
	SHIM_SESSION_STREAMS = 32, /* of a pair's first session */
	SHIM_SESSION_RING_BYTES = 1 << 22,
	SHIM_SESSION_IDLE_MAX = 8,
	SHIM_SESSION_IDLE_STREAMS = 64, /* a larger one is not kept when it is idle */
	/* of a process whose address space is limited */
	SHIM_SESSION_STREAMS_MIN = 4,
	SHIM_SESSION_RING_BYTES_MIN = 1 << 18,
	SHIM_SESSION_PART_OF_LIMIT = 16, /* one session takes no more than this part of it */
};

/* The connection that a stream is for.  Cookies: 0 = not known. */
struct shim_session_claim {
	const uint8_t *key; /* SHMIPC_KEY_BYTES */
	uint64_t self_cookie;
	uint64_t peer_cookie;
};

/* Who is at the other end of a new session. */
struct shim_session_peer {
	bool is_client;	   /* we are */
	int pid;	   /* as the kernel says; 0: not known */
	uint64_t endpoint; /* digest of the listener's name: where the client's connections go */
};

struct shim_session_size {
	uint32_t streams;
	uint64_t ring_bytes;
};

/* So much address space may a session take; UINT64_MAX where there is no limit, or none is known.
 */
uint64_t shim_session_bytes_max(void);

/* Server: what the segment of the next session with this process is to hold. */
struct shim_session_size shim_session_size(int pid);

/* Add a mapped segment, whose first stream is in use from now on; the server calls it before the
 * client can know of the segment.  Index, and the segment is taken over; or -ENOSPC, -EBUSY. */
int shim_session_add(const struct shmipc_segment *segment, const struct shim_session_peer *peer,
		     const struct shim_session_claim *claim);
const struct shmipc_segment *shim_session_segment(int index);
_Atomic uint64_t *shim_session_woken(int index);

/* ---- session_client.c ---- */

/* Take a free stream of a session to this endpoint and announce the connection.
 * 0 and *session, *stream; -ENOENT: no such session, or all streams taken. */
int shim_session_offer(uint64_t endpoint, const struct shim_session_claim *claim, int *session,
		       uint32_t *stream);
/* The server has unmapped the session: it answers no more. */
bool shim_session_is_over(int session);
/* Has the server answered? */
bool shim_session_answered(int session, uint32_t stream, uint64_t peer_cookie);

/* ---- session_server.c ---- */

/* Find the announcement of this connection among all sessions, and answer it. */
int shim_session_answer(const struct shim_session_claim *claim, int *session, uint32_t *stream);
/* Has a client of this endpoint a session with us?  Then the next connection is probably one that
 * it will announce there. */
bool shim_session_serves(uint64_t endpoint);

/* ---- both ---- */

/* This side is through with the stream; the session is unmapped when nothing lives in it and too
 * many idle. */
void shim_session_leave(int session, uint32_t stream);
/* The same for an offer that has led to nothing. */
void shim_session_withdraw(int session, uint32_t stream);
/* This process is through with the stream, another one that shares the connection is not. */
void shim_session_release(int session, uint32_t stream);

/* ---- session_warm.c ---- */

/* Before a sleep: gives the memory back that was kept for connections which did not come.  The
 * deadline, or an earlier time at which to look again. */
uint64_t shim_session_cool(uint64_t deadline_ns);
/* Is there anything to be looked at?  Costs a load. */
bool shim_session_may_be_warm(void);

/* fork: no other thread is inside while the process is copied. */
void shim_session_before_fork(void);
void shim_session_after_fork(void);
/* The process, or its program, ends: its peers need not keep what they share with it. */
void shim_session_exit(void);

#endif
