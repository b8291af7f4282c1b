/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/shimlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t number_of(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

void shimlog_sum(const char *path, uint64_t *ring_bytes, uint64_t *kernel_bytes)
{
	FILE *file = fopen(path, "re");
	char line[1024];

	*ring_bytes = *kernel_bytes = 0;
	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		if (!strstr(line, " event=closed"))
			continue;
		*ring_bytes += number_of(line, " ring_rx=");
		*kernel_bytes += number_of(line, " kernel_rx=");
	}
	fclose(file);
}
