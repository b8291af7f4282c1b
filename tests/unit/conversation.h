/* SPDX-License-Identifier: Apache-2.0 */
/* One end says, the other hears: what the tests of senders and receivers have in common.  The bytes
 * are those of tests/stress/pair.h, so that each says where it belongs. */
#ifndef TESTS_UNIT_CONVERSATION_H
#define TESTS_UNIT_CONVERSATION_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "tests/stress/pair.h"

enum { RING_BYTES = 4096, BIG = 64 * 1024 };

/* The client speaks, the server listens. */
extern struct pair pair;
extern unsigned char out[BIG], in[BIG];
extern uint64_t sent, got; /* by whom, so far */

void conversation_open(bool is_unix);

/* Until all that the client's kernel has sent, and its end, have reached the server's. */
void let_arrive(void);

void say(size_t bytes, int flags);

/* What a receive returned, which must be so many bytes, and the right ones. */
void check(ssize_t n, size_t bytes);

void hear(size_t room, size_t bytes);
void hear_nothing(void);
bool kernel_readable(void); /* at the server's end */

/* Away from the ring, and may come back. */
void cut_away(void);

#define BOTH(name)                            \
	static void name##_unix(void **state) \
	{                                     \
		(void)state;                  \
		conversation_open(true);      \
		name();                       \
		pair_close(&pair);            \
	}                                     \
	static void name##_tcp(void **state)  \
	{                                     \
		(void)state;                  \
		conversation_open(false);     \
		name();                       \
		pair_close(&pair);            \
	}

#define TESTS(name) cmocka_unit_test(name##_unix), cmocka_unit_test(name##_tcp)

#endif
