/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/uring.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "preload/config.h"
#include "preload/conn.h"
#include "preload/conn_parts.h"
#include "preload/identity.h"

enum {
	NUMBERS_MAX = 256, /* looked at; programs make their ring early */
	LOOK_EVERY_MS = 100,
};

static _Atomic bool seen;
static _Atomic uint64_t looked_ticks;

static bool is_ring(int fd)
{
	char path[32], target[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = sys_readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	return strcmp(target, "anon_inode:[io_uring]") == 0;
}

void shim_uring_seen(void)
{
	if (shim_config.enabled && !atomic_exchange(&seen, true))
		shim_conn_for_each_held(shim_conn_waits_unseen);
}

void shim_uring_mapped(int fd, int64_t offset)
{
	if (fd < 0 || !shim_config.enabled || atomic_load_explicit(&seen, memory_order_relaxed) ||
	    (offset != (int64_t)IORING_OFF_SQES && offset != (int64_t)IORING_OFF_CQ_RING))
		return;
	if (is_ring(fd))
		shim_uring_seen();
}

/* A filter may kill for the look. */
static bool is_time_to_look(void)
{
	uint64_t now = shmipc_ticks(), last = atomic_load(&looked_ticks);

	if (atomic_load(&seen) || shim_identity_seccomp_filtered() ||
	    (last && now - last < LOOK_EVERY_MS * 1000 * shmipc_ticks_per_us()))
		return false;
	atomic_store(&looked_ticks, now);
	return true;
}

void shim_uring_look(struct shim_conn *conn)
{
	if (is_time_to_look())
		for (int fd = 0; fd < NUMBERS_MAX; fd++)
			if (shim_fd_word(fd) == 0 && sys_fcntl(fd, F_GETFD, 0) >= 0 && is_ring(fd))
				shim_uring_seen();
	if (atomic_load(&seen))
		shim_conn_waits_unseen(conn);
}
