/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The number of a connection that was closed behind libc's back is given out again: what the new
 * bearer reads and writes is its own.
 */
#include "tests/conformance/lib/conf.h"
#include "tests/bare_call.h"

#include <pty.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

enum { ANY = CONF_COLD | CONF_SWAP };

static void close_unseen(int fd)
{
	bare_call(SYS_close, fd, 0, 0, 0, 0, 0);
}

static void peer_client(int fd)
{
	recv_pat(fd, 100, 0);
	recv_to_eof(fd, 0);
	both();
}

/* Writes "new" and reads it again where that can be, on the number that was the connection's. */
static void check(const char *what, int fd, int born)
{
	char bytes[8] = { 0 };
	ssize_t n;

	obs_text("%s: %s", what, born == fd ? "the same number" : "another number");
	n = write(born, "new", 3);
	obs("write", n);
	obs_val("seek", lseek(born, 0, SEEK_SET) == 0);
	n = read(born, bytes, 3);
	obs("read", n);
	obs_text("<%.3s>", bytes);
	obs("close", close(born));
}

static void files_server(int fd)
{
	char path[] = "/tmp/conformance-reborn-XXXXXX";

	send_pat(fd, 100, 0);
	close_unseen(fd);
	check("mkstemp", fd, mkstemp(path));
	unlink(path);
	check("open", fd, open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
	unlink(path);
	both();
}
CASE("reborn.mkstemp", files_server, peer_client, ANY);

#define REBORN(name, call)                \
	static void name##_server(int fd) \
	{                                 \
		send_pat(fd, 100, 0);     \
		close_unseen(fd);         \
		check(#name, fd, (call)); \
		both();                   \
	}                                 \
	CASE("reborn." #name, name##_server, peer_client, ANY)

REBORN(open, open("/tmp", O_RDWR | O_TMPFILE, 0600));
REBORN(openat, openat(AT_FDCWD, "/tmp", O_RDWR | O_TMPFILE, 0600));
REBORN(memfd_create, memfd_create("new", 0));
REBORN(syscall_openat, (int)syscall(SYS_openat, AT_FDCWD, "/tmp", O_RDWR | O_TMPFILE, 0600));

static FILE *stream_of;

static int of_stream(FILE *file)
{
	stream_of = file;
	return dup2(fileno(file), fileno(file));
}

static void tmpfile_server(int fd)
{
	char bytes[4] = { 0 };
	int number;

	send_pat(fd, 100, 0);
	close_unseen(fd);
	number = of_stream(tmpfile());
	obs_val("same", number == fd);
	obs("write", write(number, "abc", 3));
	obs("lseek", lseek(number, 0, SEEK_SET));
	obs_val("fread", (long)fread(bytes, 1, 3, stream_of));
	obs_text("<%s>", bytes);
	obs("fclose", fclose(stream_of));
	both();
}
CASE("reborn.tmpfile", tmpfile_server, peer_client, ANY);

static void pipe_server(int fd)
{
	char bytes[4] = { 0 };
	int ends[2];

	send_pat(fd, 100, 0);
	close_unseen(fd);
	obs("pipe", pipe(ends));
	obs_val("same", ends[0] == fd || ends[1] == fd);
	obs("write", write(ends[1], "abc", 3));
	obs("read", read(ends[0], bytes, 3));
	close(ends[0]);
	close(ends[1]);
	both();
}
CASE("reborn.pipe", pipe_server, peer_client, ANY);

static void event_server(int fd)
{
	struct pollfd p;
	uint64_t value = 5;
	int event;

	send_pat(fd, 100, 0);
	close_unseen(fd);
	event = eventfd(0, 0);
	obs_val("same", event == fd);
	p = (struct pollfd){ .fd = event, .events = POLLIN | POLLOUT };
	obs_poll("poll", poll(&p, 1, 0), p.revents);
	obs("write", write(event, &value, 8));
	obs_poll("poll", poll(&p, 1, 0), p.revents);
	obs("read", read(event, &value, 8));
	obs_val("value", (long)value);
	close(event);
	both();
}
CASE("reborn.eventfd", event_server, peer_client, ANY);

static void timer_server(int fd)
{
	struct itimerspec soon = { .it_value = { 0, 1000000 } };
	uint64_t value = 0;
	int timer;

	send_pat(fd, 100, 0);
	close_unseen(fd);
	timer = timerfd_create(CLOCK_MONOTONIC, 0);
	obs_val("same", timer == fd);
	obs("settime", timerfd_settime(timer, 0, &soon, NULL));
	obs("read", read(timer, &value, 8));
	obs_val("expired", value >= 1);
	close(timer);
	both();
}
CASE("reborn.timerfd", timer_server, peer_client, ANY);

static void signal_server(int fd)
{
	struct signalfd_siginfo info;
	sigset_t mask;
	int number;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	send_pat(fd, 100, 0);
	close_unseen(fd);
	number = signalfd(-1, &mask, 0);
	obs_val("same", number == fd);
	raise(SIGUSR1);
	obs("read", read(number, &info, sizeof(info)));
	obs_val("signal", (long)info.ssi_signo == SIGUSR1);
	close(number);
	both();
}
CASE("reborn.signalfd", signal_server, peer_client, ANY);

static void inotify_server(int fd)
{
	char bytes[64];
	int number;

	send_pat(fd, 100, 0);
	close_unseen(fd);
	number = inotify_init1(IN_NONBLOCK);
	obs_val("same", number == fd);
	obs("read", read(number, bytes, sizeof(bytes)));
	close(number);
	both();
}
CASE("reborn.inotify", inotify_server, peer_client, ANY);

static void terminal_server(int fd)
{
	char bytes[4] = { 0 };
	int master, slave;

	send_pat(fd, 100, 0);
	close_unseen(fd);
	obs("openpty", openpty(&master, &slave, NULL, NULL, NULL));
	obs_val("same", master == fd || slave == fd);
	obs("write", write(slave, "abc", 3));
	obs("read", read(master, bytes, 3));
	obs_text("<%s>", bytes);
	close(slave);
	close(master);
	both();
}
CASE("reborn.openpty", terminal_server, peer_client, ANY);

/* Another socket, which then has a life of its own. */
static void socket_server(int fd)
{
	char bytes[4] = { 0 };
	int ends[2];

	send_pat(fd, 100, 0);
	close_unseen(fd);
	obs("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	obs_val("same", ends[0] == fd || ends[1] == fd);
	obs("send", send(ends[0], "abc", 3, 0));
	obs("recv", recv(ends[1], bytes, 3, 0));
	obs_text("<%s>", bytes);
	close(ends[0]);
	close(ends[1]);
	both();
}
CASE("reborn.socketpair", socket_server, peer_client, ANY);
