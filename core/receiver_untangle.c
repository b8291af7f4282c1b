/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stop in the midst of a cut.  What is unread lies in the socket and in the ring by turns:
 *
 *   payload, tokens | ring                   the sender is on the ring
 *   tokens, LAST, payload | ring             it has left it
 *   payload, tokens, LAST, payload | ring    it has gone there and left it
 *
 * Whoever reads by the kernel alone would read the tokens, and nothing of the ring.  So all of it
 * is taken off the socket, and what belongs to the stream is sent again in its order, by a copy of
 * the sender's socket.
 *
 * [untangle] We say HELPING and STOPPED in one store, fence, wait until the sender is in no cut,
 * and in no kernel send if it has left the ring.  It announces each of these, fences and looks
 * before it sends LAST or payload, or says FIN.  So either we see that it has, and have touched
 * nothing yet; or it sees HELPING, and waits until we have done.
 */
#include "core/receiver.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/receiver_parts.h"
#include "core/socket_room.h"
#include "core/sys.h"

enum {
	PAYLOAD_BYTES_MAX = 64 * 1024 * 1024, /* more is nothing that two sockets hold */
	CUT_TRIES = 5000,		      /* a sender in its cut has lost its processor */
	SEND_TRIES = 20,		      /* one in a send is out of it in a moment, */
	SLEEP_TRIES = 200,  /* or sleeps there until somebody reads, or there is room */
	MOVE_TRIES = 2000,  /* without any progress */
	MOVE_US = 10000000, /* in all: less than the sender waits */
	NAP_NS = 100 * 1000,
};

struct load {
	int fd, socket; /* ours, and the sender's */
	char *memory;
	size_t room;
	size_t before, behind; /* payload before the ring's bytes, and behind */
	bool left;	       /* the sender has left the ring */
	struct shmipc_socket_room socket_room;
	uint64_t deadline; /* ticks */
};

static void nap(void)
{
	const struct timespec time = { 0, NAP_NS };

	sys_nanosleep(&time);
}

/* ---- what lies where; locked ---- */

static bool has_left(const struct shmipc_receiver *r)
{
	return shmipc_receiver_on_ring(r) ? shmipc_receiver_sender_ahead(r)
					  : shmipc_receiver_two_ahead(r);
}

static bool is_mixed(const struct shmipc_receiver *r)
{
	if (r->stopped || r->broken || shmipc_receiver_at_end(r) ||
	    !shmipc_receiver_sender_ahead(r))
		return false;
	if (shmipc_receiver_on_ring(r))
		return shmipc_receiver_unread(r) > 0;
	return shmipc_receiver_two_ahead(r) || shmipc_receiver_has_tokens(r);
}

bool shmipc_receiver_is_mixed(struct shmipc_receiver *r, bool private_use)
{
	bool mixed;

	if (!r->attached || !r->ready || r->stopped || !shmipc_receiver_lock(r, private_use))
		return false;
	mixed = shmipc_receiver_sender_ahead(r);
	if (mixed) {
		shmipc_receiver_tell_sender(r, SHMIPC_WANT_STOP);
		mixed = is_mixed(r);
	}
	shmipc_lock_drop(&r->lock, private_use);
	return mixed;
}

static size_t asked(int fd, unsigned long request)
{
	int bytes = 0;

	return sys_ioctl(fd, request, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

static bool is_urgent(int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLPRI };

	return sys_poll(&real, 1, 0) > 0 && (real.revents & POLLPRI);
}

/* Of TCP what is on its way too, perhaps counted twice. */
static size_t lies_with_kernel(const struct shmipc_receiver *r, const struct load *load)
{
	return asked(load->fd, FIONREAD) + (r->is_unix ? 0 : asked(load->socket, SIOCOUTQ));
}

/* All of it must go again before the sender may go on; of what lies in a ring that it has not left
 * it sends the rest itself, and what came by the kernel before that has had room once. */
static bool make_room(const struct shmipc_receiver *r, struct load *load)
{
	const uint64_t bytes = lies_with_kernel(r, load) + shmipc_receiver_unread(r);

	shmipc_socket_room_make(load->socket, bytes, &load->socket_room);
	return !load->left || bytes <= shmipc_socket_room_bytes(load->socket);
}

/* Descriptors and credentials that ride on the bytes of a Unix stream would not be sent again, nor
 * would urgency.  All of a Unix stream's bytes are there. */
static bool is_payload_alone(const struct shmipc_receiver *r, const struct load *load)
{
	const size_t bytes = asked(load->fd, FIONREAD);
	struct iovec piece = { load->memory, bytes };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

	if (!r->is_unix)
		return !is_urgent(load->fd);
	return bytes <= load->room &&
	       sys_recvmsg(load->fd, &message, MSG_DONTWAIT | MSG_PEEK) == (ssize_t)bytes &&
	       !(message.msg_flags & MSG_CTRUNC);
}

/* ---- the sender ---- */

static void release_sender(struct shmipc_receiver *r, uint32_t bits)
{
	atomic_fetch_and(&r->want->want, ~bits);
}

/* A call that sleeps for room gets some; the next one is held. */
static bool is_out_of_kernel(const struct shmipc_receiver *r, struct load *load)
{
	for (int i = 0; i < SLEEP_TRIES; i++) {
		if (atomic_load(&r->tx->flags) & SHMIPC_TX_OTHERS)
			return false;
		if (atomic_load(&r->tx->kernel_senders) == 0)
			return true;
		if (i == SEND_TRIES)
			shmipc_socket_room_make(load->socket, SHMIPC_SOCKET_ROOM_MAX,
						&load->socket_room);
		nap();
	}
	return false;
}

/* False: it has left the ring, or ended, before it saw this, and waits for nothing. */
static bool hold_sender(struct shmipc_receiver *r, struct load *load)
{
	const uint32_t held = SHMIPC_WANT_STOPPED | SHMIPC_WANT_HELPING;
	bool left = has_left(r), clear = shmipc_receiver_tell_sender(r, held);

	for (int i = 0; i < CUT_TRIES && !clear; i++) {
		nap();
		clear = !(atomic_load(&r->tx->flags) & SHMIPC_TX_CUTTING);
	}
	if (!clear) { /* has it seen it? */
		r->stopped = true;
		r->broken = true;
		release_sender(r, SHMIPC_WANT_HELPING);
		return false;
	}
	load->left = has_left(r);
	/* what else is said of an end is said outside of cuts, and before FIN */
	if (!(atomic_load(&r->tx->flags) & SHMIPC_TX_FIN) && load->left == left &&
	    (!left || (is_out_of_kernel(r, load) && is_payload_alone(r, load))) &&
	    make_room(r, load))
		return true;
	release_sender(r, held);
	return false;
}

/* ---- off the socket ---- */

static bool is_late(const struct load *load)
{
	return shmipc_ticks() > load->deadline;
}

static bool take_before(struct load *load)
{
	int tries = 0;

	for (size_t done = 0; done < load->before && !is_late(load);) {
		ssize_t n = sys_recvfrom(load->fd, load->memory + done, load->before - done,
					 MSG_DONTWAIT, NULL, NULL);

		if (n > 0) {
			done += (size_t)n;
			tries = 0;
			continue;
		}
		if ((n != -EAGAIN && n != -EINTR) || tries++ == MOVE_TRIES)
			return false;
		nap(); /* the rest lies with the sender, for which there is room from now on */
	}
	return !is_late(load);
}

/* With LAST among them if the sender has left the ring. */
static bool take_tokens(struct shmipc_receiver *r, const struct load *load)
{
	for (int i = 0; i < MOVE_TRIES; i++) {
		shmipc_receiver_drain_ledger(r, load->fd);
		if (r->last_seen || shmipc_receiver_at_end(r))
			break;
		if (!shmipc_receiver_has_tokens(r))
			return !load->left;
		nap();
	}
	return r->last_seen && load->left;
}

/* Nothing more is on its way when the sender's socket has nothing that has not arrived; asked
 * before ours is found empty. */
static bool take_behind(struct load *load)
{
	for (int tries = 0; tries < MOVE_TRIES && !is_late(load);) {
		const size_t at = load->before + load->behind;
		bool arrived = asked(load->socket, SIOCOUTQ) == 0;
		ssize_t n = sys_recvfrom(load->fd, load->memory + at, load->room - at, MSG_DONTWAIT,
					 NULL, NULL);

		if (n > 0) {
			load->behind += (size_t)n;
			tries = 0;
			continue;
		}
		if (n == -EAGAIN && arrived)
			return load->before + load->behind < load->room;
		if (n != -EAGAIN && n != -EINTR)
			return false;
		tries++;
		nap();
	}
	return false;
}

/* ---- and in again ---- */

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

/* Of a sender on the ring, what there is no room for stays: it sends that itself. */
static bool send_ring(struct shmipc_receiver *r, const struct load *load)
{
	for (int tries = 0; tries < MOVE_TRIES; tries++) {
		const uint64_t head = shmipc_receiver_head(r);

		shmipc_receiver_send_ring(r, load->socket);
		if (!load->left || shmipc_receiver_unread(r) == 0)
			return true;
		if (shmipc_receiver_head(r) != head)
			tries = 0;
		nap();
	}
	return false;
}

/* The sender is held.  Broken as long as a part of the stream lies in our memory alone: whoever
 * inherits the lock from us has lost it.  No byte of this is counted: it is still to be read. */
static bool move(struct shmipc_receiver *r, struct load *load)
{
	r->broken = true;
	if (!shmipc_receiver_on_ring(r)) {
		if (!take_before(load))
			return false;
		shmipc_receiver_pass_cut(r);
	}
	if (!take_tokens(r, load))
		return false;
	if (load->left) {
		if (!take_behind(load))
			return false;
		shmipc_receiver_pass_cut(r);
	}
	if (!send_payload(load->socket, load->memory, load->before) || !send_ring(r, load) ||
	    !send_payload(load->socket, load->memory + load->before, load->behind))
		return false;
	r->former_besides -= (int64_t)(load->before + load->behind); /* counted twice now */
	r->broken = false;
	return true;
}

/* Locked, mixed. */
static bool untangle(struct shmipc_receiver *r, struct load *load)
{
	bool done = false;

	if (!shmipc_receiver_on_ring(r))
		load->before = (size_t)shmipc_receiver_before_cut(r);
	if (load->before > load->room || load->before > lies_with_kernel(r, load) ||
	    !shmipc_receiver_tell_sender(r, SHMIPC_WANT_STOP) || !is_payload_alone(r, load))
		return false;
	if (hold_sender(r, load)) {
		load->deadline = shmipc_ticks() + MOVE_US * shmipc_ticks_per_us();
		done = move(r, load);
		r->stopped = true;
	}
	shmipc_socket_room_restore(load->socket, &load->socket_room);
	if (r->stopped)
		release_sender(r, SHMIPC_WANT_HELPING);
	return done;
}

bool shmipc_receiver_untangle(struct shmipc_receiver *r, int fd, int peer_socket, bool private_use)
{
	struct load load = { .fd = fd, .socket = peer_socket, .room = PAYLOAD_BYTES_MAX };
	bool done = false;
	long memory;

	memory = sys_mmap(NULL, load.room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	if (memory < 0 && memory > -SHMIPC_PAGE_BYTES)
		return false;
	load.memory = (char *)memory;
	if (r->ready && shmipc_receiver_lock(r, private_use)) {
		done = is_mixed(r) && untangle(r, &load);
		shmipc_lock_drop(&r->lock, private_use);
	}
	sys_munmap(load.memory, load.room);
	return done;
}
