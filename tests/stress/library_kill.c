/* SPDX-License-Identifier: Apache-2.0 */
/* library_kill SECONDS SEED: kill -9 of a client or a server of the library, again and again. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/ipc/killing.h"

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);
	unsigned int seed = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) : 1, rounds = 0;

	for (; time(NULL) < end; rounds++, seed++)
		killing_round(seed);
	printf("library_kill: %u rounds\n", rounds);
	return 0;
}
