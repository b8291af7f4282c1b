/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the sessions share, and nobody else includes.  All of it wants the table's lock
 * held. */
#ifndef SHMIPC_PRELOAD_SESSION_PARTS_H
#define SHMIPC_PRELOAD_SESSION_PARTS_H

#include "preload/session.h"

/* Fresh pages cost more than the bytes that they carry: so many streams, those that are handed out
 * first, keep some of theirs for the next connection, and all of them where that comes at once. */
enum { SHIM_SESSION_KEPT_STREAMS = 4 };

/* The client's memory of one of them. */
struct shim_session_kept {
	uint64_t left_ticks;
	uint32_t soon; /* times in a row that it was handed out soon after */
	bool warm;     /* it has more than what is kept anyway, whatever it carried last */
};

struct shim_session {
	bool used;
	struct shim_session_peer peer;
	uint32_t process; /* generation of the process that may hand out or answer */
	uint32_t live;	  /* streams in use by this process */
	uint64_t idle_since;
	struct shmipc_segment segment;
	_Atomic uint64_t woken; /* [together] in sender_cut.c */
	uint32_t letters; /* the private truth of the header's word: client written, server read */

	uint32_t fresh; /* streams from here on were never handed out */

	/* server only */
	bool doubted;  /* it may hold memory of which nobody takes care if the client ends */
	bool orphaned; /* the client has ended */

	/* client only */
	uint32_t misses;    /* offers in a row that went unanswered */
	uint32_t look_from; /* where the search among those that were begins */
	struct shim_session_kept kept[SHIM_SESSION_KEPT_STREAMS];
	/* a bit for each stream that we have left: free once the server has confirmed */
	uint64_t left[SHMIPC_STREAM_COUNT_MAX / 64];
};

/* False: a signal handler inside a call of its own thread. */
bool shim_session_enter(void);
void shim_session_go(void);

struct shim_session *shim_session_at(int index);
/* Sessions at and above were never used. */
int shim_session_limit(void);

static inline uint32_t shim_session_word(uint32_t generation, uint32_t state)
{
	return generation << 8 | state;
}

/* A cookie that one side tells, against what the other knows. */
static inline bool shim_session_contradicts(uint64_t said, uint64_t known)
{
	return said && known && said != known;
}

static inline bool shim_session_both_have_left(const struct shmipc_stream_control *control)
{
	uint32_t offer = atomic_load(&control->offer);

	return (offer & 0xff) == SHMIPC_OFFER_CLOSED &&
	       atomic_load(&control->answer) == shim_session_word(offer >> 8, SHMIPC_ANSWER_CLOSED);
}

bool shim_session_peer_left(const struct shim_session *session);
/* We have said so. */
bool shim_session_has_left(const struct shim_session *session);
/* Unmaps what nobody will use. */
void shim_session_trim_idle(void);

/* The loops of a stream that both sides have left. */
void shim_session_give_back(const struct shim_session *session, uint32_t stream);
/* Whatever has become of it. */
void shim_session_drop_pages(const struct shim_session *session, uint32_t stream);
/* Has one of them carried more than what is kept anyway? */
bool shim_session_has_grown(const struct shim_session *session, uint32_t stream);

/* ---- session_client.c ---- */

void shim_session_client_leave(struct shim_session *session, uint32_t stream);
/* Another process leaves it some day. */
void shim_session_client_release(struct shim_session *session, uint32_t stream);

/* ---- session_server.c ---- */

void shim_session_server_leave(struct shim_session *session, uint32_t stream);
/* It is about to be unmapped: no announcement in it is known any more. */
void shim_session_server_forget(int index);

/* ---- session_warm.c ---- */

/* The client hands the stream out.  Is it warm? */
bool shim_session_take_warm(struct shim_session *session, uint32_t stream);
/* It leaves the stream.  Before the server can take it for left: it may be the last one.  Does its
 * memory stay? */
bool shim_session_leave_warm(struct shim_session *session, uint32_t stream);
/* The client hands out none any more. */
void shim_session_client_drop(struct shim_session *session);
/* A stream of it was left that holds memory. */
void shim_session_server_doubts(struct shim_session *session);
void shim_session_cool_if_due(void);

#endif
