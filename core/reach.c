/* SPDX-License-Identifier: Apache-2.0 */
#include "core/reach.h"

#include <errno.h>
#include <linux/futex.h>

#include "core/sys.h"

_Atomic uint64_t shmipc_reach_table[SHMIPC_REACH_PAGES];
/* 0 is what the empty table says */
_Atomic uint32_t shmipc_reach_age = 1;

enum {
	NO_SUCH_HOW = -1,
	SIGSET_BYTES = 8,
};

/* Reads a signal set there, then finds that it does not know what to do with it. */
static bool kernel_reads(const void *word)
{
	return sys_call6(SYS_rt_sigprocmask, NO_SUCH_HOW, (long)word, 0, SIGSET_BYTES, 0, 0) !=
	       -EFAULT;
}

/* Writes a word there that is the one it finds, atomically; wakes nobody, for nobody waits on
 * `nobody`, and the comparison that decides about the second word never holds. */
static bool kernel_writes(const void *word)
{
	static uint32_t nobody;
	const long keep = FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_LT, -2048 & 0xfff);

	return sys_call6(SYS_futex, (long)&nobody, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0,
			 (long)word, keep) != -EFAULT;
}

bool shmipc_reach_ask(uintptr_t start, size_t bytes, enum shmipc_reach how)
{
	/* before the question: what changes while it is asked makes the answer old */
	uint32_t age = atomic_load_explicit(&shmipc_reach_age, memory_order_acquire);
	uintptr_t last = (start + bytes - 1) >> SHMIPC_REACH_PAGE_BITS;

	for (uintptr_t page = start >> SHMIPC_REACH_PAGE_BITS; page <= last; page++) {
		/* any word of the page, but not one at NULL, which means "no signal set" */
		const void *word = (const void *)((page << SHMIPC_REACH_PAGE_BITS) + SIGSET_BYTES);

		if (shmipc_reach_knows(page, age, how))
			continue;
		if (how == SHMIPC_REACH_WRITE ? !kernel_writes(word) : !kernel_reads(word))
			return false;
		atomic_store_explicit(shmipc_reach_slot(page), shmipc_reach_entry(page, age, how),
				      memory_order_relaxed);
	}
	return true;
}

void shmipc_reach_changed(void)
{
	uint32_t age = atomic_fetch_add_explicit(&shmipc_reach_age, 1, memory_order_release) + 1;

	/* the age in an entry is short: before it comes round, nothing old may be left */
	if ((age & ((1u << SHMIPC_REACH_AGE_BITS) - 1)) != 0)
		return;
	for (unsigned int i = 0; i < SHMIPC_REACH_PAGES; i++)
		atomic_store_explicit(&shmipc_reach_table[i], 0, memory_order_relaxed);
}
