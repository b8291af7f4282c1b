/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is at the other end, by the kernel's word and never by the peer's.
 *
 * All functions use raw system calls, never block, and return 0 or -errno unless they say
 * otherwise.  A process under a seccomp filter may be killed by an unusual call: ask
 * shim_identity_seccomp_filtered() first and then use only what needs no netlink.
 */
#ifndef SHMIPC_PRELOAD_IDENTITY_H
#define SHMIPC_PRELOAD_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { SHIM_COOKIE_ANY = 0 };
#define SHIM_UID_UNKNOWN UINT32_C(0xffffffff) /* no enum: does not fit an int */

/* The kernel's numbers; netinet/tcp.h, which has them, cannot meet linux/tcp.h in one file. */
enum shim_tcp_state {
	SHIM_TCP_ESTABLISHED = 1,
	SHIM_TCP_SYN_SENT,
	SHIM_TCP_SYN_RECV,
	SHIM_TCP_FIN_WAIT1,
	SHIM_TCP_FIN_WAIT2,
	SHIM_TCP_TIME_WAIT,
	SHIM_TCP_CLOSE,
	SHIM_TCP_CLOSE_WAIT,
	SHIM_TCP_LAST_ACK,
	SHIM_TCP_LISTEN,
	SHIM_TCP_CLOSING
};

/* Fields that a function cannot know are 0, uids SHIM_UID_UNKNOWN. */
struct shim_socket_identity {
	uint8_t state;	   /* enum shim_tcp_state, for Unix sockets too */
	uint32_t uid;	   /* the socket's owner: who made it, or who accepted it */
	uint32_t peer_uid; /* SO_PEERCRED (self only): for a client, of the listen() caller */
	int32_t peer_pid;  /* SO_PEERCRED (self only): 0 in a foreign PID namespace */
	uint64_t inode;	   /* 0: nobody has accepted it yet */
	uint64_t cookie;
	uint64_t netns_cookie; /* self only; 0 where the kernel has none */
	uint64_t peer_inode;   /* unix_lookup only; 0: the other end is not accepted yet or gone */
};

/* Application payload; what is still in the kernel's queues counts as sent and as not received. */
struct shim_tcp_counters {
	uint64_t sent;
	uint64_t received;
	uint8_t state;
};

/*
 * The TCP socket whose *own* address is `local` and whose peer is `peer` (for the other end of a
 * connection of ours: pass our two addresses the other way round).  -ENOENT when this network
 * namespace has none; a listener never counts as found.
 */
int shim_identity_inet_lookup(const struct sockaddr_storage *local,
			      const struct sockaddr_storage *peer,
			      struct shim_socket_identity *out);

/*
 * The Unix socket with this inode.  -ENOENT if there is none in this network namespace, -ESTALE if
 * its cookie is not `cookie` (SHIM_COOKIE_ANY: do not care).
 */
int shim_identity_unix_lookup(uint64_t inode, uint64_t cookie, struct shim_socket_identity *out);

/* SO_COOKIE, which tells sockets apart; 0: it is none. */
uint64_t shim_identity_cookie(int fd);

/* Our own socket: everything but peer_inode; the state is that of TCP_INFO, 0 for Unix sockets. */
int shim_identity_self(int fd, struct shim_socket_identity *out);

/*
 * 1: the connection passed a translation that this end can see, 0: it did not, or -errno.
 * A redirected client sees the address that it asked for: only the server's answer finds that.
 */
int shim_identity_is_translated(int fd, bool client_side);

/*
 * Bytes that the application has written to and read from the kernel so far, exactly.
 * `client_side`: the socket that called connect().  -EAGAIN when traffic in flight would not let
 * two readings agree, -ENOTCONN when the connection is not established or no longer (the state is
 * set even then).  Not meaningful while urgent data is pending.
 */
int shim_identity_tcp_counters(int fd, bool client_side, struct shim_tcp_counters *out);

/*
 * Does a seccomp filter stand over this process, or can one not tell?  Read once (do so in the
 * constructor: later the filter may refuse the reading itself) and remembered.
 */
bool shim_identity_seccomp_filtered(void);

/* This process is about to install a filter: from now on the answer is yes. */
void shim_identity_seccomp_installed(void);

#endif
