/* SPDX-License-Identifier: Apache-2.0 */
/* Copies that libc is slow at go in pieces: every byte arrives, none beside them is touched. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "core/copy.h"

enum {
	PAGE = SHMIPC_COPY_PAGE_BYTES,
	PIECE = SHMIPC_COPY_PIECE_BYTES,
	LARGEST = 5 * PIECE + 17,
	ROOM = 4 * PAGE,
	GUARD = 0xa5,
};

static void copy_and_check(unsigned char *to, const unsigned char *from, size_t distance,
			   size_t bytes)
{
	memset(to, GUARD, ROOM);
	shmipc_copy(to + distance, from, bytes);
	assert_memory_equal(to + distance, from, bytes);
	for (size_t i = 0; i < ROOM; i++)
		if (i < distance || i >= distance + bytes)
			assert_int_equal(to[i], GUARD);
}

static void every_byte_at_every_distance(void **state)
{
	static const size_t sizes[] = {
		0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 10240, LARGEST
	};
	unsigned char *from = aligned_alloc(PAGE, ROOM), *to = aligned_alloc(PAGE, ROOM);

	(void)state;
	for (size_t i = 0; i < ROOM; i++)
		from[i] = (unsigned char)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
	for (size_t distance = 0; distance <= SHMIPC_COPY_NEAR_BYTES + 1; distance++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			copy_and_check(to, from, distance, sizes[i]);
	free(from);
	free(to);
}

static void slow_is_a_little_behind_in_the_page(void **state)
{
	const unsigned char *from = (const unsigned char *)0x1000123;

	(void)state;
	assert_false(shmipc_copy_is_slow(from + PAGE, from));
	assert_true(shmipc_copy_is_slow(from + PAGE + 1, from));
	assert_true(shmipc_copy_is_slow(from + 1, from + 8 * PAGE));
	assert_true(shmipc_copy_is_slow(from + 31, from));
	assert_true(shmipc_copy_is_slow(from - 3 * PAGE + 16, from));
	assert_false(shmipc_copy_is_slow(from + SHMIPC_COPY_NEAR_BYTES, from));
	assert_false(shmipc_copy_is_slow(from - 1, from));
	assert_false(shmipc_copy_is_slow(from - 16, from));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_at_every_distance),
		cmocka_unit_test(slow_is_a_little_behind_in_the_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
