/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving end of one direction.
 *
 * Follows the sender's cuts at their exact offsets (sender.h) and owns the receiver's half of the
 * wake protocol:
 *
 *   arm:   want += 1 sleeper; full fence (or membarrier, when the sender publishes without one);
 * look again; only then sleep on the real socket. drain: declare one token taken, full fence, look
 * whether the ring is still empty; only then take it off the socket, else take the declaration
 * back. Why it loses nothing: a publish before our look makes us leave the token where it is; one
 * after it finds the token declared taken and sends another.  So a token is in the socket whenever
 * the ring holds bytes and somebody sleeps, even if it is not us. strict: as long as the STRICT bit
 * stands, a token is in the socket whenever the ring holds unread bytes, and none (but for one that
 * is just under way) when a receive has emptied it.
 *
 * Nobody sleeps in a consuming recv() where a second sleeper could exist: two would race for token
 * and payload.  A process with one thread and an end that was never shared sleeps in a consuming
 * recv of one byte, which saves the call that takes the token back.
 *
 * Bytes are never taken from the kernel blindly while a cut may come: their number is asked first
 * (FIONREAD), then the phase is read, and only what was there before is taken: tokens can never be
 * mixed in.
 */
#ifndef SHMIPC_CORE_RECEIVER_H
#define SHMIPC_CORE_RECEIVER_H

#include <sys/types.h>

#include "core/io.h"
#include "core/layout.h"
#include "core/lock.h"
#include "core/ring.h"
#include "core/sender.h"
#include "core/spin.h"
#include "core/status.h"

/* Why there may be waits that we cannot see.  FOREIGN_WAITS is for good; where it is not, holders
 * that are gone again have left none. */
enum shmipc_foreign {
	SHMIPC_FOREIGN_NONE = 0,
	SHMIPC_FOREIGN_WAITS = 1,
	SHMIPC_FOREIGN_HOLDERS = 2,
};

struct shmipc_receiver {
	struct shmipc_lock lock;
	_Atomic uint32_t kernel_readers; /* calls of this end that are inside the kernel's own
					    receive, of a stream that is its alone */
	_Atomic uint64_t kernel_read;
	struct shmipc_status_rx *count;
	bool is_unix;
	bool attached;
	_Atomic bool
		ready;	  /* consent given: from here on all bytes are taken by this file's rules */
	_Atomic bool eof; /* the kernel said end of stream; the ring may hold bytes still */
	_Atomic int pending_error; /* the kernel said so; told when the ring is empty */
	_Atomic bool unseen;	   /* strict because a nonblocking receive waits by means unknown */
	_Atomic bool stopped;	   /* the ring is read no more: downgrade on our request */
	bool unsettled;		   /* stopped, but a promised token or LAST is not there yet */
	bool blocks;		   /* the last receive that found nothing was a blocking one */
	_Atomic bool
		last_seen; /* LAST was taken off the socket: the ring ends at its present tail */
	bool reset_told;
	_Atomic bool shut; /* shutdown(SHUT_RD) */
	bool in_kernel; /* the lock's holder is taking bytes off the socket that are not yet counted
			 */
	bool broken;	/* a holder died doing so: only an error can follow */

	struct shmipc_sender
		*sibling; /* our own sending direction, served while we wait; or NULL */
	struct shmipc_rx_line *rx;
	struct shmipc_rx_want *want;
	const struct shmipc_tx_line *tx;
	struct shmipc_ring ring;
	uint32_t warm_to;    /* as the sender's */
	uint32_t given_back; /* SHMIPC_TX_GIVEN_BACK when that was begun */

	_Atomic uint64_t head; /* private truth, read without the lock by waiters */
	_Atomic uint32_t phase;
	_Atomic uint8_t foreign; /* enum shmipc_foreign; other than 0: stay strict */
	_Atomic bool
		count_lost; /* a kernel call was left without its count: kernel_read is wrong */
	/* a poll or select of ours has asked for it since it was last found empty */
	_Atomic bool polled;
	_Atomic uint32_t
		watchers; /* waits of this process that know this end and look before they sleep */
	uint64_t seen_tail,
		seen_base; /* the sender's words as last read: its line is hot, so read seldom */
	_Atomic uint32_t taken;
	_Atomic uint32_t cpu;
	_Atomic uint32_t streak; /* receives since the last sleep */
	_Atomic int low_water;	 /* SO_RCVLOWAT, if it was set since attach: a receive waits for so
				    many */
	_Atomic uint32_t
		own_waits;     /* while strict: receives that waited here and that no token began */
	_Atomic int peek_from; /* SO_PEEK_OFF: the next peek begins at this byte - 1; 0: not set */
	/* a wait has been told of an end: what the socket says of it is asked for at once */
	_Atomic bool doubtful;
	_Atomic uint64_t asked_ticks; /* when the socket last said that it has nothing */
	int64_t former_besides;	      /* shmipc_receiver_besides_kernel() of former streams */
	/* since the socket was asked the kernel has told a wait what it may not tell again */
	_Atomic bool reported;
	_Atomic uint64_t looked_ticks; /* when a poll has last asked the kernel of it */
	/* threads that sleep in a poll since before there was a ring, for whom strict stays */
	_Atomic uint32_t early;
	_Atomic int
		lies_in; /* where - 1 somebody sleeps for it and for others together; 0: nowhere */
	/* O_NONBLOCK, which the kernel keeps: seen set at flags_ticks, when calls of ours had
	 * changed the flags flags_seen - 1 times; 0: not seen so */
	_Atomic uint32_t flags_changed, flags_seen;
	_Atomic uint64_t flags_ticks;
	struct shmipc_spin spin, glance;
	struct shmipc_status_rx uncounted;
};

/* The lock's last holder died: bring the words that the sender sees in step with ours. */
void shmipc_receiver_recover(struct shmipc_receiver *r);

/* Every taking of the lock: what a holder that died has left is seen to first, because whoever
 * drops the lock makes the next one believe that all is well.  False: this very thread is inside.
 */
static inline bool shmipc_receiver_lock(struct shmipc_receiver *r, bool private_use)
{
	enum shmipc_lock_result locked = shmipc_lock_take(&r->lock, private_use);

	if (__builtin_expect(locked == SHMIPC_LOCK_RECOVERED, 0))
		shmipc_receiver_recover(r);
	return locked != SHMIPC_LOCK_REENTERED;
}

void shmipc_receiver_init(struct shmipc_receiver *r, bool is_unix);
void shmipc_receiver_attach(struct shmipc_receiver *r, struct shmipc_direction *direction,
			    struct shmipc_ring ring);

/* Locked: settle the number of payload bytes taken from the kernel so far, and consent. */
void shmipc_receiver_consent(struct shmipc_receiver *r, uint64_t kernel_read);

/* The bytes that are read now lie in the ring, and none before them with the kernel. */
static inline bool shmipc_receiver_is_on_ring(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->phase, memory_order_relaxed) & 1;
}

/* Attached: has the peer said that its socket holds little? */
static inline bool shmipc_receiver_peer_sends_little(const struct shmipc_receiver *r)
{
	return atomic_load_explicit(&r->tx->flags, memory_order_relaxed) & SHMIPC_TX_LITTLE;
}

/* Receive as recv(2)/recvmsg(2) on the real socket would.  Bytes, 0 at the end, or -errno. */
ssize_t shmipc_receiver_receive(struct shmipc_receiver *r, struct shmipc_io *io);

/* Bytes in the ring that a receive would return now, or the end?  Shared memory only, no lock, no
 * call; true is definite, false says nothing about what came by the kernel.  For spinning waits,
 * and between arming and sleeping. */
bool shmipc_receiver_hint(const struct shmipc_receiver *r);

/* Bytes in the ring, be it that kernel bytes come before them. */
bool shmipc_receiver_holds_bytes(const struct shmipc_receiver *r);

/* Definitely: would a receive return at once (bytes, end, error)?  Takes tokens that stand alone
 * off the socket.  `kernel_in`: the kernel has just said that the real socket is readable. */
bool shmipc_receiver_readable(struct shmipc_receiver *r, int fd, bool private_use);

/* Are tokens promised that we have not taken off the socket?  Shared memory only. */
static inline bool shmipc_receiver_has_tokens(const struct shmipc_receiver *r)
{
	return r->ready &&
	       atomic_load_explicit(&r->tx->tokens_promised, memory_order_acquire) != r->taken;
}

/* Tokens of bytes up to position `seen`, or of bytes that have been read, are news to nobody: take
 * them off the socket although the ring may hold unread bytes (an edge-triggered waiter that was
 * told of them sleeps again).  None of them may stay: its edge has been used up, and while it is
 * outstanding the sender sends no other.  Relaxed waiters only, and armed; where it is not the only
 * one that sleeps, they stay for the others, and each arrival brings another one from here on.
 * True: one stays for bytes beyond `seen`. */
bool shmipc_receiver_drop_tokens(struct shmipc_receiver *r, int fd, uint64_t seen,
				 bool private_use);

/* Where others than waits of ours may be told of each arrival: before this one is told of bytes
 * that it may leave unread, most of their tokens are taken off, so that the next ones bring tokens
 * too. */
void shmipc_receiver_thin_out_tokens(struct shmipc_receiver *r, int fd, bool private_use);

/* The sender's position, for waiters that want to know of each arrival. */
static inline uint64_t shmipc_receiver_arrived(const struct shmipc_receiver *r)
{
	return r->ready ? atomic_load_explicit(&r->tx->tail, memory_order_acquire) : 0;
}

/* O_NONBLOCK may have changed, or has it not: a call of ours has set the flags. */
static inline void shmipc_receiver_flags_changed(struct shmipc_receiver *r)
{
	atomic_fetch_add(&r->flags_changed, 1);
}

/* The kernel has told a wait something of this end, once, or an end itself: whoever receives next
 * looks at the socket, even if memory holds bytes now. */
static inline void shmipc_receiver_was_reported(struct shmipc_receiver *r)
{
	atomic_store_explicit(&r->reported, true, memory_order_relaxed);
}

/* A poll has asked the kernel for its bytes, ends and errors.  What a set was told once is still to
 * be asked for. */
void shmipc_receiver_was_looked_at(struct shmipc_receiver *r, uint64_t ticks);

/* Nothing but bytes can be told of this end, unless its peer was killed, and memory knows them: it
 * follows the ring, and no token is on its way. */
bool shmipc_receiver_is_memorys(const struct shmipc_receiver *r);
/* A poll has asked the kernel of it a moment ago. */
bool shmipc_receiver_was_seen(const struct shmipc_receiver *r);

/* The peer sends no more, as far as we know: what there is of bytes comes before the end.  Ready.
 */
bool shmipc_receiver_knows_end(const struct shmipc_receiver *r);

/* As far as shared memory tells, what comes next comes by the ring: no cut, no end, no request to
 * stop. */
bool shmipc_receiver_follows_ring(const struct shmipc_receiver *r);

/* We are on the ring, and all that the kernel has is tokens, perhaps LAST: nothing of it is news.
 */
bool shmipc_receiver_only_tokens(const struct shmipc_receiver *r, int fd);

/* The sender has cut to the ring, and kernel bytes before the cut are still under way: no receive
 * now can come as far as the ring. */
bool shmipc_receiver_ring_is_far(const struct shmipc_receiver *r, int fd);

/* Locked: payload that the kernel's own counters of the socket do not show, less what they show
 * besides payload. */
int64_t shmipc_receiver_besides_kernel(const struct shmipc_receiver *r);

/* Locked: tokens among these that are promised and have not arrived, for the sender writes the
 * promise first.  0 where that cannot be known, because payload lies in the socket too. */
uint32_t shmipc_receiver_tokens_under_way(const struct shmipc_receiver *r, int fd);

/* Bytes that a receive could return now, FIONREAD. */
size_t shmipc_receiver_pending(struct shmipc_receiver *r, int fd, bool private_use);

/* One more waiter will sleep until a token comes / does not sleep any more.  After arming, ask
 * shmipc_receiver_hint() again before sleeping. */
void shmipc_receiver_arm(struct shmipc_receiver *r);
void shmipc_receiver_disarm(struct shmipc_receiver *r);
/* Armed once, by a sleeper that looks at all connections of this sleep when it wakes: a token to
 * any of them is enough.  Tokens that were there have been taken.  A fence and a look follow.
 * `where`: what ends the sleep of a thread beside others, for shmipc_receiver_rouse; -1: there are
 * none. */
void shmipc_receiver_lie_down(struct shmipc_receiver *r, uint64_t sleep, int where);
/* The sleeper is awake, or is sent a token by each of them from now on.  A fence and a look at all
 * follow, if it goes on sleeping. */
void shmipc_receiver_get_up(struct shmipc_receiver *r);
/* Any thread, locked or not.  The token that is to end the sleep may not do so any more: it has
 * been taken, or the sleeper does not hear of this connection. */
void shmipc_receiver_disturb(struct shmipc_receiver *r);
/* Ends the sleep there.  Called under any locks.  Set once, before anybody lies down. */
extern void (*shmipc_receiver_rouse)(int where);

/* Waiters that we cannot see may exist (edge: and be edge-triggered) / certainly do not. */
void shmipc_receiver_strict(struct shmipc_receiver *r, bool edge);
void shmipc_receiver_relax(struct shmipc_receiver *r);
/* A thread is going to sleep by the kernel alone, before there is a ring, or is back.  [early] It
 * counts itself, then looks whether there is a ring; whoever relaxes is behind `ready`, and looks
 * at the count: one of the two sees the other. */
void shmipc_receiver_wait_early(struct shmipc_receiver *r, bool begins);

/* The sender goes by the kernel from its next send on, for good.  Nothing waits for it: what is in
 * the ring until then is read as ever. */
void shmipc_receiver_ask_to_leave(struct shmipc_receiver *r, bool private_use);

/* Read the ring no more: the sender goes on by the kernel from the byte that we have not yet read,
 * at its next call. From here on the socket carries payload only, for whoever reads it.  True once
 * nothing is missing from the kernel's stream; false: call again when the sender has had time (a
 * nudge in the other direction wakes it).  A token that lies behind unread payload, or LAST before
 * an unread ring, cannot be called back: then this end goes on reading by the rules, the sender
 * leaves the ring for good, and `true` comes when all of that has been read. */
bool shmipc_receiver_stop(struct shmipc_receiver *r, int fd, bool private_use);

/* Unread ring bytes that nobody will send again: the peer has ended its direction, or died, before
 * it could serve our stop. */
bool shmipc_receiver_is_stranded(const struct shmipc_receiver *r, int fd);

/* Stopped and stranded: then calls of ours go on reading the ring, whose sender does nothing more.
 */
void shmipc_receiver_go_on(struct shmipc_receiver *r, int fd, bool private_use);

/* Stopped, and the sender makes no call that would serve it: do its part, by a copy of its socket,
 * as far as there is room. */
void shmipc_receiver_help(struct shmipc_receiver *r, int peer_socket, bool private_use);

/* Asks the sender for no more tokens, as a stop does that is to follow.  True: such a stop cannot
 * be made as it lies, because what is unread lies in the socket and in the ring by turns. */
bool shmipc_receiver_is_mixed(struct shmipc_receiver *r, bool private_use);

/* Mixed: puts the stream in order by a copy of the sender's socket, and has stopped then.  False:
 * nothing was done, or r is broken. */
bool shmipc_receiver_untangle(struct shmipc_receiver *r, int fd, int peer_socket, bool private_use);

/* After a stop that is not done: the kernel's bytes are not payload alone, so nobody but us can
 * read the stream right. */
bool shmipc_receiver_is_entangled(const struct shmipc_receiver *r);

/* After a stop: 0 when the stream is the kernel's alone, else -EAGAIN. */
int shmipc_receiver_leave_ring(struct shmipc_receiver *r, int fd, bool private_use);

/* The one reset of the connection has been reported, by whatever call. */
static inline bool shmipc_receiver_reset_told(const struct shmipc_receiver *r)
{
	return r->reset_told || (r->sibling && r->sibling->reset_told);
}

/* SO_ERROR is 0, and the kernel need not be asked: it knew of no end a moment ago, and memory of
 * none since.  Not locked. */
bool shmipc_receiver_has_no_error(const struct shmipc_receiver *r);

/* SO_ERROR: `error` is what the kernel has just said.  The error to be told, once, or 0. */
int shmipc_receiver_take_error(struct shmipc_receiver *r, int fd, int error, bool private_use);

/* An error that was met after bytes, and that the call did not tell: the next one will. */
void shmipc_receiver_keep_error(struct shmipc_receiver *r, int error, bool private_use);

/* SO_PEEK_OFF, which the kernel's socket must not have: we peek for ourselves.  -1: not set. */
void shmipc_receiver_set_peek_offset(struct shmipc_receiver *r, int offset);
int shmipc_receiver_peek_offset(const struct shmipc_receiver *r);
/* From now on the kernel alone peeks at this end: the offset is the socket's again. */
void shmipc_receiver_leave_peek_offset(struct shmipc_receiver *r, int fd);
/* Locked.  From now on we do. */
void shmipc_receiver_take_peek_offset(struct shmipc_receiver *r, int fd);

/* Locked.  [close] Forbid new tokens, take back the promised ones, before the descriptor is closed.
 * True if unread payload remains in the ring. */
bool shmipc_receiver_close(struct shmipc_receiver *r, int fd);

#endif
