/* SPDX-License-Identifier: Apache-2.0 */
/* A channel between a dialer and an offerer, and what the two put on it. */
#ifndef TESTS_UNIT_HANDSHAKE_H
#define TESTS_UNIT_HANDSHAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/negotiate.h"
#include "tests/unit/open_count.h"

enum { WIRE_ROOM = 4096 };

/* [0] is the dialer's end, [1] the offerer's */
struct channel {
	int ends[2];
	int segment_fd;
	int open_before;
};

extern const struct shmipc_hello sample;

void open_channel(struct channel *channel);
void close_channel(struct channel *channel);

/* Before and after each test.  Whatever it did, no descriptor may be left over. */
int set_up(void **state);
int tear_down(void **state);

/* By a negotiator of its own, once; a descriptor that came is closed. */
int receive_hello(int channel_fd);
int receive_answer(int channel_fd);

/* With the segment so many times. */
void raw_send(struct channel *channel, int end, const void *from, size_t bytes,
	      unsigned int fd_count);

/* One message of that JSON.  How many bytes. */
size_t put_json(uint8_t *to, const char *body);

/* What the hello and the answer are on the wire; the hello without its descriptor. */
size_t hello_bytes(struct channel *channel, uint8_t *wire);
size_t answer_bytes(struct channel *channel, int error, uint8_t *wire);

#endif
