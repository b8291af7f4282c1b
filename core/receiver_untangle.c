/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stop in the midst of a cut: payload that came by the kernel lies unread in the socket, tokens
 * behind it, and what follows in the ring.  Tokens cannot be taken from behind payload, and whoever
 * reads by the kernel alone would read them.  So all of it is taken off the socket, and the payload
 * and then the ring are sent again by a copy of the sender's socket.
 *
 * [untangle] We say HELPING and STOPPED in one store, fence, wait until the sender is in no cut.
 * It announces one, fences and looks for STOPPED before it sends LAST or says FIN.  So either we
 * see that it has, and have touched nothing yet; or it sees STOPPED, and with it HELPING, for which
 * it waits before it sends anything.
 */
#include "core/receiver.h"

#include <sys/mman.h>

#include "core/receiver_parts.h"
#include "core/sys.h"

enum {
	PAYLOAD_BYTES_MAX = 64 * 1024 * 1024, /* more is nothing that two sockets hold */
	CUT_TRIES = 5000,		      /* a sender in its cut has lost its processor */
	MOVE_TRIES = 2000,		      /* without any progress */
	NAP_NS = 100 * 1000,
};

static void nap(void)
{
	const struct timespec time = { 0, NAP_NS };

	sys_nanosleep(&time);
}

/* Locked. */
static bool is_mixed(const struct shmipc_receiver *r)
{
	return !r->stopped && !r->broken && !shmipc_receiver_at_end(r) &&
	       !shmipc_receiver_on_ring(r) && shmipc_receiver_sender_ahead(r) &&
	       !shmipc_receiver_two_ahead(r) && shmipc_receiver_has_tokens(r) &&
	       shmipc_receiver_before_cut(r) <= PAYLOAD_BYTES_MAX;
}

bool shmipc_receiver_is_mixed(struct shmipc_receiver *r, bool private_use)
{
	bool mixed;

	if (!r->attached || !r->ready || r->stopped || shmipc_receiver_on_ring(r) ||
	    !shmipc_receiver_lock(r, private_use))
		return false;
	shmipc_receiver_tell_sender(r, SHMIPC_WANT_STOP);
	mixed = is_mixed(r);
	shmipc_lock_drop(&r->lock, private_use);
	return mixed;
}

uint64_t shmipc_receiver_unread_before_ring(const struct shmipc_receiver *r)
{
	return shmipc_receiver_sender_ahead(r) ? shmipc_receiver_before_cut(r) : 0;
}

/* Descriptors and credentials that ride on the bytes of a Unix stream would not be sent again.
 * All of these bytes are there. */
static bool is_payload_alone(const struct shmipc_receiver *r, int fd, char *memory, size_t bytes)
{
	struct iovec piece = { memory, bytes };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

	return !r->is_unix ||
	       (sys_recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK) == (ssize_t)bytes &&
		!(message.msg_flags & MSG_CTRUNC));
}

/* False: it has left the ring, or ended, before it saw this; it does not look at it any more. */
static bool hold_sender(struct shmipc_receiver *r)
{
	const uint32_t held = SHMIPC_WANT_STOPPED | SHMIPC_WANT_HELPING,
		       ends = SHMIPC_TX_FIN | SHMIPC_TX_RESET | SHMIPC_TX_CLOSED;
	bool clear = shmipc_receiver_tell_sender(r, held);

	for (int i = 0; i < CUT_TRIES && !clear; i++) {
		nap();
		clear = !(atomic_load(&r->tx->flags) & SHMIPC_TX_CUTTING);
	}
	if (!clear) /* has it seen it? */
		r->broken = r->stopped = true;
	else if (shmipc_receiver_sender_ahead(r) && !shmipc_receiver_two_ahead(r) &&
		 !(atomic_load(&r->tx->flags) & ends))
		return true;
	atomic_fetch_and(&r->want->want, ~(uint32_t)(clear ? held : (uint32_t)SHMIPC_WANT_HELPING));
	return false;
}

static bool take_payload(int fd, char *memory, size_t bytes)
{
	int tries = 0;

	for (size_t done = 0; done < bytes;) {
		ssize_t n = sys_recvfrom(fd, memory + done, bytes - done, MSG_DONTWAIT, NULL, NULL);

		if (n > 0) {
			done += (size_t)n;
			tries = 0;
			continue;
		}
		if ((n != -EAGAIN && n != -EINTR) || tries++ == MOVE_TRIES)
			return false;
		nap(); /* the rest lies with the sender, for which there is room from now on */
	}
	return true;
}

static bool take_tokens(struct shmipc_receiver *r, int fd)
{
	for (int i = 0; i < MOVE_TRIES; i++) {
		shmipc_receiver_drain_ledger(r, fd);
		if (r->last_seen || shmipc_receiver_at_end(r))
			return false;
		if (!shmipc_receiver_has_tokens(r))
			return true;
		nap();
	}
	return false;
}

static bool send_payload(int socket, const char *memory, size_t bytes)
{
	int tries = 0;

	for (size_t done = 0; done < bytes;) {
		ssize_t n = sys_sendto(socket, memory + done, bytes - done,
				       MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);

		if (n > 0) {
			done += (size_t)n;
			tries = 0;
			continue;
		}
		if ((n != -EAGAIN && n != -ENOBUFS && n != -EINTR) || tries++ == MOVE_TRIES)
			return false;
		nap();
	}
	return true;
}

/* The sender is held.  Broken as long as a part of the stream lies in our memory alone: whoever
 * inherits the lock from us has lost it.  No byte of this is counted: it is still to be read. */
static bool move(struct shmipc_receiver *r, int fd, int socket, char *memory, size_t bytes)
{
	r->broken = true;
	if (!take_payload(fd, memory, bytes))
		return false;
	shmipc_receiver_pass_cut(r);
	if (!take_tokens(r, fd) || !send_payload(socket, memory, bytes))
		return false;
	r->former_besides -= (int64_t)bytes; /* the kernel counts them twice */
	r->broken = false;
	return true;
}

/* Locked, mixed. */
static bool untangle(struct shmipc_receiver *r, int fd, int socket)
{
	const size_t bytes = (size_t)shmipc_receiver_before_cut(r);
	long memory = sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);
	bool done = false;

	if (memory < 0 && memory > -SHMIPC_PAGE_BYTES)
		return false;
	if (shmipc_receiver_tell_sender(r, SHMIPC_WANT_STOP) &&
	    is_payload_alone(r, fd, (char *)memory, bytes) && hold_sender(r)) {
		done = move(r, fd, socket, (char *)memory, bytes);
		r->stopped = true;
		if (done)
			shmipc_receiver_send_ring(r, socket);
		atomic_fetch_and(&r->want->want, ~(uint32_t)SHMIPC_WANT_HELPING);
	}
	sys_munmap((void *)memory, bytes);
	return done;
}

bool shmipc_receiver_untangle(struct shmipc_receiver *r, int fd, int peer_socket, bool private_use)
{
	bool done;

	if (!r->ready || !shmipc_receiver_lock(r, private_use))
		return false;
	done = is_mixed(r) && shmipc_receiver_before_cut(r) > 0 && untangle(r, fd, peer_socket);
	shmipc_lock_drop(&r->lock, private_use);
	return done;
}
