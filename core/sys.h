/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw system calls, inline: the only way in which core/ enters the kernel.
 *
 * Inside an interposer a plain close() or send() would bind to our own entry point and recurse, and
 * libc's syscall() is itself interposed.  Each sys_x() returns the kernel's result or -errno, never
 * touches errno, takes no lock and is async-signal-safe.  None is a cancellation point.
 */
#ifndef SHMIPC_CORE_SYS_H
#define SHMIPC_CORE_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <time.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "core/call_note.h"

struct epoll_event;
struct rlimit;

#if defined(__x86_64__)
static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ __inline__ volatile(SHMIPC_CALL_NOTE("syscall")
				    : "=a"(result)
				    : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
				      "r"(r9)
				    : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ __inline__ volatile(SHMIPC_CALL_NOTE("svc 0")
				    : "+r"(x0)
				    : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
				    : "memory", "cc");
	return x0;
}
#else
#error "core/sys.h knows x86-64 and aarch64 only"
#endif

static inline long sys_call3(long number, long a, long b, long c)
{
	return sys_call6(number, a, b, c, 0, 0, 0);
}

/* Descriptors */
static inline int sys_close(int fd)
{
	return (int)sys_call3(SYS_close, fd, 0, 0);
}
static inline int sys_dup(int fd)
{
	return (int)sys_call3(SYS_dup, fd, 0, 0);
}
static inline int sys_dup3(int from, int to, int flags)
{
	return (int)sys_call3(SYS_dup3, from, to, flags);
}
static inline int sys_fcntl(int fd, int command, long argument)
{
	return (int)sys_call3(SYS_fcntl, fd, command, argument);
}
static inline int sys_ioctl(int fd, unsigned long request, void *argument)
{
	return (int)sys_call3(SYS_ioctl, fd, (long)request, (long)argument);
}
static inline int sys_fstat(int fd, struct stat *out)
{
	return (int)sys_call3(SYS_fstat, fd, (long)out, 0);
}
static inline int sys_openat(int dir, const char *path, int flags, mode_t mode)
{
	return (int)sys_call6(SYS_openat, dir, (long)path, flags, (long)mode, 0, 0);
}
static inline ssize_t sys_read(int fd, void *to, size_t bytes)
{
	return sys_call3(SYS_read, fd, (long)to, (long)bytes);
}
static inline ssize_t sys_write(int fd, const void *from, size_t bytes)
{
	return sys_call3(SYS_write, fd, (long)from, (long)bytes);
}
static inline ssize_t sys_pread(int fd, void *to, size_t bytes, off_t offset)
{
	return sys_call6(SYS_pread64, fd, (long)to, (long)bytes, offset, 0, 0);
}
static inline ssize_t sys_preadv(int fd, const struct iovec *to, int count, off_t offset)
{
	/* the second half of the offset is for machines whose words do not hold it */
	return sys_call6(SYS_preadv, fd, (long)to, count, offset, 0, 0);
}
static inline ssize_t sys_readlink(const char *path, char *to, size_t bytes)
{
	return sys_call6(SYS_readlinkat, -100 /* AT_FDCWD */, (long)path, (long)to, (long)bytes, 0,
			 0);
}

static inline int sys_unlink(const char *path)
{
	return (int)sys_call3(SYS_unlinkat, -100 /* AT_FDCWD */, (long)path, 0);
}
static inline int sys_rename(const char *from, const char *to)
{
	return (int)sys_call6(SYS_renameat2, -100, (long)from, -100, (long)to, 0, 0);
}
static inline int sys_mkdir(const char *path, mode_t mode)
{
	return (int)sys_call3(SYS_mkdirat, -100, (long)path, (long)mode);
}
static inline int sys_stat(const char *path, struct stat *out)
{
	return (int)sys_call6(SYS_newfstatat, -100, (long)path, (long)out, 0, 0, 0);
}
/* what the symbolic link `from` stands for gets the name `to` too */
/* Of a name in a directory; a symbolic link is looked at itself. */
static inline int sys_lstatat(int dir, const char *name, struct stat *out)
{
	return (int)sys_call6(SYS_newfstatat, dir, (long)name, (long)out,
			      0x100 /* AT_SYMLINK_NOFOLLOW */, 0, 0);
}

static inline int sys_unlinkat(int dir, const char *name)
{
	return (int)sys_call3(SYS_unlinkat, dir, (long)name, 0);
}

static inline int sys_link(const char *from, const char *to)
{
	return (int)sys_call6(SYS_linkat, -100, (long)from, -100, (long)to,
			      0x400 /* AT_SYMLINK_FOLLOW */, 0);
}
static inline int sys_fchmod(int fd, mode_t mode)
{
	return (int)sys_call3(SYS_fchmod, fd, (long)mode, 0);
}
/* Of this process; `limit` to set it, `old` to read it, or NULL. */
static inline int sys_prlimit(int resource, const struct rlimit *limit, struct rlimit *old)
{
	return (int)sys_call6(SYS_prlimit64, 0, resource, (long)limit, (long)old, 0, 0);
}

static inline long sys_getdents(int fd, void *to, size_t bytes)
{
	return sys_call3(SYS_getdents64, fd, (long)to, (long)bytes);
}
static inline int sys_flock(int fd, int operation)
{
	return (int)sys_call3(SYS_flock, fd, operation, 0);
}
static inline int sys_fallocate(int fd, int mode, off_t offset, off_t bytes)
{
	return (int)sys_call6(SYS_fallocate, fd, mode, offset, bytes, 0, 0);
}

/* Sockets */
static inline int sys_socket(int family, int type, int protocol)
{
	return (int)sys_call3(SYS_socket, family, type, protocol);
}
static inline int sys_socketpair(int family, int type, int protocol, int fds[2])
{
	return (int)sys_call6(SYS_socketpair, family, type, protocol, (long)fds, 0, 0);
}
static inline int sys_connect(int fd, const void *address, socklen_t bytes)
{
	return (int)sys_call3(SYS_connect, fd, (long)address, (long)bytes);
}
static inline int sys_bind(int fd, const void *address, socklen_t bytes)
{
	return (int)sys_call3(SYS_bind, fd, (long)address, (long)bytes);
}
static inline int sys_listen(int fd, int backlog)
{
	return (int)sys_call3(SYS_listen, fd, backlog, 0);
}
static inline int sys_accept4(int fd, void *address, socklen_t *bytes, int flags)
{
	return (int)sys_call6(SYS_accept4, fd, (long)address, (long)bytes, flags, 0, 0);
}
static inline int sys_shutdown(int fd, int how)
{
	return (int)sys_call3(SYS_shutdown, fd, how, 0);
}
static inline int sys_getsockname(int fd, void *address, socklen_t *bytes)
{
	return (int)sys_call3(SYS_getsockname, fd, (long)address, (long)bytes);
}
static inline int sys_getpeername(int fd, void *address, socklen_t *bytes)
{
	return (int)sys_call3(SYS_getpeername, fd, (long)address, (long)bytes);
}
static inline int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
	return (int)sys_call6(SYS_getsockopt, fd, level, name, (long)value, (long)bytes, 0);
}
static inline int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
	return (int)sys_call6(SYS_setsockopt, fd, level, name, (long)value, (long)bytes, 0);
}
static inline ssize_t sys_sendto(int fd, const void *from, size_t bytes, int flags,
				 const void *address, socklen_t address_bytes)
{
	return sys_call6(SYS_sendto, fd, (long)from, (long)bytes, flags, (long)address,
			 (long)address_bytes);
}
static inline ssize_t sys_recvfrom(int fd, void *to, size_t bytes, int flags, void *address,
				   socklen_t *address_bytes)
{
	return sys_call6(SYS_recvfrom, fd, (long)to, (long)bytes, flags, (long)address,
			 (long)address_bytes);
}
static inline ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags)
{
	return sys_call3(SYS_sendmsg, fd, (long)message, flags);
}
static inline ssize_t sys_recvmsg(int fd, struct msghdr *message, int flags)
{
	return sys_call3(SYS_recvmsg, fd, (long)message, flags);
}

/* Waiting */
static inline int sys_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
			    const sigset_t *mask)
{
	struct timespec copy; /* the kernel writes the rest of the time back */

	if (timeout)
		copy = *timeout;
	return (int)sys_call6(SYS_ppoll, (long)fds, (long)count, timeout ? (long)&copy : 0,
			      (long)mask, 8, 0);
}
/* timeout_ms < 0 waits for ever, as in poll(2) */
static inline int sys_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	struct timespec time = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };

	return sys_ppoll(fds, count, timeout_ms < 0 ? NULL : &time, NULL);
}
static inline int sys_futex(const void *word, int operation, uint32_t value,
			    const struct timespec *timeout)
{
	return (int)sys_call6(SYS_futex, (long)word, operation, value, (long)timeout, 0, 0);
}
static inline int sys_epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event)
{
	return (int)sys_call6(SYS_epoll_ctl, epfd, operation, fd, (long)event, 0, 0);
}
/* timeout_ms < 0 waits for ever */
static inline int sys_epoll_wait(int epfd, struct epoll_event *events, int room, int timeout_ms)
{
	return (int)sys_call6(SYS_epoll_pwait, epfd, (long)events, room, timeout_ms, 0, 8);
}
static inline int sys_epoll_create(int flags)
{
	return (int)sys_call3(SYS_epoll_create1, flags, 0, 0);
}
static inline int sys_eventfd(unsigned int count, int flags)
{
	return (int)sys_call3(SYS_eventfd2, (long)count, flags, 0);
}
static inline int sys_timerfd_create(clockid_t clock, int flags)
{
	return (int)sys_call3(SYS_timerfd_create, clock, flags, 0);
}
static inline int sys_timerfd_settime(int fd, int flags, const struct itimerspec *time)
{
	return (int)sys_call6(SYS_timerfd_settime, fd, flags, (long)time, 0, 0, 0);
}
static inline int sys_sched_yield(void)
{
	return (int)sys_call3(SYS_sched_yield, 0, 0, 0);
}
static inline int sys_clock_gettime(clockid_t clock, struct timespec *out)
{
	return (int)sys_call3(SYS_clock_gettime, clock, (long)out, 0);
}
static inline int sys_nanosleep(const struct timespec *time)
{
	return (int)sys_call3(SYS_nanosleep, (long)time, 0, 0);
}

/* Memory */
static inline int sys_memfd_create(const char *name, unsigned int flags)
{
	return (int)sys_call3(SYS_memfd_create, (long)name, flags, 0);
}
static inline int sys_ftruncate(int fd, off_t bytes)
{
	return (int)sys_call3(SYS_ftruncate, fd, bytes, 0);
}
static inline long sys_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return sys_call6(SYS_mmap, (long)at, (long)bytes, protection, flags, fd, offset);
}
static inline int sys_munmap(void *at, size_t bytes)
{
	return (int)sys_call3(SYS_munmap, (long)at, (long)bytes, 0);
}
static inline int sys_madvise(void *at, size_t bytes, int advice)
{
	return (int)sys_call3(SYS_madvise, (long)at, (long)bytes, advice);
}
static inline int sys_membarrier(int command, unsigned int flags)
{
	return (int)sys_call3(SYS_membarrier, command, flags, 0);
}

/* Processes and signals */
static inline int sys_getpid(void)
{
	return (int)sys_call3(SYS_getpid, 0, 0, 0);
}
static inline int sys_gettid(void)
{
	return (int)sys_call3(SYS_gettid, 0, 0, 0);
}
static inline unsigned int sys_geteuid(void)
{
	return (unsigned int)sys_call3(SYS_geteuid, 0, 0, 0);
}
static inline int sys_tgkill(int pid, int tid, int signal)
{
	return (int)sys_call3(SYS_tgkill, pid, tid, signal);
}

#endif
