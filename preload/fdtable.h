/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this process knows about a descriptor number.
 *
 * One word a number, read by every hook before anything else: 0 = nothing of ours, call libc.
 * Private to the process (a forked child has its copy); only the number -> connection relation
 * lives here, everything that must survive fork lives in the connection record (conn.h).
 */
#ifndef SHMIPC_PRELOAD_FDTABLE_H
#define SHMIPC_PRELOAD_FDTABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SHIM_FD_MAX = 1 << 20 };

enum shim_fd_kind {
	SHIM_FD_NONE = 0,
	SHIM_FD_CONN = 1,  /* index of a connection that is, or may become, accelerated */
	SHIM_FD_PLAIN = 2, /* index of a connection that stays plain: known for its row only */
	SHIM_FD_SET = 3,   /* index of an epoll set */
};

#define SHIM_FD_INDEX_BITS 24
#define SHIM_FD_KIND_BITS 4
/*
 * [life] The number is being closed, and still means what the word says.  The kernel gives it away
 * before the word is taken, and another thread's dup() may get it for the same connection: its word
 * is without the mark, so whoever closes forgets the word that he has marked, and no other.
 */
#define SHIM_FD_CLOSING (1u << 31)

extern _Atomic uint32_t shim_fd_table[SHIM_FD_MAX];

static inline uint32_t shim_fd_word(int fd)
{
	if (__builtin_expect((uint32_t)fd >= SHIM_FD_MAX, 0))
		return 0;
	/* [fd:acq] the record that the word names is complete; pairs with [fd:rel] */
	return atomic_load_explicit(&shim_fd_table[fd], memory_order_acquire);
}

static inline enum shim_fd_kind shim_fd_kind(uint32_t word)
{
	return (enum shim_fd_kind)(word >> SHIM_FD_INDEX_BITS & ((1u << SHIM_FD_KIND_BITS) - 1));
}

static inline uint32_t shim_fd_index(uint32_t word)
{
	return word & ((1u << SHIM_FD_INDEX_BITS) - 1);
}

static inline uint32_t shim_fd_make(enum shim_fd_kind kind, uint32_t index)
{
	return (uint32_t)kind << SHIM_FD_INDEX_BITS | index;
}

/* The old word. */
static inline uint32_t shim_fd_set(int fd, uint32_t word)
{
	if ((uint32_t)fd >= SHIM_FD_MAX)
		return 0;
	return atomic_exchange_explicit(&shim_fd_table[fd], word,
					memory_order_acq_rel); /* [fd:rel] */
}

/* False: it is another one by now. */
static inline bool shim_fd_change(int fd, uint32_t word, uint32_t to)
{
	return (uint32_t)fd < SHIM_FD_MAX &&
	       atomic_compare_exchange_strong(&shim_fd_table[fd], &word, to); /* [fd:rel] */
}

static inline bool shim_fd_forget(int fd, uint32_t word)
{
	return shim_fd_change(fd, word, 0);
}

/* [life] */
static inline bool shim_fd_mark_closing(int fd, uint32_t word)
{
	return shim_fd_change(fd, word, word | SHIM_FD_CLOSING);
}

/* Numbers below this one have been used; for walks over the table. */
int shim_fd_limit(void);
void shim_fd_touch(int fd);

/* Where our own descriptors begin: high, but below what an fd_set holds.  The kernel's table has as
 * many places as the highest number needs, and select() of all that the process may have reads and
 * writes so many bits. */
int shim_fd_highest_start(void);
/* That is, of `count` descriptors the kernel's select() looks at so many. */
int shim_fd_places(int count);
/* Move a descriptor of our own out of the application's sight: to a high number, close-on-exec.
 * Returns the new number (the old one is closed), or the old one where no high number is to be had.
 */
int shim_fd_hide(int fd);
/* Is this number one of ours?  The application's close() of it is refused with EBADF. */
int shim_fd_is_hidden(int fd);
void shim_fd_unhide(int fd);
/* The lowest hidden number that is not below `from`, or -1. */
int shim_fd_next_hidden(int from);

#endif
