/* SPDX-License-Identifier: Apache-2.0 */
/* send SLOT CALL BYTES SEED FLAGS PARTS */
#include "tests/differential/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

extern ssize_t __write(int fd, const void *bytes, size_t count);
extern ssize_t __send(int fd, const void *bytes, size_t count, int flags);

struct sending {
	int fd, flags, parts;
	size_t count;
	struct actor *actor;
	struct iovec iov[PARTS_MAX];
};

static struct msghdr message_of(struct sending *s)
{
	return (struct msghdr){ .msg_iov = s->iov, .msg_iovlen = (size_t)s->parts };
}

/* One message for each part. */
static ssize_t by_sendmmsg(struct sending *s)
{
	struct mmsghdr messages[PARTS_MAX] = { 0 };
	ssize_t total = 0;
	int n;

	for (int i = 0; i < s->parts; i++) {
		messages[i].msg_hdr.msg_iov = &s->iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	n = sendmmsg(s->fd, messages, (unsigned int)s->parts, s->flags);
	if (n < 0)
		return n;
	for (int i = 0; i < n; i++)
		total += messages[i].msg_len;
	say(s->actor, "messages=%d ", n);
	return total;
}

static ssize_t by_sendfile(struct sending *s)
{
	int file = memfd_create("differential", MFD_CLOEXEC), error;
	ssize_t n = -1;

	if (file >= 0 && write(file, s->actor->out, s->count) == (ssize_t)s->count) {
		off_t at = 0;

		n = sendfile(s->fd, file, &at, s->count);
		error = errno;
		say(s->actor, "offset=%ld ", (long)at);
		errno = error;
	}
	error = errno;
	close(file);
	errno = error;
	return n;
}

/* One that has bytes, but no size, and perhaps no place. */
static ssize_t by_sendfile_of(struct sending *s, const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC), error;
	off_t at = 3;
	ssize_t n = sendfile(s->fd, file, s->parts > 1 ? NULL : &at, s->count);

	error = errno;
	say(s->actor, "offset=%ld place=%ld ", (long)at, (long)lseek(file, 0, SEEK_CUR));
	close(file);
	errno = error;
	return n;
}

static ssize_t by_splice(struct sending *s)
{
	int ends[2], error;
	ssize_t n = -1;

	if (pipe(ends) < 0)
		return -1;
	if (write(ends[1], s->actor->out, s->count) == (ssize_t)s->count)
		n = splice(ends[0], NULL, s->fd, NULL, s->count,
			   s->flags & MSG_DONTWAIT ? SPLICE_F_NONBLOCK : 0);
	error = errno;
	close(ends[0]);
	close(ends[1]);
	errno = error;
	return n;
}

static ssize_t by_name(struct sending *s, const char *call)
{
	const unsigned char *bytes = s->actor->out;
	struct msghdr message = message_of(s);

	if (strcmp(call, "write") == 0)
		return write(s->fd, bytes, s->count);
	if (strcmp(call, "__write") == 0)
		return __write(s->fd, bytes, s->count);
	if (strcmp(call, "send") == 0)
		return send(s->fd, bytes, s->count, s->flags);
	if (strcmp(call, "__send") == 0)
		return __send(s->fd, bytes, s->count, s->flags);
	if (strcmp(call, "sendto") == 0)
		return sendto(s->fd, bytes, s->count, s->flags, NULL, 0);
	if (strcmp(call, "writev") == 0)
		return writev(s->fd, s->iov, s->parts);
	if (strcmp(call, "pwritev2") == 0)
		return pwritev2(s->fd, s->iov, s->parts, -1, 0);
	if (strcmp(call, "sendmsg") == 0)
		return sendmsg(s->fd, &message, s->flags);
	if (strcmp(call, "sendmmsg") == 0)
		return by_sendmmsg(s);
	if (strcmp(call, "sendfile") == 0)
		return by_sendfile(s);
	if (strcmp(call, "sendfile_device") == 0)
		return by_sendfile_of(s, "/dev/zero");
	if (strcmp(call, "sendfile_nothing") == 0)
		return by_sendfile_of(s, "/dev/null");
	if (strcmp(call, "sendfile_maps") == 0) /* which cannot be spliced */
		return by_sendfile_of(s, "/proc/self/maps");
	if (strcmp(call, "sendfile_made") == 0) /* which can */
		return by_sendfile_of(s, "/proc/sys/kernel/ostype");
	if (strcmp(call, "splice") == 0)
		return by_splice(s);
	if (strcmp(call, "dprintf") == 0) /* `count` digits */
		return dprintf(s->fd, "%0*d", (int)s->count, 7);
	errno = ENOSYS;
	return -1;
}

static void do_send(struct actor *actor, const struct words *words)
{
	struct sending s = { .fd = slot_fd(word(words, 1)),
			     .flags = flags_of(word(words, 5)),
			     .count = (size_t)number(words, 3),
			     .actor = actor };

	payload_fill(actor->out, s.count, (uint64_t)number(words, 4), 0);
	s.parts = split(s.iov, actor->out, s.count, (int)number(words, 6));
	say_result(actor, "send", by_name(&s, word(words, 2)));
}

const struct call send_calls[] = { { "send", do_send }, { NULL, NULL } };
