/* SPDX-License-Identifier: Apache-2.0 */
/* An epoll set whose loop has been running for a while, and a peer that sends when it is told to.
 */
#ifndef CONFORMANCE_LIB_RUNNING_SET_H
#define CONFORMANCE_LIB_RUNNING_SET_H

#include "tests/conformance/lib/conf.h"

enum { SETTLE_WAITS = 64 /* a set that has been waited for in vain so often is a quiet one */ };

static inline int change(int set, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	return epoll_ctl(set, op, fd, &e);
}

static inline void see(const char *what, int set, int timeout_ms)
{
	struct epoll_event e[8];

	memset(e, 0, sizeof(e));
	obs_epoll(what, epoll_wait(set, e, 8, timeout_ms), e);
}

/* A set with the descriptor, whose loop has been running for a while. */
static inline int running_set(int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e;
	int set = epoll_create1(EPOLL_CLOEXEC);

	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 99));
	for (int i = 0; i < SETTLE_WAITS; i++)
		if (epoll_wait(set, &e, 1, 0) != 0)
			obs_text("not quiet");
	obs("mod", change(set, EPOLL_CTL_MOD, fd, events, data));
	return set;
}

/* Sends ten bytes each time it is told to: 0 at once, 1 when the other end may be asleep. */
enum { AT_ONCE, WHEN_ASLEEP, NO_MORE };

static inline void sender(int fd)
{
	uint64_t position = 0, when;
	int on = 1;

	if (conf.is_tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	while ((when = await()) < NO_MORE) {
		if (when == WHEN_ASLEEP)
			nap_ms(CONF_NAP_MS);
		send_pat(fd, 10, position);
		position += 10;
		tell(0);
	}
}

static inline void demand(void)
{
	tell(AT_ONCE);
	await();
}

#endif
