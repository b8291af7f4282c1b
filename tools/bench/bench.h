/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shmipc-bench: types that its files share.
 *
 * The parent plans rows, and for each row and round runs the variants one after the other.  A
 * variant is one or two fresh processes of this same binary (`--child key=value ...`) that connect,
 * move checked payload, and print `name=value` lines, which the parent reads from a pipe.
 */
#ifndef SHMIPC_TOOLS_BENCH_BENCH_H
#define SHMIPC_TOOLS_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_NAME "shmipc-bench"
#define BENCH_VERSION "0.1.0"

enum {
	BENCH_ROUNDS_MAX = 101,
	BENCH_SIZES_MAX = 32,
	BENCH_SIZE_MAX = 64 << 20,
	BENCH_ADDRESS_BYTES = 108,
	BENCH_NAME_BYTES = 48,
	BENCH_IDLE_NS = 2000000000,
	BENCH_STREAM_COUNT = 64,
};

enum bench_workload {
	BENCH_PINGPONG,
	BENCH_STREAM,
	BENCH_RATE, /* a stream of small messages, counted in messages */
	BENCH_CONNECT,
	BENCH_PERCALL,
	BENCH_IDLE,
	BENCH_STREAMS, /* round trips of many conversations at once */
};

enum bench_family { BENCH_TCP, BENCH_UNIX, BENCH_NO_FAMILY };

/* How an end waits: in the call, in epoll_wait, by repeating a nonblocking call. */
enum bench_wait { BENCH_BLOCK, BENCH_EPOLL, BENCH_SPIN };

enum bench_call { BENCH_READ, BENCH_WRITE, BENCH_SEND, BENCH_RECV };

enum bench_variant {
	BENCH_KERNEL,
	BENCH_KERNEL_ALT, /* ping-pong: both ends spin on nonblocking recv; TCP stream: cubic */
	BENCH_SHIM,
	BENCH_RAW,     /* copy in, copy out and two positions in shared memory: the limit */
	BENCH_LIBRARY, /* libshmipc, by its zero-copy calls; its rows have no shim and no raw */
	BENCH_VARIANTS,
};

enum bench_role { BENCH_SERVER, BENCH_CLIENT, BENCH_ALONE, BENCH_RAWRING };

/* What one child has to do. */
struct bench_job {
	enum bench_role role;
	enum bench_workload workload;
	enum bench_family family;
	enum bench_wait wait;
	enum bench_call call;
	size_t size_bytes;
	uint64_t duration_ns;
	char address[BENCH_ADDRESS_BYTES]; /* path, or TCP port in decimal */
	char congestion[16];		   /* empty: the machine's default */
	bool library;			   /* by libshmipc instead of a socket ... */
	unsigned int spin_us;		   /* ... whose waits spin so long */
	int cpu_server, cpu_client;	   /* -1: not pinned.  Only the raw ring pins itself */
};

/* child.c */
int bench_child_main(int argc, char **argv);
void bench_report(const char *name, double value);
_Noreturn void bench_child_fail(const char *what);
/* A server listens there. */
void bench_child_ready(const char *address);

/* A verified message or stream position did not hold what was sent. */
void bench_corrupt(const char *where, uint64_t position);

/* CLOCK_MONOTONIC, and the CPU time of this process. */
uint64_t bench_now_ns(void);
uint64_t bench_cpu_ns(void);

#endif
