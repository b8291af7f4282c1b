/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is there, that is not, and that changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>

#include "core/reach.h"

enum { PAGE = 4096 };

static char *map(size_t pages, int protection)
{
	char *at = mmap(NULL, pages * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(at != MAP_FAILED);
	shmipc_reach_changed(); /* it may lie where an earlier one was */
	return at;
}

static void test_protection(void **state)
{
	char *both = map(1, PROT_READ | PROT_WRITE), *only = map(1, PROT_READ);
	char *none = map(1, PROT_NONE);

	(void)state;
	assert_true(shmipc_reach(both, PAGE, SHMIPC_REACH_WRITE));
	assert_true(shmipc_reach(both, PAGE, SHMIPC_REACH_READ));
	assert_true(shmipc_reach(only, PAGE, SHMIPC_REACH_READ));
	assert_false(shmipc_reach(only, 1, SHMIPC_REACH_WRITE));
	assert_true(shmipc_reach(only, 1, SHMIPC_REACH_READ));
	assert_false(shmipc_reach(none + 7, 1, SHMIPC_REACH_READ));
	munmap(both, PAGE);
	munmap(only, PAGE);
	munmap(none, PAGE);
}

static void test_odd_addresses(void **state)
{
	(void)state;
	assert_false(shmipc_reach(NULL, 1, SHMIPC_REACH_READ));
	assert_false(shmipc_reach((void *)16, 1, SHMIPC_REACH_READ));
	assert_false(shmipc_reach((void *)16, 1, SHMIPC_REACH_WRITE));
	assert_false(shmipc_reach((void *)-16, 8, SHMIPC_REACH_READ));
	assert_false(shmipc_reach((void *)-16, 32, SHMIPC_REACH_WRITE));
	assert_false(shmipc_reach(&state, SIZE_MAX, SHMIPC_REACH_READ));
	assert_true(shmipc_reach(NULL, 0, SHMIPC_REACH_WRITE));
}

/* To ask whether a byte can be written leaves it as it is. */
static void test_asking_changes_nothing(void **state)
{
	char *pages = map(2, PROT_READ | PROT_WRITE), copy[2 * PAGE];

	(void)state;
	for (int i = 0; i < 2 * PAGE; i++)
		pages[i] = (char)(i * 7);
	memcpy(copy, pages, sizeof(copy));
	shmipc_reach_changed();
	assert_true(shmipc_reach(pages, 2 * PAGE, SHMIPC_REACH_WRITE));
	assert_memory_equal(pages, copy, sizeof(copy));
	munmap(pages, 2 * PAGE);
}

static void test_across(void **state)
{
	char *pages = map(3, PROT_READ | PROT_WRITE);

	(void)state;
	mprotect(pages + 2 * PAGE, PAGE, PROT_READ);
	assert_true(shmipc_reach(pages, 2 * PAGE, SHMIPC_REACH_WRITE));
	assert_false(shmipc_reach(pages, 2 * PAGE + 1, SHMIPC_REACH_WRITE));
	assert_true(shmipc_reach(pages, 3 * PAGE, SHMIPC_REACH_READ));
	munmap(pages, 3 * PAGE);
}

static void test_changes(void **state)
{
	char *page = map(1, PROT_READ | PROT_WRITE);

	(void)state;
	assert_true(shmipc_reach(page, 1, SHMIPC_REACH_WRITE));
	mprotect(page, PAGE, PROT_READ);
	shmipc_reach_changed();
	assert_false(shmipc_reach(page, 1, SHMIPC_REACH_WRITE));
	munmap(page, PAGE);
	shmipc_reach_changed();
	assert_false(shmipc_reach(page, 1, SHMIPC_REACH_READ));
}

/* The age in an entry is short: nothing may come to life again when it comes round. */
static void test_age_comes_round(void **state)
{
	char *page = map(1, PROT_READ | PROT_WRITE);

	(void)state;
	for (uint32_t i = 0; i <= 1u << SHMIPC_REACH_AGE_BITS; i++) {
		if (i == 1)
			assert_true(shmipc_reach(page, 1, SHMIPC_REACH_WRITE));
		if (i == 2)
			munmap(page, PAGE);
		shmipc_reach_changed();
	}
	assert_false(shmipc_reach(page, 1, SHMIPC_REACH_READ));
}

enum { THREADS = 64 };

/* How many of so many pages, one each `distance` pages, have the slot of another. */
static int displaced(uintptr_t first, uintptr_t distance, int count)
{
	static unsigned char used[SHMIPC_REACH_PAGES];
	int shared = 0;

	memset(used, 0, sizeof(used));
	for (int i = 0; i < count; i++) {
		size_t slot = (size_t)(shmipc_reach_slot(first + (uintptr_t)i * distance) -
				       shmipc_reach_table);

		assert_true(slot < SHMIPC_REACH_PAGES);
		shared += used[slot];
		used[slot] = 1;
	}
	return shared;
}

/* Threads use the same places of their stacks and of their parts of malloc()'s memory. */
static void test_threads_displace_nobody(void **state)
{
	static const uintptr_t mib = ((uintptr_t)1 << 20) / PAGE;
	const uintptr_t first = UINT64_C(0x7f12c8000000) / PAGE;

	(void)state;
	assert_int_equal(displaced(first, 1, SHMIPC_REACH_PAGES), 0);
	for (uintptr_t page = first; page < first + 1000; page += 37) {
		assert_int_equal(displaced(page, 64 * mib, THREADS), 0);
		assert_int_equal(displaced(page, 8 * mib, THREADS), 0);
		assert_int_equal(displaced(page, 8 * mib + 1, THREADS), 0);
		assert_int_equal(displaced(page, mib, THREADS), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_protection),
		cmocka_unit_test(test_odd_addresses),
		cmocka_unit_test(test_asking_changes_nothing),
		cmocka_unit_test(test_across),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_age_comes_round),
		cmocka_unit_test(test_threads_displace_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
