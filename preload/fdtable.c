/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/fdtable.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>

#include "core/sys.h"
#include "preload/identity.h"

_Atomic uint32_t shim_fd_table[SHIM_FD_MAX];

enum { HIDDEN_MAX = 320, HIGH_NUMBER = 768 };

static _Atomic int limit;
static _Atomic int hidden[HIDDEN_MAX]; /* number + 1 */
static _Atomic int lowest = INT32_MAX; /* no number below has ever been hidden */

__attribute__((hot)) int shim_fd_limit(void)
{
	return atomic_load_explicit(&limit, memory_order_relaxed);
}

__attribute__((hot)) void shim_fd_touch(int fd)
{
	int now = atomic_load_explicit(&limit, memory_order_relaxed);

	while (fd >= now && !atomic_compare_exchange_weak(&limit, &now, fd + 1))
		;
}

int shim_fd_highest_start(void)
{
	struct rlimit files = { 0, 0 };

	if (sys_call6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&files, 0, 0) < 0 ||
	    files.rlim_cur >= FD_SETSIZE)
		return HIGH_NUMBER;
	return (int)files.rlim_cur * 3 / 4;
}

/* The line "FDSize:\tN" of /proc/self/status, which is one of the first. */
static int read_places(int fd)
{
	static const char wanted[] = "\nFDSize:\t";
	char block[512];
	ssize_t got = sys_read(fd, block, sizeof(block));
	const char *at = got > 0 ? memmem(block, (size_t)got, wanted, sizeof(wanted) - 1) : NULL;
	int places = 0;

	if (!at)
		return 0;
	for (at += sizeof(wanted) - 1; at < block + got && *at >= '0' && *at <= '9'; at++)
		places = places * 10 + *at - '0';
	return places;
}

int shim_fd_places(int count)
{
	int fd, places = 0;

	if (count <= FD_SETSIZE || shim_identity_seccomp_filtered())
		return count;
	fd = sys_openat(AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return count;
	places = read_places(fd);
	sys_close(fd);
	return places > 0 && places < count ? places : count;
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
