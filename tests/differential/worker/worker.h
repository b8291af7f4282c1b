/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker: one role of a differential test.  It performs the socket calls that it is told to,
 * one at a time, and says what came of each.  It knows nothing of the library under test.
 *
 * An actor is a thread that takes orders: the main thread, a second one, the main thread of a
 * forked child.  Each has a channel of its own.  Descriptors are named by slots, a letter and a
 * digit: `a` and `b` are two connections (a0 the first descriptor of it, the others duplicates),
 * `e` are epoll sets, `x` anything else.
 */
#ifndef DIFFERENTIAL_WORKER_H
#define DIFFERENTIAL_WORKER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum {
	CHANNEL_FIRST = 200, /* main, thread, child: numbers that no plan meets */
	CHANNEL_COUNT = 3,
	SLOT_LETTERS = 26,
	SLOT_DIGITS = 8,
	WORDS_MAX = 16,
	OUTCOME_MAX = 1500,
	BUFFER_BYTES = 1 << 20,
	PARTS_MAX = 8,
	CONNECTIONS = 2, /* slots a and b */
};

struct actor {
	int channel;
	unsigned char *in, *out; /* BUFFER_BYTES each */
	char outcome[OUTCOME_MAX];
	size_t used;
};

struct words {
	int count;
	char *at[WORDS_MAX];
};

/* ---- main.c ---- */
void say(struct actor *actor, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* `name=result`, or the name of errno. */
void say_result(struct actor *actor, const char *name, long result);
const char *word(const struct words *words, int index);
long number(const struct words *words, int index);
struct actor *actor_new(int channel);
void actor_free(struct actor *actor);
/* Takes orders until it is told to leave, or the runner is gone. */
void actor_serve(struct actor *actor);
void actor_tell(const struct actor *actor, const char *text);

/* ---- slots.c ---- */
int slot_fd(const char *name); /* -1 when it is empty */
void slot_set(const char *name, int fd);
int slot_of_connection(int connection); /* any open descriptor of it, or -1 */
void slots_close(void);

/* ---- names.c ---- */
int flags_of(const char *text);
int events_of(const char *text, bool epoll);
const char *errno_name(int error);
void option_of(const char *name, int *level, int *option);

/* ---- payload.c ---- */
struct hash {
	uint64_t value;
};
void payload_fill(unsigned char *bytes, size_t count, uint64_t seed, uint64_t position);
void hash_start(struct hash *hash);
void hash_add(struct hash *hash, const unsigned char *bytes, size_t count);
unsigned int hash_end(const struct hash *hash);
/* The buffer in at most PARTS_MAX uneven pieces. */
int split(struct iovec *iov, unsigned char *bytes, size_t count, int parts);

/* ---- kernel.c: what the kernel itself says, past anything that stands between ---- */
/* ended: 1, so is the other side; 2, and its reset is here. */
void kernel_settle(int connection, uint64_t received, int ended);
void kernel_probe(struct actor *actor, bool holds_back);
void kernel_acknowledge(void);
void kernel_await_acknowledgement(void);
long long now_us(void);
int signals_seen(void); /* of SIGPIPE, by this thread, since the last call */
void signals_start(void);
void alarm_start(long ms, bool restart);
bool alarm_end(void); /* has it struck? */

/* ---- calls_*.c: each does one order ---- */
typedef void call_function(struct actor *actor, const struct words *words);
struct call {
	const char *name;
	call_function *run;
};
extern const struct call send_calls[], receive_calls[], number_calls[], wait_calls[],
	process_calls[], pump_calls[], connect_calls[], stdio_calls[];

#endif
