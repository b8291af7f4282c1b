/* SPDX-License-Identifier: Apache-2.0 */
/* The streams of a session by their number: a hash table with linear probing. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/cpu.h"
#include "core/ipc/session.h"
#include "core/ipc/stream.h"

enum { FIRST_SLOTS = 64, SPARE_MAX = 128 };

/* The peer chooses the numbers, so it must not know where they go. */
static uint32_t place(const struct shmipc_stream_table *table, uint32_t id)
{
	return (id * table->multiplier >> 8 ^ id * table->multiplier >> 20) & table->mask;
}

struct shmipc_stream *shmipc_streams_find(const struct shmipc_session *s, uint32_t id)
{
	const struct shmipc_stream_table *table = &s->streams;

	if (table->count == 0)
		return NULL;
	for (uint32_t i = place(table, id); table->slots[i]; i = (i + 1) & table->mask)
		if (table->slots[i]->id == id)
			return table->slots[i];
	return NULL;
}

static void insert(struct shmipc_stream_table *table, struct shmipc_stream *stream)
{
	uint32_t i = place(table, stream->id);

	while (table->slots[i])
		i = (i + 1) & table->mask;
	table->slots[i] = stream;
}

static int make_room(struct shmipc_stream_table *table)
{
	struct shmipc_stream_table larger = { .count = table->count,
					      .multiplier = table->multiplier };

	if (table->slots && table->count * 2 <= table->mask)
		return 0;
	if (!larger.multiplier &&
	    getrandom(&larger.multiplier, sizeof(larger.multiplier), GRND_NONBLOCK) < 0)
		larger.multiplier = (uint32_t)shmipc_clock_ns();
	larger.multiplier |= 1;
	larger.mask = table->slots ? table->mask * 2 + 1 : FIRST_SLOTS - 1;
	larger.slots = calloc((size_t)larger.mask + 1, sizeof(struct shmipc_stream *));
	if (!larger.slots)
		return -ENOMEM;
	for (uint32_t i = 0; table->slots && i <= table->mask; i++)
		if (table->slots[i])
			insert(&larger, table->slots[i]);
	free(table->slots);
	*table = larger;
	return 0;
}

int shmipc_streams_open(struct shmipc_session *s, uint32_t id, struct shmipc_stream **out)
{
	struct shmipc_stream *stream;
	int error = make_room(&s->streams);

	if (error)
		return error;
	stream = s->spare;
	if (stream) {
		s->spare = stream->next;
		s->spare_count--;
	} else {
		stream = calloc(1, sizeof(*stream));
		if (!stream)
			return -ENOMEM;
	}
	stream->session = s;
	stream->id = id;
	shmipc_stream_reset(stream);
	insert(&s->streams, stream);
	s->streams.count++;
	*out = stream;
	return 0;
}

static void take_out(struct shmipc_stream_table *table, const struct shmipc_stream *stream)
{
	uint32_t i = place(table, stream->id), gap;

	while (table->slots[i] && table->slots[i] != stream)
		i = (i + 1) & table->mask;
	if (!table->slots[i])
		return;
	table->slots[i] = NULL;
	table->count--;
	/* who stands behind the gap and was put there because of it moves up */
	for (gap = i, i = (i + 1) & table->mask; table->slots[i]; i = (i + 1) & table->mask) {
		uint32_t home = place(table, table->slots[i]->id);

		if (((i - home) & table->mask) >= ((i - gap) & table->mask)) {
			table->slots[gap] = table->slots[i];
			table->slots[i] = NULL;
			gap = i;
		}
	}
}

void shmipc_streams_remove(struct shmipc_session *s, struct shmipc_stream *stream)
{
	struct shmipc_stream **at = &s->closing;

	if (s->streams.slots)
		take_out(&s->streams, stream);
	while (*at && *at != stream)
		at = &(*at)->next_closing;
	if (*at)
		*at = stream->next_closing;
}

void shmipc_streams_recycle(struct shmipc_session *s, struct shmipc_stream *stream)
{
	if (s->ended || s->spare_count >= SPARE_MAX) {
		shmipc_stream_free(stream);
		return;
	}
	stream->next = s->spare;
	s->spare = stream;
	s->spare_count++;
}

void shmipc_streams_forget(struct shmipc_session *s, uint32_t id)
{
	s->recent[s->recent_at++ % SHMIPC_RECENT_IDS] = id;
}

bool shmipc_streams_was_closed(const struct shmipc_session *s, uint32_t id)
{
	uint32_t n = s->recent_at < SHMIPC_RECENT_IDS ? s->recent_at : SHMIPC_RECENT_IDS;

	for (uint32_t i = 0; i < n; i++)
		if (s->recent[i] == id)
			return true;
	return false;
}

void shmipc_streams_for_each(struct shmipc_session *s, void (*visit)(struct shmipc_stream *))
{
	for (uint32_t i = 0; s->streams.slots && i <= s->streams.mask; i++)
		if (s->streams.slots[i])
			visit(s->streams.slots[i]);
}

void shmipc_streams_free(struct shmipc_session *s)
{
	struct shmipc_stream *next;

	/* in a forked child the table may be half changed: what it alone knows is left alone */
	for (uint32_t i = 0; s->streams.slots && i <= s->streams.mask; i++) {
		if (shmipc_session_is_foreign(s))
			break;
		if (s->streams.slots[i] && !s->streams.slots[i]->accepted) {
			shmipc_stream_empty(s->streams.slots[i]);
			shmipc_stream_free(s->streams.slots[i]);
		}
	}
	for (struct shmipc_stream *spare = s->spare; spare && !shmipc_session_is_foreign(s);
	     spare = next) {
		next = spare->next;
		shmipc_stream_free(spare);
	}
	s->spare = NULL;
}
