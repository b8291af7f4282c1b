/* SPDX-License-Identifier: Apache-2.0 */
/* An epoll set whose loop has been running for a while. */
#ifndef CONFORMANCE_LIB_RUNNING_SET_H
#define CONFORMANCE_LIB_RUNNING_SET_H

#include "tests/conformance/lib/epoll_set.h"

enum { SETTLE_WAITS = 64 /* a set that has been waited for in vain so often is a quiet one */ };

/* With the descriptor in it. */
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

#endif
