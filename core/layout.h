/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that two processes see of each other in a shared segment.
 *
 * A segment serves one pair of processes (a session) and carries many streams.  It starts with one
 * header page; then comes one page for each of `stream_count` streams, its words and the leads of
 * its two rings; then, at `loops_at`, the loops of the rings, two a stream (ring.h says what lead
 * and loop are).  The memory is a sealed memfd, sparse: an untouched stream costs nothing, one that
 * exchanges small messages a page of memory, and a hundred such streams the page tables of one.
 *
 * Every word has one writer, named here; words of different writers never share a cache line.  The
 * peer is not trusted: geometry is copied to private memory after validation, and a word that the
 * peer writes is loaded once into a local, checked or clamped, and only then used.
 *
 * Client = the end that called connect(); server = the end that called accept().
 * Direction 0 is client -> server, direction 1 server -> client.
 */
#ifndef SHMIPC_CORE_LAYOUT_H
#define SHMIPC_CORE_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SHMIPC_LAYOUT_VERSION = 3,
	SHMIPC_PAGE_BYTES = 4096,
	SHMIPC_LINE_BYTES = 128, /* two cache lines: adjacent-line prefetchers pull pairs */
	SHMIPC_KEY_BYTES = 32,
	SHMIPC_STREAM_COUNT_MAX = 1024,
	SHMIPC_LEAD_BYTES = 1536,   /* what the words of a stream leave of its page, halved */
	SHMIPC_LETTERS_ROOM = 1024, /* a power of two */
};

#define SHMIPC_SEGMENT_MAGIC 0x3167657363706d68ULL /* "hmpcseg1" */

/* Page 0.  `geometry` is written by the creator before the descriptor is passed, never later. */
struct shmipc_segment_header {
	uint64_t magic;
	uint32_t layout_version;
	uint32_t stream_count;
	uint64_t ring_bytes; /* of a loop: a power of two, at least one page */
	uint64_t loops_at;
	uint64_t segment_bytes;

	/* Written by the client only: letters to the server, each the number of a stream whose
	 * offer has changed since.  `letters` counts all that were ever written; letter n lies at
	 * n % SHMIPC_LETTERS_ROOM.  A server that has read them all need not look through the
	 * streams; one that comes too late for some looks at each stream. */
	_Alignas(SHMIPC_LINE_BYTES) _Atomic uint32_t letters;
	_Atomic uint32_t client_gone; /* the client has unmapped: nothing more will happen here */

	/* Written by the server only. */
	_Alignas(SHMIPC_LINE_BYTES) _Atomic uint32_t server_gone;

	/* The client's. */
	_Alignas(SHMIPC_LINE_BYTES) _Atomic uint16_t letter[SHMIPC_LETTERS_ROOM];
};

/* The client's word about a stream.  generation << 8 | state, one store. */
enum shmipc_offer_state {
	SHMIPC_OFFER_FREE = 0,
	SHMIPC_OFFER_OPEN = 1,	   /* key is valid, waiting for the server */
	SHMIPC_OFFER_ATTACHED = 2, /* the client uses the rings */
	SHMIPC_OFFER_CLOSED = 3,   /* the client will touch this stream no more */
};

/* The server's word, with the generation of the offer that it answers. */
enum shmipc_answer_state {
	SHMIPC_ANSWER_NONE = 0,
	SHMIPC_ANSWER_ATTACHED = 1,
	SHMIPC_ANSWER_CLOSED = 2, /* the server will touch this stream no more */
};

/* Sender's line: written by the sending end of a direction only. */
struct shmipc_tx_line {
	_Atomic uint64_t tail; /* bytes published to the ring since attach */
	_Atomic uint64_t base; /* position that lies at the first byte of the lead; changes only
				  while the ring is empty */
	_Atomic uint64_t cut;  /* payload bytes sent by the kernel, in all, when the direction went
				  to the ring */
	/* Number of cut-overs.  Even: the sender sends by the kernel.  Odd: by the ring.  Raised by
	 * one with each cut.  kernel -> ring stores `cut` first; ring -> kernel sends the byte LAST
	 * first, so a receiver that has met LAST may be ahead of this word by one. */
	_Atomic uint32_t phase;
	_Atomic uint32_t tokens_promised; /* ledger: raised before a token, or LAST, is sent */
	_Atomic uint32_t cpu;		  /* where the sender last ran, +1; 0 unknown */
	_Atomic uint32_t flags;		  /* enum shmipc_tx_flag */
	_Atomic uint32_t space_wanted;	  /* the sender sleeps on rx.space_bell */
	_Atomic uint32_t kernel_senders;  /* calls inside a kernel send since the ring was left */
};

enum shmipc_tx_flag {
	SHMIPC_TX_FIN = 1,	/* orderly end: shutdown(SHUT_WR) or close */
	SHMIPC_TX_RESET = 2,	/* closed with unread bytes: the kernel would have reset */
	SHMIPC_TX_CLOSED = 4,	/* the whole end was closed, not only this direction */
	SHMIPC_TX_UNFENCED = 8, /* registered with membarrier: may publish without a fence */
	SHMIPC_TX_CUTTING = 16, /* about to cut, or to end: wait a moment, then read the phase */
	SHMIPC_TX_LATE = 32,	/* the reset came after this direction's own end: no news to a
				   receive, and a broken pipe to a send */
	SHMIPC_TX_AGAIN = 64, /* both directions are over, this program ends: meet its successor */
	SHMIPC_TX_SERVING = 128, /* about to send what the receiver has not read, or has done so */
	SHMIPC_TX_GROWN = 256,	 /* the ring's loop has been used: there is memory to give back */
	SHMIPC_TX_LITTLE = 512,	 /* the sender's socket holds little: so may the receiver's */
	SHMIPC_TX_OTHERS = 1024, /* a FILE or another program may send past us at any time */
	/* the upper half counts how often it was given back: its pages are new again */
	SHMIPC_TX_GIVEN_BACK = 1 << 16,
};

/* Receiver's line: written by the receiving end only. */
struct shmipc_rx_line {
	_Atomic uint64_t head;	      /* bytes consumed from the ring */
	_Atomic uint64_t kernel_read; /* payload bytes consumed from the kernel, in all */
	_Atomic uint32_t phase;	      /* cut-overs that the receiver has passed */
	_Atomic uint32_t tokens_taken;
	_Atomic uint32_t cpu;
	_Atomic uint32_t
		space_bell; /* futex of a sender that waits for room; raised by the receiver */
};

/* What the receiver asks of the sender; on a line of its own because the sender reads it for every
 * send while `head` moves for every receive.  0 = awake, nothing to do. */
struct shmipc_rx_want {
	_Atomic uint32_t want; /* enum shmipc_want */
	_Atomic uint32_t
		ready; /* consent: the receiver reads through the shim, its byte count is settled */
	/* The one sleeper lies in a sleep that a token to any connection with the same number
	 * ends, and looks at all of them when it wakes; 0: it lies alone. */
	_Atomic uint64_t sleep;
};

enum shmipc_want {
	SHMIPC_WANT_SLEEPERS = 0xffff, /* number of waiters that need a token before they look again
					*/
	SHMIPC_WANT_STRICT = 1 << 16,  /* keep the kernel's readiness true for every arrival */
	SHMIPC_WANT_EDGE = 1 << 17,  /* ... with a new token, hence a new edge, for each arrival */
	SHMIPC_WANT_FENCE = 1 << 18, /* the sender must order publish before this load itself */
	SHMIPC_WANT_STOP = 1 << 19,  /* no token and no cut to the ring: STOPPED or LEAVE follows */
	SHMIPC_WANT_CLOSED = 1 << 20, /* the receiving end is closed: no tokens */
	SHMIPC_WANT_LEAVE = 1 << 21,  /* go by the kernel from the next send on; what is in the ring
					 is still read */
	SHMIPC_WANT_STOPPED = 1 << 22, /* `head` is final: send what lies behind it by the kernel */
	SHMIPC_WANT_HELPING = 1 << 23, /* the receiver does so for a silent sender: wait for it */
	SHMIPC_WANT_FAILED = 1 << 24,  /* it died half way: nothing can follow */
};

struct shmipc_direction {
	_Alignas(SHMIPC_LINE_BYTES) struct shmipc_tx_line tx;
	_Alignas(SHMIPC_LINE_BYTES) struct shmipc_rx_line rx;
	_Alignas(SHMIPC_LINE_BYTES) struct shmipc_rx_want wait;
};

struct shmipc_stream_control {
	/* client's line */
	_Alignas(SHMIPC_LINE_BYTES) _Atomic uint32_t offer;
	uint8_t key[SHMIPC_KEY_BYTES]; /* of the real connection; written before `offer` says OPEN
					*/
	uint64_t client_cookie;
	/* it will hand the stream out again soon: the loops' memory stays when both have left */
	_Atomic uint32_t keep;
	/* server's line */
	_Alignas(SHMIPC_LINE_BYTES) _Atomic uint32_t answer;
	uint64_t server_cookie;

	struct shmipc_direction direction[2];

	/* the first bytes of both rings, each written by the sender of its direction only */
	_Alignas(SHMIPC_LINE_BYTES) unsigned char lead[2][SHMIPC_LEAD_BYTES];
};

/* The bytes that are put on the real socket of a direction that is on the ring. */
enum shmipc_token { SHMIPC_TOKEN_WAKE = 'w', SHMIPC_TOKEN_LAST = 'L' };

_Static_assert((SHMIPC_TX_FIN | SHMIPC_TX_RESET | SHMIPC_TX_CLOSED | SHMIPC_TX_UNFENCED |
		SHMIPC_TX_CUTTING | SHMIPC_TX_LATE | SHMIPC_TX_AGAIN | SHMIPC_TX_SERVING |
		SHMIPC_TX_GROWN | SHMIPC_TX_LITTLE | SHMIPC_TX_OTHERS) == (1 << 11) - 1,
	       "a bit for each flag");
_Static_assert(sizeof(struct shmipc_segment_header) <= SHMIPC_PAGE_BYTES, "header fits its page");
_Static_assert(sizeof(struct shmipc_stream_control) == SHMIPC_PAGE_BYTES, "a page, all used");
_Static_assert(SHMIPC_LEAD_BYTES % SHMIPC_LINE_BYTES == 0, "leads share no line");
_Static_assert(SHMIPC_STREAM_COUNT_MAX <= UINT16_MAX, "a letter holds a number");
_Static_assert(sizeof(struct shmipc_direction) == 3 * SHMIPC_LINE_BYTES, "one line a writer");
_Static_assert(offsetof(struct shmipc_stream_control, direction) == 2 * SHMIPC_LINE_BYTES,
	       "layout 3");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "lock-free words");

#endif
