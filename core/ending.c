/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ending.h"

#include <errno.h>

#include "core/sys.h"

/* The position counts as of the first look: later sends of ours were never delivered. */
static enum shmipc_ending judge_by_position(struct shmipc_sender *s)
{
	bool left = atomic_load(&s->rx->phase) != s->phase || shmipc_sender_unread(s) > 0;

	s->gone = true;
	s->ending = left ? SHMIPC_ENDING_LEFT_BYTES : SHMIPC_ENDING_ORDERLY;
	return (enum shmipc_ending)s->ending;
}

/* A half-closed peer lives on; with our own shutdown that alone makes a HUP. */
static bool is_ended(const struct shmipc_sender *s, int signs, uint32_t flags)
{
	if (signs & POLLERR)
		return true;
	if (flags & SHMIPC_TX_FIN)
		return false;
	if (s->reverse_shut)
		return (signs & POLLHUP) && !s->shut;
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
	return shmipc_sender_on_ring(s) ? judge_by_position(s) : SHMIPC_ENDING_KERNEL;
}

void shmipc_ending_was_told(struct shmipc_sender *s, int fd)
{
	socklen_t bytes = sizeof(int);
	int error;

	s->reset_told = true;
	atomic_store(&s->kept_error, 0);
	if (s->is_unix)
		return;
	sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
	/* of a peer that was killed the kernel may know no more than an orderly end */
	sys_shutdown(fd, SHUT_WR);
}

bool shmipc_ending_is_late(const struct shmipc_sender *s)
{
	return s->attached && !s->is_unix && (atomic_load(&s->reverse->flags) & SHMIPC_TX_LATE);
}

int shmipc_ending_error_of_send(struct shmipc_sender *s, int fd)
{
	int error = atomic_load(&s->kept_error);

	if (s->is_unix || s->shut || s->reset_told)
		return 0;
	if (shmipc_ending_of(s, 0) == SHMIPC_ENDING_LEFT_BYTES)
		error = shmipc_ending_is_late(s) ? 0 : ECONNRESET;
	else if (s->ending == SHMIPC_ENDING_ORDERLY)
		return 0;
	if (error)
		shmipc_ending_was_told(s, fd);
	return error;
}

bool shmipc_ending_accepts_send(struct shmipc_sender *s, int fd)
{
	struct pollfd real = { .fd = fd, .events = POLLRDHUP };
	socklen_t bytes = sizeof(int);
	int error;

	if (s->is_unix || s->shut || s->swallowed || sys_poll(&real, 1, 0) <= 0 ||
	    !(real.revents & (POLLERR | POLLHUP)) ||
	    shmipc_ending_of(s, real.revents) != SHMIPC_ENDING_ORDERLY)
		return false;
	s->swallowed = true;
	sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error,
		       &bytes); /* the next one is a broken pipe */
	return true;
}
