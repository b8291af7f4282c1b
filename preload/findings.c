/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/findings.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "core/sys.h"

enum {
	FINDINGS_MAX = 1023, /* with their head, four pages; what is not used is not there */
	FINDING_BITS = 2,
};

struct finding {
	_Atomic uint64_t identity; /* 0: not written yet */
	uint64_t what;		   /* at << FINDING_BITS | enum shim_finding */
};

struct findings {
	_Atomic uint64_t taken; /* entries; may be counted further than there are */
	uint64_t unused;
	struct finding all[FINDINGS_MAX];
};

/* Written once, by whoever forks first: forks of a process come one after the other. */
static struct findings *_Atomic findings;

void shim_findings_share(void)
{
	long at;

	if (atomic_load_explicit(&findings, memory_order_relaxed))
		return;
	at = sys_mmap(NULL, sizeof(struct findings), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at < 0 && at > -4096)
		return;
	atomic_store_explicit(&findings, (struct findings *)at, memory_order_release);
}

enum shim_finding shim_findings_of(uint64_t identity, uintptr_t *at)
{
	struct findings *f = atomic_load_explicit(&findings, memory_order_acquire);
	uint64_t count = f ? atomic_load_explicit(&f->taken, memory_order_relaxed) : 0;

	for (uint64_t i = 0; i < count && i < FINDINGS_MAX; i++) {
		struct finding *one = &f->all[i];

		/* [finding:acq] pairs with [finding:rel]: what stands beside it */
		if (atomic_load_explicit(&one->identity, memory_order_acquire) != identity)
			continue;
		*at = (uintptr_t)(one->what >> FINDING_BITS);
		return (enum shim_finding)(one->what & ((1u << FINDING_BITS) - 1));
	}
	return SHIM_FINDING_NONE;
}

void shim_findings_add(uint64_t identity, enum shim_finding finding, uintptr_t at)
{
	struct findings *f = atomic_load_explicit(&findings, memory_order_acquire);
	uint64_t place;

	/* looked at first, so that a full table is not counted on for ever */
	if (!f || atomic_load_explicit(&f->taken, memory_order_relaxed) >= FINDINGS_MAX)
		return;
	place = atomic_fetch_add_explicit(&f->taken, 1, memory_order_relaxed);
	if (place >= FINDINGS_MAX)
		return;
	f->all[place].what = (uint64_t)at << FINDING_BITS | (uint64_t)finding;
	/* [finding:rel] pairs with [finding:acq] */
	atomic_store_explicit(&f->all[place].identity, identity, memory_order_release);
}
