/* SPDX-License-Identifier: Apache-2.0 */
/* Calls by their number, through libc's syscall(). */
#include "tests/conformance/lib/conf.h"

#include <sys/mman.h>
#include <sys/syscall.h>

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = ANY | CONF_MID, PART = 100 };

static void echo_client(int fd)
{
	send_pat(fd, 2 * PART, 0);
	recv_pat(fd, 2 * PART, 0);
	both();
}

static void read_write_server(int fd)
{
	char bytes[2 * PART];
	struct iovec v[2] = { { bytes, 30 }, { bytes + 30, 70 } };

	obs("read", syscall(SYS_read, fd, bytes, (size_t)1));
	ready(fd, POLLIN);
	recv_exact(fd, bytes + 1, 99);
	obs_val("right", pat_good(bytes, PART, 0));
	ready(fd, POLLIN);
	obs("readv", syscall(SYS_readv, fd, v, 2));
	obs_val("right", pat_good(bytes, PART, PART));
	obs("read none", syscall(SYS_read, fd, bytes, (size_t)0));
	pat_fill(bytes, sizeof(bytes), 0);
	obs("write", syscall(SYS_write, fd, bytes, (size_t)50));
	obs("writev", syscall(SYS_writev, fd, (struct iovec[]){ { bytes + 50, 50 } }, 1));
	obs("pwritev2",
	    syscall(SYS_pwritev2, fd, (struct iovec[]){ { bytes + PART, 40 } }, 1, -1L, -1L, 0));
	obs("sendto", syscall(SYS_sendto, fd, bytes + 140, (size_t)60, MSG_NOSIGNAL, NULL, 0));
	both();
}
CASE("syscall.read_write", read_write_server, echo_client, EVERY);

static void messages_server(int fd)
{
	char bytes[2 * PART];
	struct iovec v[2] = { { bytes, PART }, { bytes + PART, PART } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
	struct mmsghdr mm[2] = { { .msg_hdr = { .msg_iov = &v[0], .msg_iovlen = 1 } },
				 { .msg_hdr = { .msg_iov = &v[1], .msg_iovlen = 1 } } };

	ready(fd, POLLIN);
	obs("recvmsg peek", syscall(SYS_recvmsg, fd, &m, MSG_PEEK | MSG_WAITALL));
	obs("recvmmsg", syscall(SYS_recvmmsg, fd, mm, 2, MSG_WAITALL, NULL));
	obs_text("lengths %u %u", mm[0].msg_len, mm[1].msg_len);
	obs_val("right", pat_good(bytes, sizeof(bytes), 0));
	obs("empty", syscall(SYS_recvfrom, fd, bytes, (size_t)1, MSG_DONTWAIT, NULL, NULL));
	obs("sendmmsg", syscall(SYS_sendmmsg, fd, mm, 1, 0));
	m.msg_iov = &v[1];
	m.msg_iovlen = 1;
	obs("sendmsg", syscall(SYS_sendmsg, fd, &m, 0));
	both();
}
CASE("syscall.messages", messages_server, echo_client, EVERY);

/* What is left of the time is written back, which libc's ppoll() and pselect() hide. */
static void waits_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec t = { 0, 20 * 1000000 };
	sigset_t none;
	struct {
		const sigset_t *mask;
		size_t bytes;
	} mask = { &none, 8 };
	fd_set in;

	sigemptyset(&none);
	obs("ppoll", syscall(SYS_ppoll, &p, 1, &t, NULL, 8));
	obs_text("left %ld.%09ld", (long)t.tv_sec, (long)t.tv_nsec);
	both();
	t.tv_sec = 50;
	obs("ppoll", syscall(SYS_ppoll, &p, 1, &t, &none, 8));
	obs_val("less", t.tv_sec == 49 || t.tv_sec == 48);
	obs("mask of 7 bytes", syscall(SYS_ppoll, &p, 1, &t, &none, 7));
	FD_ZERO(&in);
	FD_SET(fd, &in);
	t = (struct timespec){ 50, 0 };
	obs("pselect6", syscall(SYS_pselect6, fd + 1, &in, NULL, NULL, &t, &mask));
	obs_val("less", t.tv_sec == 49 || t.tv_sec == 48);
	obs("no mask", syscall(SYS_pselect6, fd + 1, &in, NULL, NULL, &t, NULL));
	recv_pat(fd, PART, 0);
	t = (struct timespec){ 0, 10 * 1000000 };
	obs("pselect6", syscall(SYS_pselect6, fd + 1, &in, NULL, NULL, &t, &mask));
	obs_val("set", !!FD_ISSET(fd, &in));
	obs_text("left %ld.%09ld", (long)t.tv_sec, (long)t.tv_nsec);
	both();
}

static void waits_client(int fd)
{
	both();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, PART, 0);
	both();
}
CASE("syscall.waits", waits_server, waits_client, EVERY);

static void old_waits_server(int fd)
{
	both();
#ifdef SYS_poll
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timeval t = { 50, 0 };
	fd_set in;

	obs("poll", syscall(SYS_poll, &p, 1, CONF_WAIT_MS));
	FD_ZERO(&in);
	FD_SET(fd, &in);
	obs("select", syscall(SYS_select, fd + 1, &in, NULL, NULL, &t));
	obs_val("set", !!FD_ISSET(fd, &in));
	recv_pat(fd, PART, 0);
	obs("poll", syscall(SYS_poll, &p, 1, 0));
	t = (struct timeval){ 0, 10000 };
	obs("select", syscall(SYS_select, fd + 1, &in, NULL, NULL, &t));
	obs_text("left %ld.%06ld", (long)t.tv_sec, (long)t.tv_usec);
#else
	recv_pat(fd, PART, 0);
#endif
	both();
}
CASE("syscall.old_waits", old_waits_server, waits_client, EVERY);

static void epoll_server(int fd)
{
	int set = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 77 };
	struct timespec t = { 5, 0 };

	obs("add", syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, fd, &e));
	obs("empty", syscall(SYS_epoll_pwait, set, &e, 1, 0, NULL, 8));
	both();
	obs_epoll("epoll_pwait", (int)syscall(SYS_epoll_pwait, set, &e, 1, CONF_WAIT_MS, NULL, 8),
		  &e);
	obs_epoll("epoll_pwait2", (int)syscall(SYS_epoll_pwait2, set, &e, 1, &t, NULL, 8), &e);
	obs_text("time kept %ld.%09ld", (long)t.tv_sec, (long)t.tv_nsec);
#ifdef SYS_epoll_wait
	obs_epoll("epoll_wait", (int)syscall(SYS_epoll_wait, set, &e, 1, 0), &e);
#endif
	recv_pat(fd, PART, 0);
	obs("empty", syscall(SYS_epoll_pwait, set, &e, 1, 5, NULL, 8));
	obs("close", syscall(SYS_close, set));
	both();
}
CASE("syscall.epoll", epoll_server, waits_client, EVERY);

/* Sent to a descriptor that a number call has copied, moved, closed. */
static void numbers_server(int fd)
{
	int copy = (int)syscall(SYS_dup, fd), high, third;

	recv_pat(copy, 50, 0);
	high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 200);
	obs_val("high", high >= 200);
	obs_val("close on exec", (long)syscall(SYS_fcntl, high, F_GETFD));
	obs("close", syscall(SYS_close, fd));
	recv_pat(high, 50, 50);
	third = (int)syscall(SYS_dup3, high, copy, O_CLOEXEC);
	obs_val("same", third == copy);
	recv_pat(third, 50, 100);
	obs("close_range", syscall(SYS_close_range, high, high, 0));
	obs("closed", syscall(SYS_write, high, "x", (size_t)1));
	recv_pat(third, 50, 150);
	send_pat(third, 2 * PART, 0);
	both();
	close(third);
}
CASE("syscall.numbers", numbers_server, echo_client, ANY);

static void close_server(int fd)
{
	char byte[2];
	int ends[2];

	recv_pat(fd, 2 * PART, 0);
	send_pat(fd, 2 * PART, 0);
	obs("close", syscall(SYS_close, fd));
	obs("close", syscall(SYS_close, fd));
	obs("pipe2", syscall(SYS_pipe2, ends, O_CLOEXEC));
	obs_val("reborn", ends[0] == fd || ends[1] == fd);
	obs("write", syscall(SYS_write, ends[1], "ab", (size_t)2));
	obs("read", syscall(SYS_read, ends[0], byte, (size_t)2));
	close(ends[0]);
	close(ends[1]);
	both();
}

static void close_client(int fd)
{
	char byte;

	send_pat(fd, 2 * PART, 0);
	recv_pat(fd, 2 * PART, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	both();
}
CASE("syscall.close", close_server, close_client, ANY);

static void socket_server(int fd)
{
	int value = 0, there = -1;
	socklen_t bytes = sizeof(value);

	both();
	ready(fd, POLLIN);
	obs("FIONREAD", syscall(SYS_ioctl, fd, FIONREAD, &there));
	obs_val("there", there);
	obs("getsockopt", syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &value, &bytes));
	obs_val("type", value);
	value = 1;
	obs("setsockopt", syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_KEEPALIVE, &value, bytes));
	obs("F_SETFL", syscall(SYS_fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK));
	recv_pat(fd, PART, 0);
	obs("recv", recv(fd, &value, 1, 0));
	obs("F_SETFL", syscall(SYS_fcntl, fd, F_SETFL, O_RDWR));
	obs("shutdown", syscall(SYS_shutdown, fd, SHUT_WR));
	both();
}

static void socket_client(int fd)
{
	char byte;

	send_pat(fd, PART, 0);
	both();
	obs("recv", recv(fd, &byte, 1, 0));
	both();
}
CASE("syscall.socket", socket_server, socket_client, ANY);

static void birth_server(int listener)
{
	int fd = (int)syscall(SYS_accept4, listener, NULL, NULL, SOCK_CLOEXEC);

	obs_val("accept4", fd >= 0);
	warm_up(fd, CONF_WARM_ROUNDS);
	recv_pat(fd, 2 * PART, 0);
	send_pat(fd, 2 * PART, 0);
	both();
	close(fd);
}

static void birth_client(int none)
{
	int fd = (int)syscall(SYS_socket, conf.is_tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);

	(void)none;
	obs("connect", syscall(SYS_connect, fd, &conf.name, conf.name_len));
	warm_up(fd, CONF_WARM_ROUNDS);
	echo_client(fd);
	close(fd);
}
CASE("syscall.birth", birth_server, birth_client, CONF_RAW);

/* All six words of a call come through, and what is none is refused. */
static void words_server(int fd)
{
	int memory = (int)syscall(SYS_memfd_create, "words", 0U);
	char *page;

	obs("ftruncate", syscall(SYS_ftruncate, memory, 8192L));
	obs("pwrite64", syscall(SYS_pwrite64, memory, "second", (size_t)6, 4096L));
	page = (char *)syscall(SYS_mmap, NULL, (size_t)4096, PROT_READ, MAP_SHARED, memory, 4096L);
	obs_text("six words: %.6s", page);
	obs("munmap", syscall(SYS_munmap, page, (size_t)4096));
	obs("send what is gone", send(fd, page, 10, 0));
	obs("no such call", syscall(5000L));
	obs("negative", syscall(-1L));
	obs("bad descriptor", syscall(SYS_read, -1, page, (size_t)1));
	obs_val("getpid", syscall(SYS_getpid) == getpid());
	errno = ENOTTY;
	syscall(SYS_getpid);
	obs_text("errno %s", strerrorname_np(errno));
	close(memory);
	recv_pat(fd, 2 * PART, 0);
	send_pat(fd, 2 * PART, 0);
	both();
}
CASE("syscall.words", words_server, echo_client, ANY);

static void move_server(int fd)
{
	int file = (int)syscall(SYS_memfd_create, "file", 0U), ends[2];
	char bytes[2 * PART];
	off_t at = 50;

	if (pipe(ends) < 0)
		return;
	pat_fill(bytes, sizeof(bytes), 0);
	obs("write", syscall(SYS_write, file, bytes, sizeof(bytes)));
	ready(fd, POLLIN);
	obs_val("splice", syscall(SYS_splice, fd, NULL, ends[1], NULL, (size_t)1, 0) == 1);
	obs("read", syscall(SYS_read, ends[0], bytes, (size_t)1));
	recv_exact(fd, bytes + 1, sizeof(bytes) - 1);
	obs_val("right", pat_good(bytes, sizeof(bytes), 0));
	send_exact(fd, bytes, 50);
	obs("sendfile", syscall(SYS_sendfile, fd, file, &at, (size_t)150));
	obs_val("offset", at);
	close(file);
	close(ends[0]);
	close(ends[1]);
	both();
}
CASE("syscall.move", move_server, echo_client, ANY);

static volatile int cancelled_after;

static void *reads_by_number(void *argument)
{
	char byte;
	int fd = *(int *)argument;

	cancelled_after = syscall(SYS_read, fd, &byte, (size_t)1) == 1 ? 1 : -1;
	pthread_testcancel();
	cancelled_after = 2;
	return NULL;
}

/* syscall() is no cancellation point: the bytes are read first. */
static void no_cancellation_server(int fd)
{
	void *result = NULL;
	pthread_t thread = spawn(reads_by_number, &fd);

	nap_ms(CONF_NAP_MS);
	obs("cancel", pthread_cancel(thread));
	nap_ms(CONF_NAP_MS);
	obs_val("still there", cancelled_after);
	both();
	pthread_join(thread, &result);
	obs_val("cancelled", result == PTHREAD_CANCELED);
	obs_val("after the read", cancelled_after);
	both();
}

static void no_cancellation_client(int fd)
{
	both();
	send_exact(fd, "x", 1);
	both();
}
CASE("syscall.no_cancellation", no_cancellation_server, no_cancellation_client, ANY);

/* exec by number: the program that follows knows nothing. */
static void exec_server(int fd)
{
	static char path[] = "/bin/cat";
	char *const arguments[] = { path, NULL };
	char *const environment[] = { NULL };
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		recv_pat(fd, PART, 0);
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		syscall(SYS_execve, path, arguments, environment);
		_exit(127);
	}
	close(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
}

static void exec_client(int fd)
{
	send_pat(fd, PART, 0);
	send_pat(fd, 5000, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	recv_to_eof(fd, 0);
}
CASE("syscall.execve", exec_server, exec_client, ANY | CONF_EITHER);
