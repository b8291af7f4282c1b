/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/room.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "core/sys.h"

enum { HEAD_BYTES = 64, STEP_BYTES = 16384, OWN = 2, OWN_BYTES = 256 * 1024 };

struct head {
	size_t bytes;
};

/* Two at a time have these (a select() takes two), so that a program which does nothing but such
 * waits touches the same pages again, and one that may have no more memory (RLIMIT_AS) waits as by
 * the kernel. */
static _Alignas(HEAD_BYTES) char own[OWN][OWN_BYTES];
static _Atomic bool is_taken[OWN];

static void *make(size_t bytes)
{
	size_t all = (bytes + HEAD_BYTES + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
	long at = sys_mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct head *head = (struct head *)at;

	if (at < 0 && at > -4096)
		return NULL;
	head->bytes = all;
	return (char *)head + HEAD_BYTES;
}

void *shim_room_take(size_t bytes)
{
	for (int i = 0; i < OWN && bytes <= OWN_BYTES; i++)
		if (!atomic_exchange(&is_taken[i], true))
			return own[i];
	return make(bytes);
}

void shim_room_give(void *room)
{
	struct head *head;

	if (!room)
		return;
	for (int i = 0; i < OWN; i++) {
		if (room != own[i])
			continue;
		atomic_store(&is_taken[i], false);
		return;
	}
	head = (struct head *)(void *)((char *)room - HEAD_BYTES);
	sys_munmap(head, head->bytes);
}
