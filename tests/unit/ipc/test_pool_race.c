/* SPDX-License-Identifier: Apache-2.0 */
/* What a taker of slices meets that was overtaken between its look at the head and its move: the
 * same states made by hand, so the file is looked into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/ipc/pool.c"

enum { POOL_BYTES = 1 << 20 };

static const struct shmipc_slice_class one[] = { { 1000, 100 } };

struct sides {
	uint8_t *memory;
	struct shmipc_pool creator, mapper;
	const struct shmipc_pool_list *list;
};

static void make_sides(struct sides *sides)
{
	sides->memory = calloc(1, POOL_BYTES);
	assert_int_equal(shmipc_pool_format(&sides->creator, sides->memory, POOL_BYTES, one, 1), 0);
	assert_int_equal(shmipc_pool_attach(&sides->mapper, sides->memory, POOL_BYTES), 0);
	sides->list = &sides->mapper.lists[0];
}

static void free_sides(struct sides *sides)
{
	shmipc_pool_detach(&sides->creator);
	shmipc_pool_detach(&sides->mapper);
	free(sides->memory);
}

/* The slice at the head was taken and carries a message's link now: that is no sign of an empty or
 * a damaged list. */
static void a_slice_taken_meanwhile_is_no_shortage(void **state)
{
	struct shmipc_slice first, second;
	struct sides sides;

	(void)state;
	make_sides(&sides);
	assert_int_equal(shmipc_pool_take(&sides.creator, 0, &first), 0);
	assert_int_equal(shmipc_pool_take(&sides.creator, 0, &second), 0);
	shmipc_pool_seal(&sides.creator, first, 1, second.offset);
	assert_int_equal(take_at(&sides.mapper, sides.list, first.offset - sides.list->region),
			 -EAGAIN);
	shmipc_pool_seal(&sides.creator, first, 1, 0);
	assert_int_equal(take_at(&sides.mapper, sides.list, first.offset - sides.list->region),
			 -EAGAIN);
	free_sides(&sides);
}

/* Who gave the last slice back was stopped before it linked it: the others wait a moment, then say
 * that there is none, and nobody is the worse for it. */
static void an_unlinked_slice_stops_nobody_for_ever(void **state)
{
	struct shmipc_slice slice, taken[2048];
	uint32_t last, n = 0;
	struct sides sides;

	(void)state;
	make_sides(&sides);
	assert_int_equal(shmipc_pool_take(&sides.creator, 0, &slice), 0);
	/* give(), but for its link */
	last = atomic_exchange(word(&sides.creator, sides.list->header + LIST_TAIL),
			       slice.offset - sides.list->region);
	atomic_store(flags_of(&sides.creator, slice.offset), 0);
	atomic_fetch_add(word(&sides.creator, sides.list->header + LIST_SIZE), 1);
	shmipc_pool_disown(&sides.creator, slice);
	while (shmipc_pool_take(&sides.mapper, 0, &taken[n]) == 0)
		n++;
	assert_int_equal(n, sides.list->count - 2);
	link_behind(&sides.creator, sides.list, last, slice.offset - sides.list->region);
	assert_int_equal(shmipc_pool_take(&sides.mapper, 0, &taken[n]), 0);
	assert_int_equal(shmipc_pool_take(&sides.mapper, 0, &slice), -ENOBUFS);
	free_sides(&sides);
}

/* Another taker of ours was stopped in the middle, or a peer says so for ever: the list counts as
 * empty, and is whole afterwards. */
static void takers_take_turns(void **state)
{
	struct shmipc_slice slice;
	struct sides sides;
	uint32_t size;

	(void)state;
	make_sides(&sides);
	size = peek(&sides.creator, sides.list->header + LIST_SIZE);
	assert_true(begin_taking(&sides.creator, sides.list));
	assert_int_equal(shmipc_pool_take(&sides.mapper, 0, &slice), -ENOBUFS);
	assert_int_equal(peek(&sides.creator, sides.list->header + LIST_SIZE), size);
	end_taking(&sides.creator, sides.list);
	assert_int_equal(shmipc_pool_take(&sides.mapper, 0, &slice), 0);
	assert_int_equal(shmipc_pool_take(&sides.creator, 0, &slice), 0);
	free_sides(&sides);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slice_taken_meanwhile_is_no_shortage),
		cmocka_unit_test(an_unlinked_slice_stops_nobody_for_ever),
		cmocka_unit_test(takers_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
