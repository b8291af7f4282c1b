/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>

#include "core/sys.h"

enum {
	SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
	ORDINARY_PAGE_BYTES = 4096,
	TMPFS_TYPE = 0x01021994,
};

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Beyond this limit the kernel answers with a signal that kills. */
static bool file_size_allows(uint64_t bytes)
{
	struct rlimit limit;

	return sys_call6(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit, 0, 0) < 0 ||
	       limit.rlim_cur >= bytes;
}

int shmipc_memfd_create(const char *name, uint64_t bytes)
{
	int fd = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	int error;

	if (fd == -EINVAL) /* before Linux 6.3 */
		fd = sys_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd;
	error = file_size_allows(bytes) ? sys_ftruncate(fd, (off_t)bytes) : -EFBIG;
	if (!error)
		error = sys_fcntl(fd, F_ADD_SEALS, SEALS);
	if (error) {
		sys_close(fd);
		return error;
	}
	return fd;
}

/* A file of huge pages takes the same seals, but SIGBUS answers an access when the host has no such
 * page left.  Only such a file, or an ordinary one where huge pages are the default, has big
 * blocks: so the unusual call, which a seccomp filter might not like, is rarely made. */
static bool pages_are_ordinary(int fd, const struct stat *st)
{
	struct statfs fs;

	if (st->st_blksize <= ORDINARY_PAGE_BYTES)
		return true;
	return sys_call3(SYS_fstatfs, fd, (long)&fs, 0) == 0 && fs.f_type == TMPFS_TYPE;
}

int shmipc_memfd_check(int fd, uint64_t *bytes_out)
{
	int seals = sys_fcntl(fd, F_GET_SEALS, 0);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return -EPROTO;
	if (sys_fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
	    !pages_are_ordinary(fd, &st))
		return -EPROTO;
	*bytes_out = (uint64_t)st.st_size;
	return 0;
}
