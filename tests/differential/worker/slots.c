/* SPDX-License-Identifier: Apache-2.0 */
/* Which descriptor has which name. */
#include "tests/differential/worker/worker.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LISTENERS = 'l' - 'a' };

static int slots[SLOT_LETTERS][SLOT_DIGITS]; /* number + 1, 0 = empty */

static int *slot_at(const char *name)
{
	if (name[0] < 'a' || name[0] > 'z' || name[1] < '0' || name[1] >= '0' + SLOT_DIGITS)
		abort();
	return &slots[name[0] - 'a'][name[1] - '0'];
}

int slot_fd(const char *name)
{
	return *slot_at(name) - 1;
}

void slot_set(const char *name, int fd)
{
	*slot_at(name) = fd + 1;
}

int slot_of_connection(int connection)
{
	for (int i = 0; i < SLOT_DIGITS; i++)
		if (slots[connection][i] > 0)
			return slots[connection][i] - 1;
	return -1;
}

/* All but the listeners, which serve one plan after another. */
void slots_close(void)
{
	for (int i = 0; i < SLOT_LETTERS; i++) {
		if (i == LISTENERS)
			continue;
		for (int j = 0; j < SLOT_DIGITS; j++) {
			if (slots[i][j] > 0)
				close(slots[i][j] - 1);
			slots[i][j] = 0;
		}
	}
}
