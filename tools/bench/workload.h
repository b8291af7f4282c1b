/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ends do once they are connected. */
#ifndef SHMIPC_TOOLS_BENCH_WORKLOAD_H
#define SHMIPC_TOOLS_BENCH_WORKLOAD_H

#include "tools/bench/channel.h"

/* By job->workload; the channel is closed by the caller. */
void workload_serve(struct channel *channel, const struct bench_job *job);
void workload_drive(struct channel *channel, const struct bench_job *job);

void pingpong_serve(struct channel *channel, const struct bench_job *job);
void pingpong_drive(struct channel *channel, const struct bench_job *job);
void stream_serve(struct channel *channel, const struct bench_job *job);
void stream_drive(struct channel *channel, const struct bench_job *job);
void idle_serve(struct channel *channel, const struct bench_job *job);
void idle_drive(struct channel *channel, const struct bench_job *job);

/* These make their own connections or descriptors. */
void connect_serve(int listener, const struct bench_job *job);
void connect_drive(const struct bench_job *job);
void streams_serve(int listener, const struct bench_job *job);
void streams_drive(const struct bench_job *job);
void library_serve(const struct bench_job *job);
void library_drive(const struct bench_job *job);
void percall_drive(const struct bench_job *job);

#endif
