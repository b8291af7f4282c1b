/* SPDX-License-Identifier: Apache-2.0 */
/* The registrations of a set are found by number and by tag, however many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "preload/registrations.c"

enum { MANY = 20000, SAME = 5, SHARED_TAG = 77 };

static struct shim_registrations list;
static struct shim_registration *added[MANY];

static uint64_t tag_of(int fd)
{
	return (uint64_t)fd << 32 | 5;
}

static int start_anew(void **state)
{
	(void)state;
	if (!pool)
		assert_int_equal(shim_registrations_start(), 0);
	shim_registrations_init(&list);
	return 0;
}

static void add(int count)
{
	for (int fd = 0; fd < count; fd++) {
		added[fd] = shim_registration_add(&list, fd, tag_of(fd));
		assert_non_null(added[fd]);
	}
}

static void expect_all(int from, int count)
{
	for (int fd = from; fd < count; fd++) {
		assert_ptr_equal(shim_registration_by_fd(&list, fd), added[fd]);
		assert_ptr_equal(shim_registration_by_tag(&list, tag_of(fd)), added[fd]);
	}
}

static void remove_all(int from, int count)
{
	for (int fd = from; fd < count; fd++)
		shim_registration_remove(&list, added[fd]);
}

static size_t longest_chain(void)
{
	size_t longest = 0;

	for (size_t i = 0; i < (size_t)1 << list.bits; i++) {
		size_t length = 0;

		for (struct shim_registration *r = list.by_tag[i]; r; r = r->next_by_tag)
			length++;
		longest = length > longest ? length : longest;
	}
	return longest;
}

static void many_are_found_in_short_chains(void **state)
{
	(void)state;
	add(MANY);
	expect_all(0, MANY);
	assert_true(longest_chain() <= 16);
	remove_all(0, MANY / 2);
	assert_null(shim_registration_by_fd(&list, 1));
	assert_null(shim_registration_by_tag(&list, tag_of(1)));
	expect_all(MANY / 2, MANY);
	remove_all(MANY / 2, MANY);
	assert_null(shim_registration_first(&list));
	assert_ptr_equal(list.by_fd, list.few_by_fd);
	add(3);
	expect_all(0, 3);
	remove_all(0, 3);
}

static void what_is_no_tags_owner_is_found_by_number_alone(void **state)
{
	(void)state;
	add(SHIM_REGISTRATION_FEW);
	shim_registration_become_ghost(&list, added[3]);
	shim_registration_go_astray(&list, added[4], 3 + MANY);
	added[SHIM_REGISTRATION_FEW] = shim_registration_add(&list, SHIM_REGISTRATION_FEW,
							     tag_of(SHIM_REGISTRATION_FEW));
	assert_ptr_not_equal(list.by_fd, list.few_by_fd);
	assert_ptr_equal(shim_registration_by_fd(&list, 3), added[3]);
	assert_null(shim_registration_by_tag(&list, tag_of(3)));
	assert_null(shim_registration_by_fd(&list, 4));
	assert_ptr_equal(shim_registration_at(&list, 3 + MANY), added[4]);
	shim_registration_revive(&list, added[3], tag_of(3));
	shim_registration_come_back(&list, added[4]);
	expect_all(0, SHIM_REGISTRATION_FEW + 1);
	remove_all(0, SHIM_REGISTRATION_FEW + 1);
}

static void those_of_one_tag_stay_together(void **state)
{
	struct shim_registration *r;
	int found = 0;

	(void)state;
	add(MANY / 2);
	for (int i = 0; i < SAME; i++)
		shim_registration_retag(&list, added[i * 1000], SHARED_TAG);
	for (int fd = MANY / 2; fd < MANY; fd++)
		added[fd] = shim_registration_add(&list, fd, tag_of(fd));
	for (r = shim_registration_by_tag(&list, SHARED_TAG); r; r = shim_registration_same_tag(r))
		found++;
	assert_int_equal(found, SAME);
	remove_all(0, MANY);
}

static void changes_are_forgotten_in_any_order(void **state)
{
	(void)state;
	add(5);
	for (int fd = 0; fd < 5; fd++)
		shim_registration_note_change(&list, added[fd]);
	shim_registration_note_change(&list, added[2]); /* once is enough */
	shim_registration_forget_change(&list, added[2]);
	shim_registration_forget_change(&list, added[4]);
	shim_registration_forget_change(&list, added[0]);
	shim_registration_forget_change(&list, added[0]);
	assert_ptr_equal(shim_registration_changed(&list), added[3]);
	shim_registration_remove(&list, added[3]);
	assert_ptr_equal(shim_registration_changed(&list), added[1]);
	shim_registration_forget_change(&list, added[1]);
	assert_null(shim_registration_changed(&list));
	for (int fd = 0; fd < 5; fd++)
		if (fd != 3)
			shim_registration_remove(&list, added[fd]);
}

static int newsy_to, asked;

static bool is_newsy(const struct shim_registration *r)
{
	asked++;
	return r->fd <= newsy_to;
}

/* One has its news taken, then the next one: the set is walked once, not once for each.  The list
 * begins with the last number. */
static void news_are_found_where_the_last_ones_were(void **state)
{
	(void)state;
	add(MANY);
	asked = 0;
	for (newsy_to = MANY - 1; newsy_to >= 0; newsy_to--)
		assert_ptr_equal(shim_registration_find_newsy(&list, is_newsy), added[newsy_to]);
	assert_true(asked <= 2 * MANY);
	assert_null(shim_registration_find_newsy(&list, is_newsy));
	newsy_to = 5;
	assert_ptr_equal(shim_registration_find_newsy(&list, is_newsy), added[5]);
	shim_registration_remove(&list, added[5]);
	assert_ptr_equal(shim_registration_find_newsy(&list, is_newsy), added[4]);
	remove_all(0, 5);
	newsy_to = 6; /* before where the search has ended */
	assert_ptr_equal(shim_registration_find_newsy(&list, is_newsy), added[6]);
	remove_all(6, MANY);
	assert_null(shim_registration_find_newsy(&list, is_newsy));
}

/* The whole pool in use: no more are to be had, and all of them again when they are given back. */
static void a_pool_in_use_says_so(void **state)
{
	static struct shim_registration *all[POOL];

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (int fd = 0; fd < POOL; fd++) {
			all[fd] = shim_registration_add(&list, fd, tag_of(fd));
			assert_non_null(all[fd]);
		}
		assert_null(shim_registration_add(&list, POOL, 0));
		for (int fd = 0; fd < POOL; fd++)
			shim_registration_remove(&list, all[fd]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(many_are_found_in_short_chains, start_anew),
		cmocka_unit_test_setup(what_is_no_tags_owner_is_found_by_number_alone, start_anew),
		cmocka_unit_test_setup(those_of_one_tag_stay_together, start_anew),
		cmocka_unit_test_setup(changes_are_forgotten_in_any_order, start_anew),
		cmocka_unit_test_setup(news_are_found_where_the_last_ones_were, start_anew),
		cmocka_unit_test_setup(a_pool_in_use_says_so, start_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
