/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/fdtable.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "core/sys.h"

_Atomic uint32_t shim_fd_table[SHIM_FD_MAX];

enum { HIDDEN_MAX = 320, HIGH_NUMBER = 900 };

static _Atomic int limit;
static _Atomic int hidden[HIDDEN_MAX]; /* number + 1 */
static _Atomic int lowest = INT32_MAX; /* no number below has ever been hidden */

int shim_fd_limit(void)
{
	return atomic_load_explicit(&limit, memory_order_relaxed);
}

void shim_fd_touch(int fd)
{
	int now = atomic_load_explicit(&limit, memory_order_relaxed);

	while (fd >= now && !atomic_compare_exchange_weak(&limit, &now, fd + 1))
		;
}

int shim_fd_highest_start(void)
{
	struct rlimit files = { 0, 0 };

	if (sys_call6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&files, 0, 0) < 0)
		return HIGH_NUMBER;
	if (files.rlim_cur > SHIM_FD_MAX)
		return SHIM_FD_MAX / 2;
	return files.rlim_cur > 4096 ? (int)files.rlim_cur - 1024 : (int)files.rlim_cur * 3 / 4;
}

int shim_fd_hide(int fd)
{
	int high = sys_fcntl(fd, F_DUPFD_CLOEXEC, shim_fd_highest_start());
	int low = atomic_load(&lowest);

	if (high < 0)
		high = fd;
	else
		sys_close(fd);
	while (high >= 0 && high < low && !atomic_compare_exchange_weak(&lowest, &low, high))
		;
	for (int i = 0; i < HIDDEN_MAX; i++) {
		int none = 0;

		if (atomic_compare_exchange_strong(&hidden[i], &none, high + 1))
			break;
	}
	return high;
}

int shim_fd_is_hidden(int fd)
{
	if (fd < atomic_load_explicit(&lowest, memory_order_relaxed))
		return 0;
	for (int i = 0; i < HIDDEN_MAX; i++)
		if (atomic_load_explicit(&hidden[i], memory_order_relaxed) == fd + 1)
			return 1;
	return 0;
}

void shim_fd_unhide(int fd)
{
	for (int i = 0; i < HIDDEN_MAX; i++) {
		int mine = fd + 1;

		if (atomic_compare_exchange_strong(&hidden[i], &mine, 0))
			return;
	}
}

int shim_fd_next_hidden(int from)
{
	int found = -1;

	for (int i = 0; i < HIDDEN_MAX; i++) {
		int fd = atomic_load_explicit(&hidden[i], memory_order_relaxed) - 1;

		if (fd >= from && (found < 0 || fd < found))
			found = fd;
	}
	return found;
}
