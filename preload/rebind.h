/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects whose calls were bound around us.
 *
 * A library that is loaded with RTLD_DEEPBIND looks for its symbols in itself and in what it needs,
 * libc among that, before it looks where a preloaded object stands.  PHP loads its extensions so.
 * Its calls would pass us by: its sockets would stay plain, and what it reads of a connection of
 * ours would be tokens.
 *
 * So the places where the loader has written libc's addresses of functions that we take over are
 * found, and the addresses written there that any other object would have got.  Objects that were
 * there when we started were not loaded so, and are left alone, as are libc, the loader and we
 * ourselves.  A place that the loader fills at the first call (lazy binding) is filled at once, if
 * another one of the same object shows how it was bound.
 *
 * dlopen() cannot be taken over: it loads relative to its caller.  So this is done where something
 * may have been loaded since: when a file is opened, before a fork, before a connection is
 * accelerated, and by waits that look at what is loaded (loaded.h).
 */
#ifndef SHMIPC_PRELOAD_REBIND_H
#define SHMIPC_PRELOAD_REBIND_H

#include <stdbool.h>

/* Once, when libc's functions are bound. */
void shim_rebind_start(void);

/* What was loaded since is looked at.  False: another thread is about it just now.  True also where
 * it cannot be done at all: in a signal handler, in a child of several threads.  Any thread; may
 * take the loader's lock, see loaded.h. */
bool shim_rebind_look(void);

/* The same, but not more often than once in a while, for calls that are frequent. */
void shim_rebind_look_sometimes(void);

#endif
