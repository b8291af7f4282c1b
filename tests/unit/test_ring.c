/* SPDX-License-Identifier: Apache-2.0 */
/* The byte ring: copying, wrapping, hostile indices, and two threads at full speed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/ring.h"

enum { RING_BYTES = 4096, LEAD_BYTES = 384, GUARD_BYTES = 64, GUARD = 0xa5 };

/* guard, loop, guard, lead, guard */
struct fixture {
	unsigned char memory[GUARD_BYTES + RING_BYTES + GUARD_BYTES + LEAD_BYTES + GUARD_BYTES];
	struct shmipc_ring ring;
};

/* What byte the stream carries at a position: differs from its neighbours and from one lap before.
 */
static unsigned char byte_at(uint64_t position)
{
	return (unsigned char)((position * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static void fixture_init(struct fixture *f)
{
	memset(f->memory, GUARD, sizeof(f->memory));
	f->ring = (struct shmipc_ring){
		.loop = f->memory + GUARD_BYTES,
		.ring_bytes = RING_BYTES,
		.lead = f->memory + GUARD_BYTES + RING_BYTES + GUARD_BYTES,
		.lead_bytes = LEAD_BYTES,
	};
}

static void assert_guards(const struct fixture *f)
{
	for (size_t i = 0; i < GUARD_BYTES; i++) {
		assert_int_equal(f->memory[i], GUARD);
		assert_int_equal(f->ring.loop[RING_BYTES + i], GUARD);
		assert_int_equal(f->ring.lead[LEAD_BYTES + i], GUARD);
	}
}

static void put(const struct shmipc_ring *ring, uint64_t base, uint64_t position, size_t bytes)
{
	unsigned char data[RING_BYTES];
	struct iovec iov = { data, bytes };
	struct shmipc_cursor cursor;

	for (size_t i = 0; i < bytes; i++)
		data[i] = byte_at(position + i);
	assert_int_equal(shmipc_cursor_init(&cursor, &iov, 1), 0);
	shmipc_ring_put(ring, base, position, &cursor, bytes);
	assert_int_equal(cursor.left, 0);
}

static void get_and_check(const struct shmipc_ring *ring, uint64_t base, uint64_t position,
			  size_t bytes)
{
	unsigned char data[RING_BYTES + 1];
	struct iovec iov = { data, bytes };
	struct shmipc_cursor cursor;

	memset(data, 0, sizeof(data));
	data[bytes] = GUARD;
	assert_int_equal(shmipc_cursor_init(&cursor, &iov, 1), 0);
	shmipc_ring_get(ring, base, position, &cursor, bytes);
	assert_int_equal(cursor.left, 0);
	assert_int_equal(data[bytes], GUARD);
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], byte_at(position + i));
}

static void cursor_totals(void **state)
{
	struct iovec iov[3] = { { NULL, 0 }, { NULL, 5 }, { NULL, 7 } };
	struct shmipc_cursor cursor;

	(void)state;
	assert_int_equal(shmipc_cursor_init(&cursor, iov, 3), 0);
	assert_int_equal(cursor.left, 12);
	assert_int_equal(shmipc_cursor_init(&cursor, iov, 0), 0);
	assert_int_equal(cursor.left, 0);
	iov[0].iov_len = SSIZE_MAX;
	assert_int_equal(shmipc_cursor_init(&cursor, iov, 1), 0);
	assert_int_equal(cursor.left, SHMIPC_TRANSFER_MAX);
	assert_int_equal(shmipc_cursor_init(&cursor, iov, 2), 0);
	assert_int_equal(cursor.left, SHMIPC_TRANSFER_MAX);
	iov[0].iov_len = SIZE_MAX;
	assert_int_equal(shmipc_cursor_init(&cursor, iov, 1), -EINVAL);
	assert_int_equal(shmipc_cursor_init(&cursor, iov, 3), -EINVAL);
}

static void cursor_skips(void **state)
{
	const struct iovec iov[] = {
		{ NULL, 0 }, { NULL, 3 }, { NULL, 0 }, { NULL, 0 }, { NULL, 4 }
	};
	struct shmipc_cursor cursor;

	(void)state;
	shmipc_cursor_init(&cursor, iov, 5);
	shmipc_cursor_skip(&cursor, 0);
	assert_int_equal(cursor.left, 7);
	shmipc_cursor_skip(&cursor, 2);
	assert_int_equal(cursor.left, 5);
	assert_ptr_equal(cursor.iov, &iov[1]);
	assert_int_equal(cursor.offset, 2);
	shmipc_cursor_skip(&cursor, 2); /* over two empty elements */
	assert_ptr_equal(cursor.iov, &iov[4]);
	assert_int_equal(cursor.offset, 1);
	assert_int_equal(cursor.count, 1);
	shmipc_cursor_skip(&cursor, 3);
	assert_int_equal(cursor.left, 0);
	assert_int_equal(cursor.count, 0);
}

static void used_is_clamped(void **state)
{
	const struct shmipc_ring ring = { .ring_bytes = RING_BYTES };
	const uint64_t heads[] = { 0, 1, UINT32_MAX, (uint64_t)INT64_MAX - 3, UINT64_MAX - 2 };

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		uint64_t head = heads[i];

		assert_int_equal(shmipc_ring_used(&ring, head, head), 0);
		assert_int_equal(shmipc_ring_used(&ring, head, head + 1), 1);
		assert_int_equal(shmipc_ring_used(&ring, head, head + RING_BYTES), RING_BYTES);
		/* a foreign index that claims too much, or runs backwards */
		assert_int_equal(shmipc_ring_used(&ring, head, head + RING_BYTES + 1), RING_BYTES);
		assert_int_equal(shmipc_ring_used(&ring, head, head + INT64_MAX), RING_BYTES);
		assert_int_equal(shmipc_ring_used(&ring, head, head - 1), 0);
		assert_int_equal(shmipc_ring_used(&ring, head, head - RING_BYTES), 0);
		assert_int_equal(shmipc_ring_used(&ring, head, head + (UINT64_C(1) << 63)), 0);
	}
}

static void check_knows_every_invariant(void **state)
{
	const struct shmipc_ring ring = { .ring_bytes = RING_BYTES };
	const uint64_t high = UINT64_MAX - 2 * RING_BYTES;

	(void)state;
	assert_true(shmipc_ring_check(&ring, 0, 0, 0));
	assert_true(shmipc_ring_check(&ring, 7, 7, 7 + RING_BYTES));
	assert_true(shmipc_ring_check(&ring, high, high + RING_BYTES, high + 2 * RING_BYTES));
	assert_false(shmipc_ring_check(&ring, 7, 7, 8 + RING_BYTES)); /* holds too much */
	assert_false(shmipc_ring_check(&ring, 8, 7, 9));	      /* head before base */
	assert_false(shmipc_ring_check(&ring, 0, 9, 8));	      /* tail before head */
	assert_false(shmipc_ring_check(&ring, 0, 0, UINT64_MAX));
	assert_false(shmipc_ring_check(&ring, UINT64_MAX, 0, 1));
}

/* A small stream through the ring with uneven steps, from `start`, for `total` bytes. */
static void run_stream(uint64_t start, uint64_t total)
{
	uint64_t head = start, tail = start;
	struct fixture f;
	unsigned int step = 1;

	fixture_init(&f);
	while (head - start < total) {
		size_t room = RING_BYTES - (size_t)shmipc_ring_used(&f.ring, head, tail);
		size_t n = step * 37 % (RING_BYTES + 1);

		n = n < room ? n : room;
		put(&f.ring, start, tail, n);
		tail += n;
		n = (size_t)shmipc_ring_used(&f.ring, head, tail);
		if (step % 3)
			n = n * (step % 7 + 1) / 8;
		get_and_check(&f.ring, start, head, n);
		head += n;
		step++;
	}
	assert_guards(&f);
}

static void streams_cross_every_wrap(void **state)
{
	const uint64_t starts[] = {
		0,
		RING_BYTES - 2,
		(uint64_t)UINT32_MAX - 2,
		(uint64_t)INT32_MAX - 2,
		(uint64_t)INT64_MAX - 2,
		UINT64_MAX - 2,
		UINT64_MAX - RING_BYTES / 2,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		run_stream(starts[i], 20 * RING_BYTES);
}

/* Every offset of a full ring, so that each possible split into two pieces occurs. */
static void full_ring_at_every_offset(void **state)
{
	struct fixture f;

	(void)state;
	fixture_init(&f);
	for (uint64_t position = 0; position < RING_BYTES; position += 61) {
		put(&f.ring, 0, position, RING_BYTES);
		get_and_check(&f.ring, 0, position, RING_BYTES);
	}
	assert_guards(&f);
}

static void base_restarts_at_the_beginning(void **state)
{
	uint64_t position = UINT32_MAX - UINT64_C(5);
	struct fixture f;

	(void)state;
	fixture_init(&f);
	for (int i = 0; i < 100; i++, position += 10) {
		/* empty: the producer takes its position as the new base */
		put(&f.ring, position, position, 10);
		assert_int_equal(f.ring.lead[0], byte_at(position));
		assert_int_equal(f.ring.lead[9], byte_at(position + 9));
		get_and_check(&f.ring, position, position, 10);
	}
	for (size_t i = 10; i < LEAD_BYTES; i++)
		assert_int_equal(f.ring.lead[i], GUARD); /* never touched */
	for (size_t i = 0; i < RING_BYTES; i++)
		assert_int_equal(f.ring.loop[i], GUARD);
}

/* The lead is passed once; the loop goes round behind it. */
static void lead_comes_before_the_loop(void **state)
{
	struct fixture f;

	(void)state;
	fixture_init(&f);
	put(&f.ring, 0, 0, LEAD_BYTES);
	for (size_t i = 0; i < RING_BYTES; i++)
		assert_int_equal(f.ring.loop[i], GUARD);
	put(&f.ring, 0, LEAD_BYTES, RING_BYTES);
	get_and_check(&f.ring, 0, 0, LEAD_BYTES);
	get_and_check(&f.ring, 0, LEAD_BYTES, RING_BYTES);
	put(&f.ring, 0, LEAD_BYTES + RING_BYTES, 1);
	assert_int_equal(f.ring.loop[0], byte_at(LEAD_BYTES + RING_BYTES));
	assert_int_equal(f.ring.lead[0], byte_at(0));
	/* a base that lies a lead below leaves the lead out */
	put(&f.ring, 1000 - LEAD_BYTES, 1000, 7);
	assert_int_equal(f.ring.loop[0], byte_at(1000));
	assert_guards(&f);
}

static void pieces_cover_the_range(void **state)
{
	struct fixture f;
	struct iovec pieces[2];

	(void)state;
	fixture_init(&f);
	assert_int_equal(shmipc_ring_pieces(&f.ring, 0, 5, 0, pieces), 0);
	/* in the lead, over its end */
	assert_int_equal(shmipc_ring_pieces(&f.ring, 0, 5, LEAD_BYTES - 5, pieces), 1);
	assert_ptr_equal(pieces[0].iov_base, f.ring.lead + 5);
	assert_int_equal(shmipc_ring_pieces(&f.ring, 0, 5, RING_BYTES, pieces), 2);
	assert_int_equal(pieces[0].iov_len, LEAD_BYTES - 5);
	assert_ptr_equal(pieces[1].iov_base, f.ring.loop);
	assert_int_equal(pieces[1].iov_len, RING_BYTES - LEAD_BYTES + 5);
	/* in the loop, over its end */
	assert_int_equal(shmipc_ring_pieces(&f.ring, 0, LEAD_BYTES + RING_BYTES - 5, 5, pieces), 1);
	assert_ptr_equal(pieces[0].iov_base, f.ring.loop + RING_BYTES - 5);
	assert_int_equal(pieces[0].iov_len, 5);
	assert_int_equal(shmipc_ring_pieces(&f.ring, 0, LEAD_BYTES + RING_BYTES - 5, 6, pieces), 2);
	assert_int_equal(pieces[0].iov_len, 5);
	assert_ptr_equal(pieces[1].iov_base, f.ring.loop);
	assert_int_equal(pieces[1].iov_len, 1);
	assert_int_equal(shmipc_ring_pieces(&f.ring, 0, LEAD_BYTES, RING_BYTES, pieces), 1);
	assert_int_equal(shmipc_ring_pieces(&f.ring, 0, LEAD_BYTES + 1, RING_BYTES, pieces), 2);
	assert_int_equal(pieces[0].iov_len + pieces[1].iov_len, RING_BYTES);
	/* across 2^64 */
	assert_int_equal(shmipc_ring_pieces(&f.ring, UINT64_MAX - 1, 1, 4, pieces), 1);
	assert_ptr_equal(pieces[0].iov_base, f.ring.lead + 3);
}

static bool is_inside(const struct fixture *f, const struct iovec *piece)
{
	const unsigned char *start = piece->iov_base, *end = start + piece->iov_len;

	return (start >= f->ring.loop && end <= f->ring.loop + RING_BYTES) ||
	       (start >= f->ring.lead && end <= f->ring.lead + LEAD_BYTES);
}

/* A base that a hostile peer invents moves bytes about, but never outside the ring. */
static void hostile_base_stays_inside(void **state)
{
	uint64_t base = 1;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	for (int i = 0; i < 2000; i++) {
		struct iovec pieces[2];
		uint64_t position = i % 2 ? base * UINT64_C(0xd1342543de82ef95)
					  : base + (uint64_t)i % (2 * LEAD_BYTES);
		size_t bytes = (size_t)(base >> 13) % (RING_BYTES + 1);
		int count = shmipc_ring_pieces(&f.ring, base, position, bytes, pieces);
		size_t sum = 0;

		for (int p = 0; p < count; p++) {
			assert_true(is_inside(&f, &pieces[p]));
			sum += pieces[p].iov_len;
		}
		assert_int_equal(sum, bytes);
		put(&f.ring, base, position, bytes);
		base = base * UINT64_C(6364136223846793005) + 1442695040888963407u;
	}
	assert_guards(&f);
}

static void vectors_with_empty_elements(void **state)
{
	unsigned char from[100], to[100];
	const uint64_t base = 0, position = LEAD_BYTES + RING_BYTES - 33;
	const struct iovec out[] = { { NULL, 0 },      { from, 1 },	  { NULL, 0 },
				     { from + 1, 49 }, { from + 50, 50 }, { NULL, 0 } };
	const struct iovec in[] = {
		{ to, 33 }, { NULL, 0 }, { NULL, 0 }, { to + 33, 66 }, { to + 99, 1 }
	};
	struct shmipc_cursor cursor;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = byte_at(i);
	shmipc_cursor_init(&cursor, out, 6);
	shmipc_ring_put(&f.ring, base, position, &cursor, 100);
	assert_int_equal(cursor.left, 0);
	memset(to, 0, sizeof(to));
	shmipc_cursor_init(&cursor, in, 5);
	shmipc_ring_get(&f.ring, base, position, &cursor, 100);
	assert_int_equal(cursor.left, 0);
	assert_memory_equal(from, to, sizeof(to));
	assert_guards(&f);
}

static void partial_copies_go_on_where_they_stopped(void **state)
{
	unsigned char from[1000], to[1000];
	const struct iovec out[] = { { from, 7 }, { from + 7, 0 }, { from + 7, 993 } };
	const struct iovec in[] = { { to, 500 }, { to + 500, 500 } };
	struct shmipc_cursor source, sink;
	uint64_t position = UINT64_MAX - 100;
	const uint64_t base = position;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = byte_at(i);
	shmipc_cursor_init(&source, out, 3);
	shmipc_cursor_init(&sink, in, 2);
	for (size_t n = 1; source.left > 0; n = n * 3 % 41 + 1) {
		size_t bytes = n < source.left ? n : source.left;

		shmipc_ring_put(&f.ring, base, position, &source, bytes);
		shmipc_ring_get(&f.ring, base, position, &sink, bytes);
		position += bytes;
		assert_int_equal(source.left, sink.left);
	}
	assert_memory_equal(from, to, sizeof(to));
}

/* ---- producer and consumer in two threads: what sanitizers shall see ---------------------------
 */

enum { THREADED_BYTES = 4 << 20 };

struct shared {
	struct fixture f;
	_Atomic uint64_t head, tail;
};

static const uint64_t threaded_start = UINT32_MAX - UINT64_C(1000);

static void *produce(void *argument)
{
	struct shared *s = argument;
	uint64_t tail = threaded_start;

	for (unsigned int step = 1; tail - threaded_start < THREADED_BYTES; step++) {
		/* [head:acq] the consumer is done with what it freed */
		uint64_t head = atomic_load_explicit(&s->head, memory_order_acquire);
		size_t room = RING_BYTES - (size_t)shmipc_ring_used(&s->f.ring, head, tail);
		size_t n = step % 997 + 1 < room ? step % 997 + 1 : room;

		if (n == 0) {
			sched_yield();
			continue;
		}
		put(&s->f.ring, threaded_start, tail, n);
		tail += n;
		/* [tail:rel] publishes the bytes below tail */
		atomic_store_explicit(&s->tail, tail, memory_order_release);
	}
	return NULL;
}

static void two_threads(void **state)
{
	static struct shared s;
	uint64_t head = threaded_start, end;
	pthread_t producer;

	(void)state;
	fixture_init(&s.f);
	atomic_store(&s.head, head);
	atomic_store(&s.tail, head);
	assert_int_equal(pthread_create(&producer, NULL, produce, &s), 0);
	for (;;) {
		/* [tail:acq] pairs with the producer's release */
		uint64_t tail = atomic_load_explicit(&s.tail, memory_order_acquire);
		size_t n = (size_t)shmipc_ring_used(&s.f.ring, head, tail);

		assert_true(shmipc_ring_check(&s.f.ring, threaded_start, head, tail));
		get_and_check(&s.f.ring, threaded_start, head, n);
		head += n;
		/* [head:rel] the bytes have been read */
		atomic_store_explicit(&s.head, head, memory_order_release);
		if (head - threaded_start >= THREADED_BYTES)
			break;
		if (n == 0)
			sched_yield();
	}
	pthread_join(producer, NULL);
	end = atomic_load(&s.tail);
	assert_int_equal(end, head);
	assert_guards(&s.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursor_totals),
		cmocka_unit_test(cursor_skips),
		cmocka_unit_test(used_is_clamped),
		cmocka_unit_test(check_knows_every_invariant),
		cmocka_unit_test(streams_cross_every_wrap),
		cmocka_unit_test(full_ring_at_every_offset),
		cmocka_unit_test(base_restarts_at_the_beginning),
		cmocka_unit_test(lead_comes_before_the_loop),
		cmocka_unit_test(pieces_cover_the_range),
		cmocka_unit_test(hostile_base_stays_inside),
		cmocka_unit_test(vectors_with_empty_elements),
		cmocka_unit_test(partial_copies_go_on_where_they_stopped),
		cmocka_unit_test(two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
