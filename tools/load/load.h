/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An echo server and its clients, plain POSIX programs that know nothing of the library or the
 * shim. scripts/bench-apps runs them where no packaged program makes the load that a row asks for.
 */
#ifndef SHMIPC_TOOLS_LOAD_LOAD_H
#define SHMIPC_TOOLS_LOAD_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	EXIT_WRONG = 3, /* a reply was not what it must be */
	EVENTS_AT_ONCE = 256,
	READ_BYTES = 1 << 17,
};

struct load_options {
	const char *address;
	const char *send;   /* what to send instead of numbered bytes */
	const char *expect; /* the reply to it */
	size_t bytes;
	int connections; /* of a ping client, all told */
	int active;	 /* of these, how many are used while it is measured */
	int warm;	 /* round trips of each connection before that */
	int processes;	 /* of a short client */
	double seconds;
	bool block; /* one connection, blocking calls, no epoll */
	bool hold;  /* keep the connections until stdin ends */
};

_Noreturn void load_fail(const char *what);
_Noreturn void load_wrong(const char *what);

uint64_t load_now_ns(void);
double load_cpu_seconds(void); /* this process and its children that have ended */

int load_serve(const struct load_options *options);
int load_ping(const struct load_options *options);
int load_short(const struct load_options *options);

#endif
