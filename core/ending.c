/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ending.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#include "core/sys.h"

/* Of TCP; linux/tcp.h does not name the states. */
enum {
	STATE_ESTABLISHED = 1,
	STATE_FIN_WAIT1 = 4,
	STATE_FIN_WAIT2 = 5,
	STATE_CLOSE_WAIT = 8,
};

bool shmipc_ending_has_left_bytes(const struct shmipc_sender *s)
{
	/* somebody sends, or reads, past us: nobody knows */
	if (atomic_load(&s->count_lost) || (atomic_load(&s->want->want) & SHMIPC_WANT_STOPPED))
		return true;
	return shmipc_sender_unread(s) > 0 ||
	       atomic_load(&s->rx->kernel_read) != atomic_load(&s->kernel_bytes);
}

/* What we have sent and the peer has not read, if anything, lies in the kernel: by the kernel, with
 * nothing in the ring before it (LAST may have found the socket closed); or in a ring that the peer
 * has stopped to read, as long as nothing had to go again. */
static bool kernel_has_the_rest(const struct shmipc_sender *s)
{
	bool stopped = atomic_load(&s->want->want) & SHMIPC_WANT_STOPPED;

	if (shmipc_sender_on_ring(s))
		return stopped && shmipc_sender_unread(s) == 0;
	return stopped || shmipc_sender_unread(s) == 0;
}

/* It counts as of the first look: later sends of ours were never delivered. */
static enum shmipc_ending judge_by_position(struct shmipc_sender *s)
{
	bool left = shmipc_ending_has_left_bytes(s);

	/* then the kernel's word is true, unless a token has made a reset of the end */
	if (kernel_has_the_rest(s) && (left || s->tokens == atomic_load(&s->rx->tokens_taken))) {
		s->no_more_ring = true;
		return SHMIPC_ENDING_KERNEL;
	}
	s->gone = true;
	s->late = atomic_load(&s->reverse->flags) & SHMIPC_TX_FIN;
	s->ending = left ? SHMIPC_ENDING_LEFT_BYTES : SHMIPC_ENDING_ORDERLY;
	return (enum shmipc_ending)s->ending;
}

/* A half-closed peer lives on; with our own shutdown that alone makes a HUP.  On a Unix socket its
 * SHUT_RD, by which it is closed for our bytes, does the same with our own. */
static bool is_ended(const struct shmipc_sender *s, int signs, uint32_t flags)
{
	bool refused = s->is_unix && shmipc_sender_is_closed_for(s);
	bool half_closed = flags & SHMIPC_TX_FIN;

	if (signs & POLLERR)
		return true;
	if (half_closed && !s->is_unix)
		return false; /* shmipc_sender_ask() */
	if (half_closed || s->reverse_shut)
		return (signs & POLLHUP) && !s->shut && !refused;
	return signs & (POLLHUP | POLLRDHUP);
}

enum shmipc_ending shmipc_ending_of(struct shmipc_sender *s, int signs)
{
	uint32_t flags;

	if (!s->attached)
		return SHMIPC_ENDING_KERNEL;
	flags = atomic_load(&s->reverse->flags);
	s->gone |= (flags & (SHMIPC_TX_CLOSED | SHMIPC_TX_RESET)) != 0;
	if (flags & SHMIPC_TX_RESET)
		return SHMIPC_ENDING_LEFT_BYTES;
	if (flags & SHMIPC_TX_CLOSED) {
		return shmipc_sender_on_ring(s) || s->ending ? SHMIPC_ENDING_ORDERLY
							     : SHMIPC_ENDING_KERNEL;
	}
	if (s->ending)
		return (enum shmipc_ending)s->ending;
	if (!is_ended(s, signs, flags))
		return SHMIPC_ENDING_KERNEL;
	return judge_by_position(s);
}

/* The data segments that have come in, also those that the socket has refused. */
static uint32_t segments_of(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);

	return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0
		       ? info.tcpi_data_segs_in
		       : 0;
}

/* 0: unknown. */
static uint8_t state_of(int fd)
{
	uint8_t state = 0;
	socklen_t bytes = sizeof(state); /* the first field of struct tcp_info */

	return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &bytes) == 0 ? state : 0;
}

bool shmipc_ending_has_come(int fd)
{
	uint8_t state = state_of(fd);

	return state != STATE_ESTABLISHED && state != STATE_FIN_WAIT1 && state != STATE_FIN_WAIT2;
}

__attribute__((hot)) void shmipc_ending_look_behind_shutdown(struct shmipc_sender *s, int fd)
{
	const uint32_t ends = SHMIPC_TX_FIN | SHMIPC_TX_CLOSED | SHMIPC_TX_RESET;

	if (!s->attached || s->is_unix || !s->reverse_shut)
		return;
	if (s->shut && !s->sent_late)
		s->sent_late = segments_of(fd) != s->segments_when_shut;
	if (s->shut || s->ending || state_of(fd) != STATE_CLOSE_WAIT)
		return;
	/* after the kernel: a peer that ends says so before its kernel does */
	if (!(atomic_load(&s->reverse->flags) & ends))
		judge_by_position(s);
}

/* Dead with a token unread.  What it sends behind our own end goes by the kernel: so it is on the
 * ring still, or no segment with bytes has come since. */
static bool died_silent(const struct shmipc_sender *s)
{
	return s->ending == SHMIPC_ENDING_ORDERLY &&
	       s->tokens != atomic_load(&s->rx->tokens_taken) &&
	       (atomic_load(&s->reverse->phase) & 1
			? atomic_load(&s->reverse->tokens_promised) == s->promised_when_shut
			: !s->sent_late);
}

bool shmipc_ending_refuses_bytes(const struct shmipc_sender *s)
{
	return !s->is_unix && s->shut && s->reverse_shut && !s->died_first && !died_silent(s);
}

void shmipc_ending_before_shutdown(struct shmipc_sender *s, int fd)
{
	if (s->shut && s->reverse_shut)
		return;
	if (!s->is_unix)
		s->segments_when_shut = segments_of(fd);
	s->died_first = s->ending == SHMIPC_ENDING_ORDERLY;
	s->promised_when_shut = atomic_load(&s->reverse->tokens_promised);
}

/* The kernel's own, which a token has made or which has been told. */
static int forget_error(int fd)
{
	socklen_t bytes = sizeof(int);
	int error;

	sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
	return 0;
}

void shmipc_ending_was_told(struct shmipc_sender *s, int fd)
{
	struct pollfd real = { .fd = fd, .events = 0 };

	s->reset_told = true;
	atomic_store(&s->kept_error, 0);
	if (s->is_unix)
		return;
	forget_error(fd);
	/* of a peer that was killed the kernel may know no more than an orderly end; where it knows
	 * of the reset, a shutdown would do nothing but make an edge */
	if (sys_poll(&real, 1, 0) > 0 && (real.revents & POLLHUP))
		return;
	s->edge_made = true;
	sys_shutdown(fd, SHUT_WR);
}

bool shmipc_ending_is_late(const struct shmipc_sender *s)
{
	uint32_t flags = s->attached ? atomic_load(&s->reverse->flags) : 0;

	if (s->is_unix || shmipc_ending_refuses_bytes(s))
		return false;
	/* killed, or closed with bytes unread; what it says after the reset changes nothing */
	return (flags & SHMIPC_TX_LATE) ||
	       (s->ending ? s->late : (flags & SHMIPC_TX_FIN) && !(flags & SHMIPC_TX_CLOSED));
}

int shmipc_ending_error_of_send(struct shmipc_sender *s, int fd)
{
	int error = atomic_load(&s->kept_error);

	if (s->is_unix || s->reset_told)
		return 0;
	shmipc_ending_look_behind_shutdown(s, fd);
	if (shmipc_ending_of(s, 0) == SHMIPC_ENDING_LEFT_BYTES)
		error = shmipc_ending_is_late(s) ? 0 : ECONNRESET;
	else if (s->ending == SHMIPC_ENDING_ORDERLY && !shmipc_ending_refuses_bytes(s))
		return s->answered ? 0 : forget_error(fd);
	if (error)
		shmipc_ending_was_told(s, fd);
	return error;
}

bool shmipc_ending_accepts_send(struct shmipc_sender *s, int fd, size_t bytes)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };

	if (s->is_unix || s->shut || s->swallowed || s->answered || sys_poll(&real, 1, 0) <= 0 ||
	    !(real.revents & (POLLERR | POLLHUP)) ||
	    shmipc_ending_of(s, real.revents) != SHMIPC_ENDING_ORDERLY)
		return false;
	s->swallowed = bytes > 0;
	forget_error(fd); /* the next one is a broken pipe */
	if (s->swallowed)
		sys_shutdown(fd, SHUT_WR); /* the answer is news, and an edge; the socket is dead */
	return true;
}
