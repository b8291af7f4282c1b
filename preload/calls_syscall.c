/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscall(): programs and libraries that reach for a call by its number (libuv did for years) get
 * what the entry point of its name would have done.  The kernel's own ways are kept: the rest of a
 * time-out is written back, no call is a cancellation point.
 */
#include "preload/calls_syscall.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>

#include "core/gone.h"
#include "core/reach.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/handlers.h"
#include "preload/handover.h"
#include "preload/identity.h"
#include "preload/numbers.h"
#include "preload/pointers.h"
#include "preload/real.h"
#include "preload/transfer.h"
#include "preload/uring.h"
#include "preload/waits.h"

enum { SIGNAL_MASK_BYTES = 8 };

enum syscall_kind {
	NOT_OURS = 0,
	BYTES,	 /* moves bytes of a descriptor */
	WAITS,	 /* waits on several */
	SETS,	 /* makes or changes an epoll set */
	NUMBERS, /* makes, copies or closes a number */
	BIRTHS,	 /* returns a new number, and is else of no interest */
	SOCKETS, /* the life of a socket */
	MEMORY,	 /* takes memory away */
	PROCESS,
	ENDS, /* tells of the end of a process */
};

const unsigned char shim_syscall_is_ours[SHIM_SYSCALLS] = {
	[SYS_read] = BYTES,
	[SYS_write] = BYTES,
	[SYS_readv] = BYTES,
	[SYS_writev] = BYTES,
	[SYS_preadv2] = BYTES,
	[SYS_pwritev2] = BYTES,
	[SYS_sendto] = BYTES,
	[SYS_recvfrom] = BYTES,
	[SYS_sendmsg] = BYTES,
	[SYS_recvmsg] = BYTES,
	[SYS_sendmmsg] = BYTES,
	[SYS_recvmmsg] = BYTES,
	[SYS_sendfile] = BYTES,
	[SYS_splice] = BYTES,
	[SYS_ppoll] = WAITS,
	[SYS_pselect6] = WAITS,
	[SYS_epoll_create1] = SETS,
	[SYS_epoll_ctl] = SETS,
	[SYS_epoll_pwait] = WAITS,
#ifdef SYS_epoll_pwait2
	[SYS_epoll_pwait2] = WAITS,
#endif
	[SYS_close] = NUMBERS,
#ifdef SYS_close_range
	[SYS_close_range] = NUMBERS,
#endif
	[SYS_dup] = NUMBERS,
	[SYS_dup3] = NUMBERS,
	[SYS_pidfd_getfd] = NUMBERS,
	[SYS_fcntl] = NUMBERS,
	[SYS_ioctl] = NUMBERS,
	[SYS_pipe2] = NUMBERS,
	[SYS_socket] = SOCKETS,
	[SYS_socketpair] = SOCKETS,
	[SYS_connect] = SOCKETS,
	[SYS_accept] = SOCKETS,
	[SYS_accept4] = SOCKETS,
	[SYS_shutdown] = SOCKETS,
	[SYS_getsockopt] = SOCKETS,
	[SYS_setsockopt] = SOCKETS,
	[SYS_openat] = BIRTHS,
#ifdef SYS_openat2
	[SYS_openat2] = BIRTHS,
#endif
	[SYS_open_by_handle_at] = BIRTHS,
	[SYS_eventfd2] = BIRTHS,
	[SYS_timerfd_create] = BIRTHS,
	[SYS_signalfd4] = BIRTHS,
	[SYS_inotify_init1] = BIRTHS,
	[SYS_fanotify_init] = BIRTHS,
	[SYS_memfd_create] = BIRTHS,
#ifdef SYS_memfd_secret
	[SYS_memfd_secret] = BIRTHS,
#endif
	[SYS_mq_open] = BIRTHS,
	[SYS_perf_event_open] = BIRTHS,
	[SYS_bpf] = BIRTHS,
	[SYS_userfaultfd] = BIRTHS,
	[SYS_io_uring_setup] = BIRTHS,
	[SYS_pidfd_open] = BIRTHS,
	[SYS_fsopen] = BIRTHS,
	[SYS_fsmount] = BIRTHS,
	[SYS_fspick] = BIRTHS,
	[SYS_open_tree] = BIRTHS,
#ifdef SYS_landlock_create_ruleset
	[SYS_landlock_create_ruleset] = BIRTHS,
#endif
	[SYS_munmap] = MEMORY,
	[SYS_mprotect] = MEMORY,
	[SYS_mremap] = MEMORY,
	[SYS_mmap] = MEMORY,
	[SYS_shmdt] = MEMORY,
	[SYS_execve] = PROCESS,
	[SYS_execveat] = PROCESS,
	[SYS_exit_group] = PROCESS,
	[SYS_wait4] = ENDS,
	[SYS_waitid] = ENDS,
	[SYS_prctl] = PROCESS,
	[SYS_seccomp] = PROCESS,
	[SYS_unshare] = PROCESS,
	[SYS_rt_sigaction] = PROCESS,
#if defined(__x86_64__) /* the older forms */
	[SYS_fork] = PROCESS,
	[SYS_poll] = WAITS,
	[SYS_select] = WAITS,
	[SYS_epoll_create] = SETS,
	[SYS_epoll_wait] = WAITS,
	[SYS_dup2] = NUMBERS,
	[SYS_pipe] = NUMBERS,
	[SYS_open] = BIRTHS,
	[SYS_creat] = BIRTHS,
	[SYS_eventfd] = BIRTHS,
	[SYS_signalfd] = BIRTHS,
	[SYS_inotify_init] = BIRTHS,
#endif
};

/* ---- bytes ---- */

static long move_bytes(long number, long a, long b, long c, long d, long e, long f)
{
	int fd = (int)a;

	switch (number) {
	case SYS_read:
		return read(fd, (void *)b, (size_t)c);
	case SYS_write:
		return write(fd, (const void *)b, (size_t)c);
	case SYS_readv:
		return readv(fd, (const struct iovec *)b, (int)c);
	case SYS_writev:
		return writev(fd, (const struct iovec *)b, (int)c);
	case SYS_preadv2: /* the offset is in two words, of which the lower holds all */
		return preadv2(fd, (const struct iovec *)b, (int)c, d, (int)f);
	case SYS_pwritev2:
		return pwritev2(fd, (const struct iovec *)b, (int)c, d, (int)f);
	case SYS_sendto:
		return sendto(fd, (const void *)b, (size_t)c, (int)d, (const struct sockaddr *)e,
			      (socklen_t)f);
	case SYS_recvfrom:
		return recvfrom(fd, (void *)b, (size_t)c, (int)d, (struct sockaddr *)e,
				(socklen_t *)f);
	case SYS_sendmsg:
		return sendmsg(fd, (const struct msghdr *)b, (int)c);
	case SYS_recvmsg:
		return recvmsg(fd, (struct msghdr *)b, (int)c);
	case SYS_sendmmsg:
		return sendmmsg(fd, (struct mmsghdr *)b, (unsigned int)c, (int)d);
	case SYS_recvmmsg:
		return recvmmsg(fd, (struct mmsghdr *)b, (unsigned int)c, (int)d,
				(struct timespec *)e);
	case SYS_sendfile:
		return sendfile64(fd, (int)b, (off64_t *)c, (size_t)d);
	default: /* SYS_splice */
		return splice(fd, (off64_t *)b, (int)c, (off64_t *)d, (size_t)e, (unsigned int)f);
	}
}

/* ---- waits ---- */

/* The kernel writes back what is left of the time. */
static long with_rest(long result, uint64_t deadline_ns, struct timespec *timeout)
{
	int saved = errno;

	if (timeout && !(result < 0 && (errno == EINVAL || errno == EFAULT)) &&
	    deadline_ns != SHIM_WAIT_FOR_EVER &&
	    !shim_pointer_is_bad_result(timeout, sizeof(*timeout)))
		*timeout = shim_wait_left(deadline_ns);
	errno = saved;
	return result;
}

static uint64_t deadline_of(const struct timespec *timeout)
{
	return !timeout || shim_pointer_is_bad(timeout, sizeof(*timeout))
		       ? SHIM_WAIT_FOR_EVER
		       : shim_wait_deadline(timeout);
}

static bool is_usable_mask(long mask, long bytes)
{
	return !mask || bytes == SIGNAL_MASK_BYTES;
}

static long wait_poll(long a, long b, struct timespec *timeout, long mask)
{
	uint64_t deadline_ns = deadline_of(timeout);

	return with_rest(ppoll((struct pollfd *)a, (nfds_t)b, timeout, (const sigset_t *)mask),
			 deadline_ns, timeout);
}

struct mask_words {
	long mask, bytes;
};

static long wait_select(long a, long b, long c, long d, struct timespec *timeout,
			const struct mask_words *mask)
{
	uint64_t deadline_ns = deadline_of(timeout);

	return with_rest(pselect((int)a, (fd_set *)b, (fd_set *)c, (fd_set *)d, timeout,
				 mask ? (const sigset_t *)mask->mask : NULL),
			 deadline_ns, timeout);
}

/* False: the call is wrong, or of a shape that the kernel had better judge. */
static bool is_usable_wait(long number, long d, long e, long f)
{
	const struct mask_words *mask = (const struct mask_words *)f;

	switch (number) {
	case SYS_ppoll:
		return is_usable_mask(d, e);
	case SYS_epoll_pwait:
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
#endif
		return is_usable_mask(e, f);
	case SYS_pselect6:
		return !mask || (!shim_pointer_is_bad(mask, sizeof(*mask)) &&
				 is_usable_mask(mask->mask, mask->bytes));
	default:
		return true;
	}
}

static long wait_for(long number, long a, long b, long c, long d, long e, long f)
{
	if (!is_usable_wait(number, d, e, f))
		return shim_syscall_pass(number, a, b, c, d, e, f);
	switch (number) {
	case SYS_ppoll:
		return wait_poll(a, b, (struct timespec *)c, d);
	case SYS_pselect6:
		return wait_select(a, b, c, d, (struct timespec *)e, (const struct mask_words *)f);
	case SYS_epoll_pwait:
		return epoll_pwait((int)a, (struct epoll_event *)b, (int)c, (int)d,
				   (const sigset_t *)e);
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
		return epoll_pwait2((int)a, (struct epoll_event *)b, (int)c,
				    (const struct timespec *)d, (const sigset_t *)e);
#endif
#if defined(__x86_64__)
	case SYS_poll:
		return poll((struct pollfd *)a, (nfds_t)b, (int)c);
	case SYS_select:
		return select((int)a, (fd_set *)b, (fd_set *)c, (fd_set *)d, (struct timeval *)e);
	case SYS_epoll_wait:
		return epoll_wait((int)a, (struct epoll_event *)b, (int)c, (int)d);
#endif
	}
	return shim_syscall_pass(number, a, b, c, d, e, f);
}

static long change_set(long number, long a, long b, long c, long d)
{
	if (number == SYS_epoll_ctl)
		return epoll_ctl((int)a, (int)b, (int)c, (struct epoll_event *)d);
	if (number == SYS_epoll_create1)
		return epoll_create1((int)a);
	return epoll_create((int)a);
}

/* ---- numbers and sockets ---- */

/* libc has ways of its own with some commands: those go as they are. */
static long control(long a, long b, long c)
{
	switch (b) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
	case F_SETFL:
		return fcntl((int)a, (int)b, c);
	default:
		return shim_syscall_pass(SYS_fcntl, a, b, c, 0, 0, 0);
	}
}

static long change_number(long number, long a, long b, long c)
{
	switch (number) {
	case SYS_close:
		return close((int)a);
#ifdef SYS_close_range
	case SYS_close_range:
		return close_range((unsigned int)a, (unsigned int)b, (int)c);
#endif
	case SYS_dup:
		return dup((int)a);
	case SYS_dup3:
		return dup3((int)a, (int)b, (int)c);
	case SYS_pidfd_getfd:
		return pidfd_getfd((int)a, (int)b, (unsigned int)c);
	case SYS_fcntl:
		return control(a, b, c);
	case SYS_ioctl:
		return ioctl((int)a, (unsigned long)b, c);
	case SYS_pipe2:
		return pipe2((int *)a, (int)b);
#if defined(__x86_64__)
	case SYS_dup2:
		return dup2((int)a, (int)b);
#endif
	default: /* SYS_pipe */
		return pipe((int *)a);
	}
}

static long live_socket(long number, long a, long b, long c, long d, long e)
{
	int fd = (int)a;

	switch (number) {
	case SYS_socket:
		return socket((int)a, (int)b, (int)c);
	case SYS_socketpair:
		return socketpair((int)a, (int)b, (int)c, (int *)d);
	case SYS_connect:
		return connect(fd, (const struct sockaddr *)b, (socklen_t)c);
	case SYS_accept:
		return accept(fd, (struct sockaddr *)b, (socklen_t *)c);
	case SYS_accept4:
		return accept4(fd, (struct sockaddr *)b, (socklen_t *)c, (int)d);
	case SYS_shutdown:
		return shutdown(fd, (int)b);
	case SYS_getsockopt:
		return getsockopt(fd, (int)b, (int)c, (void *)d, (socklen_t *)e);
	default: /* SYS_setsockopt */
		return setsockopt(fd, (int)b, (int)c, (const void *)d, (socklen_t)e);
	}
}

/* ---- processes ---- */

static long change_process(long number, long a, long b, long c, long d, long e, long f)
{
	switch (number) {
	case SYS_execve:
		return execve((const char *)a, (char *const *)b, (char *const *)c);
	case SYS_execveat:
		return execveat((int)a, (const char *)b, (char *const *)c, (char *const *)d,
				(int)e);
	case SYS_exit_group:
		_exit((int)a);
#if defined(__x86_64__)
	case SYS_fork:
		return _Fork();
#endif
	case SYS_prctl:
		return prctl((int)a, b, c, d, e);
	case SYS_unshare:
		return unshare((int)a);
	case SYS_rt_sigaction:
		return shim_edge(shim_handlers_system_call(a, (const void *)b, (void *)c, d));
	default: /* SYS_seccomp */
		shim_identity_seccomp_installed();
		if (a == SECCOMP_SET_MODE_STRICT || a == SECCOMP_SET_MODE_FILTER)
			shim_handover_all();
		return shim_syscall_pass(number, a, b, c, d, e, f);
	}
}

/* A fork: the child goes on here, in memory of its own. */
static long clone_here(long number, long a, long b, long c, long d, long e, long f)
{
	long pid;
	int saved;

	shim_conn_before_fork();
	pid = shim_syscall_pass(number, a, b, c, d, e, f);
	saved = errno;
	if (pid == 0)
		shim_conn_in_child();
	else
		shim_conn_after_fork();
	shim_conn_forked((int)pid);
	errno = saved;
	return pid;
}

/* ---- all of them ---- */

static long dispatch(long number, long a, long b, long c, long d, long e, long f)
{
	long result;

	if (number == SYS_clone)
		return clone_here(number, a, b, c, d, e, f);
	switch ((enum syscall_kind)shim_syscall_is_ours[number]) {
	case BYTES:
		return move_bytes(number, a, b, c, d, e, f);
	case WAITS:
		return wait_for(number, a, b, c, d, e, f);
	case SETS:
		return change_set(number, a, b, c, d);
	case NUMBERS:
		return change_number(number, a, b, c);
	case SOCKETS:
		return live_socket(number, a, b, c, d, e);
	case PROCESS:
		return change_process(number, a, b, c, d, e, f);
	case BIRTHS:
		result = shim_syscall_pass(number, a, b, c, d, e, f);
		shim_number_born((int)result);
		if (number == SYS_io_uring_setup && result >= 0)
			shim_uring_seen();
		return result;
	case MEMORY:
		result = shim_syscall_pass(number, a, b, c, d, e, f);
		shmipc_reach_changed();
		return result;
	case ENDS:
		result = shim_syscall_pass(number, a, b, c, d, e, f);
		shmipc_heard_of_an_end();
		return result;
	case NOT_OURS:
		break;
	}
	return shim_syscall_pass(number, a, b, c, d, e, f);
}

long shim_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	int old;

	if (!shim_config.enabled)
		return shim_syscall_pass(number, a, b, c, d, e, f);
	if (shmipc_single_threaded())
		return dispatch(number, a, b, c, d, e, f);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	result = dispatch(number, a, b, c, d, e, f);
	pthread_setcancelstate(old, NULL);
	return result;
}
