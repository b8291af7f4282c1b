/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: the segments that this process shares with others, one for each pair of processes, and the streams in
 * them.
 *
 * The client of a session (whose connections go out to the other) hands out its streams; the server answers.  A
 * stream is reused only when both have said that they are through with it: generation * 256 + state, one word for
 * each side, each written by that side only.  No descriptor stays open for a session.
 *
 * The table is private to the process; a forked child uses what it inherited for its inherited connections, and
 * makes sessions of its own for new ones.
 */
#ifndef SHMIPC_PRELOAD_SESSION_H
#define SHMIPC_PRELOAD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/segment.h"

enum {
	SHIM_SESSION_MAX = 1024,
	SHIM_SESSION_STREAMS = 32,
	SHIM_SESSION_RING_BYTES = 1 << 22,
	SHIM_SESSION_IDLE_MAX = 8,
};

struct shim_session {
	bool used;
	bool is_client;
	uint32_t process; /* generation of the process that may hand out or answer */
	uint32_t live;	  /* streams in use by this process */
	uint64_t idle_since;
	uint64_t endpoint; /* digest of the listener's name: where the client's connections go */
	struct shmipc_segment segment;
};

/* Add a mapped segment; index or -ENOSPC. Takes the segment over. */
int shim_session_add(const struct shmipc_segment *segment, bool is_client, uint64_t endpoint);
struct shim_session *shim_session_at(int index);

/* Client: take a free stream of a session to this endpoint and announce the connection with this key.
 * 0 and *session, *stream; -ENOENT: no such session, or all streams taken. */
int shim_session_offer(uint64_t endpoint, const uint8_t key[SHMIPC_KEY_BYTES], int *session, uint32_t *stream);
/* Client: has the server answered? */
bool shim_session_answered(int session, uint32_t stream);
/* Client: take the first stream of a fresh session (the server attached it when it made the segment). */
void shim_session_take_first(int session, const uint8_t key[SHMIPC_KEY_BYTES]);

/* Server: find the announcement with this key among all sessions, and answer it. */
int shim_session_answer(const uint8_t key[SHMIPC_KEY_BYTES], int *session, uint32_t *stream);
/* Server: the first stream of the segment that we have just made. */
void shim_session_answer_first(int session);

/* This side is through with the stream; the session is unmapped when nothing lives in it and too many idle. */
void shim_session_leave(int session, uint32_t stream);
void shim_session_withdraw(int session, uint32_t stream);

#endif
