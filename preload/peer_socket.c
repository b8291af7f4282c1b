/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/peer_socket.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "core/sys.h"
#include "preload/identity.h"

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

enum { ENTRIES_BYTES = 4096, PATH_BYTES = 64, NEAR = 4 };

/* ---- which socket ---- */

static uint64_t inode_of_peer(const struct shim_conn *conn, int fd)
{
	struct sockaddr_storage mine, theirs;
	socklen_t my_bytes = sizeof(mine), their_bytes = sizeof(theirs);
	struct shim_socket_identity self, peer;
	bool found;

	if (conn->is_unix)
		return shim_identity_self(fd, &self) == 0 &&
				       shim_identity_unix_lookup(self.inode, self.cookie, &peer) ==
					       0
			       ? peer.peer_inode
			       : 0;
	found = sys_getsockname(fd, &mine, &my_bytes) == 0 &&
		sys_getpeername(fd, &theirs, &their_bytes) == 0 &&
		shim_identity_inet_lookup(&theirs, &mine, &peer) == 0;
	return found ? peer.inode : 0;
}

static bool is_socket(int fd, uint64_t inode)
{
	struct stat status;

	return sys_fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) && status.st_ino == inode;
}

/* ---- directories of numbers ---- */

/* Decimal digits of `number` to the text's end; the text's new end. */
static char *append_number(char *at, uint64_t number)
{
	char digits[20];
	int n = 0;

	do
		digits[n++] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	while (n > 0)
		*at++ = digits[--n];
	*at = '\0';
	return at;
}

/* -1: the name is none. */
static int to_number(const char *name)
{
	int number = 0;

	for (; *name >= '0' && *name <= '9' && number < INT32_MAX / 10 - 1; name++)
		number = number * 10 + (*name - '0');
	return *name ? -1 : number;
}

struct search {
	char path[PATH_BYTES]; /* of the directory, with its slash */
	uint64_t inode;
	int pid;
	int found;
};

/* Calls visit() for each name that is a number, until it says true. */
static void for_each_number(struct search *search, bool (*visit)(struct search *search, int number))
{
	_Alignas(struct dirent64) char entries[ENTRIES_BYTES];
	int fd = sys_openat(AT_FDCWD, search->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	bool done = false;
	long bytes;

	if (fd < 0)
		return;
	while (!done && (bytes = sys_getdents(fd, entries, sizeof(entries))) > 0)
		for (long at = 0; at < bytes && !done;) {
			const struct dirent64 *entry = (const void *)(entries + at);
			int number = to_number(entry->d_name);

			at += entry->d_reclen;
			done = number >= 0 && visit(search, number);
		}
	sys_close(fd);
}

/* ---- who holds it ---- */

/* Process and number.  Of many connections between two processes the next one is there too, and
 * often next to it. */
static _Atomic uint64_t last_found;

static bool copy_descriptor(struct search *search, int number)
{
	int pidfd = (int)sys_call3(SYS_pidfd_open, search->pid, 0, 0);
	int copy;

	if (pidfd < 0)
		return true;
	copy = (int)sys_call3(SYS_pidfd_getfd, pidfd, number, 0);
	sys_close(pidfd);
	if (copy >= 0 && !is_socket(copy, search->inode)) { /* closed, and the number used again */
		sys_close(copy);
		return false;
	}
	search->found = copy;
	if (copy >= 0)
		atomic_store_explicit(&last_found, (uint64_t)search->pid << 32 | (uint32_t)number,
				      memory_order_relaxed);
	return copy >= 0;
}

static bool look_at_descriptor(struct search *search, int number)
{
	char path[PATH_BYTES], wanted[PATH_BYTES] = "socket:[", text[PATH_BYTES];
	ssize_t bytes;

	strcpy(path, search->path);
	append_number(path + strlen(path), (uint64_t)number);
	strcpy(append_number(wanted + strlen(wanted), search->inode), "]");
	bytes = sys_readlink(path, text, sizeof(text) - 1);
	if (bytes <= 0)
		return false;
	text[bytes] = '\0';
	return strcmp(text, wanted) == 0 && copy_descriptor(search, number);
}

static struct search search_in(const struct search *search, int pid)
{
	struct search inside = {
		.path = "/proc/", .inode = search->inode, .pid = pid, .found = -1
	};

	strcpy(append_number(inside.path + strlen(inside.path), (uint64_t)pid), "/fd/");
	return inside;
}

static bool look_at_process(struct search *search, int pid)
{
	struct search inside = search_in(search, pid);

	for_each_number(&inside, look_at_descriptor);
	search->found = inside.found;
	return inside.found >= 0;
}

static bool look_near(struct search *search, int pid, int number)
{
	struct search inside = search_in(search, pid);

	for (int i = 1; i <= NEAR && inside.found < 0; i++)
		look_at_descriptor(&inside, number + i);
	search->found = inside.found;
	return inside.found >= 0;
}

int shim_peer_socket(const struct shim_conn *conn, int fd)
{
	struct search search = { .path = "/proc/", .found = -1 };
	const uint64_t last = atomic_load_explicit(&last_found, memory_order_relaxed);

	if (shim_identity_seccomp_filtered()) /* such calls may kill */
		return -EPERM;
	search.inode = inode_of_peer(conn, fd);
	if (search.inode == 0)
		return -ENOENT;
	if (last && look_near(&search, (int)(last >> 32), (int)(uint32_t)last))
		return search.found;
	if (!last || !look_at_process(&search, (int)(last >> 32)))
		for_each_number(&search, look_at_process);
	return search.found;
}
