/* SPDX-License-Identifier: Apache-2.0 */
/* Several descriptors of one connection. */
#include "tests/conformance/lib/conf.h"

#include <sys/resource.h>

#include <sys/syscall.h>

enum { ANY = CONF_COLD | CONF_SWAP };

/* Sends 100 bytes, takes 100, closes when told. */
static void exchange_client(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	both();
}

static void use_copy(int fd, int copy)
{
	struct stat a, b;

	obs_val("got one", copy >= 0);
	fstat(fd, &a);
	fstat(copy, &b);
	obs_val("same inode", a.st_ino == b.st_ino);
	recv_pat(copy, 60, 0);
	recv_pat(fd, 40, 60);
	send_pat(copy, 50, 0);
	send_pat(fd, 50, 50);
}

static void dup_server(int fd)
{
	int copy = dup(fd);

	use_copy(fd, copy);
	obs("close", close(copy));
	both();
}
CASE("dup.dup", dup_server, exchange_client, ANY);

static void dup2_server(int fd)
{
	use_copy(fd, dup2(fd, 500));
	obs("same", dup2(fd, fd) == fd);
	obs("close", close(500));
	both();
}
CASE("dup.dup2", dup2_server, exchange_client, ANY);

static void dup3_server(int fd)
{
	int copy = dup3(fd, 501, O_CLOEXEC);

	obs("cloexec", fcntl(copy, F_GETFD));
	obs("same", dup3(fd, fd, 0));
	use_copy(fd, copy);
	obs("close", close(copy));
	both();
}
CASE("dup.dup3", dup3_server, exchange_client, ANY);

static void dupfd_server(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 300);
	int other = fcntl(fd, F_DUPFD, 300);

	obs_val("numbers", copy * 1000 + other);
	obs("cloexec", fcntl(copy, F_GETFD));
	obs("cloexec", fcntl(other, F_GETFD));
	use_copy(other, copy);
	obs("close", close(copy));
	obs("close", close(other));
	both();
}
CASE("dup.fcntl", dupfd_server, exchange_client, ANY);

/* The first number is closed; the connection lives on in the copy. */
static void original_closed_server(int fd)
{
	int copy = dup(fd);
	char byte;

	obs("close", close(fd));
	obs("recv", recv(fd, &byte, 1, 0));
	recv_pat(copy, 100, 0);
	send_pat(copy, 100, 0);
	both();
	obs("close", close(copy));
	both();
}

static void eof_after_client(int fd)
{
	char byte;

	exchange_client(fd);
	both();
	ready(fd, POLLIN);
	obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
}
CASE("dup.original_closed", original_closed_server, eof_after_client, ANY);

/* EOF only when the last one is closed. */
static void last_close_server(int fd)
{
	int copy = dup(fd);

	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	obs("close", close(copy));
	both();
	tell(0);
	await();
	obs("close", close(fd));
	tell(0);
}

static void last_close_client(int fd)
{
	char byte;

	exchange_client(fd);
	await();
	obs("still open", recv(fd, &byte, 1, MSG_DONTWAIT));
	tell(0);
	await();
	ready(fd, POLLIN);
	obs("closed", recv(fd, &byte, 1, MSG_DONTWAIT));
}
CASE("dup.last_close", last_close_server, last_close_client, ANY);

/* dup2() of something else over the connection closes it. */
static void over_server(int fd)
{
	int null = open("/dev/null", O_RDWR);
	char byte;

	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	both();
	obs("dup2", dup2(null, fd) == fd);
	obs("read", read(fd, &byte, 1));
	obs("write", write(fd, &byte, 1));
	obs("recv", recv(fd, &byte, 1, 0));
	both();
}
CASE("dup.over_connection", over_server, eof_after_client, ANY);

/* dup2() of the connection over descriptors 0 and 1, then read() and write() there. */
static void as_stdin_server(int fd)
{
	int out = dup(1);

	dup2(fd, 0);
	char bytes[100];
	obs("read", recv_exact(0, bytes, 100));
	obs_val("right", pat_good(bytes, 100, 0));
	dup2(fd, 1);
	pat_fill(bytes, 100, 0);
	ssize_t n = write(1, bytes, 100);
	dup2(out, 1);
	obs("write", n);
	close(out);
	both();
}
CASE("dup.as_stdin_stdout", as_stdin_server, exchange_client, ANY | CONF_EITHER);

static void close_range_server(int fd)
{
	int copy = dup2(fd, 700);

	recv_pat(copy, 100, 0);
	send_pat(fd, 100, 0);
	both();
	obs("close_range", close_range((unsigned int)copy, (unsigned int)copy, 0));
	obs("fcntl", fcntl(copy, F_GETFD));
	obs("cloexec", close_range((unsigned int)fd, (unsigned int)fd, CLOSE_RANGE_CLOEXEC));
	obs("fcntl", fcntl(fd, F_GETFD));
	obs("close_range all", close_range((unsigned int)fd, ~0U, 0));
	obs("fcntl", fcntl(fd, F_GETFD));
	both();
}
CASE("dup.close_range", close_range_server, eof_after_client, ANY);

/* A daemon's loop over every possible number. */
static void close_loop_server(int fd)
{
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	both();
	for (int i = fd; i < 1024; i++)
		close(i);
	obs("fcntl", fcntl(fd, F_GETFD));
	both();
}
CASE("dup.close_loop", close_loop_server, eof_after_client, ANY);

static void closefrom_server(int fd)
{
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	both();
	closefrom(fd);
	obs("fcntl", fcntl(fd, F_GETFD));
	both();
}
CASE("dup.closefrom", closefrom_server, eof_after_client, ANY);

/* New descriptors get the lowest numbers, as ever: nothing hidden sits among them. */
static void numbers_server(int fd)
{
	int ends[2] = { -1, -1 };
	int copy, sock, file, set;

	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	obs_val("connection", fd);
	copy = dup(fd);
	obs_val("dup", copy);
	obs("pipe", pipe(ends));
	obs_text("pipe %d %d", ends[0], ends[1]);
	sock = socket(AF_INET, SOCK_STREAM, 0);
	file = open("/dev/null", O_RDONLY);
	set = epoll_create1(0);
	obs_text("socket %d open %d epoll %d", sock, file, set);
	for (int i = copy; i <= set; i++)
		close(i);
	both();
}
CASE("dup.lowest_numbers", numbers_server, exchange_client, ANY);

/* Every number can be had, also those where something hidden sits. */
static void high_numbers_server(int fd)
{
	struct rlimit limit;
	int wrong = 0, from, set = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.fd = fd };

	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	obs("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	getrlimit(RLIMIT_NOFILE, &limit);
	from = limit.rlim_cur < 1280 ? (int)limit.rlim_cur - 512 : 768;
	for (int n = from; n < from + 512; n++)
		wrong += dup2(0, n) != n;
	obs_val("wrong", wrong);
	both();
	obs_epoll("epoll_wait", epoll_wait(set, &event, 1, CONF_WAIT_MS), &event);
	recv_pat(fd, 100, 0);
	for (int n = from; n < from + 512; n++)
		wrong += close(n) != 0;
	obs_val("wrong", wrong);
	send_pat(fd, 100, 0);
	close(set);
}

static void high_numbers_client(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	both();
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
}
CASE("dup.high_numbers", high_numbers_server, high_numbers_client, ANY);

/* Calls that fail leave the target as it was. */
static void refused_server(int fd)
{
	struct rlimit limit, few;
	int one_more = dup(STDERR_FILENO), high = dup2(fd, 900);

	recv_pat(fd, 100, 0);
	obs("dup3, flags", dup3(one_more, fd, 0x1234));
	obs("close_range, flags", close_range((unsigned int)fd, (unsigned int)fd, 0x40));
	obs("dup2, from nothing", dup2(899, fd));
	getrlimit(RLIMIT_NOFILE, &limit);
	few = limit;
	few.rlim_cur = 800;
	setrlimit(RLIMIT_NOFILE, &few);
	obs("close", close(fd)); /* the high number is its last name */
	obs("dup2, beyond the limit", dup2(one_more, high));
	setrlimit(RLIMIT_NOFILE, &limit);
	send_pat(high, 100, 0);
	recv_pat(high, 100, 100);
	close(one_more);
	close(high);
}

static void refused_client(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 100);
	obs("end", recv(fd, &(char){ 0 }, 1, 0));
}
CASE("dup.refused", refused_server, refused_client, ANY);

/* dup2() onto another name of the same young connection; the next one is a new one. */
static void onto_own_name_server(int listener)
{
	int fd = conf_accept(listener), copy = dup(fd);

	recv_pat(fd, 100, 0);
	obs_val("dup2", dup2(fd, copy) == copy);
	close(fd);
	close(copy);
	fd = conf_accept(listener);
	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
	both();
	close(fd);
}

static void onto_own_name_client(int none)
{
	int fd = conf_connect();

	(void)none;
	send_pat(fd, 100, 0);
	recv_to_eof(fd, 0);
	close(fd);
	fd = conf_connect();
	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	both();
	close(fd);
}
CASE("dup.onto_own_name", onto_own_name_server, onto_own_name_client, CONF_RAW | CONF_MUST);
