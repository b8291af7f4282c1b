/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The status table: what shmipc-stat shows, readable from outside.
 *
 * A process that runs the shim keeps one sealed memfd named "shmipc-status" open on a high
 * descriptor; an observer of the same user finds it under /proc/PID/fd, opens it read-only and maps
 * it.  Nothing is asked of the observed program.  Forked children share the table; each row names
 * the process that last used the connection.
 *
 * A row is written by the owning end only, with plain relaxed stores; an observer may see counters
 * of slightly different instants.  `used` is the row's generation: odd while the row describes a
 * connection.
 */
#ifndef SHMIPC_CORE_STATUS_H
#define SHMIPC_CORE_STATUS_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/layout.h"

enum {
	SHMIPC_STATUS_VERSION = 1,
	SHMIPC_STATUS_ROWS = 16384,
	SHMIPC_STATUS_ENDPOINT_BYTES = 128,
	SHMIPC_STATUS_OBJECT_BYTES = 256,
};

#define SHMIPC_STATUS_MAGIC 0x7461747363706d68ULL /* "hmpcstat" */
#define SHMIPC_STATUS_NAME "shmipc-status"

enum shmipc_status_state {
	SHMIPC_STATE_CANDIDATE = 0, /* by the kernel; may still be accelerated */
	SHMIPC_STATE_ATTACHED = 1,  /* both ends map the segment; directions cut over as they are
				       used */
	SHMIPC_STATE_PLAIN = 2,	    /* by the kernel for good; `reason` says why */
};

/* Why a connection stays, or went back to, the kernel. Values are stable. */
enum shmipc_reason {
	SHMIPC_REASON_NONE = 0,
	SHMIPC_REASON_YOUNG = 1,      /* not enough traffic yet */
	SHMIPC_REASON_PEER_PLAIN = 2, /* nobody answered the offer: the peer has no shim */
	SHMIPC_REASON_REMOTE = 3,     /* not a connection within this host */
	SHMIPC_REASON_TRANSLATED = 4, /* NAT stands between the two ends */
	SHMIPC_REASON_NAMESPACE = 5,  /* the ends live in different network namespaces */
	SHMIPC_REASON_IDENTITY = 6, /* the kernel's word about the peer does not match what it says
				     */
	SHMIPC_REASON_FOREIGN_USER = 7, /* another user, not permitted */
	SHMIPC_REASON_SHARED = 8,	/* other processes may hold the descriptor */
	SHMIPC_REASON_OPTION = 9,	/* a socket option that only the kernel can serve */
	SHMIPC_REASON_COUNT = 10,	/* bytes moved behind our back */
	SHMIPC_REASON_MEMORY = 11,	/* memfd, mmap or table space refused */
	SHMIPC_REASON_DESCRIPTORS = 12, /* no descriptors left */
	SHMIPC_REASON_PROTOCOL = 13,	/* the peer spoke something else, or a newer version */
	SHMIPC_REASON_DOWNGRADE = 14, /* went back: exec, descriptor passing, stdio, urgent data ...
				       */
	SHMIPC_REASON_CLOSED = 15,    /* the connection ended before the upgrade */
	SHMIPC_REASON_STDIO = 16,     /* used by a FILE */
	SHMIPC_REASON_SYSTEM = 17,    /* a system call needed for the upgrade is refused here */
	SHMIPC_REASON_LIMIT = 18,     /* too many accelerated connections or sessions */
	SHMIPC_REASON_COUNT_OF = 19,
};

const char *shmipc_reason_name(uint32_t reason); /* "peer-plain", ...; never NULL */
const char *shmipc_state_name(uint32_t state);	 /* "candidate", "accelerated", "plain" */

struct shmipc_status_tx {
	_Atomic uint64_t ring_bytes, ring_messages, kernel_bytes;
	_Atomic uint64_t tokens;   /* wake-ups sent */
	_Atomic uint64_t cuts;	   /* cut-overs of this direction */
	_Atomic uint64_t overflow; /* of these, because the ring was full */
};

struct shmipc_status_rx {
	_Atomic uint64_t ring_bytes, ring_messages, kernel_bytes;
	_Atomic uint64_t waits; /* sleeps in the kernel */
	_Atomic uint64_t spins_won, spins_lost;
};

struct shmipc_status_row {
	_Alignas(SHMIPC_LINE_BYTES) _Atomic uint32_t used;
	_Atomic uint32_t pid;
	_Atomic int32_t fd;
	_Atomic uint32_t state, reason;
	_Atomic uint32_t family; /* AF_INET, AF_INET6, AF_UNIX */
	_Atomic uint32_t is_server;
	_Atomic uint64_t socket_inode;
	char endpoint[SHMIPC_STATUS_ENDPOINT_BYTES]; /* "tcp:127.0.0.1:80"; NUL-terminated */
	/* its program holds system call instructions: a wake-up for each message, header.object */
	_Atomic uint32_t system_calls;
	_Alignas(SHMIPC_LINE_BYTES) struct shmipc_status_tx tx;
	_Alignas(SHMIPC_LINE_BYTES) struct shmipc_status_rx rx;
};

struct shmipc_status_header {
	uint64_t magic;
	uint32_t version;
	uint32_t row_count;
	uint32_t row_bytes;
	_Atomic uint32_t rows_touched; /* rows at and above this index were never used */
	_Atomic uint32_t pid;	       /* of the process that made the table */
	char command[64];
	char object[SHMIPC_STATUS_OBJECT_BYTES]; /* where system call instructions were found */
};

struct shmipc_status {
	struct shmipc_status_header *header;
	struct shmipc_status_row *rows; /* header page, then rows */
	uint32_t row_count;
};

/* Make the table; *fd_out stays open as long as observers shall find it. */
int shmipc_status_create(struct shmipc_status *status, int *fd_out);
/* One that no observer finds, where there can be no other: for the log.  It may have fewer rows. */
int shmipc_status_create_unseen(struct shmipc_status *status);
/* Map a found table read-only, validated.  -EPROTO if it is none. */
int shmipc_status_open(struct shmipc_status *status, int fd);
void shmipc_status_close(struct shmipc_status *status);

/* Take and give back a row (any thread, any process that shares the table; lock-free).  The search
 * begins at row `from`: whoever has a number of its own for what the row describes finds its row
 * free at once.  NULL when all are taken. */
struct shmipc_status_row *shmipc_status_take(struct shmipc_status *status, uint32_t from);
void shmipc_status_give_back(struct shmipc_status_row *row);

/* Counters have one writer at a time (the holder of the end's lock): no read-modify-write needed.
 */
static inline void shmipc_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

#endif
