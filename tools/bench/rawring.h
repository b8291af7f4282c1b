/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw ring: what two processes can do with one copy in, one copy out and two positions in
 * shared memory, when nobody ever sleeps.  It lies in a segment of the project's own layout.
 */
#ifndef SHMIPC_TOOLS_BENCH_RAWRING_H
#define SHMIPC_TOOLS_BENCH_RAWRING_H

#include "tools/bench/bench.h"

struct rawring;

void rawring_send(struct rawring *raw, const void *from, size_t bytes);
/* At least one byte; 0: the peer has finished and everything was read. */
size_t rawring_recv(struct rawring *raw, void *to, size_t bytes);
void rawring_finish(struct rawring *raw);

/* Both ends: forks the server, is the client. */
int rawring_run(const struct bench_job *job);

#endif
