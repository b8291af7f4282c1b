/* SPDX-License-Identifier: Apache-2.0 */
/* One end of a connection under test: a socket with a way of waiting, or a raw ring. */
#ifndef SHMIPC_TOOLS_BENCH_CHANNEL_H
#define SHMIPC_TOOLS_BENCH_CHANNEL_H

#include "tools/bench/bench.h"

struct rawring;

struct channel {
	int fd;
	int epoll_fd;
	enum bench_wait wait;
	struct rawring *raw; /* not NULL: the ring, not the socket */
};

int channel_listen(const struct bench_job *job, char *address_out);
int channel_accept(int listener);
int channel_connect(const struct bench_job *job);

/* Take over a connected socket. */
void channel_open(struct channel *channel, int fd, const struct bench_job *job);
/* Everything, or the process ends with an error. */
void channel_send(struct channel *channel, const void *from, size_t bytes);
/* Exactly `bytes`; false: end of stream before the first one. */
bool channel_recv(struct channel *channel, void *to, size_t bytes);
/* What there is, at least one byte; 0: end of stream. */
size_t channel_recv_some(struct channel *channel, void *to, size_t bytes);
/* No more will be sent. */
void channel_finish(struct channel *channel);
void channel_close(struct channel *channel);

#endif
