/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the code that is loaded hold system call instructions of its own?
 *
 * Whoever waits by such an instruction is not seen by any entry point of ours; so a process that
 * has them keeps the kernel's readiness true for every arrival, for good.  What libc, the dynamic
 * loader, the vdso and we ourselves hold does not count: those are how a program reaches the entry
 * points, or are ours.
 *
 * Nothing is looked at before an end could become relaxed for the first time.  Then the executable
 * segments of all objects are gone through in steps of a fraction of a millisecond, one in each
 * wait that asks; until they are through, every end stays strict.  What is loaded later is noticed
 * by the next wait that sleeps, a millisecond later at the most often, and looked at likewise.
 * What a process finds its parent, brothers and children need not look for (findings.h).
 *
 * Not judged: code that no file was loaded for by the dynamic loader (what a program writes
 * itself).
 */
#ifndef SHMIPC_PRELOAD_LOADED_H
#define SHMIPC_PRELOAD_LOADED_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>

struct shim_conn;

void shim_loaded_start(void);

enum shim_loaded_visit {
	SHIM_LOADED_VISITED,
	SHIM_LOADED_BUSY,    /* another thread is about it just now */
	SHIM_LOADED_REFUSED, /* not here, and not by waiting */
};

/* dl_iterate_phdr(), where that can be called: not in a signal handler, not in a child that may
 * have found the loader's lock taken.  One thread at a time, no handler meanwhile. */
enum shim_loaded_visit shim_loaded_visit(int (*visit)(struct dl_phdr_info *, size_t, void *),
					 void *argument);

/* libc, the loader, the vdso, we ourselves. */
bool shim_loaded_is_exempt(const struct dl_phdr_info *info);

/* This connection is being attached. */
void shim_loaded_look(struct shim_conn *conn);

/* No step is under way between these two: it holds a lock of the loader, which the child would find
 * taken for ever. */
void shim_loaded_before_fork(void);
void shim_loaded_after_fork(void);
void shim_loaded_in_child(void);

#endif
