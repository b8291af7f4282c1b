/* SPDX-License-Identifier: Apache-2.0 */
// LINK: preload/findings.c
/* What one process has found its relatives know. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "preload/findings.h"

enum {
	KEPT = 1023, /* there is room for so many, */
	CHILDREN = 4,
	EACH = 400, /* and these are more */
};

static uint64_t identity(int child, int number)
{
	return (uint64_t)(child + 1) << 32 | (uint64_t)(number + 1);
}

static uintptr_t place(int child, int number)
{
	return (uintptr_t)identity(child, number) * 3;
}

static enum shim_finding finding(int number)
{
	return number % 2 ? SHIM_FINDING_CLEAN : SHIM_FINDING_CALLS;
}

static int in_child(void (*work)(int), int argument)
{
	int pid = fork();

	if (pid == 0) {
		work(argument);
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void await_all(int count)
{
	int status;

	for (int i = 0; i < count; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
}

static void add_one(int number)
{
	shim_findings_add(identity(0, number), finding(number), place(0, number));
}

static void expect_one(int number)
{
	uintptr_t at = 0;

	if (shim_findings_of(identity(0, number), &at) != finding(number) || at != place(0, number))
		_exit(1);
}

static void alone_a_process_keeps_nothing(void **none)
{
	uintptr_t at = 7;

	(void)none;
	add_one(0);
	assert_int_equal(shim_findings_of(identity(0, 0), &at), SHIM_FINDING_NONE);
	assert_int_equal(at, 7);
}

static void parents_and_brothers_know(void **none)
{
	uintptr_t at;

	(void)none;
	shim_findings_share();
	shim_findings_share(); /* the second fork makes no other */
	assert_int_equal(shim_findings_of(identity(0, 0), &at), SHIM_FINDING_NONE);
	for (int number = 0; number < 2; number++) {
		in_child(add_one, number);
		await_all(1);
		assert_int_equal(shim_findings_of(identity(0, number), &at), finding(number));
		assert_int_equal(at, place(0, number));
		in_child(expect_one, number);
		await_all(1);
	}
}

static void add_many(int child)
{
	for (int number = 0; number < EACH; number++)
		shim_findings_add(identity(child, number), finding(number), place(child, number));
}

static void those_who_write_at_once_leave_whole_entries(void **none)
{
	int found = 0;

	(void)none;
	for (int child = 1; child <= CHILDREN; child++)
		in_child(add_many, child);
	await_all(CHILDREN);
	for (int child = 1; child <= CHILDREN; child++) {
		for (int number = 0; number < EACH; number++) {
			uintptr_t at;
			enum shim_finding it = shim_findings_of(identity(child, number), &at);

			if (it == SHIM_FINDING_NONE)
				continue;
			assert_int_equal(it, finding(number));
			assert_int_equal(at, place(child, number));
			found++;
		}
	}
	assert_int_equal(found, KEPT - 2); /* with those of the test before */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alone_a_process_keeps_nothing),
		cmocka_unit_test(parents_and_brothers_know),
		cmocka_unit_test(those_who_write_at_once_leave_whole_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
