/* SPDX-License-Identifier: Apache-2.0 */
/* select() and pselect(). */
#include "tests/conformance/lib/conf.h"

#include <sys/resource.h>

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = CONF_COLD | CONF_SWAP | CONF_MID };

static int see(const char *what, int fd, const char *sets, int timeout_ms)
{
	fd_set in, out, except;
	struct timeval t = { timeout_ms / 1000, (timeout_ms % 1000) * 1000 };
	int r;

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&except);
	FD_SET(fd, &in);
	FD_SET(fd, &out);
	FD_SET(fd, &except);
	r = select(fd + 1, strchr(sets, 'r') ? &in : NULL, strchr(sets, 'w') ? &out : NULL,
		   strchr(sets, 'x') ? &except : NULL, timeout_ms < 0 ? NULL : &t);
	obs_text("%s = %d%s%s%s", what, r, strchr(sets, 'r') && FD_ISSET(fd, &in) ? " read" : "",
		 strchr(sets, 'w') && FD_ISSET(fd, &out) ? " write" : "",
		 strchr(sets, 'x') && FD_ISSET(fd, &except) ? " except" : "");
	return r;
}

static void send_when_told(int fd)
{
	await();
	send_pat(fd, 100, 0);
	tell(0);
	await();
}

static void levels_server(int fd)
{
	char bytes[100];

	see("idle read", fd, "r", 0);
	see("idle write", fd, "w", 0);
	see("idle all", fd, "rwx", 0);
	see("idle none", fd, "", 1);
	tell(0);
	await();
	see("pending read", fd, "r", CONF_WAIT_MS);
	see("pending all", fd, "rwx", CONF_WAIT_MS);
	see("pending forever", fd, "r", -1);
	obs("recv 60", recv(fd, bytes, 60, 0));
	see("rest", fd, "r", 0);
	obs("recv 40", recv(fd, bytes, 60, 0));
	see("empty", fd, "r", 0);
	see("empty all", fd, "rwx", 0);
	tell(0);
}
CASE("select.levels", levels_server, send_when_told, EVERY);

static void timeout_server(int fd)
{
	long start = now_ms();
	struct timespec t = { 0, 40000000 };
	fd_set in;

	see("timed out", fd, "r", 40);
	obs_val("waited", now_ms() - start >= 40);
	FD_ZERO(&in);
	FD_SET(fd, &in);
	start = now_ms();
	obs("pselect", pselect(fd + 1, &in, NULL, NULL, &t, NULL));
	obs_val("waited", now_ms() - start >= 39);
	obs_val("set", FD_ISSET(fd, &in));
	obs_val("timespec kept", t.tv_nsec);
	tell(0);
	await();
	tell(0);
}
CASE("select.timeout", timeout_server, send_when_told, ANY);

/* Linux writes the time left into the timeval. */
static void time_left_server(int fd)
{
	struct timeval t = { 5, 0 };
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	tell(0);
	obs("select", select(fd + 1, &in, NULL, NULL, &t));
	obs_val("less left", t.tv_sec < 5);
	obs_val("some left", t.tv_sec > 1);
	await();
	recv_pat(fd, 100, 0);
	t = (struct timeval){ 0, 20000 };
	FD_SET(fd, &in);
	obs("select", select(fd + 1, &in, NULL, NULL, &t));
	obs_text("left %ld.%06ld", (long)t.tv_sec, (long)t.tv_usec);
	tell(0);
}

static void late_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 100, 0);
	tell(0);
	await();
}
CASE("select.time_left", time_left_server, late_client, ANY);

static void wakes_server(int fd)
{
	tell(0);
	see("woken", fd, "r", CONF_WAIT_MS);
	await();
	recv_pat(fd, 100, 0);
	see("empty", fd, "r", 0);
	tell(0);
}
CASE("select.wakes", wakes_server, late_client, EVERY);

/* "Readable" is a promise: the blocking recv() after it must not sleep. */
static void promise_server(int fd)
{
	char byte;

	for (int i = 0; i < 100; i++) {
		fd_set in;
		struct timeval t = { 0, 100 };

		FD_ZERO(&in);
		FD_SET(fd, &in);
		while (select(fd + 1, &in, NULL, NULL, &t) == 0) {
			t.tv_usec = 100;
			FD_SET(fd, &in);
		}
		if (recv(fd, &byte, 1, MSG_DONTWAIT) != 1)
			obs_text("empty promise at %d", i);
		if (i % 2)
			send_exact(fd, "a", 1);
		else if (recv_exact(fd, &byte, 1) == 1)
			send_exact(fd, "a", 1);
	}
	see("quiet", fd, "r", 5);
	obs_text("done");
}

static void promise_client(int fd)
{
	char byte;
	int on = 1;

	if (conf.is_tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (int i = 0; i < 100; i++) {
		send_exact(fd, "q", 1);
		if (i % 2 == 0) {
			nap_ms(1);
			send_exact(fd, "q", 1);
		}
		recv_exact(fd, &byte, 1);
	}
}
CASE("select.promise", promise_server, promise_client, EVERY);

static void several_server(int fd)
{
	int ends[2];
	fd_set in, out;
	struct timeval t = { 5, 0 };
	int top;

	if (pipe(ends) < 0)
		return;
	top = (ends[1] > fd ? ends[1] : fd) + 1;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(fd, &in);
	FD_SET(ends[0], &in);
	FD_SET(ends[1], &out);
	obs("pipe writable", select(top, &in, &out, NULL, &t));
	obs_text("%d %d %d", !!FD_ISSET(fd, &in), !!FD_ISSET(ends[0], &in),
		 !!FD_ISSET(ends[1], &out));
	tell(0);
	await();
	ready(fd, POLLIN);
	obs("write", write(ends[1], "x", 1));
	FD_SET(fd, &in);
	FD_SET(ends[0], &in);
	obs("both readable", select(top, &in, NULL, NULL, &t));
	obs_text("%d %d", !!FD_ISSET(fd, &in), !!FD_ISSET(ends[0], &in));
	recv_pat(fd, 100, 0);
	FD_SET(fd, &in);
	FD_SET(ends[0], &in);
	obs("pipe readable", select(top, &in, NULL, NULL, &t));
	obs_text("%d %d", !!FD_ISSET(fd, &in), !!FD_ISSET(ends[0], &in));
	close(ends[0]);
	close(ends[1]);
	tell(0);
}
CASE("select.several", several_server, send_when_told, EVERY);

static void bad_server(int fd)
{
	fd_set in;
	struct timeval t = { 0, 0 };

	FD_ZERO(&in);
	FD_SET(fd, &in);
	FD_SET(60, &in); /* within the smallest table that the kernel has */
	obs("closed fd", select(61, &in, NULL, NULL, &t));
	obs("negative", select(-1, &in, NULL, NULL, &t));
	FD_ZERO(&in);
	FD_SET(fd, &in);
	t.tv_sec = -1;
	obs("bad time", select(fd + 1, &in, NULL, NULL, &t));
	t.tv_sec = 0;
	obs("not in range", select(fd, &in, NULL, NULL, &t));
	obs("nothing", select(0, NULL, NULL, NULL, &t));
	tell(0);
	await();
	tell(0);
}
CASE("select.bad", bad_server, send_when_told, ANY);

static void eof_server(int fd)
{
	tell(0);
	see("eof", fd, "rx", CONF_WAIT_MS);
	await();
	recv_to_eof(fd, 0);
	see("eof", fd, "rwx", 0);
	tell(0);
}

static void eof_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	shutdown(fd, SHUT_WR);
	tell(0);
	await();
}
CASE("select.eof", eof_server, eof_client, ANY);

static void rounds_server(int fd)
{
	char bytes[64];

	for (int i = 0; i < 200; i++) {
		see("read", fd, "r", CONF_WAIT_MS);
		recv_exact(fd, bytes, sizeof(bytes));
		see("write", fd, "w", CONF_WAIT_MS);
		send_exact(fd, bytes, sizeof(bytes));
	}
}

static void rounds_client(int fd)
{
	char bytes[64];

	for (int i = 0; i < 200; i++) {
		pat_fill(bytes, sizeof(bytes), (uint64_t)i);
		send_exact(fd, bytes, sizeof(bytes));
		see("read", fd, "r", CONF_WAIT_MS);
		recv_exact(fd, bytes, sizeof(bytes));
		if (!pat_good(bytes, sizeof(bytes), (uint64_t)i))
			obs_text("wrong at %d", i);
	}
}
CASE("select.rounds", rounds_server, rounds_client, EVERY);

/* ---- numbers above 1023: sets of the application's own size ---- */

enum { HIGH = 1500, HIGH_BITS = 2048 };

/* The kernel reads as many words as the first argument says. */
static int select_high(int fd, bool by_pselect, int timeout_ms, bool *in)
{
	size_t bytes = HIGH_BITS / 8;
	fd_set *set = calloc(1, bytes);
	unsigned long *words = (unsigned long *)(void *)set;
	unsigned int bits = 8 * sizeof(*words), at = (unsigned int)fd;
	struct timeval t = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	struct timespec ts = { timeout_ms / 1000, timeout_ms % 1000 * 1000000 };
	int r;

	words[at / bits] |= 1UL << at % bits;
	words[HIGH_BITS / bits - 1] = 0; /* beyond what is asked for */
	r = by_pselect ? pselect(fd + 1, set, NULL, NULL, &ts, NULL)
		       : select(fd + 1, set, NULL, NULL, &t);
	*in = words[at / bits] >> at % bits & 1;
	free(set);
	return r;
}

static void high_server(int fd)
{
	struct rlimit limit = { HIGH_BITS, HIGH_BITS };
	char bytes[100];
	bool in;
	int high, r;

	setrlimit(RLIMIT_NOFILE, &limit);
	high = fcntl(fd, F_DUPFD, HIGH);
	obs_val("high", high);
	close(fd);
	for (int how = 0; how < 2; how++) {
		r = select_high(high, how, 10, &in);
		obs_text("nothing %d %d", r, in);
		tell(0);
		r = select_high(high, how, CONF_WAIT_MS, &in);
		obs_text("bytes %d %d", r, in);
		obs("recv", recv(high, bytes, 100, 0));
		r = select_high(high, how, 0, &in);
		obs_text("empty %d %d", r, in);
	}
	both();
	close(high);
}

static void twice_late_client(int fd)
{
	for (int i = 0; i < 2; i++) {
		await();
		nap_ms(CONF_NAP_MS);
		send_pat(fd, 100, 0);
	}
	both();
}
CASE("select.above_1024", high_server, twice_late_client, ANY);

/* FD_SET() of a number that an fd_set has no bit for, in a program that asks to be checked. */
static void checked_server(int fd)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		extern long __fdelt_chk(long number);

		freopen("/dev/null", "w", stderr);
		_exit(__fdelt_chk(opaque(fd)) == fd / 64 && __fdelt_chk(opaque(HIGH)) == 0);
	}
	waitpid(child, &status, 0);
	obs_val("aborted", WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	both();
}

static void checked_client(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	both();
}
CASE("select.fdelt_chk", checked_server, checked_client, ANY | CONF_EITHER);

/* ---- times, masks, signals ---- */

static void pselect_signal_server(int fd)
{
	sigset_t blocked, none;
	struct timespec t = { CONF_WAIT_MS / 1000, 0 };
	fd_set in;

	on_signal(SIGUSR1, SA_RESTART);
	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	kill(getpid(), SIGUSR1);
	obs_val("kept back", signal_count(SIGUSR1));
	FD_ZERO(&in);
	FD_SET(fd, &in);
	obs("pselect", pselect(fd + 1, &in, NULL, NULL, &t, &none));
	obs_val("came", signal_count(SIGUSR1));
	FD_ZERO(&in);
	FD_SET(fd, &in);
	kill(getpid(), SIGUSR1);
	tell(0);
	obs("pselect", pselect(fd + 1, &in, NULL, NULL, &t, NULL));
	obs_val("kept back", signal_count(SIGUSR1));
	recv_pat(fd, 100, 0);
	tell(0);
	await();
}

static void late_then_wait_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 100, 0);
	await();
	tell(0);
}
CASE("select.pselect_signals", pselect_signal_server, late_then_wait_client, ANY);

/* As many as the process may have, which are more than an fd_set holds and than the kernel's table
 * has places: nothing behind the set is looked at, or written. */
static void whole_table_server(int fd)
{
	struct {
		fd_set set;
		unsigned char behind[8192];
	} memory;
	int count = getdtablesize() < 60000 ? getdtablesize() : 60000;
	bool whole = true;

	memset(memory.behind, 0xff, sizeof(memory.behind));
	for (uint64_t i = 0; i < 2; i++) {
		FD_ZERO(&memory.set);
		FD_SET(fd, &memory.set);
		tell(0);
		obs("select", select(count, &memory.set, NULL, NULL, NULL));
		obs_val("set", FD_ISSET(fd, &memory.set));
		recv_pat(fd, 10, 10 * i);
	}
	for (size_t i = 0; i < sizeof(memory.behind); i++)
		whole = whole && memory.behind[i] == 0xff;
	obs_text("behind the set: %s", whole ? "whole" : "WRITTEN");
}

static void whole_table_client(int fd)
{
	for (uint64_t i = 0; i < 2; i++) {
		await();
		nap_ms(CONF_NAP_MS);
		send_pat(fd, 10, 10 * i);
	}
}
CASE("select.whole_table", whole_table_server, whole_table_client, CONF_COLD | CONF_SWAP);
