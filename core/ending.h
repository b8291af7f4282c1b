/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How did the peer end?  The kernel would have reset the connection if, and only if, the peer
 * closed or died with payload of ours unread.  Of that payload it now knows little: it lies in the
 * ring, and what lies in the socket may be a wake token.  So the peer's own word decides, and where
 * death kept it from saying one, its position.
 */
#ifndef SHMIPC_CORE_ENDING_H
#define SHMIPC_CORE_ENDING_H

#include "core/sender.h"

enum shmipc_ending {
	SHMIPC_ENDING_KERNEL = 0, /* not known to have ended, or by the kernel: its word stands */
	SHMIPC_ENDING_ORDERLY = 1,
	SHMIPC_ENDING_LEFT_BYTES = 2, /* reset */
};

/* Is there anything that we have sent, by whichever way, and the peer has not read? Also true where
 * that cannot be known. */
bool shmipc_ending_has_left_bytes(const struct shmipc_sender *s);

/* signs: POLLERR, POLLHUP, POLLRDHUP, as seen on the real socket. */
enum shmipc_ending shmipc_ending_of(struct shmipc_sender *s, int signs);

/* Behind our own SHUT_RD a TCP socket shows no sign of a peer that was killed: the state of the
 * connection does.  Behind both of our ends the segments that have come show whether the peer has
 * sent anything.  To be called before the end is judged. */
void shmipc_ending_look_behind_shutdown(struct shmipc_sender *s, int fd);

/* Has the peer's end come, of either kind, to this TCP socket?  Behind our own SHUT_RD poll() says
 * so in any case.  True where that cannot be known. */
bool shmipc_ending_has_come(int fd);

/* TCP, both directions shut by us: whatever the peer still sends brings a reset.  One that had died
 * before, or has sent nothing, left a token unread: the reset is its doing. */
bool shmipc_ending_refuses_bytes(const struct shmipc_sender *s);
/* To be said before each shutdown. */
void shmipc_ending_before_shutdown(struct shmipc_sender *s, int fd);

/* TCP tells a reset once, to whichever call comes first, and has a broken pipe from then on.  0:
 * nothing to tell.  Else the error of this send. */
int shmipc_ending_error_of_send(struct shmipc_sender *s, int fd);
/* Of a peer that left bytes, over TCP: it had ended its own direction before. */
bool shmipc_ending_is_late(const struct shmipc_sender *s);
/* It has been told by another call. */
void shmipc_ending_was_told(struct shmipc_sender *s, int fd);

/* A send to a peer that ended in order, over TCP: the kernel accepts the first one, and the answer
 * is the reset.  If a token has already brought the reset, that first send is ours to accept.  One
 * of no bytes brings no answer. */
bool shmipc_ending_accepts_send(struct shmipc_sender *s, int fd, size_t bytes);

/* Of one call that is not of a file, before it notices the answer: sixteen segments of half the
 * window that the peer had opened, which in a young connection is 64 KiB. */
enum { SHMIPC_ENDING_TAKES_BYTES = 512 * 1024 };

/* How many of `bytes` are accepted where `done` are already. */
static inline ssize_t shmipc_ending_takes(ssize_t done, size_t bytes)
{
	ssize_t most = bytes < SHMIPC_ENDING_TAKES_BYTES ? (ssize_t)bytes
							 : SHMIPC_ENDING_TAKES_BYTES;

	return done < most ? most : done;
}

#endif
