/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c tests/unit/ipc/killing.c
/* The short form of tests/stress/library_kill.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ipc/killing.h"

enum { ROUNDS = 60 };

static void either_side_survives_the_other(void **state)
{
	(void)state;
	for (unsigned int seed = 1; seed <= ROUNDS; seed++)
		killing_round(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(either_side_survives_the_other) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
