/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has been found out about loaded objects, in memory that a process shares with all that it
 * forks.
 *
 * Going through the code of a large server takes longer than many a session of it lasts
 * (PostgreSQL: 20 to 70 ms, for each connection anew), and all its children hold the same objects
 * at the same places.  So whoever has gone through one tells the others: its parent, its brothers,
 * its children.
 *
 * The memory is made before the first fork; an exec leaves it.  Every process that has it may write
 * it, whoever's user it runs as by then: a wrong word there may cost a process that waits by system
 * call instructions its wake-ups, and no more.
 *
 * No locks: a process may be killed at any instant.  Entries are only added, and each is written by
 * the one process that has taken its place.
 */
#ifndef SHMIPC_PRELOAD_FINDINGS_H
#define SHMIPC_PRELOAD_FINDINGS_H

#include <stdint.h>

enum shim_finding {
	SHIM_FINDING_NONE, /* nobody has gone through it yet, or there was no room to say so */
	SHIM_FINDING_CLEAN,
	SHIM_FINDING_CALLS, /* it holds a system call instruction */
};

/* Before a fork; the first one makes the memory.  Where that is refused each process finds out for
 * itself. */
void shim_findings_share(void);

/* identity: which object, and where it lies; not 0.  *at: of the instruction, in the object's own
 * addresses. */
enum shim_finding shim_findings_of(uint64_t identity, uintptr_t *at);
void shim_findings_add(uint64_t identity, enum shim_finding finding, uintptr_t at);

#endif
