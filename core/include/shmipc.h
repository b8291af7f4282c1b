/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libshmipc: streams between two processes of one host over shared memory, speaking shmipc
 * (protocol versions 2 and 3) as the services in Go and Rust do.  The only public header.
 *
 * OBJECTS
 *	client    a pool of sessions to one address (the protocol's session manager)
 *	listener  accepts sessions
 *	session   one control connection, two IO queues and a buffer mapping; carries many streams
 *	stream    an ordered stream of bytes in both directions; only clients open streams
 *	loop      optional: runs callbacks, in the application's own loop or in one thread
 *
 * WAITING.  Without a loop nothing runs behind the application's back: whoever waits in a call
 * moves the session forward, for its own stream and for all others.  With a loop, whoever calls
 * shmipc_process() does, or the thread that shmipc_loop_start() made.  Both ways mix.
 *
 * THREADS.  Every function may be called from any thread, objects may be shared, with two limits:
 * one stream is read by one thread and written by one thread at a time, and an object is destroyed
 * when no other call on it is running (shmipc_stream_shutdown() ends such calls).  A callback that
 * runs in another thread is no such call: closing its stream or session, and changing a stream's
 * callbacks, waits until it has returned, and afterwards none runs: so not while a lock is held
 * that the callback takes, nor from a callback of another loop that may do the same to this one's.
 * In a process made by fork() the objects of its parent are dead: calls return -ECHILD and change
 * nothing that the parent or the peer can see; destroying them there is safe and frees the child's
 * copy.
 *
 * SIGNALS.  No function is async-signal-safe, except shmipc_version(), shmipc_fd() and
 * shmipc_loop_wake().  A signal handler that returns does not end a wait.  SIGPIPE is never raised.
 *
 * RESULTS.  0 or a count is success, a negative errno is failure; errno itself is left alone.
 * What any call on streams may return:
 *	-ETIMEDOUT   the deadline passed       -EAGAIN      it was SHMIPC_NOWAIT and not ready
 *	-EPIPE       the peer closed the stream (writing)
 *	-ENODATA     the peer closed it, and fewer bytes than asked for are left (reading)
 *	-ECONNRESET  the session ended without that: its peer died
 *	-EPROTO      the peer broke the protocol, and the session was ended for it
 *	-ESHUTDOWN   shut down or closed on this side        -ECHILD   see THREADS
 *	-ENOMEM, -EMFILE and the like when the host refuses
 *
 * TIME.  Deadlines are absolute nanoseconds of CLOCK_MONOTONIC; see shmipc_deadline_after().
 */
#ifndef SHMIPC_H
#define SHMIPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SHMIPC_VERSION_MAJOR 0
#define SHMIPC_VERSION_MINOR 1
#define SHMIPC_VERSION_PATCH 0
#define SHMIPC_VERSION "0.1.0"
/* For comparisons by the preprocessor. */
#define SHMIPC_VERSION_NUMBER \
	(SHMIPC_VERSION_MAJOR * 10000 + SHMIPC_VERSION_MINOR * 100 + SHMIPC_VERSION_PATCH)

#if defined(__GNUC__)
#define SHMIPC_API __attribute__((visibility("default")))
#else
#define SHMIPC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct shmipc_loop;
struct shmipc_client;
struct shmipc_listener;
struct shmipc_session;
struct shmipc_stream;

/* "0.1.0": of the library that is loaded, which need not be the one that was compiled against. */
SHMIPC_API const char *shmipc_version(void);

/* ---- time ---------------------------------------------------------------------------------- */

#define SHMIPC_NEVER UINT64_MAX	  /* as a deadline: wait as long as it takes */
#define SHMIPC_NOWAIT UINT64_C(0) /* as a deadline: do not wait, -EAGAIN instead */

/* The deadline that lies timeout_ns from now; SHMIPC_NEVER gives SHMIPC_NEVER. */
SHMIPC_API uint64_t shmipc_deadline_after(uint64_t timeout_ns);

/* ---- metrics ------------------------------------------------------------------------------- */

/* Counts since the object was created, except where it says "now".  New members come at the end:
 * a caller says how many bytes it knows. */
struct shmipc_metrics {
	uint64_t wakeups_sent;	   /* Polling messages to the peer */
	uint64_t wakeups_received; /* Polling messages from the peer */
	uint64_t bytes_sent;	   /* payload, by whatever way */
	uint64_t bytes_received;
	uint64_t messages_sent; /* flushes that sent something */
	uint64_t messages_received;
	uint64_t fallback_sent; /* messages that found no shared memory and took the socket */
	uint64_t fallback_received;
	uint64_t allocation_failures; /* shared memory was asked for more than it had */
	uint64_t queue_full;	      /* a flush or a close met a full IO queue */
	uint64_t connection_errors;   /* sessions that ended by an error or a dead peer */
	uint64_t reconnects;	      /* sessions of a client that were replaced after their end */
	uint64_t hot_restarts;	      /* completed, on either side */
	uint64_t hot_restart_errors;  /* not completed in time, or the new server refused */
	uint64_t sleeps;	      /* waits that went into the kernel */
	uint64_t spins_won;	      /* waits that ended before it by looking */
	uint64_t active_streams;      /* now */
	uint64_t sessions;	      /* now */
	uint64_t shared_bytes;	      /* now: payload capacity of the shared memory */
	uint64_t shared_bytes_in_use; /* now: of it, out of the free lists */
};

/* Snapshots.  `bytes` is sizeof(struct shmipc_metrics) as the caller knows it.  Any thread; the
 * members are read one after the other.  A client's or listener's is the sum over its sessions,
 * those that have ended included. */
SHMIPC_API void shmipc_session_metrics(struct shmipc_session *session, struct shmipc_metrics *out,
				       size_t bytes);
SHMIPC_API void shmipc_client_metrics(struct shmipc_client *client, struct shmipc_metrics *out,
				      size_t bytes);
SHMIPC_API void shmipc_listener_metrics(struct shmipc_listener *listener,
					struct shmipc_metrics *out, size_t bytes);

/* ---- configuration ------------------------------------------------------------------------- */

enum shmipc_memory {
	SHMIPC_MEMORY_FILE = 0, /* files below path_prefix: protocol 2, Unix and TCP connections */
	SHMIPC_MEMORY_MEMFD = 1 /* sealed memory without a name: protocol 3, Unix only; works
				   between different users too */
};

enum shmipc_log_level {
	SHMIPC_LOG_ERROR = 0,
	SHMIPC_LOG_WARNING = 1,
	SHMIPC_LOG_INFO = 2,
	SHMIPC_LOG_DEBUG = 3
};

/* Slices of one size; `percent` of the buffer goes to them. */
struct shmipc_slice_class {
	uint32_t bytes; /* payload of one slice, a multiple of 4; the header adds 20 */
	uint32_t percent;
};

enum { SHMIPC_SLICE_CLASSES_MAX = 8 };

/* Fill it with shmipc_config_init(), change what you like, pass it; it is copied.  Members that
 * shape the memory matter on clients only: the client creates it, the server follows. */
struct shmipc_config {
	size_t struct_bytes; /* set by shmipc_config_init() */

	/* memory; the defaults are shmipc's */
	enum shmipc_memory memory;  /* SHMIPC_MEMORY_FILE */
	uint32_t buffer_bytes;	    /* 32 MiB, at least 1 MiB; shared by a client's sessions */
	uint32_t queue_capacity;    /* 8192 elements in each direction of a session */
	uint32_t slice_class_count; /* 3 */
	struct shmipc_slice_class slice_classes[SHMIPC_SLICE_CLASSES_MAX];
	/* {8172, 50}, {32748, 30}, {131052, 20}; percents sum to 100 */
	const char *path_prefix; /* "/dev/shm/shmipc" */
	uint32_t file_mode;	 /* 0600: of the files; 0666 lets every user's server open them */

	/* client */
	uint32_t sessions;	     /* 1; 1 to 1024 */
	uint32_t pooled_streams_max; /* 4096 idle streams kept by each session */
	uint32_t reconnect_min_ms;   /* 50: pause before the first attempt to reconnect ... */
	uint32_t reconnect_max_ms;   /* 5000: ... doubled after each failure up to this */
	uint32_t breaker_ms;	     /* 30000: no new streams on a session for so long after it had
					to fall back to the socket; 0: no circuit breaker */

	/* time-outs */
	uint32_t handshake_timeout_ms;	 /* 1000: from connect() to the session's first stream */
	uint32_t write_timeout_ms;	 /* 10000: a flush whose stream has no write deadline */
	uint32_t hot_restart_timeout_ms; /* 2000 */

	/* what a peer can make this process hold; beyond: the session ends with -ENOBUFS, except
	 * for streams, of which the new one is closed again */
	uint32_t streams_max;	     /* 65536 open streams of a session */
	uint32_t accept_backlog;     /* 1024 streams that nobody has accepted yet */
	uint64_t fallback_bytes_max; /* 256 MiB received by the socket and not read yet; each
					message counts 128 bytes more */
	uint32_t handshakes_max;     /* 256 connections of a listener that are not sessions yet */
	uint32_t foreign_buffer_max_bytes; /* 4 GiB - 1: a larger mapping is refused */

	/* speed */
	uint32_t spin_us;	/* 50: a wait looks for so long before it sleeps, where that has
				   proved to pay and the peer is a libshmipc too; 0: never */
	uint32_t cached_slices; /* 64: slices of each class kept at hand by a session instead of
				   in the free lists; never more than a 16th of a class */

	/* observation; called without any lock of the library held, from whatever thread found
	 * out.  They must not call the library. */
	void (*log)(void *user, enum shmipc_log_level level, const char *text); /* NULL */
	enum shmipc_log_level log_level; /* SHMIPC_LOG_WARNING */
	/* once when a session ends, and every monitor_interval_ms where a loop runs */
	void (*monitor)(void *user, const char *session_id, const struct shmipc_metrics *metrics);
	uint32_t monitor_interval_ms; /* 30000 */
	void *user;		      /* first argument of both */
};

/* The defaults named above.  `bytes` is sizeof(struct shmipc_config) as the caller knows it. */
SHMIPC_API void shmipc_config_init(struct shmipc_config *config, size_t bytes);

/* 0, or -EINVAL with *why_out (may be NULL) set to a sentence that never needs to be freed. */
SHMIPC_API int shmipc_config_check(const struct shmipc_config *config, const char **why_out);

/* ---- loop ---------------------------------------------------------------------------------- */

/*
 * Callbacks run only in shmipc_process(), or in the thread of shmipc_loop_start().  They may call
 * everything, waiting calls too, but not destroy the loop.  Callbacks of one loop run one at a
 * time.  A loop must outlive what was created with it.
 */
SHMIPC_API int shmipc_loop_create(struct shmipc_loop **loop_out);

/* Stops the thread if there is one.  -EBUSY: clients, listeners or sessions still use it. */
SHMIPC_API int shmipc_loop_destroy(struct shmipc_loop *loop);

/* A descriptor to put into poll() or epoll: readable when shmipc_process() has something to do,
 * time-outs included.  The loop owns it.  Do not read from it. */
SHMIPC_API int shmipc_fd(const struct shmipc_loop *loop);

/*
 * Does what there is to do and runs the callbacks that are due; waits for something to do until the
 * deadline, SHMIPC_NOWAIT: not at all.  Returns the number of callbacks run, 0 at the deadline or
 * after shmipc_loop_wake().  -EBUSY: another thread is in here, or shmipc_loop_start() was called;
 * also from within a callback.
 */
SHMIPC_API int shmipc_process(struct shmipc_loop *loop, uint64_t deadline_ns);

/* Makes the running or next shmipc_process() return early.  Async-signal-safe. */
SHMIPC_API void shmipc_loop_wake(struct shmipc_loop *loop);

/* The dispatcher: one thread, all signals blocked in it, that processes until shmipc_loop_stop().
 * -EALREADY: it runs.  This is the only thread that the library ever makes. */
SHMIPC_API int shmipc_loop_start(struct shmipc_loop *loop);
/* Returns when the thread has ended; no callback runs afterwards.  -EDEADLK: from a callback. */
SHMIPC_API int shmipc_loop_stop(struct shmipc_loop *loop);

/* ---- client -------------------------------------------------------------------------------- */

/*
 * Addresses: "unix:/path", "unix:@abstract", "tcp:127.0.0.1:7000", "tcp:[::1]:7000" (numbers only).
 * Connects config->sessions sessions (NULL: the defaults) and waits for their handshakes, at most
 * handshake_timeout_ms.  All or none.  loop may be NULL; with one, lost sessions are reconnected in
 * the background, without one by shmipc_client_get_stream().
 *
 * The files of SHMIPC_MEMORY_FILE are removed as soon as every server has mapped them, those that a
 * killed process left when the next client with this prefix is created.
 *
 * -EINVAL (configuration, address), -ECONNREFUSED, -ENOENT and others of connect(), -ETIMEDOUT and
 * -ECONNRESET (handshake), -EPROTONOSUPPORT (memfd over TCP, or the server speaks neither version),
 * -ENOSPC (no room for the files).
 */
SHMIPC_API int shmipc_client_create(const char *address, const struct shmipc_config *config,
				    struct shmipc_loop *loop, struct shmipc_client **client_out);

/* Ends the sessions, idle streams included.  Streams that the application still holds stay valid
 * handles, return what they have received, then -ESHUTDOWN, and must still be closed. */
SHMIPC_API void shmipc_client_destroy(struct shmipc_client *client);

/*
 * An open stream: an idle one that was put back, or a new one.  Sessions take turns, 32 streams
 * each.  The caller owns the stream until it puts it back or closes it.  Does not wait, except to
 * reconnect a lost session when no loop does: until the deadline.
 * -EBUSY: the circuit breaker of every session is open.  -ENOTCONN: no session, and none could be
 * had yet.  -EUSERS: streams_max.
 */
SHMIPC_API int shmipc_client_get_stream(struct shmipc_client *client, uint64_t deadline_ns,
					struct shmipc_stream **stream_out);

/* Takes the stream back for reuse.  One that has unread or unflushed bytes, has fallen back to the
 * socket or is not open is closed instead, as is one too many.  Deadlines and callbacks are reset.
 * The handle is the library's from now on. */
SHMIPC_API void shmipc_client_put_stream(struct shmipc_client *client,
					 struct shmipc_stream *stream);

/* Sessions that can open a stream now. */
SHMIPC_API unsigned int shmipc_client_healthy_sessions(struct shmipc_client *client);

/* ---- listener ------------------------------------------------------------------------------ */

struct shmipc_session_callbacks {
	/* A new session.  Not 0: refuse it; no further callback comes for it.  May be NULL. */
	int (*on_session)(struct shmipc_session *session, void *user);
	/* The peer has sent the first bytes of a new stream, which is the application's from now
	 * on: it gives it callbacks, or to a thread, and closes it at last.  NULL: see
	 * shmipc_session_accept_stream(). */
	void (*on_stream)(struct shmipc_session *session, struct shmipc_stream *stream, void *user);
	/* The session has ended; reason is 0 (the peer closed it, or this side did) or -errno.  A
	 * session that came from a listener with a loop is freed after this returns; its streams
	 * remain the application's.  May be NULL. */
	void (*on_shutdown)(struct shmipc_session *session, int reason, void *user);
};

enum shmipc_listen_flags {
	/* Take the path over from the one who listens there now, at one instant, so that no
	 * connect() is refused: the new server of a hot restart does this.  Over TCP the old one
	 * must have done it too. */
	SHMIPC_LISTEN_REPLACE = 1,
	/* Leave the path when the listener is destroyed. */
	SHMIPC_LISTEN_KEEP_PATH = 2
};

/*
 * Binds and listens.  A Unix path that nobody listens on any more is replaced.  With a loop,
 * sessions are accepted in it and told by callbacks (copied; they may be NULL without a loop).
 * flags: SHMIPC_LISTEN_*.  -EADDRINUSE and others of bind(), -EINVAL.
 */
SHMIPC_API int shmipc_listener_create(const char *address, unsigned int flags,
				      const struct shmipc_config *config, struct shmipc_loop *loop,
				      const struct shmipc_session_callbacks *callbacks, void *user,
				      struct shmipc_listener **listener_out);

/* The same over a socket that listens already (inherited, socket activation); owned on success.
 * Its path is never removed. */
SHMIPC_API int shmipc_listener_adopt(int listening_fd, const struct shmipc_config *config,
				     struct shmipc_loop *loop,
				     const struct shmipc_session_callbacks *callbacks, void *user,
				     struct shmipc_listener **listener_out);

/* Without a loop: the next session whose handshake is complete.  Clients that dawdle do not hold
 * up others.  The session is the caller's: shmipc_session_close(). */
SHMIPC_API int shmipc_listener_accept(struct shmipc_listener *listener, uint64_t deadline_ns,
				      struct shmipc_session **session_out);

/* The address that it is bound to, as getsockname() has it ("tcp:127.0.0.1:0" got a port). Valid
 * as long as the listener. */
SHMIPC_API const char *shmipc_listener_address(const struct shmipc_listener *listener);

/* Stops listening.  Sessions of a loop are shut down (on_shutdown runs in the next
 * shmipc_process()); those that were accepted by shmipc_listener_accept() go on. */
SHMIPC_API void shmipc_listener_destroy(struct shmipc_listener *listener);

/*
 * Hot restart, old server's side, once the new server listens on the same address: tells every
 * session's client to move (HotRestart).  New streams then arrive at the new server; those that are
 * open here go on.  Ends when every client has acknowledged (HotRestartAck) or gone.
 * -EALREADY: one is under way.
 */
SHMIPC_API int shmipc_listener_hot_restart(struct shmipc_listener *listener, uint64_t epoch);

/* 0: every client has moved.  -EAGAIN or -ETIMEDOUT: not yet, by the deadline.  -ETIME: some did
 * not within hot_restart_timeout_ms; they stay, and another attempt may be made.  -EINVAL: none
 * was started. */
SHMIPC_API int shmipc_listener_hot_restart_wait(struct shmipc_listener *listener,
						uint64_t deadline_ns);

/* ---- session ------------------------------------------------------------------------------- */

enum shmipc_role { SHMIPC_ROLE_CLIENT = 0, SHMIPC_ROLE_SERVER = 1 };

/*
 * A session over a connection of the application's own, a connected stream socket; it is the
 * session's on success.  Waits for the handshake.  callbacks and loop as for a listener, both may
 * be NULL; on_session is not called.  The session is the caller's: shmipc_session_close().
 */
SHMIPC_API int shmipc_session_create(int connected_fd, enum shmipc_role role,
				     const struct shmipc_config *config, struct shmipc_loop *loop,
				     const struct shmipc_session_callbacks *callbacks, void *user,
				     struct shmipc_session **session_out);

/* Client's side: a new stream.  Local: the server learns of it by its first flush.  -EBUSY: the
 * circuit breaker is open.  -EUSERS: streams_max.  -ENOTSUP: a server cannot open streams. */
SHMIPC_API int shmipc_session_open_stream(struct shmipc_session *session,
					  struct shmipc_stream **stream_out);

/* Server's side, without on_stream: the next new stream, the caller's.  0 bytes are never lost:
 * streams whose data arrived before the session ended are still given, then its reason is. */
SHMIPC_API int shmipc_session_accept_stream(struct shmipc_session *session, uint64_t deadline_ns,
					    struct shmipc_stream **stream_out);

/* 0; -EBUSY: circuit breaker open; else why it ended: -ESHUTDOWN, -ECONNRESET, -EPROTO, ... */
SHMIPC_API int shmipc_session_health(struct shmipc_session *session);

/* Name of the queue mapping and number of the session, for logs; valid as long as the session. */
SHMIPC_API const char *shmipc_session_id(const struct shmipc_session *session);

/* Whom the kernel says the peer is (SO_PEERCRED); each pointer may be NULL.  -ENOTSUP on TCP. */
SHMIPC_API int shmipc_session_peer(const struct shmipc_session *session, pid_t *pid, uid_t *uid,
				   gid_t *gid);

/* Ends the session and gives the handle back.  All that was flushed reaches the peer.  Streams
 * that the application holds stay valid handles and must still be closed; memory under their views
 * stays mapped until then. */
SHMIPC_API void shmipc_session_close(struct shmipc_session *session);

/* ---- stream: life -------------------------------------------------------------------------- */

struct shmipc_stream_callbacks {
	/* Bytes have arrived.  Called again when the callback has read something and left
	 * something, or when more arrives; not when it read nothing. */
	void (*on_data)(struct shmipc_stream *stream, void *user);
	/* The peer closed the stream (0), or the session ended (-errno).  Comes after on_data for
	 * all that had arrived; unread bytes can still be read.  The stream must still be closed;
	 * this is a good place. */
	void (*on_close)(struct shmipc_stream *stream, int reason, void *user);
	/* A flush returned -EAGAIN, and another one is worth a try. */
	void (*on_writable)(struct shmipc_stream *stream, void *user);
};

/* They are copied; each may be NULL; callbacks == NULL takes all away.  If bytes or the end are
 * there already, they are told.  -ENOTSUP: the session has no loop. */
SHMIPC_API int shmipc_stream_set_callbacks(struct shmipc_stream *stream,
					   const struct shmipc_stream_callbacks *callbacks,
					   void *user);

/* Whatever the application likes to find again; NULL at first. */
SHMIPC_API void shmipc_stream_set_user(struct shmipc_stream *stream, void *user);
SHMIPC_API void *shmipc_stream_user(const struct shmipc_stream *stream);

SHMIPC_API uint32_t shmipc_stream_id(const struct shmipc_stream *stream);
/* Valid as long as the session is. */
SHMIPC_API struct shmipc_session *shmipc_stream_session(const struct shmipc_stream *stream);
/* Neither side has closed it and the session lives, as far as is known here. */
SHMIPC_API bool shmipc_stream_is_open(const struct shmipc_stream *stream);

/* For all reads, and for all flushes, from now on.  At first SHMIPC_NEVER; a flush without a
 * deadline gives up after write_timeout_ms. */
SHMIPC_API void shmipc_stream_set_read_deadline(struct shmipc_stream *stream, uint64_t deadline_ns);
SHMIPC_API void shmipc_stream_set_write_deadline(struct shmipc_stream *stream,
						 uint64_t deadline_ns);

/* From any thread: calls that wait on the stream return -ESHUTDOWN, and so do later ones.  Nothing
 * is freed, no view becomes invalid, nothing is sent.  Close it afterwards. */
SHMIPC_API void shmipc_stream_shutdown(struct shmipc_stream *stream);

/* Gives the handle back.  Bytes that were flushed reach the peer, then the close; bytes that were
 * not flushed are dropped, views become invalid.  The peer can then neither read more nor write
 * (the protocol has no half-close).  Waits for nothing but a callback of the stream that runs in
 * another thread.  May be called from the stream's callbacks. */
SHMIPC_API void shmipc_stream_close(struct shmipc_stream *stream);

/* ---- stream: writing ----------------------------------------------------------------------- */

/*
 * A message is put together in shared memory and sent by a flush.  Where shared memory is
 * exhausted, ordinary memory takes its place and the message goes by the socket (FallbackData); so
 * does then everything else on this stream, in both directions.  The reader sees bytes, not
 * messages.
 */

/* Room for `bytes` contiguous bytes that may be filled in place, valid until the next call that
 * writes on this stream.  Nothing is part of the message before shmipc_stream_commit().  Without a
 * commit, the next reserve or write uses the room anew.  -EINVAL: bytes is 0.  -EMSGSIZE: more
 * than 256 MiB. */
SHMIPC_API int shmipc_stream_reserve(struct shmipc_stream *stream, size_t bytes, void **room_out);

/* The same, at least 1 and at most `bytes` bytes: as much as lies together without leaving a gap.
 * Returns how many. */
SHMIPC_API ssize_t shmipc_stream_reserve_some(struct shmipc_stream *stream, size_t bytes,
					      void **room_out);

/* The first `bytes` of the reserved room are part of the message.  -EINVAL: more than reserved. */
SHMIPC_API int shmipc_stream_commit(struct shmipc_stream *stream, size_t bytes);

/* Copies `bytes` to the end of the message. */
SHMIPC_API int shmipc_stream_write(struct shmipc_stream *stream, const void *from, size_t bytes);

/* Bytes committed and not flushed; drop them. */
SHMIPC_API size_t shmipc_stream_unflushed(const struct shmipc_stream *stream);
SHMIPC_API void shmipc_stream_drop_unflushed(struct shmipc_stream *stream);

/*
 * Sends the message; of no bytes: 0, and nothing is sent.  Waits while the IO queue or the socket
 * is full.  After success the bytes reach the peer even if this process exits or dies at once.
 * -EAGAIN, -ETIMEDOUT: the message is kept, or partly on its way; flush again until it is 0.  Other
 * errors: it is dropped.
 */
SHMIPC_API int shmipc_stream_flush(struct shmipc_stream *stream);

/* Write and flush. */
SHMIPC_API int shmipc_stream_send(struct shmipc_stream *stream, const void *from, size_t bytes);

/* ---- stream: reading ----------------------------------------------------------------------- */

/*
 * A view is memory of the library with received bytes in it: of shared memory, without a copy,
 * where they lie together in one slice.  Views stay valid, whatever happens to peer and session,
 * until shmipc_stream_release(), _reuse(), put_stream or close; until then they keep shared memory
 * from being used again, so release them.  The peer could still change the bytes: who does not
 * trust it copies before checking.
 */

/* The next `bytes` bytes, contiguous; waits for all of them.  -EINVAL: bytes is 0.  A message that
 * lies in several slices is put together by a copy. */
SHMIPC_API int shmipc_stream_read_view(struct shmipc_stream *stream, size_t bytes,
				       const void **view_out);

/* The same without consuming them. */
SHMIPC_API int shmipc_stream_peek(struct shmipc_stream *stream, size_t bytes,
				  const void **view_out);

/* The next piece as it lies there, never copied, at least 1 and at most `bytes` bytes; waits for
 * the first one.  Returns how many, 0 at the end of the stream. */
SHMIPC_API ssize_t shmipc_stream_read_some_view(struct shmipc_stream *stream, size_t bytes,
						const void **view_out);

/* Consumes `bytes` bytes unseen; waits for all of them. */
SHMIPC_API int shmipc_stream_discard(struct shmipc_stream *stream, size_t bytes);

/* Copies what is there, at least 1 byte, which it waits for.  Returns how many, 0 at the end. */
SHMIPC_API ssize_t shmipc_stream_read(struct shmipc_stream *stream, void *to, size_t bytes);

/* Copies exactly `bytes` bytes; waits for all of them.  On failure nothing is consumed. */
SHMIPC_API int shmipc_stream_read_full(struct shmipc_stream *stream, void *to, size_t bytes);

/* Bytes that can be read now without waiting.  Looks at the session's queue if nothing is known to
 * be there. */
SHMIPC_API size_t shmipc_stream_readable(struct shmipc_stream *stream);

/* Gives the memory of all views back; they become invalid.  Copying reads release by themselves,
 * except what views hold. */
SHMIPC_API void shmipc_stream_release(struct shmipc_stream *stream);

/* The same, but keeps one slice of what was read for the next message of this stream: a ping-pong
 * then never touches the free lists.  Safe at any time: with unread bytes, with an unflushed
 * message or after a fall back it is a plain release. */
SHMIPC_API void shmipc_stream_reuse(struct shmipc_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
