/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that return new descriptor numbers and are of no other interest here (numbers.h).
 *
 * Allocators open files while they start, before anything is bound: then the system call is made
 * here.
 */
#include <stddef.h>

#include "core/sys.h"
#include "preload/numbers.h"
#include "preload/real.h"
#include "preload/rebind.h"
#include "preload/transfer.h"

/* ---- files ---- */

/* The third argument, which exists only if a file may be made. */
static mode_t mode_of(int flags, va_list *arguments)
{
	bool has_mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;

	return has_mode ? va_arg(*arguments, mode_t) : 0;
}

static int open_at(int directory, const char *path, int flags, va_list *arguments)
{
	mode_t mode = mode_of(flags, arguments);

	if (!shim_real_calls.openat)
		return (int)shim_edge(sys_openat(directory, path, flags, mode));
	shim_rebind_look_sometimes();
	return shim_number_born(shim_real_calls.openat(directory, path, flags, mode));
}

SHIM_EXPORT int open(const char *path, int flags, ...)
{
	va_list arguments;
	int fd;

	va_start(arguments, flags);
	fd = open_at(AT_FDCWD, path, flags, &arguments);
	va_end(arguments);
	return fd;
}

/* A file of any size: off_t has 64 bits here. */
SHIM_EXPORT __typeof__(open) open64 __attribute__((alias("open")));
SHIM_EXPORT __typeof__(open) __open __attribute__((alias("open")));
SHIM_EXPORT __typeof__(open) __open64 __attribute__((alias("open")));

SHIM_EXPORT int openat(int directory, const char *path, int flags, ...)
{
	va_list arguments;
	int fd;

	va_start(arguments, flags);
	fd = open_at(directory, path, flags, &arguments);
	va_end(arguments);
	return fd;
}

SHIM_EXPORT __typeof__(openat) openat64 __attribute__((alias("openat")));

SHIM_EXPORT int __open_2(const char *path, int flags)
{
	return shim_number_born(real.__open_2(path, flags));
}

SHIM_EXPORT int __open64_2(const char *path, int flags)
{
	return shim_number_born(real.__open64_2(path, flags));
}

SHIM_EXPORT int __openat_2(int directory, const char *path, int flags)
{
	return shim_number_born(real.__openat_2(directory, path, flags));
}

SHIM_EXPORT int __openat64_2(int directory, const char *path, int flags)
{
	return shim_number_born(real.__openat64_2(directory, path, flags));
}

SHIM_EXPORT int creat(const char *path, mode_t mode)
{
	return shim_number_born(real.creat(path, mode));
}

SHIM_EXPORT int creat64(const char *path, mode_t mode)
{
	return shim_number_born(real.creat64(path, mode));
}

SHIM_EXPORT int open_by_handle_at(int mount, struct file_handle *handle, int flags)
{
	return shim_number_born(real.open_by_handle_at(mount, handle, flags));
}

SHIM_EXPORT int mkstemp(char *path)
{
	return shim_number_born(real.mkstemp(path));
}

SHIM_EXPORT int mkstemp64(char *path)
{
	return shim_number_born(real.mkstemp64(path));
}

SHIM_EXPORT int mkostemp(char *path, int flags)
{
	return shim_number_born(real.mkostemp(path, flags));
}

SHIM_EXPORT int mkostemp64(char *path, int flags)
{
	return shim_number_born(real.mkostemp64(path, flags));
}

SHIM_EXPORT int mkstemps(char *path, int suffix)
{
	return shim_number_born(real.mkstemps(path, suffix));
}

SHIM_EXPORT int mkstemps64(char *path, int suffix)
{
	return shim_number_born(real.mkstemps64(path, suffix));
}

SHIM_EXPORT int mkostemps(char *path, int suffix, int flags)
{
	return shim_number_born(real.mkostemps(path, suffix, flags));
}

SHIM_EXPORT int mkostemps64(char *path, int suffix, int flags)
{
	return shim_number_born(real.mkostemps64(path, suffix, flags));
}

SHIM_EXPORT int memfd_create(const char *name, unsigned int flags)
{
	return shim_number_born(real.memfd_create(name, flags));
}

SHIM_EXPORT int shm_open(const char *name, int flags, mode_t mode)
{
	return shim_number_born(real.shm_open(name, flags, mode));
}

/* ---- pipes, events, the rest ---- */

SHIM_EXPORT int pipe(int fds[2])
{
	return shim_numbers_born(real.pipe(fds), fds);
}

SHIM_EXPORT int __pipe(int fds[2])
{
	return shim_numbers_born(real.__pipe(fds), fds);
}

SHIM_EXPORT int pipe2(int fds[2], int flags)
{
	return shim_numbers_born(real.pipe2(fds, flags), fds);
}

SHIM_EXPORT int eventfd(unsigned int value, int flags)
{
	return shim_number_born(real.eventfd(value, flags));
}

SHIM_EXPORT int timerfd_create(clockid_t clock, int flags)
{
	return shim_number_born(real.timerfd_create(clock, flags));
}

SHIM_EXPORT int signalfd(int fd, const sigset_t *mask, int flags)
{
	int result = real.signalfd(fd, mask, flags);

	return fd < 0 ? shim_number_born(result) : result;
}

SHIM_EXPORT int inotify_init(void)
{
	return shim_number_born(real.inotify_init());
}

SHIM_EXPORT int inotify_init1(int flags)
{
	return shim_number_born(real.inotify_init1(flags));
}

SHIM_EXPORT int fanotify_init(unsigned int flags, unsigned int event_flags)
{
	return shim_number_born(real.fanotify_init(flags, event_flags));
}

SHIM_EXPORT int pidfd_open(pid_t pid, unsigned int flags)
{
	return shim_number_born(real.pidfd_open(pid, flags));
}

SHIM_EXPORT mqd_t mq_open(const char *name, int flags, ...)
{
	va_list arguments;
	mode_t mode;
	struct mq_attr *attributes;

	va_start(arguments, flags);
	mode = va_arg(arguments, mode_t);
	attributes = va_arg(arguments, struct mq_attr *);
	va_end(arguments);
	return shim_number_born(real.mq_open(name, flags, mode, attributes));
}

SHIM_EXPORT int fsopen(const char *name, unsigned int flags)
{
	return shim_number_born(real.fsopen(name, flags));
}

SHIM_EXPORT int fsmount(int fd, unsigned int flags, unsigned int attributes)
{
	return shim_number_born(real.fsmount(fd, flags, attributes));
}

SHIM_EXPORT int fspick(int directory, const char *path, unsigned int flags)
{
	return shim_number_born(real.fspick(directory, path, flags));
}

SHIM_EXPORT int open_tree(int directory, const char *path, unsigned int flags)
{
	return shim_number_born(real.open_tree(directory, path, flags));
}

/* ---- terminals ---- */

SHIM_EXPORT int posix_openpt(int flags)
{
	return shim_number_born(real.posix_openpt(flags));
}

SHIM_EXPORT int getpt(void)
{
	return shim_number_born(real.getpt());
}

SHIM_EXPORT int openpty(int *master, int *slave, char *name, const struct termios *terminal,
			const struct winsize *window)
{
	int result = real.openpty(master, slave, name, terminal, window);

	if (result == 0) {
		shim_number_born(*master);
		shim_number_born(*slave);
	}
	return result;
}

SHIM_EXPORT int forkpty(int *master, char *name, const struct termios *terminal,
			const struct winsize *window)
{
	pid_t pid = real.forkpty(master, name, terminal, window);

	if (pid > 0)
		shim_number_born(*master);
	if (pid == 0) /* the terminal is its 0 to 2 now */
		shim_standard_numbers_born();
	return pid;
}

SHIM_EXPORT int login_tty(int fd)
{
	int result = real.login_tty(fd);

	if (result == 0)
		shim_standard_numbers_born();
	return result;
}

/* ---- streams of files ---- */

static FILE *opened(FILE *file)
{
	if (file)
		shim_number_born(fileno(file));
	return file;
}

SHIM_EXPORT FILE *fopen(const char *restrict path, const char *restrict mode)
{
	return opened(real.fopen(path, mode));
}

SHIM_EXPORT FILE *fopen64(const char *restrict path, const char *restrict mode)
{
	return opened(real.fopen64(path, mode));
}

SHIM_EXPORT FILE *tmpfile(void)
{
	return opened(real.tmpfile());
}

SHIM_EXPORT FILE *tmpfile64(void)
{
	return opened(real.tmpfile64());
}
