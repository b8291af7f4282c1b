/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posix_spawn, system, popen: children that run no hook of ours before their exec.
 *
 * What they inherit may be used by whatever program they become, so it goes to the kernel first, as
 * for exec (handover.h); not what is close-on-exec, nor what the file actions close or cover.
 */
#ifndef SHMIPC_PRELOAD_SPAWN_H
#define SHMIPC_PRELOAD_SPAWN_H

/* File actions: `from` will be the child's number `to`.  The descriptor to be used in place of
 * `from`, which lives until `actions` are done. */
int shim_spawn_duplicates(const void *actions, int from, int to);
/* The child will have none of these numbers as it inherits them. */
void shim_spawn_closes(const void *actions, int from, int to);
/* Nothing is known of them any more: destroyed, or begun anew at the same place without that. */
void shim_spawn_done(const void *actions);

/* actions: or NULL. */
void shim_spawn_before(const void *actions);

#endif
