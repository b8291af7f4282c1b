/* SPDX-License-Identifier: Apache-2.0 */
/* The side channel of the two roles (a pair of pipes), time, signals and threads. */
#include "tests/conformance/lib/conf.h"
#include "tests/conformance/lib/main.h"
#include "tests/bare_call.h"

#include <sys/syscall.h>

static int sync_in = -1;
static int sync_out = -1;

void sync_setup(int in_fd, int out_fd)
{
	sync_in = in_fd;
	sync_out = out_fd;
	fcntl(in_fd, F_SETFD, FD_CLOEXEC);
	fcntl(out_fd, F_SETFD, FD_CLOEXEC);
}

/* A role whose peer is gone must not get a SIGPIPE that the case did not cause. */
void tell(uint64_t value)
{
	static const struct timespec at_once;
	int saved = errno;
	sigset_t pipe_only, old;

	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
	if (write(sync_out, &value, sizeof(value)) < 0 && errno == EPIPE)
		sigtimedwait(&pipe_only, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = saved;
}

uint64_t await(void)
{
	int saved = errno;
	uint64_t value = UINT64_MAX;
	ssize_t n;

	do {
		n = read(sync_in, &value, sizeof(value));
	} while (n < 0 && errno == EINTR);
	errno = saved;
	return n == (ssize_t)sizeof(value) ? value : UINT64_MAX;
}

void both(void)
{
	tell(0);
	await();
}

void await_peer_exit(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, conf.peer_pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (pidfd < 0)
		return;
	poll(&p, 1, CONF_WAIT_MS);
	close(pidfd);
}

void nap_ms(int ms)
{
	struct timespec left = { ms / 1000, (long)(ms % 1000) * 1000000 };

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static volatile sig_atomic_t signals_seen[65];

static void count_signal(int signo)
{
	signals_seen[signo]++;
}

void on_signal(int signo, int sa_flags)
{
	struct sigaction action = { .sa_handler = count_signal, .sa_flags = sa_flags };

	sigaction(signo, &action, NULL);
}

int signal_count(int signo)
{
	return signals_seen[signo];
}

void handler_by_number(int signo, void (*handler)(int), int sa_flags, bool around)
{
	const struct sigaction first = { .sa_handler = handler };
	struct conf_action action;

	/* libc knows how a handler returns */
	sigaction(signo, &first, NULL);
	bare_call(SYS_rt_sigaction, signo, 0, (long)&action, sizeof(action.mask), 0, 0);
	action.handler = (uintptr_t)handler;
	action.flags &= ~(unsigned long)(SA_SIGINFO | SA_RESTART);
	action.flags |= (unsigned long)sa_flags;
	if (around)
		bare_call(SYS_rt_sigaction, signo, (long)&action, 0, sizeof(action.mask), 0, 0);
	else
		syscall(SYS_rt_sigaction, signo, &action, NULL, sizeof(action.mask));
}

pthread_t spawn(void *(*body)(void *), void *arg)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, body, arg);

	if (r != 0) {
		obs_text("pthread_create failed: %s", strerrorname_np(r));
		exit(3);
	}
	return thread;
}
