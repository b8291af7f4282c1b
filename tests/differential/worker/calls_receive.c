/* SPDX-License-Identifier: Apache-2.0 */
/* receive SLOT CALL BYTES FLAGS PARTS */
#include "tests/differential/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { UNTOUCHED = 0xee, CONTROL_ROOM = 256 };

extern ssize_t __read(int fd, void *bytes, size_t count);
extern ssize_t __read_chk(int fd, void *bytes, size_t count, size_t room);
extern ssize_t __recv_chk(int fd, void *bytes, size_t count, size_t room, int flags);

struct receiving {
	int fd, flags, parts;
	size_t count;
	struct actor *actor;
	struct iovec iov[PARTS_MAX];
};

static void say_message(struct actor *actor, const struct msghdr *message)
{
	const struct cmsghdr *header = CMSG_FIRSTHDR(message);
	int left;

	say(actor, "flags=%x control=%zu ", (unsigned int)message->msg_flags,
	    message->msg_controllen);
	if (header && header->cmsg_level == IPPROTO_TCP && header->cmsg_type == TCP_CM_INQ) {
		memcpy(&left, CMSG_DATA(header), sizeof(left));
		say(actor, "left=%d ", left);
	}
}

static ssize_t by_recvmsg(struct receiving *r, bool named)
{
	_Alignas(struct cmsghdr) char control[CONTROL_ROOM];
	struct sockaddr_un name;
	struct msghdr message = { .msg_iov = r->iov,
				  .msg_iovlen = (size_t)r->parts,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t n;

	if (named) {
		message.msg_name = &name;
		message.msg_namelen = sizeof(name);
	}
	n = recvmsg(r->fd, &message, r->flags);
	if (n >= 0)
		say_message(r->actor, &message);
	if (n >= 0 && named)
		say(r->actor, "name=%u ", message.msg_namelen);
	return n;
}

/* One message for each part. */
static ssize_t by_recvmmsg(struct receiving *r)
{
	struct mmsghdr messages[PARTS_MAX] = { 0 };
	ssize_t total = 0;
	int n;

	for (int i = 0; i < r->parts; i++) {
		messages[i].msg_hdr.msg_iov = &r->iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	n = recvmmsg(r->fd, messages, (unsigned int)r->parts, r->flags, NULL);
	if (n < 0)
		return n;
	say(r->actor, "messages=%d ", n);
	for (int i = 0; i < n; i++)
		total += messages[i].msg_len;
	return total;
}

static ssize_t by_recvfrom(struct receiving *r)
{
	struct sockaddr_un name;
	socklen_t bytes = sizeof(name);
	ssize_t n = recvfrom(r->fd, r->actor->in, r->count, r->flags, &name, &bytes);

	if (n >= 0)
		say(r->actor, "name=%u ", bytes);
	return n;
}

/* Into a pipe, and out of it. */
static ssize_t by_splice(struct receiving *r)
{
	int ends[2], error;
	ssize_t n;

	if (pipe(ends) < 0)
		return -1;
	n = splice(r->fd, NULL, ends[1], NULL, r->count,
		   r->flags & MSG_DONTWAIT ? SPLICE_F_NONBLOCK : 0);
	error = errno;
	if (n > 0 && read(ends[0], r->actor->in, (size_t)n) != n)
		say(r->actor, "lost ");
	close(ends[0]);
	close(ends[1]);
	errno = error;
	return n;
}

static ssize_t by_name(struct receiving *r, const char *call)
{
	unsigned char *bytes = r->actor->in;

	if (strcmp(call, "read") == 0)
		return read(r->fd, bytes, r->count);
	if (strcmp(call, "__read") == 0)
		return __read(r->fd, bytes, r->count);
	if (strcmp(call, "__read_chk") == 0)
		return __read_chk(r->fd, bytes, r->count, BUFFER_BYTES);
	if (strcmp(call, "recv") == 0)
		return recv(r->fd, bytes, r->count, r->flags);
	if (strcmp(call, "__recv_chk") == 0)
		return __recv_chk(r->fd, bytes, r->count, BUFFER_BYTES, r->flags);
	if (strcmp(call, "recvfrom") == 0)
		return by_recvfrom(r);
	if (strcmp(call, "readv") == 0)
		return readv(r->fd, r->iov, r->parts);
	if (strcmp(call, "preadv2") == 0)
		return preadv2(r->fd, r->iov, r->parts, -1,
			       r->flags & MSG_DONTWAIT ? RWF_NOWAIT : 0);
	if (strcmp(call, "recvmsg") == 0)
		return by_recvmsg(r, false);
	if (strcmp(call, "recvmsg_named") == 0)
		return by_recvmsg(r, true);
	if (strcmp(call, "recvmmsg") == 0)
		return by_recvmmsg(r);
	if (strcmp(call, "splice") == 0)
		return by_splice(r);
	errno = ENOSYS;
	return -1;
}

/* The whole buffer counts: what lies behind the bytes received must be untouched. */
static void do_receive(struct actor *actor, const struct words *words)
{
	struct receiving r = { .fd = slot_fd(word(words, 1)),
			       .flags = flags_of(word(words, 4)),
			       .count = (size_t)number(words, 3),
			       .actor = actor };
	struct hash hash;
	ssize_t n;

	memset(actor->in, UNTOUCHED, r.count);
	r.parts = split(r.iov, actor->in, r.count, (int)number(words, 5));
	n = by_name(&r, word(words, 2));
	say_result(actor, "receive", n);
	hash_start(&hash);
	hash_add(&hash, actor->in, r.count);
	if (n > 0)
		say(actor, " first=%02x hash=%08x", actor->in[0], hash_end(&hash));
}

const struct call receive_calls[] = { { "receive", do_receive }, { NULL, NULL } };
