/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/area.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "core/memfd.h"
#include "core/sys.h"

enum { MEMFD_NAME_MAX = 249, TAG_DIGITS = 16 };

static int map_whole(struct shmipc_area *area, int fd, uint64_t bytes)
{
	long at = sys_mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct stat st;
	int error = sys_fstat(fd, &st);

	if (at < 0 && at > -4096)
		return (int)at;
	if (error) {
		sys_munmap((void *)at, (size_t)bytes);
		return error;
	}
	area->base = (uint8_t *)at;
	area->bytes = bytes;
	area->device = st.st_dev;
	area->inode = st.st_ino;
	return 0;
}

/* ---- our own -------------------------------------------------------------------------------- */

static void make_parents(const char *path)
{
	char part[4096];

	for (size_t i = 1; path[i] && i < sizeof(part); i++)
		if (path[i] == '/') {
			memcpy(part, path, i);
			part[i] = 0;
			sys_mkdir(part, 0777);
		}
}

/* Pages that the file system has promised: no SIGBUS when it fills up later. */
static int reserve(int fd, uint64_t bytes)
{
	int error;

	do
		error = sys_fallocate(fd, 0, 0, (off_t)bytes);
	while (error == -EINTR);
	return error == -EOPNOTSUPP ? sys_ftruncate(fd, (off_t)bytes) : error;
}

/* A file without a name, and how to give it one; or, where the file system has no such thing, with
 * its name from the start. */
static int open_new(const char *path, mode_t mode, bool nameless, bool *named_out)
{
	const char *slash = strrchr(path, '/');
	char directory[PATH_MAX];
	int fd = -EOPNOTSUPP;

	*named_out = false;
	if (nameless && slash && slash > path && (size_t)(slash - path) < sizeof(directory)) {
		snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
		fd = sys_openat(AT_FDCWD, directory, O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
	}
	if (fd >= 0)
		return fd;
	*named_out = true;
	return sys_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
}

static int give_name(int fd, const char *path, bool *named)
{
	char link[32];
	int error;

	if (*named)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	error = sys_link(link, path);
	*named = error == 0;
	return error;
}

/* It gets its name when it is locked and has its size: who is killed before leaves nothing, and who
 * is killed later a file that can be told from one in use. */
static int create_file(struct shmipc_area *area, const char *path, uint64_t bytes, mode_t mode,
		       bool nameless)
{
	bool named;
	int error, fd = open_new(path, mode, nameless, &named);

	*area = (struct shmipc_area){ .fd = -1, .is_file = true, .is_ours = true };
	if (fd < 0)
		return fd;
	area->path = strdup(path);
	error = area->path ? sys_flock(fd, LOCK_EX | LOCK_NB) : -ENOMEM;
	if (!error)
		error = sys_fchmod(fd, mode); /* whatever the umask says */
	if (!error)
		error = reserve(fd, bytes);
	if (!error)
		error = map_whole(area, fd, bytes);
	if (!error)
		error = give_name(fd, path, &named);
	area->fd = fd;
	if (error) {
		if (named)
			sys_unlink(path);
		shmipc_area_drop(area);
	}
	return error;
}

int shmipc_area_create_file(struct shmipc_area *area, const char *path, uint64_t bytes, mode_t mode)
{
	int error;

	make_parents(path);
	error = create_file(area, path, bytes, mode, true);
	/* without /proc there is no way to name it afterwards */
	return error == -ENOENT ? create_file(area, path, bytes, mode, false) : error;
}

int shmipc_area_create_memfd(struct shmipc_area *area, const char *path, uint64_t bytes)
{
	char name[MEMFD_NAME_MAX + 1];
	int fd, error;

	*area = (struct shmipc_area){ .fd = -1, .is_ours = true };
	if (snprintf(name, sizeof(name), "shmipc%s", path) > MEMFD_NAME_MAX)
		return -ENAMETOOLONG;
	area->path = strdup(path);
	if (!area->path)
		return -ENOMEM;
	fd = shmipc_memfd_create(name, bytes);
	error = fd < 0 ? fd : map_whole(area, fd, bytes);
	if (error) {
		if (fd >= 0)
			sys_close(fd);
		free(area->path);
		return error;
	}
	area->fd = fd;
	return 0;
}

/* ---- a peer's ------------------------------------------------------------------------------- */

int shmipc_area_map(struct shmipc_area *area, int memfd, uint64_t limit)
{
	struct stat st;
	int error = sys_fstat(memfd, &st);

	*area = (struct shmipc_area){ .fd = -1 };
	if (error)
		return error;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return -EACCES;
	if ((uint64_t)st.st_size > limit)
		return -EFBIG;
	error = map_whole(area, memfd, (uint64_t)st.st_size);
	if (!error)
		area->fd = memfd;
	return error;
}

int shmipc_area_open(struct shmipc_area *area, const char *path, uid_t owner, uint64_t limit)
{
	struct stat st;
	int fd, error;

	*area = (struct shmipc_area){ .fd = -1 };
	/* not to be stopped by a FIFO that somebody put there, nor to get a terminal by it */
	fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	error = sys_fstat(fd, &st);
	if (!error && st.st_uid != owner)
		error = -EACCES;
	if (!error)
		error = shmipc_area_map(area, fd, limit);
	sys_close(fd); /* a file needs it no longer, and its lock is its maker's */
	area->fd = -1;
	if (error)
		return error;
	area->is_file = true;
	area->path = strdup(path);
	if (!area->path) {
		shmipc_area_drop(area);
		return -ENOMEM;
	}
	return 0;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* If it is still that file.  The directory is held meanwhile: whoever owns the file could exchange
 * the directories on the way to it, and have us remove the file of somebody else. */
static void remove_file(const char *path, uint64_t device, uint64_t inode)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char directory[PATH_MAX];
	struct stat st;
	int fd;

	if ((size_t)(name - path) >= sizeof(directory))
		return;
	snprintf(directory, sizeof(directory), "%.*s", (int)(name - path), path);
	fd = sys_openat(AT_FDCWD, slash ? directory : ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sys_lstatat(fd, name, &st) == 0 && st.st_dev == device && st.st_ino == inode)
		sys_unlinkat(fd, name);
	sys_close(fd);
}

void shmipc_area_unlink(struct shmipc_area *area)
{
	if (!area->is_file || !area->path)
		return;
	remove_file(area->path, area->device, area->inode);
	free(area->path);
	area->path = NULL;
}

void shmipc_area_drop(struct shmipc_area *area)
{
	if (area->base)
		sys_munmap(area->base, (size_t)area->bytes);
	if (area->fd >= 0)
		sys_close(area->fd);
	free(area->path);
	*area = (struct shmipc_area){ .fd = -1 };
}

/* ---- names ---------------------------------------------------------------------------------- */

void shmipc_area_make_tag(char tag[SHMIPC_AREA_TAG_ROOM])
{
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random)) {
		struct timespec now;

		sys_clock_gettime(CLOCK_REALTIME, &now);
		random = (uint64_t)now.tv_sec * 1000000007u ^ (uint64_t)now.tv_nsec << 20 ^
			 (uint64_t)(uintptr_t)tag;
	}
	snprintf(tag, SHMIPC_AREA_TAG_ROOM, "_c%016llx", (unsigned long long)random);
}

static bool ends_in_tag(const char *name, size_t bytes)
{
	if (bytes < 2 + TAG_DIGITS)
		return false;
	name += bytes - 2 - TAG_DIGITS;
	if (name[0] != '_' || name[1] != 'c')
		return false;
	for (size_t i = 2; i < 2 + TAG_DIGITS; i++)
		if (!isxdigit((unsigned char)name[i]) || isupper((unsigned char)name[i]))
			return false;
	return true;
}

bool shmipc_area_name_is_ours(const char *name, size_t bytes)
{
	static const char *const kinds[] = { "_buffer", "_queue_" };

	for (size_t end = bytes; end > 0; end--) {
		if (name[end - 1] != '_')
			continue;
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			size_t length = strlen(kinds[k]);

			if (end - 1 + length <= bytes &&
			    memcmp(name + end - 1, kinds[k], length) == 0)
				return ends_in_tag(name, end - 1);
		}
	}
	return false;
}

static void sweep_one(const char *path)
{
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return;
	/* its maker holds the lock from before the file has any content until it dies */
	if (sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
	    st.st_uid == sys_geteuid() && sys_flock(fd, LOCK_EX | LOCK_NB) == 0)
		remove_file(path, st.st_dev, st.st_ino);
	sys_close(fd);
}

/* One portion of a directory, as the kernel gives it. */
static void sweep_entries(const char *at, long bytes, const char *prefix, size_t directory)
{
	const char *start = prefix + directory + 1;
	char path[PATH_MAX];

	while (bytes > 0) {
		struct dirent64 entry;
		const char *name = at + offsetof(struct dirent64, d_name);

		memcpy(&entry, at, offsetof(struct dirent64, d_name));
		if (strncmp(name, start, strlen(start)) == 0 &&
		    shmipc_area_name_is_ours(name, strlen(name))) {
			snprintf(path, sizeof(path), "%.*s/%s", (int)directory, prefix, name);
			sweep_one(path);
		}
		at += entry.d_reclen;
		bytes -= entry.d_reclen;
	}
}

void shmipc_area_sweep(const char *prefix)
{
	const char *slash = strrchr(prefix, '/');
	char entries[4096], path[PATH_MAX];
	long bytes;
	int fd;

	if (!slash || slash == prefix || (size_t)(slash - prefix) >= sizeof(path) - NAME_MAX - 2)
		return;
	snprintf(path, sizeof(path), "%.*s", (int)(slash - prefix), prefix);
	fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	while ((bytes = sys_getdents(fd, entries, sizeof(entries))) > 0)
		sweep_entries(entries, bytes, prefix, (size_t)(slash - prefix));
	sys_close(fd);
}
