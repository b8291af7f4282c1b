/* SPDX-License-Identifier: Apache-2.0 */
/* The other names under which glibc exports its calls, public and for its friends. */
#include "tests/conformance/lib/conf.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = ANY | CONF_MID, PART = 50 };

ssize_t __read(int fd, void *to, size_t bytes);
ssize_t __write(int fd, const void *from, size_t bytes);
ssize_t __send(int fd, const void *from, size_t bytes, int flags);
int __close(int fd);
int __poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout);
int __dup2(int from, int to);
int __fcntl(int fd, int command, ...);
int __connect(int fd, const struct sockaddr *address, socklen_t bytes);

/* A name that no header declares, and no program may link against without asking. */
static void *named(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	if (!found) {
		obs_text("no %s here", name);
		exit(3);
	}
	return found;
}

static void both_ways_client(int fd)
{
	send_pat(fd, 2 * PART, 0);
	recv_pat(fd, 2 * PART, 0);
	both();
}

static void underscored_server(int fd)
{
	char bytes[2 * PART];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timeval t = { 5, 0 };
	fd_set in;

	obs_poll("__poll", __poll(&p, 1, CONF_WAIT_MS), p.revents);
	obs("__read", __read(fd, bytes, 1));
	ready(fd, POLLIN);
	FD_ZERO(&in);
	FD_SET(fd, &in);
	obs("__select", __select(fd + 1, &in, NULL, NULL, &t));
	obs("recv", recv_exact(fd, bytes + 1, sizeof(bytes) - 1));
	obs_val("right", pat_good(bytes, sizeof(bytes), 0));
	obs("__write", __write(fd, bytes, PART));
	obs("__send", __send(fd, bytes + PART, PART, MSG_NOSIGNAL));
	obs_val("__fcntl", __fcntl(fd, F_GETFL) & O_ACCMODE);
	both();
}
CASE("spellings.underscored", underscored_server, both_ways_client, EVERY);

static void nocancel_server(int fd)
{
	ssize_t (*read_it)(int, void *, size_t);
	ssize_t (*write_it)(int, const void *, size_t);
	ssize_t (*recv_it)(int, void *, size_t, int);
	void *found;
	char bytes[2 * PART];

	found = named("__read_nocancel");
	memcpy(&read_it, &found, sizeof(found));
	found = named("__write_nocancel");
	memcpy(&write_it, &found, sizeof(found));
	found = named("__recv");
	memcpy(&recv_it, &found, sizeof(found));
	obs("__read_nocancel", read_it(fd, bytes, 1));
	ready(fd, POLLIN);
	obs("__recv", recv_it(fd, bytes + 1, 10, MSG_WAITALL));
	obs("recv", recv_exact(fd, bytes + 11, sizeof(bytes) - 11));
	obs_val("right", pat_good(bytes, sizeof(bytes), 0));
	obs("__write_nocancel", write_it(fd, bytes, sizeof(bytes)));
	both();
}
CASE("spellings.nocancel", nocancel_server, both_ways_client, EVERY);

/* Several messages by the name that the resolver uses. */
static void private_sendmmsg_server(int fd)
{
	int (*send_them)(int, struct mmsghdr *, unsigned int, int);
	void *found = named("__sendmmsg");
	char bytes[2 * PART];
	struct iovec v[2] = { { bytes, PART }, { bytes + PART, PART } };
	struct mmsghdr m[2] = { { .msg_hdr = { .msg_iov = &v[0], .msg_iovlen = 1 } },
				{ .msg_hdr = { .msg_iov = &v[1], .msg_iovlen = 1 } } };

	memcpy(&send_them, &found, sizeof(found));
	recv_pat(fd, 2 * PART, 0);
	pat_fill(bytes, sizeof(bytes), 0);
	obs("__sendmmsg", send_them(fd, m, 2, 0));
	obs_text("lengths %u %u", m[0].msg_len, m[1].msg_len);
	both();
}
CASE("spellings.sendmmsg", private_sendmmsg_server, both_ways_client, EVERY);

/* Closed by a private name: the peer sees the end, and the number is free for something else. */
static void close_nocancel_server(int fd)
{
	int (*close_it)(int);
	void *found = named("__close_nocancel");
	char bytes[4];
	int ends[2];

	memcpy(&close_it, &found, sizeof(found));
	recv_pat(fd, PART, 0);
	obs("__close_nocancel", close_it(fd));
	obs("write", write(fd, "x", 1));
	obs("pipe", pipe(ends));
	obs_val("reborn", ends[0] == fd || ends[1] == fd);
	obs("write", write(ends[1], "abc", 3));
	obs("read", read(ends[0], bytes, sizeof(bytes)));
	close(ends[0]);
	close(ends[1]);
	both();
}

static void close_nocancel_client(int fd)
{
	char byte;

	send_pat(fd, PART, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	both();
}
CASE("spellings.close_nocancel", close_nocancel_server, close_nocancel_client, ANY);

static void under_close_server(int fd)
{
	recv_pat(fd, PART, 0);
	obs("__close", __close(fd));
	obs("__close", __close(fd));
	both();
}
CASE("spellings.close", under_close_server, close_nocancel_client, ANY);

static void fcntl_dup_server(int fd)
{
	int (*fcntl_it)(int, int, ...);
	void *found = named("__libc_fcntl64");
	int copy;

	memcpy(&fcntl_it, &found, sizeof(found));
	copy = fcntl_it(fd, F_DUPFD_CLOEXEC, 100);
	obs_val("copy", copy >= 100);
	recv_pat(copy, PART, 0);
	recv_pat(fd, PART, PART);
	close(fd);
	send_pat(copy, 2 * PART, 0);
	obs("__dup2", __dup2(copy, fd) == fd ? 1 : -1);
	close(copy);
	both();
}
CASE("spellings.fcntl", fcntl_dup_server, both_ways_client, ANY);

static void connect_server(int listener)
{
	int fd = conf_accept(listener);

	warm_up(fd, CONF_WARM_ROUNDS);
	recv_pat(fd, 2 * PART, 0);
	send_pat(fd, 2 * PART, 0);
	both();
	close(fd);
}

static void connect_client(int none)
{
	int (*socket_it)(int, int, int);
	void *found = named("__socket");
	int fd;

	(void)none;
	memcpy(&socket_it, &found, sizeof(found));
	fd = socket_it(conf.is_tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
	obs("__connect", __connect(fd, (struct sockaddr *)&conf.name, conf.name_len));
	warm_up(fd, CONF_WARM_ROUNDS);
	both_ways_client(fd);
	obs("__close", __close(fd));
}
CASE("spellings.connect", connect_server, connect_client, CONF_RAW);

/* preadv and pwritev with offset -1 are not preadv2: a socket cannot seek. */
static void positioned_server(int fd)
{
	char bytes[PART];
	struct iovec v = { bytes, PART };

	both();
	ready(fd, POLLIN);
	obs("pread", pread(fd, bytes, PART, 0));
	obs("pread64", pread64(fd, bytes, PART, 5));
	obs("pwrite", pwrite(fd, bytes, PART, 0));
	obs("preadv", preadv(fd, &v, 1, 0));
	obs("preadv -1", preadv(fd, &v, 1, -1));
	obs("preadv64", preadv64(fd, &v, 1, 7));
	obs("pwritev", pwritev(fd, &v, 1, 0));
	obs("pwritev -1", pwritev(fd, &v, 1, -1));
	obs("preadv2 at 0", preadv2(fd, &v, 1, 0, 0));
	obs("preadv2 at -2", preadv2(fd, &v, 1, -2, 0));
	obs("pwritev2 at 3", pwritev2(fd, &v, 1, 3, 0));
	obs("preadv2 -1 elements", preadv2(fd, &v, opaque(-1), -1, 0));
	obs("preadv2 of nothing", preadv2(fd, &v, 0, -1, 0));
	recv_pat(fd, 2 * PART, 0);
	send_pat(fd, 2 * PART, 0);
	both();
}

static void positioned_client(int fd)
{
	send_pat(fd, 2 * PART, 0);
	both();
	recv_pat(fd, 2 * PART, 0);
	both();
}
CASE("spellings.positioned", positioned_server, positioned_client, EVERY);

/* The flags of preadv2 that mean nothing to a socket. */
static void rwf_server(int fd)
{
	static const int flags[] = { RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_APPEND,
				     RWF_DSYNC | RWF_SYNC | RWF_APPEND };
	char bytes[10];
	struct iovec v = { bytes, 10 };

	both();
	ready(fd, POLLIN);
	for (size_t i = 0; i < 5; i++) {
		obs("preadv2", preadv2(fd, &v, 1, -1, flags[i]));
		obs_val("right", pat_good(bytes, 10, i * 10));
		obs("pwritev2", pwritev64v2(fd, &v, 1, -1, flags[i]));
	}
	obs("preadv64v2", preadv64v2(fd, &v, 1, -1, RWF_NOWAIT));
	recv_pat(fd, 2 * PART - 60, 60);
	send_pat(fd, 2 * PART - 50, 50);
	both();
}
CASE("spellings.rwf_flags", rwf_server, positioned_client, EVERY);

static void rwf_unknown_server(int fd)
{
	char bytes[10];
	struct iovec v = { bytes, 10 };

	both();
	ready(fd, POLLIN);
	obs("preadv2", preadv2(fd, &v, 1, -1, 1 << 30));
	obs("pwritev2", pwritev2(fd, &v, 1, -1, 1 << 30));
	obs("preadv2 at 0", preadv2(fd, &v, 1, 0, 1 << 30));
	recv_pat(fd, 2 * PART, 0);
	send_pat(fd, 2 * PART, 0);
	both();
}
CASE("spellings.rwf_unknown", rwf_unknown_server, positioned_client, EVERY | CONF_EITHER);

static int print_list(int fd, const char *format, ...)
{
	va_list list;
	int n;

	va_start(list, format);
	n = vdprintf(fd, format, list);
	va_end(list);
	return n;
}

static void printed_server(int fd)
{
	obs("dprintf", dprintf(fd, "%s-%04d\n", "line", 7));
	obs("vdprintf", print_list(fd, "%c%c%c %5.2f\n", 'a', 'b', 'c', 2.5));
	obs("nothing", dprintf(fd, "%s", ""));
	obs("long", dprintf(fd, "%9000d", 1));
	obs("percent", dprintf(fd, "100%%\n"));
	both();
}

static void printed_client(int fd)
{
	char bytes[9026];

	obs("recv", recv_exact(fd, bytes, 10 + 10 + 9000 + 5));
	obs_sum("bytes", bytes, 10 + 10 + 9000 + 5);
	both();
}
CASE("spellings.dprintf", printed_server, printed_client, EVERY);

static void printed_to_nobody_server(int fd)
{
	on_signal(SIGPIPE, 0);
	both();
	ready(fd, POLLRDHUP);
	obs("send", send(fd, "x", 1, 0));
	ready(fd, POLLERR | POLLHUP);
	obs("dprintf", dprintf(fd, "%d\n", 42));
	obs_val("SIGPIPE", signal_count(SIGPIPE) > 0);
}

static void printed_to_nobody_client(int fd)
{
	close(fd);
	both();
}
CASE("spellings.dprintf_epipe", printed_to_nobody_server, printed_to_nobody_client, ANY);

/* Calls that take descriptors but no socket, or not this one. */
static void not_for_sockets_server(int fd)
{
	int ends[2];
	int file = memfd_create("file", 0);
	struct iovec v = { ends, 1 };
	off_t at = 0;

	if (pipe(ends) < 0)
		return;
	obs("tee from", tee(fd, ends[1], 10, 0));
	obs("tee to", tee(ends[0], fd, 10, 0));
	obs("vmsplice", vmsplice(fd, &v, 1, 0));
	obs("copy_file_range from", copy_file_range(fd, NULL, file, NULL, 10, 0));
	obs("copy_file_range to", copy_file_range(file, NULL, fd, NULL, 10, 0));
	obs("sendfile from, offset", sendfile(ends[1], fd, &at, 10));
	obs("sendfile to a file", sendfile(file, fd, NULL, 10));
	obs("splice to a file", splice(fd, NULL, file, NULL, 10, 0));
	obs("splice unknown flag", splice(fd, NULL, ends[1], NULL, 10, 1 << 20));
	obs("splice of nothing", splice(fd, NULL, ends[1], NULL, 0, 0));
	obs("splice with offset", splice(fd, NULL, ends[1], &at, 10, 0));
	obs("splice backwards", splice(fd, NULL, ends[0], NULL, 10, SPLICE_F_NONBLOCK));
	obs("sendfile from a pipe", sendfile(fd, ends[0], NULL, 10));
	obs("lseek", lseek(fd, 5, SEEK_SET));
	obs("ftruncate", ftruncate(fd, 0));
	obs("fallocate", fallocate(fd, 0, 0, 10));
	obs("posix_fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
	obs("fdatasync", fdatasync(fd));
	obs("sync_file_range", sync_file_range(fd, 0, 0, 0));
	obs("readahead", readahead(fd, 0, 10));
	obs("isatty", isatty(fd));
	obs("fchdir", fchdir(fd));
	close(file);
	close(ends[0]);
	close(ends[1]);
	both();
	recv_pat(fd, 2 * PART, 0);
	send_pat(fd, 2 * PART, 0);
	both();
}
CASE("spellings.not_for_sockets", not_for_sockets_server, positioned_client, ANY);

int isfdtype(int fd, int type);

static void kind_server(int fd)
{
	obs("isfdtype socket", isfdtype(fd, S_IFSOCK));
	obs("isfdtype file", isfdtype(fd, S_IFREG));
	obs("sockatmark", sockatmark(fd));
	recv_pat(fd, 2 * PART, 0);
	obs("sockatmark", sockatmark(fd));
	send_pat(fd, 2 * PART, 0);
	both();
}
CASE("spellings.kind", kind_server, both_ways_client, ANY);
