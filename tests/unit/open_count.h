/* SPDX-License-Identifier: Apache-2.0 */
/* How many descriptors this process has, to find the one that was left over. */
#ifndef TESTS_UNIT_OPEN_COUNT_H
#define TESTS_UNIT_OPEN_COUNT_H

#include <dirent.h>

static inline int count_open(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

#endif
