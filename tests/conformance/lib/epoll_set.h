/* SPDX-License-Identifier: Apache-2.0 */
/* What every case does with an epoll set. */
#ifndef CONFORMANCE_LIB_EPOLL_SET_H
#define CONFORMANCE_LIB_EPOLL_SET_H

#include "tests/conformance/lib/conf.h"

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

#endif
