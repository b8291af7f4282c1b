/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session from the inside.
 *
 * One lock guards all of it.  Whoever holds the lock may take elements from the receive queue and
 * messages from the socket, and hands each to the stream that it is for.  Only one thread sleeps on
 * the socket (the leader); the others that wait sleep on a word of their own, and a leader who
 * leaves wakes one of them to lead.  With a dispatcher thread nobody leads: it does.
 *
 * Files: session.c life, session_input.c from the peer, session_output.c to the peer,
 * session_wait.c waiting, session_streams.c which streams there are, session_loop.c callbacks.
 */
#ifndef SHMIPC_CORE_IPC_SESSION_H
#define SHMIPC_CORE_IPC_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ipc/config.h"
#include "core/ipc/handshake.h"
#include "core/ipc/loop.h"
#include "core/ipc/mapping.h"
#include "core/ipc/mutex.h"
#include "core/ipc/queue.h"
#include "core/message.h"
#include "core/spin.h"

/* What goes out by the socket, or came in by it and is not read yet. */
struct shmipc_block {
	struct shmipc_block *next;
	size_t bytes;			 /* in `data` */
	size_t done;			 /* sent, or received so far */
	struct shmipc_fallback fallback; /* received ones: whose */
	uint8_t data[];
};

/* What a received block counts for against fallback_bytes_max: the memory that it takes too, else a
 * peer that sends single bytes could have us hold many times as much. */
static inline uint64_t shmipc_block_weight(uint64_t bytes)
{
	enum { BLOCK_BYTES = 128 };

	return bytes + BLOCK_BYTES;
}

struct shmipc_slice_cache {
	uint32_t *offsets; /* `limit` of them */
	uint32_t count, limit;
};

struct shmipc_waiter {
	struct shmipc_waiter *next;
	const void *object;    /* what it waits for: a stream, or the session */
	_Atomic uint32_t word; /* 1: look again */
	bool sleeps;	       /* on the word */
};

struct shmipc_stream_table {
	struct shmipc_stream **slots; /* power of two, at most half full */
	uint32_t mask, count;
	uint32_t multiplier; /* odd, and not known to the peer */
};

/* Whose sessions these are: a client or a listener.  The calls come without a lock held. */
struct shmipc_session_owner {
	_Atomic uint32_t refs;
	void (*free)(struct shmipc_session_owner *owner);
	void (*mapped)(struct shmipc_session_owner *owner, struct shmipc_session *session);
	void (*hot_restart)(struct shmipc_session_owner *owner, struct shmipc_session *session,
			    uint64_t epoch);
	void (*acknowledged)(struct shmipc_session_owner *owner, struct shmipc_session *session,
			     uint64_t epoch);
	/* it was retired, and the last stream of it is closed */
	void (*idle)(struct shmipc_session_owner *owner, struct shmipc_session *session);
	void (*ended)(struct shmipc_session_owner *owner, struct shmipc_session *session);
};

enum shmipc_session_news {
	SHMIPC_NEWS_MAPPED = 1,
	SHMIPC_NEWS_HOT_RESTART = 2,
	SHMIPC_NEWS_ACKNOWLEDGED = 4,
	SHMIPC_NEWS_IDLE = 8,
	SHMIPC_NEWS_ENDED = 16
};

enum { SHMIPC_INPUT_ROOM = 1024, SHMIPC_RECENT_IDS = 256 };

struct shmipc_session {
	struct shmipc_mutex lock;
	_Atomic uint32_t refs;
	uint32_t generation; /* of the process that it belongs to */
	enum shmipc_role role;
	int fd;
	uint8_t version;
	bool peer_is_ours;
	bool peer_has_mapped; /* client: seen by something that it did */
	struct shmipc_shared_config *config;
	char id[128];

	/* memory */
	struct shmipc_mapping *buffer;
	struct shmipc_pool *pool; /* of the buffer */
	struct shmipc_area queues;
	struct shmipc_queue send, receive;
	struct shmipc_slice_cache *cache; /* one for each list */

	/* streams */
	struct shmipc_stream_table streams;
	struct shmipc_stream *spare; /* freed ones, to be used again */
	uint32_t spare_count;
	struct shmipc_stream *accept_first, *accept_last;
	uint32_t accept_count;
	uint32_t next_id;
	uint32_t recent[SHMIPC_RECENT_IDS]; /* closed here before the peer did: late data is not new
					     */
	uint32_t recent_at;
	struct shmipc_stream
		*closing; /* closed by the peer's ring; its socket has to be read first */

	/* from the socket */
	uint8_t input[SHMIPC_INPUT_ROOM];
	size_t input_bytes;
	struct shmipc_block *incoming; /* a fallback message, not complete */
	uint64_t fallback_held;	       /* weight of what came by the socket and is not freed */
	bool harvesting, reading;
	bool sends_later; /* something to send came up meanwhile */

	/* to the socket */
	struct shmipc_block *out_first, *out_last;
	uint64_t out_queued, out_sent; /* bytes, ever */
	struct shmipc_block *out_busy; /* what a thread is sending */
	bool writing;		       /* a thread is in send() */
	bool wants_writable;	       /* EPOLLOUT is asked for */

	/* waiting */
	struct shmipc_waiter *waiters;
	struct shmipc_waiter *leader;
	bool leader_sleeps;
	uint32_t awake; /* threads that look at the receive queue by themselves */
	uint32_t looks; /* since the socket was looked at */
	int wake_fd;	/* eventfd, made when a second thread may need it; -1 */
	struct shmipc_spin spin;

	/* end */
	bool ended;
	bool orderly; /* by the peer's end of file, or by this side */
	bool closed;  /* the application gave its handle back */
	int reason;   /* -errno for calls on streams */
	uint64_t unhealthy_until_ns;

	/* callbacks */
	struct shmipc_loop *loop;
	struct shmipc_session_callbacks callbacks;
	void *user;
	struct shmipc_source source;
	struct shmipc_task task;
	struct shmipc_timer timer; /* flushes that wait for room in the queue */
	struct shmipc_timer monitor_timer;
	struct shmipc_awake awake_in_loop;
	bool begin_due; /* on_session has not been called yet */
	bool told_end;
	bool loop_owned; /* freed after on_shutdown */

	/* owner */
	struct shmipc_session_owner *owner;
	struct shmipc_session *owner_next; /* the owner's */
	bool owner_flag;		   /* the owner's */
	bool counted;			   /* the owner's: has the figures of one that has ended */
	bool retired;			   /* no new streams; ends with its last one */
	uint32_t news;
	uint64_t epoch; /* of the last HotRestart or its acknowledgement */

	struct shmipc_metrics metrics;
	uint32_t active_streams; /* that the application or the client's pool holds */
};

/* ---- session.c ------------------------------------------------------------------------------ */

/* Makes a session of a complete handshake, whose parts it takes on success; the fd too. */
int shmipc_session_new(struct shmipc_handshake *handshake, struct shmipc_shared_config *config,
		       struct shmipc_session **out);
/* Connects it to its loop; before anything else is done with it. */
int shmipc_session_attach(struct shmipc_session *session, struct shmipc_loop *loop,
			  const struct shmipc_session_callbacks *callbacks, void *user);
void shmipc_session_set_owner(struct shmipc_session *session, struct shmipc_session_owner *owner);
void shmipc_session_clear_owner(struct shmipc_session *session);
void shmipc_owner_get(struct shmipc_session_owner *owner);
void shmipc_owner_put(struct shmipc_session_owner *owner);

/* Lock held: the last stream may just have gone. */
void shmipc_session_check_idle(struct shmipc_session *session);
/* Adds what `from` has counted; the gauges too. */
void shmipc_metrics_add(struct shmipc_metrics *to, const struct shmipc_metrics *from);
/* Lock held: the figures of now. */
void shmipc_session_figures(struct shmipc_session *session, struct shmipc_metrics *out);
void shmipc_metrics_copy(const struct shmipc_metrics *from, struct shmipc_metrics *out,
			 size_t bytes);

void shmipc_session_get(struct shmipc_session *session);
void shmipc_session_put(struct shmipc_session *session);

/* Lock held: the session is over.  reason: what calls on its streams return. */
void shmipc_session_end(struct shmipc_session *session, int reason, bool orderly);

static inline bool shmipc_session_is_foreign(const struct shmipc_session *session)
{
	return session->generation != shmipc_process_generation();
}

static inline void shmipc_session_lock(struct shmipc_session *session)
{
	shmipc_mutex_lock(&session->lock);
}
void shmipc_session_deliver(struct shmipc_session *session);
/* Tells the owner what happened meanwhile. */
static inline void shmipc_session_unlock(struct shmipc_session *session)
{
	if (session->news)
		shmipc_session_deliver(session);
	else
		shmipc_mutex_unlock(&session->lock);
}

/* All that can be taken without waiting is taken; lock not held. */
void shmipc_session_poke(struct shmipc_session *session);

/* A handshake over a connected socket, until the deadline; blocks. */
int shmipc_session_shake(struct shmipc_handshake *handshake, uint64_t deadline_ns);
/* The same, and the session; a client's memory is made for it alone.  In client.c. */
int shmipc_session_over(int fd, enum shmipc_role role, struct shmipc_shared_config *config,
			struct shmipc_session **out);

/* ---- session_input.c (lock held) ------------------------------------------------------------ */

/* Takes what is in the receive queue and hands it out. */
void shmipc_session_harvest(struct shmipc_session *session);
/* Reads the socket until it is empty. */
void shmipc_session_read(struct shmipc_session *session);
/* Where bytes from the socket go next, and that so many came (0: end of file, <0: -errno). */
void *shmipc_session_input(struct shmipc_session *session, size_t *room);
void shmipc_session_got(struct shmipc_session *session, ssize_t n);
/* Slices of elements that a dead peer did not take. */
void shmipc_session_reclaim(struct shmipc_session *session);

/* ---- session_output.c (lock held) ----------------------------------------------------------- */

struct shmipc_block *shmipc_block_new(size_t bytes);
void shmipc_session_queue_block(struct shmipc_session *session, struct shmipc_block *block);
/* Sends what can be sent without waiting.  The lock is let go meanwhile. */
void shmipc_session_pump(struct shmipc_session *session);
/* The consumer sleeps: a Polling message. */
void shmipc_session_wake_peer(struct shmipc_session *session);
/* A small message: queued, and sent if possible. */
void shmipc_session_send_close(struct shmipc_session *session, uint32_t stream, bool by_socket);
void shmipc_session_send_epoch(struct shmipc_session *session, uint8_t type, uint64_t epoch);

int shmipc_session_take(struct shmipc_session *session, uint32_t list, struct shmipc_slice *out);
void shmipc_session_give(struct shmipc_session *session, struct shmipc_slice slice);

/* ---- session_wait.c (lock held) ------------------------------------------------------------- */

/* Waits until ready(argument), which is asked with the lock held.  0, -EAGAIN, -ETIMEDOUT.  ready()
 * must say true when the session has ended. */
int shmipc_session_wait(struct shmipc_session *session, const void *object,
			bool (*ready)(void *argument), void *argument, uint64_t deadline_ns);
/* Waits a moment for the peer to take from the queue or the socket; takes what comes meanwhile.
 * patience: 0 at first, counts up. */
void shmipc_session_wait_room(struct shmipc_session *session, uint32_t *patience, bool socket_too,
			      uint64_t deadline_ns);
/* The peer is a libshmipc, and spinning is allowed. */
bool shmipc_session_may_spin(struct shmipc_session *session);
/* Wakes who waits for the object. */
void shmipc_session_notify(struct shmipc_session *session, const void *object);
void shmipc_session_notify_all(struct shmipc_session *session);
/* The leader looks again. */
void shmipc_session_kick(struct shmipc_session *session);
/* The peer has to wake the loop again, whatever was read from the socket. */
void shmipc_session_settle(struct shmipc_session *session);

/* ---- session_streams.c (lock held) ---------------------------------------------------------- */

struct shmipc_stream *shmipc_streams_find(const struct shmipc_session *session, uint32_t id);
int shmipc_streams_open(struct shmipc_session *session, uint32_t id, struct shmipc_stream **out);
void shmipc_streams_remove(struct shmipc_session *session, struct shmipc_stream *stream);
/* Gives a stream's memory to the spare ones, or frees it. */
void shmipc_streams_recycle(struct shmipc_session *session, struct shmipc_stream *stream);
void shmipc_streams_forget(struct shmipc_session *session, uint32_t id);
bool shmipc_streams_was_closed(const struct shmipc_session *session, uint32_t id);
void shmipc_streams_for_each(struct shmipc_session *session,
			     void (*visit)(struct shmipc_stream *stream));
void shmipc_streams_free(struct shmipc_session *session);

/* ---- session_loop.c ------------------------------------------------------------------------- */

int shmipc_session_join_loop(struct shmipc_session *session, struct shmipc_loop *loop);
/* Lock held. */
void shmipc_session_tell(struct shmipc_session *session);
void shmipc_session_want_writable(struct shmipc_session *session, bool wanted);
/* Lock held: try the flushes that found no room again soon. */
void shmipc_session_retry_later(struct shmipc_session *session);
void shmipc_session_leave_loop(struct shmipc_session *session);
/* Lock held: nobody looks at the receive queue any more.  False: something came. */
bool shmipc_session_rest(struct shmipc_session *session);

#endif
