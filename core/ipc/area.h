/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A piece of memory shared with a peer: a file or a memfd, mapped whole.
 *
 * A file that we make is locked (flock) as long as this process lives, so that a file whose maker
 * was killed can be told from one in use, whatever the process numbers say.  A file that a peer
 * names must belong to that peer: else it could have us map, and remove, other people's files.
 */
#ifndef SHMIPC_CORE_IPC_AREA_H
#define SHMIPC_CORE_IPC_AREA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct shmipc_area {
	uint8_t *base;
	uint64_t bytes;
	uint64_t device, inode; /* what it is, whatever it is called */
	char *path; /* NULL once the file is removed, and of a memfd that was received */
	int fd;	    /* -1 or: of a memfd, to be passed; of our file, its lock */
	bool is_file;
	bool is_ours;
};

enum { SHMIPC_AREA_UID_ANY = -1 };

/* path: of the file, or what the memfd is called.  -EEXIST, -ENOSPC, -ENAMETOOLONG, ... */
int shmipc_area_create_file(struct shmipc_area *area, const char *path, uint64_t bytes,
			    mode_t mode);
int shmipc_area_create_memfd(struct shmipc_area *area, const char *path, uint64_t bytes);

/* A peer's.  owner: the uid that the file must have.  -EACCES: it has another, or is no plain file.
 * -EFBIG: larger than limit. */
int shmipc_area_open(struct shmipc_area *area, const char *path, uid_t owner, uint64_t limit);
/* The descriptor is the area's on success only. */
int shmipc_area_map(struct shmipc_area *area, int memfd, uint64_t limit);

/* Removes the file, if it is a file that still stands where it stood. */
void shmipc_area_unlink(struct shmipc_area *area);
/* Unmaps, closes and frees; does not remove. */
void shmipc_area_drop(struct shmipc_area *area);

/* Removes files that begin with `prefix`, are called as ours are, and whose maker is dead. */
void shmipc_area_sweep(const char *prefix);

/* The part of a name by which libshmipc knows its own kind: "_c" and 16 hexadecimal digits at the
 * end of `name` (of `bytes` bytes, up to its last "_buffer" or "_queue_").  Go reads nothing in it.
 */
bool shmipc_area_name_is_ours(const char *name, size_t bytes);
enum { SHMIPC_AREA_TAG_ROOM = 24 };
void shmipc_area_make_tag(char tag[SHMIPC_AREA_TAG_ROOM]);

#endif
