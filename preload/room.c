/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/room.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "core/sys.h"

enum { HEAD_BYTES = 64, STEP_BYTES = 16384 };

struct head {
	size_t bytes;
};

/* One is kept, so that a program which does nothing but such waits touches the same pages again. */
static struct head *_Atomic spare;

static struct head *make(size_t bytes)
{
	size_t all = (bytes + HEAD_BYTES + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
	long at = sys_mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct head *head = (struct head *)at;

	if (at < 0 && at > -4096)
		return NULL;
	head->bytes = all;
	return head;
}

void *shim_room_take(size_t bytes)
{
	struct head *head = atomic_exchange(&spare, NULL);

	if (head && head->bytes < bytes + HEAD_BYTES) {
		sys_munmap(head, head->bytes);
		head = NULL;
	}
	if (!head)
		head = make(bytes);
	return head ? (char *)head + HEAD_BYTES : NULL;
}

void shim_room_give(void *room)
{
	struct head *head, *none = NULL;

	if (!room)
		return;
	head = (struct head *)(void *)((char *)room - HEAD_BYTES);
	if (!atomic_compare_exchange_strong(&spare, &none, head))
		sys_munmap(head, head->bytes);
}
