/* SPDX-License-Identifier: Apache-2.0 */
/* closing CALL COUNT: so many connections, one after the other; on each a thread makes CALL again
 * and again until it is told EBADF, while another one closes the number.  (replace: dup2() onto
 * it; range: by close_range(); both: two threads close the last two numbers, with
 * bytes unread; asleep: closed under a receive, while a copy stays and another file gets the
 * number.)  What the calls have sent arrives, and they get nothing that was not sent. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/rendezvous/program.h"

enum { TRIPS = 12, BYTES = 8, MORE = 5, UNREAD = 100 };

static int number, spare, set;
static _Atomic bool began;
static long sent; /* by the calls of this connection */

static bool is(const char *name)
{
	return strcmp(which, name) == 0;
}

/* ---- calls ---- */

/* A copy that was made is a name of the connection, whoever closes the other one. */
static int use_copy(void)
{
	int copy = dup(number);

	if (copy < 0)
		return -1;
	if (send(copy, "hello", MORE, MSG_NOSIGNAL) == MORE)
		sent += MORE;
	return close(copy);
}

static int read_nothing(void)
{
	char bytes[64];
	ssize_t n = recv(number, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0)
		fail("bytes that nobody has sent");
	return n < 0 && errno == EAGAIN ? 0 : (int)n;
}

static int write_some(void)
{
	ssize_t n = send(number, "hello", MORE, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0)
		sent += n;
	return n < 0 && errno == EAGAIN ? 0 : (int)n;
}

/* In and out of a set, in which another thread sleeps. */
static int join(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int result = epoll_ctl(set, EPOLL_CTL_ADD, number, &event);

	if (result < 0)
		return errno == EEXIST ? 0 : -1;
	for (volatile int i = 0; i < 200; i++)
		;
	epoll_ctl(set, EPOLL_CTL_DEL, number, &event);
	return 0;
}

static int rearm(void)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT };
	int result = epoll_ctl(set, EPOLL_CTL_MOD, number, &event);

	if (result < 0 && errno == ENOENT)
		result = epoll_ctl(set, EPOLL_CTL_ADD, number, &event);
	return result;
}

static void *sleeper(void *argument)
{
	struct epoll_event events[4];

	for (;;)
		epoll_wait(set, events, 4, 50);
	return argument;
}

static int ask(void)
{
	struct sockaddr_storage address;
	socklen_t bytes = sizeof(address);
	int value = 1;

	if (is("getpeername"))
		return getpeername(number, (void *)&address, &bytes);
	if (is("error")) {
		bytes = sizeof(value);
		return getsockopt(number, SOL_SOCKET, SO_ERROR, &value, &bytes);
	}
	if (is("low-water"))
		return setsockopt(number, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value));
	if (is("mark"))
		return sockatmark(number);
	if (is("unread"))
		return ioctl(number, FIONREAD, &value);
	if (is("join"))
		return join();
	if (is("rearm"))
		return rearm();
	if (is("flags"))
		return fcntl(number, F_SETFL, O_RDWR);
	return shutdown(number, SHUT_RD);
}

static bool is_of_two(void)
{
	return is("both") || is("asleep");
}

static bool moves_bytes(void)
{
	return is("dup") || is("read") || is("write") || is("replace") || is("range");
}

static int make_call(void)
{
	if (is("dup"))
		return use_copy();
	if (is("read"))
		return read_nothing();
	if (is("write") || is("range"))
		return write_some();
	return is("replace") ? read_nothing() : ask();
}

static void *caller(void *argument)
{
	(void)argument;
	began = true;
	/* of a number that is closed any other error may be told before */
	while (make_call() >= 0 || errno != EBADF)
		if (is("replace") && !began)
			break;
	return NULL;
}

/* ---- both ends ---- */

static bool move(int fd, bool sends)
{
	char bytes[BYTES] = "1234567";

	if (sends)
		return write(fd, bytes, BYTES) == BYTES;
	return recv(fd, bytes, BYTES, MSG_WAITALL) == BYTES;
}

static void trips(int fd, bool first)
{
	for (int i = 0; i < TRIPS; i++)
		if (!move(fd, first) || !move(fd, !first))
			fail("a round trip");
}

/* The rest of "both" and "asleep".  What it says is no number of bytes, but 0: all is well. */
static long client_of_two(int fd)
{
	char bytes[UNREAD] = { 0 };

	if (is("both")) {
		check((int)write(fd, bytes, sizeof(bytes)), "write");
		return read(fd, bytes, sizeof(bytes)) == 0 || errno != ECONNRESET;
	}
	check((int)write(fd, "hello", MORE), "write");
	usleep(3000);
	check((int)write(fd, "world", MORE), "write");
	return 0;
}

/* A process of its own for each connection: what the two share goes with it.  Says how much came
 * behind the round trips. */
static _Noreturn void client(const struct sockaddr_in *address, int says)
{
	int fd = dial(address);
	char bytes[4096];
	long got = 0;
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	trips(fd, true);
	if (is_of_two())
		got = client_of_two(fd);
	/* one that has gone leaves memory to unmap */
	while (moves_bytes() && (n = read(fd, bytes, sizeof(bytes))) > 0)
		got += n;
	close(fd);
	check((int)write(says, &got, sizeof(got)), "pipe");
	_exit(0);
}

static void *close_other(void *copy)
{
	began = true;
	while (began)
		;
	check(close(*(int *)copy), "close");
	return NULL;
}

static void close_both(int fd)
{
	int copy = check(dup(fd), "dup"), unread = 0;
	pthread_t thread;

	while (unread < UNREAD)
		check(ioctl(fd, FIONREAD, &unread), "FIONREAD");
	if (pthread_create(&thread, NULL, close_other, &copy) != 0)
		fail("pthread_create");
	while (!began)
		;
	began = false;
	check(close(fd), "close");
	pthread_join(thread, NULL);
}

static void *receive_all(void *copy)
{
	char bytes[2 * MORE];
	ssize_t n;

	began = true;
	n = recv(number, bytes, sizeof(bytes), MSG_WAITALL);
	/* a call that comes after the close has taken nothing */
	if (n < 0 && (errno == EBADF || errno == ENOTSOCK))
		n = recv(*(int *)copy, bytes, sizeof(bytes), MSG_WAITALL);
	if (n != (ssize_t)sizeof(bytes) || memcmp(bytes, "helloworld", sizeof(bytes)) != 0)
		fail("not all was received");
	return NULL;
}

static void close_under_receive(int fd, int round)
{
	int copy = check(dup(fd), "dup");
	pthread_t thread;

	if (pthread_create(&thread, NULL, receive_all, &copy) != 0)
		fail("pthread_create");
	while (!began)
		sched_yield();
	usleep((useconds_t)(round % 16) * 100);
	check(close(fd), "close");
	if (dup(spare) != fd)
		fail("the number");
	pthread_join(thread, NULL);
	close(fd);
	close(copy);
}

static void serve_two(int fd, int round)
{
	began = false;
	if (is("both"))
		close_both(fd);
	else
		close_under_receive(fd, round);
}

static void serve(int fd, int heard, int round)
{
	pthread_t thread;
	long got;

	trips(fd, false);
	number = fd;
	if (is_of_two()) {
		serve_two(fd, round);
		check((int)read(heard, &got, sizeof(got)), "the client");
		if (got != 0)
			fail("the end was no reset");
		return;
	}
	sent = 0;
	began = false;
	if (pthread_create(&thread, NULL, caller, NULL) != 0)
		fail("pthread_create");
	while (!began)
		sched_yield();
	usleep((useconds_t)(round % 16) * 100 + (moves_bytes() ? 0 : 3000));
	if (is("replace"))
		check(dup2(spare, fd), "dup2");
	else if (is("range"))
		check(close_range((unsigned)fd, (unsigned)fd, 0), "close_range");
	else
		check(close(fd), "close");
	if (is("replace")) {
		began = false;
		usleep(100);
		close(fd);
	}
	pthread_join(thread, NULL);
	if (read(heard, &got, sizeof(got)) != sizeof(got))
		fail("the client");
	if (got != sent) {
		fprintf(stderr, "closing %s: %ld bytes sent, %ld arrived\n", which, sent, got);
		_exit(1);
	}
}

int main(int argc, char **arguments)
{
	struct sockaddr_in address;
	int listener, ends[2], status, count = argc == 3 ? atoi(arguments[2]) : 0;
	pthread_t thread;
	pid_t pid;

	if (count <= 0)
		return 2;
	which = arguments[1];
	set = check(epoll_create1(0), "epoll_create1");
	if ((is("join") || is("rearm")) && pthread_create(&thread, NULL, sleeper, NULL) != 0)
		fail("pthread_create");
	spare = open("/dev/null", O_RDWR);
	listener = listen_here(&address, 0, 4);
	check(pipe(ends), "pipe");
	for (int i = 0; i < count; i++) {
		pid = check(fork(), "fork");
		if (pid == 0)
			client(&address, ends[1]);
		serve(check(accept(listener, NULL, NULL), "accept"), ends[0], i);
		check(waitpid(pid, &status, 0), "waitpid");
		if (status != 0)
			return 1;
	}
	return 0;
}
