/* SPDX-License-Identifier: Apache-2.0 */
/* Signal handlers that are set by the system call itself: does a call go on behind them? */
#include "tests/conformance/lib/conf.h"

#include <sys/syscall.h>

enum {
	ANY = CONF_COLD | CONF_SWAP,
	PIECE = 1000,
	TOTAL = 9 * 1000 * 1000, /* more than a ring and the sockets hold */
	STORM_US = 300,
};

static volatile sig_atomic_t came;

static void count(int signo)
{
	(void)signo;
	came++;
}

static void storm(long every_us)
{
	const struct itimerval t = { { 0, every_us }, { 0, every_us } };

	setitimer(ITIMER_REAL, &t, NULL);
}

/* Sends that find no room, and receives that find nothing, while signals come. */
static void under_signals(int fd, int flags, bool unseen)
{
	size_t sent = 0;
	long ended = 0;
	char bytes[PIECE], byte;

	handler_by_number(SIGALRM, count, flags, unseen);
	storm(STORM_US);
	while (sent < TOTAL) {
		size_t len = TOTAL - sent < PIECE ? TOTAL - sent : PIECE;
		ssize_t n;

		pat_fill(bytes, len, sent);
		n = send(fd, bytes, len, 0);
		if (n > 0)
			sent += (size_t)n;
		else if (n < 0 && errno == EINTR)
			ended++;
		else
			break;
	}
	while (recv(fd, &byte, 1, MSG_WAITALL) < 0 && errno == EINTR)
		ended++;
	storm(0);
	obs_val("sent", (long)sent);
	obs_val("came", came > 0);
	obs_val("interrupted", ended > 0);
	both();
}

static void slow_reader_client(int fd)
{
	static char bytes[256 * 1024];
	size_t got = 0;
	bool right = true;

	nap_ms(CONF_NAP_MS);
	while (got < TOTAL) {
		size_t len = TOTAL - got < sizeof(bytes) ? TOTAL - got : sizeof(bytes);

		if (recv_exact(fd, bytes, len) != (long)len)
			break;
		right = right && pat_good(bytes, len, got);
		got += len;
		usleep(2000);
	}
	obs_val("got", (long)got);
	obs_val("right", right);
	nap_ms(CONF_NAP_MS);
	send_exact(fd, "e", 1);
	both();
}

static void restarts_by_number_server(int fd)
{
	under_signals(fd, SA_RESTART, false);
}
CASE("handlers_around.restart_by_number", restarts_by_number_server, slow_reader_client, ANY);

static void ends_by_number_server(int fd)
{
	under_signals(fd, 0, false);
}
CASE("handlers_around.end_by_number", ends_by_number_server, slow_reader_client, ANY);

static void restarts_unseen_server(int fd)
{
	under_signals(fd, SA_RESTART, true);
}
CASE("handlers_around.restart_unseen", restarts_unseen_server, slow_reader_client, ANY);

static void ends_unseen_server(int fd)
{
	under_signals(fd, 0, true);
}
CASE("handlers_around.end_unseen", ends_unseen_server, slow_reader_client, ANY);

static void full_story(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	came = info->si_value.sival_int;
}

/* Whoever asks, by libc or by number, is told what the program has set. */
static void told_server(int fd)
{
	struct conf_action action = { 0 }, was = { 0 };
	struct sigaction a = { .sa_flags = SA_SIGINFO }, old;

	a.sa_sigaction = full_story;
	obs("sigaction", sigaction(SIGUSR1, &a, NULL));
	obs("ask", syscall(SYS_rt_sigaction, SIGUSR1, NULL, &action, 8));
	obs_text("same %d info %d", action.handler == (uintptr_t)full_story,
		 !!(action.flags & SA_SIGINFO));
	action.handler = (uintptr_t)count;
	action.flags = (action.flags & ~(unsigned long)SA_SIGINFO) | SA_RESTART;
	obs("set", syscall(SYS_rt_sigaction, SIGUSR1, &action, &was, 8));
	obs_text("same %d info %d", was.handler == (uintptr_t)full_story,
		 !!(was.flags & SA_SIGINFO));
	obs("sigaction", sigaction(SIGUSR1, NULL, &old));
	obs_text("same %d info %d restart %d", old.sa_handler == count,
		 !!(old.sa_flags & SA_SIGINFO), !!(old.sa_flags & SA_RESTART));
	raise(SIGUSR1);
	obs_val("came", came);
	obs("bad size", syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 16));
	obs("bad signal", syscall(SYS_rt_sigaction, 77, &action, NULL, 8));
	obs("bad action", syscall(SYS_rt_sigaction, SIGUSR1, bad_pointer(), NULL, 8));
	action.handler = (uintptr_t)full_story;
	action.flags |= SA_SIGINFO;
	obs("bad result", syscall(SYS_rt_sigaction, SIGUSR1, &action, bad_pointer(), 8));
	sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 4711 });
	obs_val("came", came); /* it had been set */
	action.handler = (uintptr_t)SIG_DFL;
	obs("default", syscall(SYS_rt_sigaction, SIGUSR1, &action, &was, 8));
	obs_val("same", was.handler == (uintptr_t)full_story);
	send_pat(fd, 10, 0);
}

static void told_client(int fd)
{
	recv_pat(fd, 10, 0);
}
CASE("handlers_around.told", told_server, told_client, ANY);
