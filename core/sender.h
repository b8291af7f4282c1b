/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending end of one direction: by the kernel, or by the ring, and the cuts between the two.
 *
 * Phase even: payload goes to the real socket.  Phase odd: payload goes to the ring, and the only
 * bytes on the real socket are wake tokens.  Only this end changes the phase:
 *
 *   even -> odd   when the receiver has passed the last cut (rx.phase == phase), consents (ready),
 * nobody of this end is inside a kernel send, and a token would find room behind the payload.
 *                 tx.cut = payload bytes sent by the kernel so far; then tx.phase.
 *   odd -> even   any time: the byte LAST on the real socket, then tx.phase.  (Overflow,
 * downgrade.)
 *
 * Invariant: the receiver, taking exactly tx.cut kernel bytes, then the ring up to its tail as of
 * LAST, then kernel bytes behind LAST, sees the bytes in the order in which they were sent.  The
 * even -> odd rule keeps at most two cuts unseen, so `cut` and the tail at LAST are never
 * overwritten before they are used.
 *
 * A receiver that stops (want STOP, then STOPPED) reads the ring no more from its declared head on;
 * the sender leaves the ring without LAST, because no token is under way, and sends what is unread
 * by the kernel.
 *
 * Wake protocol, sender's half (receiver's half: receiver.h):
 *   publish tail; [full fence unless the receiver dispensed with it]; load want.
 *   strict or sleepers > 0, and no token outstanding: send a token.
 *   strict:  also if the receiver had consumed everything before this publish (head >= old tail),
 * or wants an edge for each arrival. Why no token is missing: the receiver declares a token taken
 * first, fences, and removes it from the socket only if the ring is still empty then.  A publish
 * that saw the token outstanding is seen by that look.
 *
 * All functions may be called by several threads, and by forked processes that share the end; those
 * marked "locked" want the lock held.
 */
#ifndef SHMIPC_CORE_SENDER_H
#define SHMIPC_CORE_SENDER_H

#include <sys/types.h>

#include "core/io.h"
#include "core/layout.h"
#include "core/lock.h"
#include "core/ring.h"
#include "core/spin.h"
#include "core/status.h"

struct shmipc_sender {
	struct shmipc_lock lock;
	_Atomic uint32_t kernel_senders; /* calls of this end that are inside a kernel send */
	_Atomic uint64_t kernel_bytes;
	struct shmipc_status_tx *count;
	bool is_unix;
	bool attached;	     /* the words below point into a segment */
	bool verified;	     /* Unix: the receiver's byte count has been seen to agree */
	_Atomic bool broken; /* an owner of the lock died half way: only an error can follow */
	uint32_t verifications;
	bool settled;		   /* kernel_bytes is known to be exact */
	_Atomic bool no_more_ring; /* downgraded for good, or the peer is gone */
	_Atomic bool gone;	   /* the peer closed or died: no token, no LAST */
	_Atomic bool swallowed;	   /* ending.h */
	_Atomic bool answered;	   /* the kernel has taken a send after the end: its word is true */
	_Atomic bool pipe_told;	   /* and the broken pipe after it has been reported */
	_Atomic bool edge_made;	   /* when that was told the socket had to learn of it */
	_Atomic bool reset_told;   /* the connection's one ECONNRESET has been reported */
	_Atomic int kept_error;	   /* taken from the socket by us or our receiver, not told yet */
	_Atomic bool reverse_shut; /* shutdown(SHUT_RD) of ours: RDHUP says nothing */
	bool died_first;	   /* the peer did, before both directions were shut by us */
	uint8_t crowded;	   /* restarts in a row for a message that fills much of the lead */
	_Atomic bool grown;	   /* the loop has been used since its memory was given back */
	uint32_t promised_when_shut; /* tokens of the peer's until then */
	uint32_t segments_when_shut; /* TCP segments with bytes that had come by then */
	_Atomic bool sent_late;	     /* and one more has come since */
	_Atomic bool half_closed; /* the peer has ended its own direction (shmipc_sender_ask()) */
	_Atomic bool
		count_lost; /* a kernel call was left without its count: kernel_bytes is wrong */
	/* at `watch_since` the kernel has told what it may not tell again: first the socket itself
	 * must be asked, later than that */
	_Atomic bool watch_spent;
	_Atomic uint32_t ending; /* enum shmipc_ending of a peer that died, once it is known */
	_Atomic bool late;	 /* by then it had ended its own direction */
	_Atomic bool owing;	 /* of a stopped ring something still has to go by the kernel */
	_Atomic bool shut;	 /* shutdown(SHUT_WR): the kernel answers from now on */
	_Atomic bool token_owed; /* a token met a full socket */
	/* sends that took, or tried to take, the kernel's way: whether there is room has been its
	 * word since */
	_Atomic uint32_t by_kernel;

	struct shmipc_tx_line *tx;
	const struct shmipc_rx_line *rx;
	const struct shmipc_rx_want *want;
	const struct shmipc_tx_line *reverse; /* the peer's own sending line */
	/* of this process and the segment: the last sleep that a token of ours ended
	 * (sender_cut.c); NULL: each sleeper gets a token of its own */
	_Atomic uint64_t *woken;
	struct shmipc_ring ring;

	/* private truth; tx.tail and tx.base are copies for the peer.  Waiters read the tail
	 * without the lock */
	_Atomic uint64_t tail;
	uint64_t base;
	/* consumer's position as last seen, clamped, never back; waiters read it without the lock
	 */
	_Atomic uint64_t head;
	uint64_t restart_at; /* a message that ends beyond it: is the ring empty? (sender_room.c) */
	/* what ends beyond this offset from base touches pages that are new (sender_room.c) */
	uint32_t warm_to;
	uint16_t restart_step; /* and how far it is to the one after it */
	uint16_t spread;       /* piece of the stream in which the consumer was last waited for */
	uint64_t grown_ticks;  /* last at that time */
	uint64_t resend_to;    /* downgrade on request: ring bytes [head, resend_to) still go by the
				  kernel */
	uint64_t resent;       /* bytes that were sent twice: by the ring, and by the kernel */
	int64_t former_besides;	       /* shmipc_sender_besides_kernel() of former streams */
	_Atomic uint64_t looked_ticks; /* last look at the real socket for a dead peer */
	_Atomic uint64_t alive_ticks;  /* the last one that found none */
	/* whoever asks the kernel of many sockets at once writes here when it was told nothing of
	 * this one, be it of others; it counts if that is later than `watch_since` */
	const _Atomic uint64_t *_Atomic watch;
	_Atomic uint64_t watch_since;
	_Atomic uint32_t doing;	 /* enum shmipc_sender_doing: what a holder of the lock died in */
	_Atomic uint32_t phase;	 /* waits look at it without the lock */
	_Atomic uint32_t tokens; /* SIOCOUTQ reads it without the lock */
	uint32_t cpu;
	struct shmipc_spin spin;
	struct shmipc_status_tx uncounted; /* when the status table had no row */
};

/* Five cache lines, of which each connection pays two sets. */
_Static_assert(sizeof(struct shmipc_sender) <= 320, "a connection's record grows");

/* Taken over from a dead owner: bring the words into a state that is true, or give up the stream.
 */
void shmipc_sender_recover(struct shmipc_sender *s, int fd);

/* Every taking of the lock, as shmipc_receiver_lock(). */
static inline bool shmipc_sender_lock(struct shmipc_sender *s, int fd, bool private_use)
{
	enum shmipc_lock_result locked = shmipc_lock_take(&s->lock, private_use);

	if (__builtin_expect(locked == SHMIPC_LOCK_RECOVERED, 0))
		shmipc_sender_recover(s, fd);
	return locked != SHMIPC_LOCK_REENTERED;
}

void shmipc_sender_init(struct shmipc_sender *s, bool is_unix);

/* Map the direction's words.  Nothing changes for the bytes until `settled` and the peer's consent.
 */
void shmipc_sender_attach(struct shmipc_sender *s, struct shmipc_direction *direction,
			  const struct shmipc_direction *reverse, struct shmipc_ring ring);

/* Attached: what overflows from the ring meets a small buffer of the socket. */
static inline void shmipc_sender_sends_little(struct shmipc_sender *s)
{
	atomic_fetch_or(&s->tx->flags, SHMIPC_TX_LITTLE);
}

/* Whoever has asked the real socket for an end, at `ticks`, and was told of none says so: a look,
 * whatever it was meant for. */
static inline void shmipc_sender_found_alive(struct shmipc_sender *s, uint64_t ticks)
{
	atomic_store_explicit(&s->looked_ticks, ticks, memory_order_relaxed);
	atomic_store_explicit(&s->alive_ticks, ticks, memory_order_relaxed);
	if (atomic_load_explicit(&s->watch_spent, memory_order_acquire) &&
	    ticks > atomic_load_explicit(&s->watch_since, memory_order_relaxed))
		atomic_store_explicit(&s->watch_spent, false, memory_order_relaxed);
}

/* When the kernel last knew of no end, as far as anybody has asked. */
static inline uint64_t shmipc_sender_alive(const struct shmipc_sender *s)
{
	uint64_t alive = atomic_load_explicit(&s->alive_ticks, memory_order_relaxed), asked;
	const _Atomic uint64_t *watch = atomic_load_explicit(&s->watch, memory_order_acquire);

	if (!watch || atomic_load_explicit(&s->watch_spent, memory_order_acquire))
		return alive;
	asked = atomic_load_explicit(watch, memory_order_relaxed);
	return asked > alive && asked > atomic_load_explicit(&s->watch_since, memory_order_relaxed)
		       ? asked
		       : alive;
}

/* What is told by `watch` counts from `since` on; what is known so far stays known.  spent: it has
 * just been told of this socket, once. */
static inline void shmipc_sender_watch_from(struct shmipc_sender *s, uint64_t since, bool spent)
{
	atomic_store_explicit(&s->alive_ticks, shmipc_sender_alive(s), memory_order_relaxed);
	/* first since when: whoever has looked before does not undo it */
	atomic_store_explicit(&s->watch_since, since, memory_order_relaxed);
	atomic_store_explicit(&s->watch_spent, spent, memory_order_release);
}

/* Whoever writes it speaks for this socket too, from `since` on.  NULL: nobody does. */
static inline void shmipc_sender_watch(struct shmipc_sender *s, const _Atomic uint64_t *watch,
				       uint64_t since)
{
	shmipc_sender_watch_from(s, since, false);
	/* a look by another thread that still sees the old one makes of it at most that the socket
	 * was alive a moment later than it was */
	atomic_store_explicit(&s->watch, watch, memory_order_release);
}

/* Send as send(2)/sendmsg(2) on the real socket would: bytes taken, or -errno.  SIGPIPE comes from
 * the kernel. */
ssize_t shmipc_sender_send(struct shmipc_sender *s, struct shmipc_io *io);

/* Locked: from now on by the kernel; LAST is sent if the direction was on the ring, and what a
 * receiver that stopped has not read.  -EAGAIN: there was no room for all of it, try again.
 * -ECONNRESET: broken, nobody may send behind it. */
int shmipc_sender_downgrade(struct shmipc_sender *s, int fd);

/* Serve what the receiver has asked for since (a stop of the ring); cheap when it has asked
 * nothing. */
void shmipc_sender_serve(struct shmipc_sender *s, int fd, bool private_use);
bool shmipc_sender_has_to_serve(const struct shmipc_sender *s);
/* The same, for a caller that holds the lock. */
void shmipc_sender_serve_locked(struct shmipc_sender *s, int fd);

/* Ring bytes that a receiver that stopped still has to get by the kernel: whoever waits must wait
 * for room in the socket too. */
static inline bool shmipc_sender_owes(const struct shmipc_sender *s)
{
	return atomic_load_explicit(&s->owing, memory_order_relaxed) && !s->broken && !s->shut;
}

/* Locked, before the direction ends: what the receiver has asked for goes now or never.  Waits, for
 * a bounded time, for room in the socket. */
void shmipc_sender_serve_finally(struct shmipc_sender *s, int fd);

/* Locked.  A peer that has ended its own direction dies without a sign, and so does any behind our
 * own end, unless something lies unread at its socket: then the kernel answers with a reset.  So as
 * long as the ring holds bytes that such a peer has not read, a token lies there. */
void shmipc_sender_ask(struct shmipc_sender *s, int fd);

/* Is that one of TCP, which only a token can find dead?  Then it is asked before its end is judged.
 */
bool shmipc_sender_must_ask(const struct shmipc_sender *s);

/* Locked: wake the peer so that it looks at what we ask of it; nothing when the bytes go by the
 * kernel. */
void shmipc_sender_nudge(struct shmipc_sender *s, int fd);

/* The receiving end has closed, and nobody reads on.  One that had stopped before may have left the
 * socket to a program without the shim: the kernel alone knows. */
static inline bool shmipc_sender_is_closed_for(const struct shmipc_sender *s)
{
	uint32_t want = s->attached ? atomic_load(&s->want->want) : 0;

	return (want & (SHMIPC_WANT_CLOSED | SHMIPC_WANT_STOPPED)) == SHMIPC_WANT_CLOSED;
}

/* Locked.  A call is about to send by the kernel / has done so, or was left; not locked, and of the
 * process of that generation.  0, or -ECONNRESET: it may not. */
int shmipc_sender_enter_kernel(struct shmipc_sender *s, int fd);
void shmipc_sender_leave_kernel(struct shmipc_sender *s, uint32_t generation);

/* Locked.  The end of the stream: flags (enum shmipc_tx_flag) for the peer, before the kernel is
 * told; before them a stop of the peer's is served. */
void shmipc_sender_end(struct shmipc_sender *s, int fd, uint32_t flags);

/* The flags alone, of a stream whose socket is not at hand. */
void shmipc_sender_finish(struct shmipc_sender *s, uint32_t flags);

/* Locked: payload that the kernel's own counters of the socket do not show, less what they show
 * besides payload. */
int64_t shmipc_sender_besides_kernel(const struct shmipc_sender *s);

/* Somebody will send past us, if the direction has not ended already, by our shutdown or by that of
 * a Unix peer, which breaks the pipe for good. */
void shmipc_sender_lose_count(struct shmipc_sender *s, int fd);

/* The last time that any sender of this process was found to use its loop; 0: none. */
uint64_t shmipc_sender_grown_at(void);

/* No byte is in the ring, and the loop has not been used for a while: give its memory back.  False:
 * there may be something to give back later. */
bool shmipc_sender_shrink(struct shmipc_sender *s);

/* How long that is. */
enum { SHMIPC_SENDER_QUIET_MS = 1000 };

/* A send now would go into the ring, and not overflow at once.  Shared memory only, no lock; false:
 * whether there is room is the kernel's word. */
bool shmipc_sender_has_room(const struct shmipc_sender *s);

/* Published bytes that the peer has not consumed. */
uint64_t shmipc_sender_unread(const struct shmipc_sender *s);

static inline bool shmipc_sender_on_ring(const struct shmipc_sender *s)
{
	return s->phase & 1;
}

#endif
