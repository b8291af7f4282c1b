/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers that both roles make at once: how the bytes are cut is chance, what they are is not. */
#include "tests/differential/worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 20 * 1000, PIECE_MAX = 128 * 1024 };

struct pump {
	int fd, set;
	uint64_t random;
	const char *style;
	struct actor *actor;
	size_t piece_max;
};

static uint64_t draw(struct pump *p, uint64_t below)
{
	p->random ^= p->random << 13;
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return p->random % below;
}

/* Small pieces and large ones; now and then a very small one. */
static size_t piece(struct pump *p, size_t left)
{
	size_t most = draw(p, 8) == 0 ? 3 : draw(p, 2) ? 300 : p->piece_max;
	size_t n = 1 + draw(p, most);

	return n < left ? n : left;
}

static bool is(const struct pump *p, const char *style)
{
	return strcmp(p->style, style) == 0;
}

/* For the styles that never block in a transfer.  False: it took too long, or failed. */
static bool wait_for(struct pump *p, short events)
{
	struct pollfd entry = { p->fd, events, 0 };
	struct epoll_event event;
	struct timeval time = { WAIT_MS / 1000, 0 };
	fd_set set;
	int n;

	do {
		if (is(p, "select")) {
			FD_ZERO(&set);
			FD_SET(p->fd, &set);
			n = select(p->fd + 1, events == POLLIN ? &set : NULL,
				   events == POLLOUT ? &set : NULL, NULL, &time);
		} else if (is(p, "epoll") || is(p, "edge")) {
			n = epoll_wait(p->set, &event, 1, WAIT_MS);
		} else {
			n = poll(&entry, 1, WAIT_MS);
		}
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		say(p->actor, "nothing came ");
	return n > 0;
}

static bool start(struct pump *p, struct actor *actor, const struct words *words, uint32_t events)
{
	struct epoll_event event = { .events = events };

	p->actor = actor;
	p->fd = slot_fd(word(words, 1));
	p->random = (uint64_t)number(words, 3) * 0x9e3779b97f4a7c15u + 1;
	p->style = word(words, 4);
	p->piece_max = PIECE_MAX;
	p->set = -1;
	if (!is(p, "epoll") && !is(p, "edge"))
		return true;
	p->set = epoll_create1(EPOLL_CLOEXEC);
	event.events |= is(p, "edge") ? EPOLLET : 0;
	return epoll_ctl(p->set, EPOLL_CTL_ADD, p->fd, &event) == 0;
}

static void end(struct pump *p, const char *name, size_t done, ssize_t last)
{
	int error = errno;

	if (p->set >= 0)
		close(p->set);
	errno = error;
	say(p->actor, "%s=%zu", name, done);
	if (last <= 0)
		say_result(p->actor, " last", last);
}

static ssize_t put(struct pump *p, size_t count, int flags)
{
	struct iovec iov[PARTS_MAX];
	struct msghdr message = { .msg_iov = iov };

	switch (draw(p, 4)) {
	case 0:
		message.msg_iovlen = (size_t)split(iov, p->actor->out, count, 3);
		return sendmsg(p->fd, &message, flags);
	case 1:
		return flags ? send(p->fd, p->actor->out, count, flags)
			     : write(p->fd, p->actor->out, count);
	default:
		return send(p->fd, p->actor->out, count, flags);
	}
}

/* pump_out SLOT BYTES SEED STYLE */
static void do_out(struct actor *actor, const struct words *words)
{
	struct pump p;
	size_t total = (size_t)number(words, 2), done = 0;
	uint64_t seed = (uint64_t)number(words, 3);
	ssize_t n = 1;

	if (!start(&p, actor, words, EPOLLOUT)) {
		say_result(actor, "epoll", -1);
		return;
	}
	while (done < total) {
		size_t count = piece(&p, total - done);

		payload_fill(actor->out, count, seed, done);
		n = put(&p, count, is(&p, "blocking") ? 0 : MSG_DONTWAIT);
		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno == EAGAIN && wait_for(&p, POLLOUT))
			continue;
		else
			break;
	}
	end(&p, "pump_out", done, n);
}

static ssize_t get(struct pump *p, size_t count, int flags)
{
	struct iovec iov[PARTS_MAX];
	struct msghdr message = { .msg_iov = iov };

	switch (draw(p, 5)) {
	case 0:
		message.msg_iovlen = (size_t)split(iov, p->actor->in, count, 3);
		return recvmsg(p->fd, &message, flags);
	case 1:
		return flags ? recv(p->fd, p->actor->in, count, flags)
			     : read(p->fd, p->actor->in, count);
	case 2: /* looking at more than the window holds would wait for ever */
		if (!(flags & MSG_WAITALL) &&
		    recv(p->fd, p->actor->in, count, flags | MSG_PEEK) < 0)
			return -1;
		return recv(p->fd, p->actor->in, count, flags);
	default:
		return recv(p->fd, p->actor->in, count, flags);
	}
}

/* pump_in SLOT BYTES SEED STYLE: so many, or to the end */
static void do_in(struct actor *actor, const struct words *words)
{
	struct pump p;
	size_t total = (size_t)number(words, 2), done = 0;
	struct hash hash;
	ssize_t n = 1;

	hash_start(&hash);
	if (!start(&p, actor, words, EPOLLIN)) {
		say_result(actor, "epoll", -1);
		return;
	}
	while (done < total) {
		int flags = is(&p, "blocking") ? 0 : is(&p, "waitall") ? MSG_WAITALL : MSG_DONTWAIT;
		bool first_waits = !is(&p, "blocking") && !is(&p, "waitall") && !is(&p, "edge");

		if (first_waits && !wait_for(&p, POLLIN))
			break;
		n = get(&p, piece(&p, total - done), flags);
		if (n > 0) {
			hash_add(&hash, actor->in, (size_t)n);
			done += (size_t)n;
		} else if (!(n < 0 && errno == EAGAIN &&
			     (!is(&p, "edge") || wait_for(&p, POLLIN)))) {
			break;
		}
	}
	end(&p, "pump_in", done, n);
	say(actor, " hash=%08x", hash_end(&hash));
}

static bool get_all(int fd, unsigned char *bytes, size_t count)
{
	size_t done = 0;
	ssize_t n;

	while (done < count && (n = recv(fd, bytes + done, count - done, 0)) > 0)
		done += (size_t)n;
	return done == count;
}

/* trips SLOT ROUNDS BYTES SEED ping|pong */
static void do_trips(struct actor *actor, const struct words *words)
{
	int fd = slot_fd(word(words, 1)), rounds = (int)number(words, 2), i;
	size_t count = (size_t)number(words, 3);
	bool pings = strcmp(word(words, 5), "ping") == 0;
	struct hash hash;

	hash_start(&hash);
	payload_fill(actor->out, count, (uint64_t)number(words, 4), 0);
	for (i = 0; i < rounds; i++) {
		if (pings && send(fd, actor->out, count, 0) != (ssize_t)count)
			break;
		if (!get_all(fd, actor->in, count))
			break;
		hash_add(&hash, actor->in, count);
		if (!pings && send(fd, actor->out, count, 0) != (ssize_t)count)
			break;
	}
	say(actor, "trips=%d hash=%08x", i, hash_end(&hash));
}

const struct call pump_calls[] = {
	{ "pump_out", do_out }, { "pump_in", do_in }, { "trips", do_trips }, { NULL, NULL }
};
