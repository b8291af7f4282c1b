/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libc's own functions.
 *
 * All are bound at once, by the constructor or, if somebody calls us before it ran, by that first
 * call; never one by one inside a hook (dlsym may allocate, and allocators call us).  A call that
 * comes while binding is under way on the same thread gets a raw system call instead.
 */
#ifndef SHMIPC_PRELOAD_REAL_H
#define SHMIPC_PRELOAD_REAL_H

#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

#define SHIM_EXPORT __attribute__((visibility("default")))

/* Exported by glibc, declared in none of its headers (or only when fortifying). */
FILE *_IO_fdopen(int fd, const char *mode);
int _IO_fclose(FILE *file);
int __open(const char *path, int flags, ...);
int __open64(const char *path, int flags, ...);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int directory, const char *path, int flags);
int __openat64_2(int directory, const char *path, int flags);
int __pipe(int fds[2]);
int __socket(int family, int type, int protocol);
ssize_t __recv(int fd, void *to, size_t bytes, int flags);
ssize_t __read_nocancel(int fd, void *to, size_t bytes);
ssize_t __write_nocancel(int fd, const void *from, size_t bytes);
int __sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
int __close_nocancel(int fd);
int __libc_fcntl64(int fd, int command, ...);
int __munmap(void *at, size_t bytes);
int __mprotect(void *at, size_t bytes, int protection);
void *__mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __madvise(void *at, size_t bytes, int advice);
int __connect(int fd, const struct sockaddr *address, socklen_t bytes);
ssize_t __read(int fd, void *to, size_t bytes);
ssize_t __write(int fd, const void *from, size_t bytes);
ssize_t __send(int fd, const void *from, size_t bytes, int flags);
int __close(int fd);
int __poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout);
int __dup2(int from, int to);
int __fcntl(int fd, int command, ...);
pid_t __fork(void);
pid_t __wait(int *status);
pid_t __waitpid(pid_t pid, int *status, int options);
int __sigaction(int signo, const struct sigaction *action, struct sigaction *old);
sighandler_t __sysv_signal(int signo, sighandler_t chosen);
sighandler_t sysv_signal(int signo, sighandler_t chosen);
sighandler_t ssignal(int signo, sighandler_t chosen);
sighandler_t bsd_signal(int signo, sighandler_t chosen);
sighandler_t sigset(int signo, sighandler_t chosen);
int siginterrupt(int signo, int interrupt);
pid_t __vfork(void);
/* vfork.c */
void shim_vfork_bind(pid_t (*target)(void),
		     int (*clone_target)(int (*)(void *), void *, int, void *, ...));
bool shim_vfork_was_used(void);
ssize_t __read_chk(int fd, void *to, size_t bytes, size_t room);
ssize_t __recv_chk(int fd, void *to, size_t bytes, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *to, size_t bytes, size_t room, int flags,
		       struct sockaddr *address, socklen_t *address_bytes);
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout_ms, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		const sigset_t *mask, size_t room);
int __dprintf_chk(int fd, int flag, const char *format, ...);
int __vdprintf_chk(int fd, int flag, const char *format, va_list arguments);
void __chk_fail(void) __attribute__((noreturn));

/* sigset and siginterrupt are old, and used. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
struct shim_real_calls {
#define SYMBOL(name) __typeof__(&name) name;
#define SYMBOL_OPTIONAL(name) SYMBOL(name)
#include "preload/symbols.def"
#undef SYMBOL
#undef SYMBOL_OPTIONAL
};
#pragma GCC diagnostic pop

extern struct shim_real_calls shim_real_calls;

/* Bind everything; idempotent, any thread. */
void shim_real_bind(void);

/* libc's table, bound. */
static inline const struct shim_real_calls *shim_real(void)
{
	if (__builtin_expect(!shim_real_calls.read, 0))
		shim_real_bind();
	return &shim_real_calls;
}

/* `real.send(...)` in the hooks */
#define real (*shim_real())

#endif
