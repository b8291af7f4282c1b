/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake of the byte-stream feature on a nonblocking AF_UNIX stream (the channel).
 *
 *	dialer (accepted the application's connection, created the segment)     offerer (listened)
 *	Negotiation request, ShareMemoryByMemfd, one descriptor       ------>
 *	                          <------   Negotiation response, AckShareMemory
 *	                     or   <------   Negotiation response with an error
 *
 * The dialer does not wait between its two messages, so an accepted handshake costs each side one
 * send and one receive.  Nothing here blocks.  What the peer says is checked for form only: whether
 * cookies, key, uid and segment are the right ones is the caller's to decide before it answers.
 */
#ifndef SHMIPC_CORE_NEGOTIATE_H
#define SHMIPC_CORE_NEGOTIATE_H

#include <stddef.h>
#include <stdint.h>

enum {
	SHMIPC_HELLO_KEY_BYTES = 32,
	SHMIPC_HELLO_NAME_ROOM = 64,
	SHMIPC_NEGOTIATOR_ROOM = 2048 /* a longer hello or answer is refused */
};

struct shmipc_hello {
	uint32_t layout; /* version of the segment's layout */
	uint32_t stream; /* which stream of the segment this connection gets */
	uint8_t key[SHMIPC_HELLO_KEY_BYTES];
	uint64_t cookie;      /* SO_COOKIE of the dialer's end of the application's connection */
	uint64_t peer_cookie; /* what the dialer knows of the offerer's end; 0 = not known */
	uint64_t netns_cookie;
	uint32_t uid;
	char segment_name[SHMIPC_HELLO_NAME_ROOM]; /* for people; 1 to 63 printable characters */
};

/* One side of one handshake. All members are private to negotiate.c. */
struct shmipc_negotiator {
	uint8_t buffer[SHMIPC_NEGOTIATOR_ROOM];
	size_t filled;
	int received_fd; /* -1, or owned until handed out or closed */
	int result;	 /* -EAGAIN while undecided; then final */
};

void shmipc_negotiator_init(struct shmipc_negotiator *negotiator);
/* Closes a descriptor that was received and not handed out. The channel is the caller's. */
void shmipc_negotiator_close(struct shmipc_negotiator *negotiator);

/*
 * Dialer.  One sendmsg of less than 1 KiB: whole or not at all, -EAGAIN if the channel's buffer has
 * no room.  The caller keeps its own copy of segment_fd.
 */
int shmipc_negotiate_send_hello(int channel_fd, const struct shmipc_hello *hello, int segment_fd);

/*
 * Offerer: call again when the channel is readable.
 *   0                 complete, *segment_fd_out is the caller's (close-on-exec), answer now
 *   -EAGAIN           not complete yet
 * final, and every descriptor received is closed again:
 *   -EPROTO           does not speak this: other first message, garbage, wrong descriptors
 *   -EPROTONOSUPPORT  well-formed negotiation without protocol 4
 *   -EOPNOTSUPP       well-formed negotiation without our feature
 *   -EBADMSG          bad JSON, or our settings missing or malformed
 *   -EMSGSIZE         too long
 *   -ECONNRESET       the peer went away
 *   -EMFILE           the descriptor did not fit into this process
 *   others            as recvmsg
 * A call after completion gives -EALREADY; one after a final error gives that error again.
 */
int shmipc_negotiator_receive_hello(struct shmipc_negotiator *negotiator, int channel_fd,
				    struct shmipc_hello *out, int *segment_fd_out);

/*
 * Offerer: error is 0 to accept, or the -errno that receive_hello returned or that the caller
 * decided (-EOPNOTSUPP for an unknown layout, say; any other means "refused").  To a peer that does
 * not speak this (-EPROTO) nothing is sent: close the channel.
 */
int shmipc_negotiate_send_answer(int channel_fd, int error);

/*
 * Dialer: call again when the channel is readable.  0 accepted; -EAGAIN not yet; final:
 * -ECONNREFUSED, -EPROTONOSUPPORT, -EOPNOTSUPP, -EBADMSG as the peer put it; -ECONNRESET it went
 * away; -EPROTO, -EMSGSIZE it answered nonsense; others as recvmsg.
 */
int shmipc_negotiator_receive_answer(struct shmipc_negotiator *negotiator, int channel_fd);

#endif
