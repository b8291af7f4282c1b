/* SPDX-License-Identifier: Apache-2.0 */
/* What waits.c and waits_sleep.c share, and nobody else includes. */
#ifndef SHMIPC_PRELOAD_WAITS_PARTS_H
#define SHMIPC_PRELOAD_WAITS_PARTS_H

#include "preload/pins.h"
#include "preload/waits.h"

enum {
	SHIM_POLL_IN = POLLIN | POLLRDNORM,
	SHIM_POLL_OUT = POLLOUT | POLLWRNORM,
	SHIM_POLL_URGENT = POLLPRI | POLLRDBAND, /* such bytes leave the ring */
	SHIM_POLL_ANSWERED = SHIM_POLL_IN | SHIM_POLL_OUT | POLLRDHUP,
	SHIM_POLL_HANGUP = POLLERR | POLLHUP | POLLNVAL | POLLRDHUP,
};

/* With more entries their places are not on the stack. */
enum { SHIM_POLL_FEW = 64 };

/* Beside each entry; and, in whatever order, those that are armed. */
struct shim_poll_place {
	struct shim_conn *armed, *pinned;
	bool early; /* armed before it was on a ring (shim_conn_wait_early()) */
	bool silent;
};

struct shim_poll_wait {
	struct pollfd *fds;
	nfds_t count;
	uint32_t looks;
	bool by_memory;	  /* while spinning: memory knows all of them */
	bool vain;	  /* what ended the last sleep, or spin, was no news */
	bool pins;	  /* a number may be closed meanwhile (pins.h): all are pinned */
	uint32_t process; /* its generation, when they were armed */
	nfds_t armed_count;
	struct shim_poll_place *places; /* one for each entry */
	struct shim_poll_place few[SHIM_POLL_FEW];
};

static inline struct shim_conn *shim_poll_conn(const struct shim_poll_wait *wait, nfds_t i)
{
	int fd = wait->fds[i].fd;
	struct shim_conn *conn = fd >= 0 ? shim_conn_of(fd) : NULL;

	return __builtin_expect(wait->pins, 0) && conn != wait->places[i].pinned ? NULL : conn;
}

static inline struct shim_conn *shim_poll_receiver(const struct shim_poll_wait *wait, nfds_t i)
{
	struct shim_conn *conn = shim_poll_conn(wait, i);

	return conn && shim_conn_is_attached(conn) && (wait->fds[i].events & SHIM_POLL_IN) ? conn
											   : NULL;
}

static inline void shim_poll_unpin(const struct shim_poll_wait *wait)
{
	for (nfds_t i = 0; i < wait->count; i++)
		if (wait->places[i].pinned)
			shim_unpin(wait->places[i].pinned);
}

/* Memory has something for one of them. */
static inline bool shim_poll_hint(const struct shim_poll_wait *wait)
{
	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = shim_poll_receiver(wait, i);

		if (conn && shmipc_receiver_hint(&conn->rx))
			return true;
	}
	return false;
}

/* Its spin budget and credit stand for all; NULL: none of them is ours. */
static inline struct shim_conn *shim_poll_first(const struct shim_poll_wait *wait)
{
	for (nfds_t i = 0; i < wait->count; i++) {
		struct shim_conn *conn = shim_poll_receiver(wait, i);

		if (conn && conn->rx.ready)
			return conn;
	}
	return NULL;
}

/* ---- waits.c ---- */

/* A wait for bytes is told of an end as of bytes; one for neither is not told. */
short shim_poll_hangup(struct shim_conn *conn, const struct pollfd *entry);

/* ---- waits_sleep.c ---- */

/* As ppoll(2), with all armed that the kernel knows by their tokens only.  0 also if memory has
 * something now. */
int shim_poll_sleep(struct shim_poll_wait *wait, uint64_t deadline_ns, const sigset_t *mask);

#endif
