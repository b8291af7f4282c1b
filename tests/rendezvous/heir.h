/* SPDX-License-Identifier: Apache-2.0 */
/* What heir.c sends on a connection: which byte where, in which pieces, and how far its reader
 * reads. */
#ifndef SHMIPC_TESTS_RENDEZVOUS_HEIR_H
#define SHMIPC_TESTS_RENDEZVOUS_HEIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "tests/rendezvous/program.h"

enum {
	TRIPS_MIN = 8,
	TRIPS_MAX = 40,
	TRIPS_BEHIND = 6, /* behind the piece that the kernel takes */
	LEAD_MAX = 180 * 1024,
	LAST_MAX = 500,
	TEXT_BYTES = 64
};

/* Where the reader stops. */
enum kind {
	FIRST, /* in what came before the first byte of the ring: it reads little from the start */
	AGAIN, /* in what came by the kernel in the middle of the ring's bytes */
	BEHIND /* before that, in the ring */
};

struct stream {
	int fd, number;
	enum kind kind;
	int trips;	 /* a byte of the reader, answered by a piece */
	int trip;	 /* so many were made */
	size_t lead;	 /* sent before the first trip */
	size_t from, to; /* this piece carries control data, so the kernel takes it */
	size_t stop;	 /* where the reader stops */
	size_t last;	 /* is said behind all the rest */
	size_t total;
	size_t at;	/* sent, or read */
	size_t allowed; /* to be sent until now */
	bool done;
};

static inline uint32_t mix(size_t position, int number)
{
	uint32_t x = (uint32_t)position * 2654435761u + (uint32_t)number * 40503u + 1;

	x ^= x >> 15;
	x *= 0x2c1b3c6du;
	return x ^ x >> 12;
}

static inline char byte_at(size_t position, int number)
{
	return (char)(mix(position, number) >> 8);
}

static inline size_t least(size_t one, size_t other)
{
	return one < other ? one : other;
}

static inline size_t between(size_t low, size_t high)
{
	return low + (size_t)(drand48() * (double)(high - low));
}

/* ---- what will be sent ---- */

static inline bool is_of_kernel(const struct stream *s, int trip)
{
	return s->kind != FIRST && trip == s->trips - TRIPS_BEHIND;
}

/* What goes by the kernel is larger than the others: there the reader stops, in it or before. */
static inline size_t answer_bytes(const struct stream *s, int trip)
{
	if (is_of_kernel(s, trip))
		return s->total / 6;
	return 1 + mix((size_t)trip, s->number + 1000) % (s->total / 4 / (size_t)s->trips);
}

/* most: bytes; a quarter of it at least. */
static inline void plan(struct stream *s, int number, bool is_unix, size_t most)
{
	static const enum kind kinds[2][4] = { { FIRST, AGAIN, FIRST, BEHIND },
					       { AGAIN, BEHIND, AGAIN, AGAIN } };
	size_t before;
	int trip = 0;

	s->number = number;
	s->kind = kinds[is_unix][number % 4];
	s->trips = (int)between(TRIPS_MIN + (s->kind == FIRST ? 0 : TRIPS_BEHIND), TRIPS_MAX);
	s->total = between(most / 4, most);
	s->last = between(1, LAST_MAX);
	/* more than the receiving socket takes, but no token comes behind a full sending one */
	s->lead = least(s->total / 2, between(LEAD_MAX / 3, LEAD_MAX));
	if (s->kind != FIRST)
		s->lead = s->total / 8;
	s->allowed = s->lead;
	s->stop = s->lead / 8;
	if (s->kind == FIRST)
		return;
	for (before = s->lead; !is_of_kernel(s, trip); trip++)
		before += answer_bytes(s, trip);
	s->from = before;
	s->to = before + answer_bytes(s, trip);
	s->stop = s->kind == AGAIN ? between(s->from + 1, s->to)
				   : before - between(1, answer_bytes(s, trip - 1));
}

/* ---- what came ---- */

static inline bool tell(const struct stream *s, const char *whose, const char *what)
{
	static const char *const kinds[] = { "first", "again", "behind" };

	fprintf(stderr, "heir %s: connection %d (%s, number %d) of the %s at %zu of %zu: %s\n",
		which, s->number, kinds[s->kind], s->fd, whose, s->at, s->total, what);
	return false;
}

/* As far as it is right. */
static inline bool compare(struct stream *s, const char *whose, const char *bytes, ssize_t n)
{
	char what[TEXT_BYTES] = "a byte too many";

	for (ssize_t i = 0; i < n; i++, s->at++) {
		if (s->at < s->total && bytes[i] == byte_at(s->at, s->number))
			continue;
		if (s->at < s->total)
			snprintf(what, sizeof(what), "a wrong byte, %d", bytes[i]);
		return tell(s, whose, what);
	}
	return true;
}

#endif
