/* SPDX-License-Identifier: Apache-2.0 */
/* Connections come and go. */
#include "tests/differential/worker/worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 16 };

/* PORT of 127.0.0.1, or the path of a Unix socket */
static socklen_t address_of(const char *text, struct sockaddr_storage *address)
{
	struct sockaddr_in *inet = (struct sockaddr_in *)address;
	struct sockaddr_un *local = (struct sockaddr_un *)address;

	memset(address, 0, sizeof(*address));
	if (text[0] == '/') {
		local->sun_family = AF_UNIX;
		snprintf(local->sun_path, sizeof(local->sun_path), "%s", text);
		return sizeof(*local);
	}
	inet->sin_family = AF_INET;
	inet->sin_port = htons((uint16_t)strtoul(text, NULL, 10));
	inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(*inet);
}

/* listen SLOT ADDRESS: port 0 is chosen by the kernel; the outcome says which. */
static void do_listen(struct actor *actor, const struct words *words)
{
	struct sockaddr_storage address;
	socklen_t bytes = address_of(word(words, 2), &address);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&address, bytes) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &bytes) < 0) {
		say_result(actor, "listen", -1);
		return;
	}
	slot_set(word(words, 1), fd);
	say(actor, "listen=%d", ntohs(((struct sockaddr_in *)&address)->sin_port));
}

/* Nothing of a plan may depend on how long an acknowledgement takes. */
static void without_delay(int fd, int family, bool nagle)
{
	int one = 1;

	if (family == AF_INET && !nagle)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* connect SLOT ADDRESS blocking|nonblocking [nagle] */
static void do_connect(struct actor *actor, const struct words *words)
{
	struct sockaddr_storage address;
	socklen_t bytes = address_of(word(words, 2), &address);
	bool nonblocking = strcmp(word(words, 3), "nonblocking") == 0;
	int fd = socket(address.ss_family, SOCK_STREAM | (nonblocking ? SOCK_NONBLOCK : 0), 0);
	int n = connect(fd, (struct sockaddr *)&address, bytes);

	if (n < 0 && errno == EINPROGRESS) {
		struct pollfd entry = { fd, POLLOUT, 0 };
		int error = 0;
		socklen_t error_bytes = sizeof(error);

		poll(&entry, 1, 5000);
		n = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes);
	}
	without_delay(fd, address.ss_family, strcmp(word(words, 4), "nagle") == 0);
	slot_set(word(words, 1), fd);
	say_result(actor, "connect", n);
	say(actor, " fd=%d", fd);
}

/* accept SLOT LISTENER plain|nonblocking [nagle] */
static void do_accept(struct actor *actor, const struct words *words)
{
	bool nonblocking = strcmp(word(words, 3), "nonblocking") == 0;
	struct sockaddr_storage address;
	socklen_t bytes = sizeof(address);
	int listener = slot_fd(word(words, 2));
	int fd = nonblocking ? accept4(listener, NULL, NULL, SOCK_NONBLOCK)
			     : accept(listener, (struct sockaddr *)&address, &bytes);

	if (fd >= 0) {
		int family = 0;
		socklen_t family_bytes = sizeof(family);

		getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &family_bytes);
		without_delay(fd, family, strcmp(word(words, 4), "nagle") == 0);
		slot_set(word(words, 1), fd);
	}
	say_result(actor, "accept", fd);
}

static void do_pipe(struct actor *actor, const struct words *words)
{
	int ends[2];
	int n = pipe(ends);

	say_result(actor, "pipe", n);
	if (n == 0) {
		slot_set(word(words, 1), ends[0]);
		slot_set(word(words, 2), ends[1]);
	}
}

/* pass SLOT WHAT BYTES SEED: WHAT rides on the bytes. */
static void do_pass(struct actor *actor, const struct words *words)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { actor->out, (size_t)number(words, 3) };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd = slot_fd(word(words, 2));

	payload_fill(actor->out, iov.iov_len, (uint64_t)number(words, 4), 0);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	say_result(actor, "pass", sendmsg(slot_fd(word(words, 1)), &message, 0));
}

/* take SLOT INTO BYTES FLAGS: bytes, and perhaps a descriptor. */
static void do_take(struct actor *actor, const struct words *words)
{
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { actor->in, (size_t)number(words, 3) };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(slot_fd(word(words, 1)), &message, flags_of(word(words, 4)));
	struct hash hash;
	int fd = -1;

	say_result(actor, "take", n);
	if (n < 0)
		return;
	hash_start(&hash);
	hash_add(&hash, actor->in, (size_t)n);
	say(actor, " hash=%08x flags=%x", hash_end(&hash), (unsigned int)message.msg_flags);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
		say(actor, " control=%d,%zu", h->cmsg_type, h->cmsg_len);
		if (h->cmsg_type == SCM_RIGHTS) {
			memcpy(&fd, CMSG_DATA(h), sizeof(fd));
			if (slot_fd(word(words, 2)) >= 0)
				close(slot_fd(word(words, 2)));
			slot_set(word(words, 2), fd);
		}
	}
	say(actor, " fd=%d", fd);
}

/* reset: nothing is left of the last plan. */
static void do_reset(struct actor *actor, const struct words *words)
{
	(void)words;
	slots_close();
	say(actor, "reset");
}

const struct call connect_calls[] = {
	{ "listen", do_listen }, { "connect", do_connect },
	{ "accept", do_accept }, { "pipe", do_pipe },
	{ "pass", do_pass },	 { "take", do_take },
	{ "reset", do_reset },	 { NULL, NULL },
};
