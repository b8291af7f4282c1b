/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream from the inside.
 *
 * rx is guarded by the session's lock.  tx belongs to the one thread that writes; slices for it are
 * taken and given back under the lock.
 */
#ifndef SHMIPC_CORE_IPC_STREAM_H
#define SHMIPC_CORE_IPC_STREAM_H

#include "core/ipc/session.h"

/* A run of received bytes: in a slice, or in a block that came by the socket. */
struct shmipc_rx_piece {
	const uint8_t *at;	   /* first unread byte */
	uint32_t left;		   /* unread */
	struct shmipc_slice slice; /* offset 0: */
	struct shmipc_block *block;
};

/* Pieces in order of arrival, a ring of `mask + 1`:
 *	[held, next)  read to their end, but a view may point into them
 *	[next, end)   unread; the first one perhaps in part */
struct shmipc_rx {
	struct shmipc_rx_piece *pieces;
	uint32_t mask;
	uint32_t held, next, end;
	size_t unread;
	bool viewed;			/* views are out */
	struct shmipc_stitch *stitches; /* views that are copies */
	struct shmipc_stitch *spare_stitch;
};

struct shmipc_stitch {
	struct shmipc_stitch *next;
	size_t room;
	uint8_t data[];
};

struct shmipc_tx_piece {
	uint8_t *at;
	size_t capacity, bytes;
	struct shmipc_slice slice; /* offset 0: ordinary memory */
};

struct shmipc_tx {
	struct shmipc_tx_piece *pieces;
	uint32_t count, room;
	uint32_t current; /* being written; those behind it are empty */
	uint32_t reserved_in;
	size_t reserved;
	size_t bytes;  /* committed */
	bool ordinary; /* some of it lies in ordinary memory */
};

enum shmipc_stream_news {
	SHMIPC_STREAM_DATA = 1,
	SHMIPC_STREAM_CLOSE = 2,
	SHMIPC_STREAM_WRITABLE = 4
};

struct shmipc_stream {
	struct shmipc_session *session;
	uint32_t id;
	bool peer_closed;
	bool close_pending; /* the peer's close came by the ring; its socket may hold data yet */
	bool shut;	    /* by the application */
	bool fallback;	    /* everything goes by the socket */
	bool accepted;	    /* is the application's (or a client's pool's) */
	bool used;	    /* the peer knows of it */
	bool blocked;	    /* a flush said -EAGAIN; on_writable is due */
	struct shmipc_rx rx;
	struct shmipc_tx tx;
	uint64_t out_mark; /* session->out_sent must reach it before a flush is done; 0 = none */
	uint64_t read_deadline_ns, write_deadline_ns;
	struct shmipc_stream *next; /* accept queue, spare list, client's pool */
	struct shmipc_stream *next_closing;

	/* callbacks */
	struct shmipc_stream_callbacks callbacks;
	void *callback_user, *user;
	struct shmipc_task task;
	uint32_t news;
	bool told_close;
};

/* ---- stream.c (lock held) ------------------------------------------------------------------- */

/* Arrivals, for session_input.c. */
int shmipc_stream_receive_slice(struct shmipc_stream *stream,
				const struct shmipc_slice_content *content);
int shmipc_stream_receive_block(struct shmipc_stream *stream, struct shmipc_block *block);
void shmipc_stream_arrived(struct shmipc_stream *stream);
void shmipc_stream_peer_closed(struct shmipc_stream *stream);
/* The session has ended. */
void shmipc_stream_session_ended(struct shmipc_stream *stream);
/* Tells the loop, if there are callbacks. */
void shmipc_stream_tell(struct shmipc_stream *stream, uint32_t news);

/* A flush of it said -EAGAIN: on_writable is due. */
void shmipc_stream_try_again(struct shmipc_stream *stream);

/* No callback of it runs any more, or will.  The lock is let go meanwhile. */
void shmipc_stream_mute(struct shmipc_stream *stream);

/* Gives everything back that it holds; tells the peer nothing. */
void shmipc_stream_empty(struct shmipc_stream *stream);
/* Makes it as new, for another user; the arrays are kept. */
void shmipc_stream_reset(struct shmipc_stream *stream);
/* Takes it out of the session, and tells the peer if it does not know. */
void shmipc_stream_end(struct shmipc_stream *stream);
void shmipc_stream_free(struct shmipc_stream *stream);

/* A stream of the session that the application gets: it holds the session. */
void shmipc_stream_hand_out(struct shmipc_stream *stream);

/* Why there is no more to come, and why nothing can be sent; 0: nothing is wrong. */
int shmipc_stream_read_error(const struct shmipc_stream *stream);
int shmipc_stream_write_error(const struct shmipc_stream *stream);

/* ---- stream_write.c (lock held) ------------------------------------------------------------- */

void shmipc_tx_drop(struct shmipc_stream *stream);
/* An empty slice is the first of the next message. */
void shmipc_tx_keep(struct shmipc_stream *stream, struct shmipc_slice slice);

/* ---- stream_read.c (lock held) -------------------------------------------------------------- */

void shmipc_rx_drop(struct shmipc_stream *stream);

#endif
