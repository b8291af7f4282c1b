/* SPDX-License-Identifier: Apache-2.0 */
/* heir tcp|unix HOW PEER [CONNECTIONS [KILOBYTES]]: a reader leaves connections to a program
 * without the shim, which reads them to their ends.  What lies unread then comes by every way at
 * once: of the kernel's socket, behind that of the ring, with tokens in between.
 *
 *   HOW   exec; fork, spawn, system: the reader closes its numbers as soon as it can
 *         held: a fork, and the reader keeps its numbers, but reads no more
 *   PEER  what the writer does meanwhile:
 *         active   goes on for some 200 ms, then shuts down or closes
 *         slow     sends a piece each few milliseconds
 *         idle     makes no call for a second, then sends the last piece
 *         stopped  is active, and stopped by a signal for a second
 *         asks     waits for a byte of the new program before it sends the last piece
 *         killed   has sent all, and is killed when the new program runs
 *
 * At most so much on each, a quarter of it at least.  Each byte tells its place, and the end comes
 * in the end: so it is with the kernel's sockets alone.  (That of one that is killed may be a reset
 * with the shim.) */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/rendezvous/heir.h"
#include "tests/rendezvous/program.h"

enum {
	CONNECTIONS = 16,
	CONNECTIONS_MAX = 256,
	KILOBYTES = 80,
	LEAST_BYTES = 16 * 1024,
	TRIP_US = 300,
	QUIET_MS = 1200,
	LATE_MS = 6000,
	DEADLINE_S = 25,
	BUFFER_BYTES = 32 * 1024,
};

static struct stream streams[CONNECTIONS_MAX];
static int count = CONNECTIONS;
static size_t most = KILOBYTES * 1024;
static bool is_unix, is_lost;
static const char *how, *peer;
static pid_t writer;
static int tells[2], heard[2]; /* to the starter; by the reader, of the writer */

static bool does(const char *name)
{
	return strcmp(peer, name) == 0;
}

static void nap_us(long us)
{
	struct timespec time = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&time, NULL);
}

static bool ends_well(pid_t pid, const char *whose)
{
	int status = 0;

	check(waitpid(pid, &status, 0), "waitpid");
	if (WIFSIGNALED(status))
		fprintf(stderr, "heir %s: the %s: %s\n", which, whose, strsignal(WTERMSIG(status)));
	return status == 0;
}

/* ---- the writer ---- */

/* Control data without any effect. */
static void add_control(struct msghdr *message, struct cmsghdr *control)
{
	const struct ucred self = { getpid(), getuid(), getgid() };
	const uint32_t no_stamps = 0;
	const void *data = is_unix ? (const void *)&self : &no_stamps;
	size_t bytes = is_unix ? sizeof(self) : sizeof(no_stamps);

	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = is_unix ? SCM_CREDENTIALS : SO_TIMESTAMPING;
	control->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(control), data, bytes);
	message->msg_control = control;
	message->msg_controllen = CMSG_SPACE(bytes);
}

static ssize_t send_some(const struct stream *s, int flags)
{
	static char bytes[BUFFER_BYTES];
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(struct ucred))] = { 0 };
	struct iovec part = { bytes, s->allowed - s->at };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	size_t limit = s->at < s->from ? s->from : s->at < s->to ? s->to : s->total;

	part.iov_len = least(least(part.iov_len, limit - s->at), sizeof(bytes));
	for (size_t i = 0; i < part.iov_len; i++)
		bytes[i] = byte_at(s->at + i, s->number);
	if (s->from <= s->at && s->at < s->to)
		add_control(&message, (struct cmsghdr *)(void *)room);
	return sendmsg(s->fd, &message, flags | MSG_NOSIGNAL);
}

/* The others go on. */
static void lose(struct stream *s, const char *what)
{
	tell(s, "writer", what);
	s->done = is_lost = true;
}

/* One byte of the heir, or its end. */
static void expect(struct stream *s, ssize_t expected)
{
	char byte;
	ssize_t n = recv(s->fd, &byte, 1, 0);

	if (n != expected)
		lose(s, n < 0 ? strerror(errno) : n == 0 ? "an early end" : "a byte of nobody");
}

/* What is allowed, as far as the socket takes it. */
static void say(struct stream *s, int flags)
{
	while (s->at < s->allowed && !s->done) {
		ssize_t n = send_some(s, flags);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			lose(s, strerror(errno));
		else
			s->at += (size_t)n;
	}
}

static void answer(struct stream *s)
{
	char bytes[TRIPS_MAX];
	ssize_t n = recv(s->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		fail("the reader ends early");
	for (; n > 0; n--)
		s->allowed += answer_bytes(s, s->trip++);
	say(s, MSG_DONTWAIT);
}

/* Until the reader has had all its trips. */
static void answer_all(void)
{
	struct pollfd all[CONNECTIONS_MAX];

	for (bool some = true; some;) {
		some = false;
		for (int i = 0; i < count; i++) {
			const struct stream *s = &streams[i];

			all[i] = (struct pollfd){ s->trip < s->trips ? s->fd : -1, POLLIN, 0 };
			if (s->at < s->allowed)
				all[i].events |= POLLOUT;
			some |= s->trip < s->trips;
		}
		if (some && check(poll(all, (nfds_t)count, LATE_MS), "poll") == 0)
			fail("the reader is silent");
		for (int i = 0; i < count; i++)
			if (all[i].revents)
				answer(&streams[i]);
	}
}

/* Pieces of each in turn, all but the last.  What the socket does not take now is for later. */
static void go_on(int rounds, long pause_us)
{
	size_t pieces[CONNECTIONS_MAX];

	for (int i = 0; i < count; i++)
		pieces[i] = 2 * (streams[i].total - streams[i].allowed) / (size_t)rounds;
	for (int round = 1; round <= rounds; round++) {
		for (int i = 0; i < count; i++) {
			struct stream *s = &streams[i];
			size_t more = round < rounds ? between(1, 1 + pieces[i]) : s->total;

			s->allowed = least(s->allowed + more, s->total - s->last);
			say(s, MSG_DONTWAIT);
		}
		nap_us(pause_us);
	}
}

/* One has ended its direction alone: it waits for the other end. */
static void end_all(void)
{
	for (int i = 0; i < count; i++) {
		struct stream *s = &streams[i];

		s->allowed = s->total;
		if (does("asks"))
			expect(s, 1);
		say(s, 0);
		if (s->done || does("killed"))
			continue;
		s->done = s->number % 2;
		if ((s->done ? close(s->fd) : shutdown(s->fd, SHUT_WR)) < 0)
			lose(s, strerror(errno));
	}
	for (int i = 0; i < count && !does("killed"); i++)
		if (!streams[i].done)
			expect(&streams[i], 0);
}

static _Noreturn void write_all(const struct sockaddr *address, socklen_t bytes)
{
	for (int i = 0; i < count; i++) {
		struct stream *s = &streams[i];

		s->fd = check(socket(address->sa_family, SOCK_STREAM, 0), "socket");
		check(connect(s->fd, address, bytes), "connect");
		say(s, MSG_DONTWAIT);
	}
	answer_all();
	if (does("slow"))
		go_on(40, 4000);
	else if (does("idle") || does("asks") || does("killed"))
		go_on(10, 0);
	check((int)write(heard[1], "w", 1), "pipe");
	if (does("idle"))
		nap_us(QUIET_MS * 1000L);
	else if (does("active") || does("stopped"))
		go_on(10, 10000);
	end_all();
	check((int)write(tells[1], "w", 1), "pipe");
	close(tells[1]);
	if (does("killed"))
		pause();
	_exit(is_lost);
}

/* ---- the reader ---- */

static void read_some(struct stream *s)
{
	char bytes[BUFFER_BYTES];
	size_t wanted = least(s->stop - s->at, sizeof(bytes));
	ssize_t n;

	/* all the time, for it is in these calls that a connection becomes accelerated */
	if (s->kind == FIRST)
		wanted = least(wanted, s->stop / TRIPS_MAX);
	n = wanted > 0 ? recv(s->fd, bytes, wanted, MSG_DONTWAIT) : 0;
	if (n < 0 && errno != EAGAIN)
		fail("recv");
	if (n == 0 && wanted > 0)
		fail("an early end");
	if (n > 0 && !compare(s, "reader", bytes, n))
		_exit(1);
}

/* Behind the kernel's bytes the ring's come only when the reader has come so far. */
static bool may_ask(const struct stream *s)
{
	return s->trip < s->trips &&
	       (s->kind != AGAIN || s->at >= s->stop || s->trip <= s->trips - TRIPS_BEHIND);
}

static void make_trips(void)
{
	for (bool some = true; some; nap_us(TRIP_US)) {
		some = false;
		for (int i = 0; i < count; i++) {
			struct stream *s = &streams[i];

			if (may_ask(s)) {
				check((int)send(s->fd, "?", 1, MSG_NOSIGNAL), "send");
				s->trip++;
			}
			read_some(s);
			some |= s->trip < s->trips;
		}
	}
}

static bool by(const char *name)
{
	return strcmp(how, name) == 0;
}

static void start_by_shell(char *const *arguments)
{
	static char line[CONNECTIONS_MAX * TEXT_BYTES] = "exec";
	size_t bytes = strlen(line);

	for (; *arguments; arguments++)
		bytes += (size_t)snprintf(line + bytes, sizeof(line) - bytes, " '%s'", *arguments);
	unsetenv("LD_PRELOAD");
	_exit(system(line) != 0);
}

static _Noreturn void leave_to(char **arguments)
{
	pid_t pid = 0;

	unsetenv("LD_PRELOAD");
	if (by("system"))
		start_by_shell(arguments);
	if (by("spawn")) {
		errno = posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ);
		check(-errno, "posix_spawn");
	} else if (!by("exec")) {
		pid = check(fork(), "fork");
	}
	if (pid == 0) {
		execve(arguments[0], arguments, environ);
		fail("execve");
	}
	for (int i = 0; i < count && !by("held"); i++)
		close(streams[i].fd);
	_exit(!ends_well(pid, "heir"));
}

static _Noreturn void read_all(int listener, char *label)
{
	static char self[PATH_MAX], number[TEXT_BYTES], texts[CONNECTIONS_MAX][TEXT_BYTES];
	char *arguments[CONNECTIONS_MAX + 5] = { self, "read", label, number };
	char byte;

	for (int i = 0; i < count; i++)
		streams[i].fd = check(accept(listener, NULL, NULL), "accept");
	close(listener);
	make_trips();
	if (!does("active") && !does("slow") && !does("stopped"))
		check((int)read(heard[0], &byte, 1), "pipe");
	else
		nap_us((long)between(0, 30000));
	check((int)readlink("/proc/self/exe", self, sizeof(self) - 1), "readlink");
	snprintf(number, sizeof(number), "%d", tells[1]);
	for (int i = 0; i < count; i++) {
		const struct stream *s = &streams[i];

		snprintf(texts[i], TEXT_BYTES, "%d:%d:%u:%zu:%zu", s->fd, s->number,
			 (unsigned)s->kind, s->at, s->total);
		arguments[4 + i] = texts[i];
	}
	if (does("stopped"))
		kill(writer, SIGSTOP);
	check((int)write(tells[1], "r", 1), "pipe");
	leave_to(arguments);
}

/* ---- the heir ---- */

/* False: it is over, and not well. */
static bool inherit_some(struct stream *s)
{
	char bytes[BUFFER_BYTES];
	ssize_t n = read(s->fd, bytes, sizeof(bytes));

	/* a wake-up that such a writer leaves unread makes a reset of its end: a known difference
	 */
	if (n < 0 && errno == ECONNRESET && s->at == s->total && strstr(which, "killed"))
		n = 0;
	if (n < 0)
		return tell(s, "heir", strerror(errno));
	s->done = n == 0;
	if (n == 0)
		return s->at == s->total || tell(s, "heir", "an early end");
	return compare(s, "heir", bytes, n);
}

/* How many connections have come to an end. */
static int take_turn(struct pollfd *all)
{
	int ended = 0;

	for (int i = 0; i < count; i++) {
		bool well = !all[i].revents || inherit_some(&streams[i]);

		/* the writer shall not wait for ever, nor the others for it */
		if (!well)
			shutdown(streams[i].fd, SHUT_RDWR);
		is_lost |= !well;
		if (well && (!all[i].revents || !streams[i].done))
			continue;
		all[i] = (struct pollfd){ -1, 0, 0 };
		ended++;
	}
	return ended;
}

static int inherit(int argc, char **arguments)
{
	struct pollfd all[CONNECTIONS_MAX];
	int left = argc - 4;

	alarm(DEADLINE_S);
	which = arguments[2];
	check((int)write(atoi(arguments[3]), "h", 1), "pipe");
	count = left;
	for (int i = 0; i < count; i++) {
		struct stream *s = &streams[i];

		if (sscanf(arguments[4 + i], "%d:%d:%u:%zu:%zu", &s->fd, &s->number, &s->kind,
			   &s->at, &s->total) != 5)
			return 2;
		all[i] = (struct pollfd){ s->fd, POLLIN, 0 };
		if (strstr(which, "asks") && send(s->fd, "!", 1, MSG_NOSIGNAL) != 1)
			is_lost = !tell(s, "heir", strerror(errno));
	}
	while (left > 0 && check(poll(all, (nfds_t)count, LATE_MS), "poll") > 0)
		left -= take_turn(all);
	for (int i = 0; i < count; i++)
		if (all[i].fd >= 0)
			is_lost = !tell(&streams[i], "heir", "nothing comes");
	return is_lost;
}

/* ---- the starter ---- */

/* What is done to the writer is done by none of the two. */
static void watch(void)
{
	int awaited = 2; /* the writer has sent all, the heir runs */
	char byte;

	while (awaited > 0 && read(tells[0], &byte, 1) == 1) {
		if (byte == 'r' && does("stopped")) {
			nap_us(QUIET_MS * 1000L);
			check(kill(writer, SIGCONT), "SIGCONT");
		}
		awaited -= byte != 'r';
	}
	if (does("killed"))
		check(kill(writer, SIGKILL), "SIGKILL");
}

static int listen_somewhere(struct sockaddr_storage *address, socklen_t *bytes)
{
	int fd;

	*bytes = sizeof(struct sockaddr_in);
	if (!is_unix)
		return listen_here((struct sockaddr_in *)address, 0, count);
	fd = check(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
	*address = (struct sockaddr_storage){ .ss_family = AF_UNIX };
	/* a name of the kernel's choice */
	check(bind(fd, (struct sockaddr *)address, sizeof(sa_family_t)), "bind");
	check(listen(fd, count), "listen");
	*bytes = sizeof(*address);
	check(getsockname(fd, (struct sockaddr *)address, bytes), "getsockname");
	return fd;
}

static pid_t start(void)
{
	pid_t pid = check(fork(), "fork");

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(DEADLINE_S);
		close(tells[0]);
	}
	return pid;
}

int main(int argc, char **arguments)
{
	struct sockaddr_storage address = { 0 };
	char label[TEXT_BYTES];
	int listener;
	bool good;
	socklen_t bytes;
	pid_t reader;

	if (argc > 4 && strcmp(arguments[1], "read") == 0)
		return inherit(argc, arguments);
	if (argc > 4)
		count = atoi(arguments[4]);
	if (argc > 5)
		most = (size_t)atol(arguments[5]) * 1024;
	if (argc < 4 || count < 1 || count > CONNECTIONS_MAX || most < LEAST_BYTES)
		return 2;
	is_unix = strcmp(arguments[1], "unix") == 0;
	how = arguments[2];
	peer = arguments[3];
	snprintf(label, sizeof(label), "%s %s %s", arguments[1], how, peer);
	which = label;
	srand48(getpid());
	for (int i = 0; i < count; i++)
		plan(&streams[i], i, is_unix, most);
	listener = listen_somewhere(&address, &bytes);
	check(pipe(tells), "pipe");
	check(pipe(heard), "pipe");
	writer = start();
	if (writer == 0)
		write_all((struct sockaddr *)&address, bytes);
	reader = start();
	if (reader == 0)
		read_all(listener, label);
	close(tells[1]);
	close(heard[1]);
	watch();
	good = ends_well(reader, "reader");
	if (does("killed"))
		return !good;
	return !(ends_well(writer, "writer") && good);
}
