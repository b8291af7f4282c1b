/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the application: the record from which every hook works.
 *
 * Records lie in memory that forked children share, so positions, byte counts and locks of an end
 * are common to all processes that hold its descriptors.  Pointers in them lead into segments that
 * the children inherit at the same address.  A record is type-stable: it is reused, never unmapped.
 *
 * Life: CANDIDATE (by the kernel, counted) -> ATTACHED (upgrade.c) -> PLAIN (downgrade.c, or a
 * reason not to start).
 */
#ifndef SHMIPC_PRELOAD_CONN_H
#define SHMIPC_PRELOAD_CONN_H

#include <stdatomic.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/receiver.h"
#include "core/sender.h"
#include "core/status.h"
#include "preload/fdtable.h"
#include "preload/options.h"
#include "preload/verdict.h"

enum {
	SHIM_CONN_MAX = 16384,
	SHIM_CONN_LINE_BYTES = 64,
	SHIM_SESSION_NONE = -1,
	SHIM_CONN_LIVES = 4, /* streams that one connection may have, one after the other */
	SHIM_CONN_HOLDERS_KNOWN = 8,
};

enum shim_conn_used {
	SHIM_CONN_FREE = 0,
	SHIM_CONN_USED = 1,
	SHIM_CONN_LEFT = 2, /* the last holder exits; free when it is gone */
};

struct shim_upgrade; /* rendezvous in progress, upgrade.c */

struct shim_conn {
	_Alignas(SHIM_CONN_LINE_BYTES) _Atomic uint32_t used; /* enum shim_conn_used */
	_Atomic uint32_t state;				      /* enum shmipc_status_state */
	_Atomic uint32_t holders; /* processes that hold a descriptor of it */
	_Atomic uint32_t shared;  /* was held by more than one process since it was `pid`'s */
	uint32_t generation;	  /* of the process that made the record, or has adopted it */
	int pid;		  /* its number, or that of the last holder, who has exited */
	uint32_t spawns;	  /* shim_process_spawns() when it was made */
	uint32_t birth;		  /* another one for each connection that the record serves */
	bool is_unix;
	bool is_server;
	_Atomic bool young; /* below the threshold of upgrade.c; young.h */
	_Atomic bool sent_last;
	_Atomic uint32_t trips; /* changes from sending to receiving: is it worth a ring? */
	_Atomic uint64_t traffic;
	struct shmipc_status_row *row;
	_Atomic uint32_t shutdowns; /* each an edge for every set, whoever of the holders made it */
	/* a short connection uses nothing of this record but the line that ends here and the first
	 * lines of tx and rx */
	int family;
	uint64_t cookie; /* SO_COOKIE, as of attach: which socket is it? */
	struct shim_options
		options;	/* what the application believes it has set on the real socket */
	_Atomic uint32_t steps; /* calls since the threshold */
	_Atomic uint32_t next_step;	    /* the one at which the rendezvous is looked at again */
	_Atomic uint64_t steps_since_ticks; /* when the first one of them was */
	struct shmipc_lock step_lock;	    /* one thread at a time is in the rendezvous */
	struct shim_upgrade *upgrade;	    /* private memory of the process `generation` */
	int session;			    /* index in that process, SHIM_SESSION_NONE */
	uint32_t stream;
	/* Streams of before the peer's exec: mapped until the connection ends, because calls that
	 * are inside may still look at them. */
	struct shim_former {
		int session;
		uint32_t stream;
	} former[SHIM_CONN_LIVES - 1];
	uint32_t formers;
	/* TCP: as of attach; 0 bytes: not known */
	struct sockaddr_in6 peer_name;
	socklen_t peer_name_bytes;
	bool handed_over; /* both directions are over, for a program that takes our place */
	/* Of the holders those whose numbers are known: once it is shared by fork. */
	_Atomic int holder_pids[SHIM_CONN_HOLDERS_KNOWN];

	_Alignas(SHIM_CONN_LINE_BYTES) struct shmipc_sender tx;
	_Alignas(SHIM_CONN_LINE_BYTES) struct shmipc_receiver rx;
};

extern struct shim_conn *shim_conns;

int shim_conn_start(void);

static inline struct shim_conn *shim_conn_at(uint32_t index)
{
	return &shim_conns[index];
}

static inline uint32_t shim_conn_index(const struct shim_conn *conn)
{
	return (uint32_t)(conn - shim_conns);
}

/* The live connection behind a number, or NULL: then libc's call is right. */
static inline struct shim_conn *shim_conn_of(int fd)
{
	uint32_t word = shim_fd_word(fd);

	if (__builtin_expect(shim_fd_kind(word) != SHIM_FD_CONN, 1))
		return NULL;
	return shim_conn_at(shim_fd_index(word));
}

static inline bool shim_conn_is_attached(const struct shim_conn *conn)
{
	return atomic_load_explicit(&conn->state, memory_order_relaxed) == SHMIPC_STATE_ATTACHED;
}

/* One thread in this process, and no other process: locks are plain stores. */
bool shim_conn_private(const struct shim_conn *conn);

/* A connected, or connecting, stream socket on a configured endpoint: start to watch it. */
void shim_conn_track(int fd, const struct shim_verdict *verdict, bool is_server);

/* The number is about to be closed (the caller closes it): drop our knowledge.  Last descriptor of
 * the last process: the end of the stream is told to the peer, tokens are drained. */
void shim_conn_forget(int fd);
/* The number has just been given out again for something else; a close was not seen. */
void shim_conn_flush(int fd);
/* What shim_conn_forget() leaves to the last call that is inside (pins.h).  fd < 0: the number was
 * gone before. */
void shim_conn_end(struct shim_conn *conn, int fd);
/* `to` is now another name of `from`, or of what `held` was before the call that has made it
 * (pins.h; NULL: not held).  False: another thread has closed that meanwhile, so `to` is a name of
 * nothing that lives and has to be closed. */
bool shim_conn_duplicate(const struct shim_conn *held, int from, int to);
/* The caller holds the connection, and other threads may use the number meanwhile: it is closed
 * first, and the stream ends behind it by a duplicate, when the caller lets go.  *result: of the
 * system call.  False: not done, there is no descriptor for that. */
bool shim_conn_close_held(struct shim_conn *conn, int fd, int *result);

/* It may be waited for by ways that we do not see: strict, for good. */
void shim_conn_waits_unseen(struct shim_conn *conn);
/* Observers shall see that the reason lies in this loaded object. */
void shim_conn_show_system_calls(struct shim_conn *conn, const char *object);

/* Never accelerated (any more): why. */
void shim_conn_make_plain(struct shim_conn *conn, enum shmipc_reason reason);
/* Downgraded, and nothing of either direction is left to us: this process makes no call of ours on
 * it any more, not even at the close. */
void shim_conn_leave_to_libc(struct shim_conn *conn);
void shim_conn_set_reason(struct shim_conn *conn, enum shmipc_reason reason);
void shim_conn_log(const struct shim_conn *conn, int fd, const char *event, bool with_counts);

/* The application takes this number of ours, if it is the status table's: false, it is not. */
bool shim_conn_status_vacate(int fd);

/* fork: in the parent before, in the parent after, in the child. */
void shim_conn_before_fork(void);
void shim_conn_after_fork(void);
/* What fork returned to the parent. */
void shim_conn_forked(int pid);
void shim_conn_in_child(void);
/* A candidate that a former holder has left to this process alone (accept, fork, close) becomes
 * like one of its own.  Step lock held; false: others hold it too. */
bool shim_conn_adopt(struct shim_conn *conn);
/* A connection of a program whose place we have taken (bequest.h): numbers already sent and
 * received.
 */
void shim_conn_inherit(int fd, bool is_server, uint64_t sent, uint64_t received, uint32_t trips);
/* exec: what is close-on-exec has one holder less, if the call does not return. */
void shim_conn_before_exec(void);
void shim_conn_exec_failed(void);

/* The process ends in good order: as if every descriptor were closed. */
void shim_conn_exit_all(void);

/* Children that no table of ours knows: how many spawns this process has seen. */
uint32_t shim_process_spawns(void);
void shim_process_spawned(void);
/* Holders that were killed hold it no more. */
void shim_conn_count_holders(struct shim_conn *conn);
/* This process holds it no more: how many did. */
uint32_t shim_conn_leave(struct shim_conn *conn);
/* True in a child that shares our memory (vfork, clone): its closes are not ours. */
bool shim_process_is_borrowed(void);
/* Other threads may use our numbers meanwhile.  A vfork child's are not those of our table. */
bool shim_process_shares_numbers(void);

#endif
