/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that look right and are not mapped, or not for this: EFAULT, and not a byte lost. */
#include "tests/conformance/lib/conf.h"

#include <sys/mman.h>
#include <sys/uio.h>

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = ANY | CONF_MID, PAGE = 4096 };

/* Two pages of which the second cannot be touched. */
static char *half_mapped(void)
{
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);

	mprotect(pages + PAGE, PAGE, PROT_NONE);
	return pages;
}

static char *read_only(void)
{
	return mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static char *unmapped(void)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(page, PAGE);
	return page;
}

static void sends_100(int fd)
{
	both();
	send_pat(fd, 100, 0);
	both();
	both();
}

static void receives_100(int fd)
{
	both();
	both();
	recv_pat(fd, 100, 0);
	both();
}

/* Every way of receiving fails, then all of it is still there. */
static void try_receives(int fd, char *bad)
{
	struct iovec v = { bad, 50 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct mmsghdr mm = { .msg_hdr = m };

	obs("recv", recv(fd, bad, 50, 0));
	obs("recv peek", recv(fd, bad, 50, MSG_PEEK));
	obs("recv waitall", recv(fd, bad, 50, MSG_WAITALL));
	obs("recvfrom", recvfrom(fd, bad, 50, 0, NULL, NULL));
	obs("read", read(fd, bad, 50));
	obs("readv", readv(fd, &v, 1));
	obs("preadv2", preadv2(fd, &v, 1, -1, 0));
	obs("recvmsg", recvmsg(fd, &m, 0));
	obs("recvmmsg", recvmmsg(fd, &mm, 1, 0, NULL));
}

static void receive_unmapped_server(int fd)
{
	both();
	both();
	ready(fd, POLLIN);
	try_receives(fd, unmapped());
	recv_pat(fd, 100, 0);
	both();
}
CASE("efault.receive_unmapped", receive_unmapped_server, sends_100, EVERY);

static void receive_read_only_server(int fd)
{
	char *page = read_only();

	both();
	both();
	ready(fd, POLLIN);
	try_receives(fd, page);
	obs_val("untouched", page[0]);
	recv_pat(fd, 100, 0);
	munmap(page, PAGE);
	both();
}
CASE("efault.receive_read_only", receive_read_only_server, sends_100, EVERY);

/* The buffer is right at first and wrong behind: nothing is taken. */
static void receive_across_server(int fd)
{
	char *pages = half_mapped();

	both();
	both();
	ready(fd, POLLIN);
	obs("recv", recv(fd, pages + PAGE - 30, 100, 0));
	obs("recv fits", recv(fd, pages + PAGE - 30, 30, 0));
	obs_val("right", pat_good(pages + PAGE - 30, 30, 0));
	/* room for more than there is: only what comes is written */
	obs("recv of 70", recv(fd, pages + PAGE - 70, 1000, 0));
	obs_val("right", pat_good(pages + PAGE - 70, 70, 30));
	munmap(pages, 2 * PAGE);
	both();
}
CASE("efault.receive_across", receive_across_server, sends_100, EVERY);

static void receive_vector_server(int fd)
{
	char *bad = unmapped();
	char good[50];
	struct iovec v[2] = { { good, 50 }, { bad, 50 } };
	struct iovec empty[3] = { { bad, 0 }, { good, 50 }, { bad, 0 } };

	both();
	both();
	ready(fd, POLLIN);
	obs("readv", readv(fd, v, 2));
	obs("empty ones do not count", readv(fd, empty, 3));
	obs_val("right", pat_good(good, 50, 0));
	obs("the first is enough", recv_exact(fd, good, 50));
	obs_val("right", pat_good(good, 50, 50));
	both();
}
CASE("efault.receive_vector", receive_vector_server, sends_100, EVERY);

static void try_sends(int fd, char *bad)
{
	struct iovec v = { bad, 50 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct mmsghdr mm = { .msg_hdr = m };

	obs("send", send(fd, bad, 50, 0));
	obs("sendto", sendto(fd, bad, 50, MSG_NOSIGNAL, NULL, 0));
	obs("write", write(fd, bad, 50));
	obs("writev", writev(fd, &v, 1));
	obs("pwritev2", pwritev2(fd, &v, 1, -1, 0));
	obs("sendmsg", sendmsg(fd, &m, 0));
	obs("sendmmsg", sendmmsg(fd, &mm, 1, 0));
}

static void send_unmapped_client(int fd)
{
	both();
	try_sends(fd, unmapped());
	send_pat(fd, 100, 0);
	both();
	both();
}
CASE("efault.send_unmapped", receives_100, send_unmapped_client, EVERY);

/* What may only be read can be sent. */
static void send_read_only_client(int fd)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	pat_fill(page, 100, 0);
	mprotect(page, PAGE, PROT_READ);
	both();
	obs("send", send(fd, page, 100, 0));
	munmap(page, PAGE);
	both();
	both();
}
CASE("efault.send_read_only", receives_100, send_read_only_client, EVERY);

static void send_across_client(int fd)
{
	char *pages = half_mapped();

	pat_fill(pages + PAGE - 100, 100, 0);
	both();
	obs("send", send(fd, pages + PAGE - 100, 200, 0));
	struct iovec v[2] = { { pages, 100 }, { pages + PAGE, 100 } };
	obs("writev", writev(fd, v, 2));
	obs("send fits", send(fd, pages + PAGE - 100, 100, 0));
	munmap(pages, 2 * PAGE);
	both();
	both();
}
CASE("efault.send_across", receives_100, send_across_client, EVERY);

/* A buffer that was good a moment ago, in each way that it can stop to be. */
static void gone_meanwhile_server(int fd)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	both();
	both();
	ready(fd, POLLIN);
	obs("recv", recv(fd, page, 10, 0));
	mprotect(page, PAGE, PROT_READ);
	obs("read only", recv(fd, page, 10, 0));
	mprotect(page, PAGE, PROT_READ | PROT_WRITE);
	obs("again", recv(fd, page, 10, 0));
	munmap(page, PAGE);
	obs("unmapped", recv(fd, page, 10, 0));
	page = mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		    0);
	obs("mapped", recv(fd, page, 10, 0));
	obs_val("right", pat_good(page, 10, 20));
	page = mmap(page, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	obs("mapped over", recv(fd, page, 10, 0));
	munmap(page, PAGE);
	recv_pat(fd, 70, 30);
	both();
}
CASE("efault.gone_meanwhile", gone_meanwhile_server, sends_100, EVERY);

static void moved_client(int fd)
{
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);
	char *moved;

	pat_fill(pages, 100, 0);
	both();
	obs("send", send(fd, pages, 50, 0));
	moved = mremap(pages, 2 * PAGE, PAGE * 64, MREMAP_MAYMOVE);
	obs_val("moved", moved != pages);
	obs("old place", send(fd, pages, 50, 0));
	obs("new place", send(fd, moved + 50, 50, 0));
	munmap(moved, PAGE * 64);
	both();
	both();
}

/* Behind the pages lies another mapping, so that growing means moving. */
static void mremap_client(int fd)
{
	char *place = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(place, 2 * PAGE);
	moved_client(fd);
	munmap(place + 2 * PAGE, PAGE);
}
CASE("efault.mremap", receives_100, mremap_client, ANY);

/* Everything else that a call points at. */
static void structures_server(int fd)
{
	char *bad = unmapped();
	char bytes[10];
	struct iovec v = { bytes, 10 };
	struct msghdr m = { .msg_iov = (struct iovec *)(void *)bad, .msg_iovlen = 1 };
	struct sockaddr_storage name;

	both();
	both();
	ready(fd, POLLIN);
	obs("readv", readv(fd, (struct iovec *)(void *)bad, 1));
	obs("preadv2", preadv2(fd, (struct iovec *)(void *)bad, 1, -1, 0));
	obs("recvmsg", recvmsg(fd, (struct msghdr *)(void *)bad, 0));
	obs("recvmsg vector", recvmsg(fd, &m, 0));
	obs("recvmmsg", recvmmsg(fd, (struct mmsghdr *)(void *)bad, 1, 0, NULL));
	obs("recvmmsg timeout",
	    recvmmsg(fd, (struct mmsghdr *)(void *)&m, 1, 0, (struct timespec *)(void *)bad));
	obs("poll", poll((struct pollfd *)(void *)bad, 1, 0));
	obs("ppoll time", ppoll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1,
				(struct timespec *)(void *)bad, NULL));
	obs("select", select(fd + 1, (fd_set *)(void *)bad, NULL, NULL, &(struct timeval){ 0, 0 }));
	obs("FIONREAD", ioctl(fd, FIONREAD, bad));
	obs("SIOCOUTQ", ioctl(fd, TIOCOUTQ, bad));
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_TYPE, bytes, (socklen_t *)(void *)bad));
	obs("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, bytes, (socklen_t *)(void *)bad));
	obs("setsockopt", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, bad, sizeof(int)));
	m.msg_iov = &v;
	obs("name length",
	    recvfrom(fd, bytes, 0, MSG_PEEK, (struct sockaddr *)&name, (socklen_t *)(void *)bad));
	recv_pat(fd, 100, 0);
	both();
}
CASE("efault.structures", structures_server, sends_100, ANY);

static void structures_client(int fd)
{
	char *bad = unmapped();
	struct msghdr m = { .msg_iov = (struct iovec *)(void *)bad, .msg_iovlen = 1 };
	struct iovec v = { bad + 1, 1 };
	char byte = 'x';

	both();
	obs("writev", writev(fd, (struct iovec *)(void *)bad, 1));
	obs("pwritev2", pwritev2(fd, (struct iovec *)(void *)bad, 1, -1, 0));
	obs("sendmsg", sendmsg(fd, (struct msghdr *)(void *)bad, 0));
	obs("sendmsg vector", sendmsg(fd, &m, 0));
	v.iov_base = &byte;
	m.msg_iov = &v;
	m.msg_name = bad;
	m.msg_namelen = 16;
	obs("sendmsg name", sendmsg(fd, &m, 0));
	m.msg_name = NULL;
	m.msg_namelen = 0;
	m.msg_control = bad;
	m.msg_controllen = CMSG_SPACE(sizeof(int));
	obs("sendmsg control", sendmsg(fd, &m, 0));
	obs("sendto name", sendto(fd, &byte, 1, 0, (struct sockaddr *)(void *)bad, 16));
	obs("sendmmsg", sendmmsg(fd, (struct mmsghdr *)(void *)bad, 1, 0));
	send_pat(fd, 100, 0);
	both();
	both();
}
CASE("efault.structures_send", receives_100, structures_client, ANY | CONF_EITHER);

/* Large transfers: everything up to the page that is not there, or less, but nothing wrong. */
static void large_server(int fd)
{
	size_t room = 300 * 1024;
	char *pages = mmap(NULL, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	size_t done = 0;

	mprotect(pages + room, PAGE, PROT_NONE);
	both();
	while (done < room) {
		ssize_t n = recv(fd, pages + done, room + PAGE - done, 0);

		if (n < 0 && errno == EFAULT)
			n = recv(fd, pages + done, room - done, 0);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	obs_text("received %zu, %s", done, pat_good(pages, done, 0) ? "right" : "WRONG");
	obs("more", recv(fd, pages + room, PAGE, 0));
	recv_pat(fd, 100 * 1024, room);
	munmap(pages, room + PAGE);
	both();
}

static void large_client(int fd)
{
	both();
	send_pat(fd, 400 * 1024, 0);
	both();
}
CASE("efault.large", large_server, large_client, ANY);
