/* SPDX-License-Identifier: Apache-2.0 */
/* Waits that no library can see: calls around it, system call instructions, io_uring. */
#include "tests/conformance/lib/conf.h"
#include "tests/bare_call.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { ROUNDS = 8, WARM_ROUNDS = 60, MANY_ROUNDS = 700 };

static const struct timespec limit = { CONF_WAIT_MS / 1000, 0 };

static int raw_poll(int fd, short events, short *revents)
{
	struct pollfd p = { .fd = fd, .events = events };
	struct timespec t = limit; /* the kernel writes into it */
	long n = bare_call(SYS_ppoll, (long)&p, 1, (long)&t, 0, 8, 0);

	*revents = p.revents;
	return (int)n;
}

/* The connection grows up while its server end waits by these means and no others. */
static int accept_warm(int listener, bool (*wait_by)(int fd))
{
	int fd = conf_accept(listener), bad = 0;
	char bytes[16];

	for (int i = 0; i < WARM_ROUNDS; i++) {
		bad += !wait_by(fd);
		bad += recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) != sizeof(bytes);
		bad += send(fd, bytes, sizeof(bytes), 0) != sizeof(bytes);
	}
	both(); /* of warm_up() */
	obs_val("bad", bad);
	return fd;
}

static bool by_poll(int fd)
{
	short revents;

	return raw_poll(fd, POLLIN, &revents) == 1;
}

static int connect_warm(void)
{
	int fd = conf_connect();

	warm_up(fd, WARM_ROUNDS);
	return fd;
}

/* Sends a byte when told, after a while: the other end sleeps by then. */
static void late_bytes(int none)
{
	int fd = connect_warm();

	(void)none;
	for (int i = 0; i < ROUNDS; i++) {
		await();
		nap_ms(10);
		send_exact(fd, "r", 1);
	}
	both();
	close(fd);
}

static void poll_then(int fd, int flags)
{
	char byte = 0;
	short revents;
	int n;

	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		n = raw_poll(fd, POLLIN, &revents);
		obs_poll("raw poll", n, revents);
		obs("recv", recv(fd, &byte, 1, flags));
		obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	}
	both();
}

static void poll_nonblocking_server(int listener)
{
	int fd = accept_warm(listener, by_poll);

	poll_then(fd, MSG_DONTWAIT);
	close(fd);
}
CASE("raw.poll", poll_nonblocking_server, late_bytes, CONF_RAW);

static void poll_blocking_server(int listener)
{
	int fd = accept_warm(listener, by_poll);
	char byte = 0;
	short revents;

	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		obs("raw poll", raw_poll(fd, POLLIN, &revents));
		obs("recv", recv(fd, &byte, 1, 0));
	}
	both();
	close(fd);
}
CASE("raw.poll_blocking_recv", poll_blocking_server, late_bytes, CONF_RAW);

/* Hundreds of rounds that never sleep in the library. */
static void long_server(int listener)
{
	int fd = accept_warm(listener, by_poll);
	char bytes[32];
	short revents;
	int bad = 0;

	for (uint64_t i = 0; i < MANY_ROUNDS; i++) {
		bad += raw_poll(fd, POLLIN, &revents) != 1;
		bad += recv(fd, bytes, sizeof(bytes), 0) != sizeof(bytes);
		bad += !pat_good(bytes, sizeof(bytes), i);
		send_exact(fd, bytes, sizeof(bytes));
	}
	obs_val("bad", bad);
	close(fd);
}

static void long_client(int none)
{
	int fd = connect_warm();
	char bytes[32];
	int bad = 0;

	for (uint64_t i = 0; i < MANY_ROUNDS; i++) {
		pat_fill(bytes, sizeof(bytes), i);
		if (i % 50 == 49)
			nap_ms(3);
		send_exact(fd, bytes, sizeof(bytes));
		bad += recv_exact(fd, bytes, sizeof(bytes)) != sizeof(bytes);
	}
	obs_val("bad", bad);
	(void)none;
	close(fd);
}
CASE("raw.poll_many_rounds", long_server, long_client, CONF_RAW);

static bool by_select(int fd)
{
	struct timespec t = limit;
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	return bare_call(SYS_pselect6, fd + 1, (long)&in, 0, 0, (long)&t, 0) == 1;
}

static void select_server(int listener)
{
	int fd = accept_warm(listener, by_select);
	char byte = 0;

	for (int i = 0; i < ROUNDS; i++) {
		struct timespec t = limit;
		fd_set in;

		FD_ZERO(&in);
		FD_SET(fd, &in);
		tell(0);
		obs("raw select", bare_call(SYS_pselect6, fd + 1, (long)&in, 0, 0, (long)&t, 0));
		obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	}
	both();
	close(fd);
}
CASE("raw.select", select_server, late_bytes, CONF_RAW);

/* ---- epoll ---- */

static int raw_epoll_wait(int set, struct epoll_event *e)
{
	return (int)bare_call(SYS_epoll_pwait, set, (long)e, 1, CONF_WAIT_MS, 0, 8);
}

static int the_set;

static bool by_set(int fd)
{
	struct epoll_event e;

	(void)fd;
	return raw_epoll_wait(the_set, &e) == 1;
}

/* Edge-triggered and nonblocking: read until there is nothing. */
static void raw_set(int listener, uint32_t events, bool made_raw)
{
	struct epoll_event e = { .events = events, .data.u64 = 1 };
	char byte = 0, bytes[16];
	int bad = 0, fd, n;

	the_set = made_raw ? (int)bare_call(SYS_epoll_create1, 0, 0, 0, 0, 0, 0) : epoll_create1(0);
	fd = conf_accept(listener);
	if (made_raw)
		obs("ctl", bare_call(SYS_epoll_ctl, the_set, EPOLL_CTL_ADD, fd, (long)&e, 0, 0));
	else
		obs("ctl", epoll_ctl(the_set, EPOLL_CTL_ADD, fd, &e));
	for (int i = 0; i < WARM_ROUNDS; i++) {
		bad += !by_set(fd);
		bad += recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) != sizeof(bytes);
		bad += recv(fd, &byte, 1, MSG_DONTWAIT) != -1;
		bad += send(fd, bytes, sizeof(bytes), 0) != sizeof(bytes);
	}
	both(); /* of warm_up() */
	obs_val("bad", bad);
	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		n = raw_epoll_wait(the_set, &e);
		obs_epoll("raw epoll", n, &e);
		obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
		obs("recv", recv(fd, &byte, 1, MSG_DONTWAIT));
	}
	bare_call(SYS_close, the_set, 0, 0, 0, 0, 0);
	both();
	close(fd);
}

static void unseen_level_server(int listener)
{
	raw_set(listener, EPOLLIN, true);
}
CASE("raw.epoll_unseen_set", unseen_level_server, late_bytes, CONF_RAW);

static void unseen_edge_server(int listener)
{
	raw_set(listener, EPOLLIN | EPOLLET, true);
}
CASE("raw.epoll_unseen_set_edge", unseen_edge_server, late_bytes, CONF_RAW);

static void seen_set_server(int listener)
{
	raw_set(listener, EPOLLIN, false);
}
CASE("raw.epoll_known_set", seen_set_server, late_bytes, CONF_RAW);

static void seen_edge_server(int listener)
{
	raw_set(listener, EPOLLIN | EPOLLET, false);
}
CASE("raw.epoll_known_set_edge", seen_edge_server, late_bytes, CONF_RAW);

/* ---- a thread that sleeps by itself while another one sends ---- */

static void *raw_sleeper(void *arg)
{
	short revents = 0;
	long n = raw_poll(*(int *)arg, POLLIN, &revents);

	return (void *)(intptr_t)(n * 1000 + revents);
}

static void thread_server(int listener)
{
	int fd = accept_warm(listener, by_poll);
	void *result = NULL;
	pthread_t t;
	char byte = 0;

	t = spawn(raw_sleeper, &fd);
	tell(0);
	pthread_join(t, &result);
	obs_val("raw poll", (long)(intptr_t)result);
	obs("recv", recv(fd, &byte, 1, 0));
	for (int i = 1; i < ROUNDS; i++) {
		tell(0);
		obs("recv", recv(fd, &byte, 1, 0));
	}
	both();
	close(fd);
}
CASE("raw.thread_polls", thread_server, late_bytes, CONF_RAW);

/* ---- io_uring ---- */

struct uring {
	int fd;
	struct io_uring_params params;
	char *sq, *cq;
	struct io_uring_sqe *sqes;
};

static void *map(int fd, size_t bytes, long offset)
{
	return (void *)bare_call(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_POPULATE, fd, offset);
}

static bool setup_uring(struct uring *u)
{
	memset(u, 0, sizeof(*u));
	u->fd = (int)syscall(SYS_io_uring_setup, 4, &u->params);
	return u->fd >= 0;
}

static bool map_uring(struct uring *u)
{
	u->sq = map(u->fd, u->params.sq_off.array + u->params.sq_entries * sizeof(uint32_t),
		    IORING_OFF_SQ_RING);
	u->cq = map(u->fd,
		    u->params.cq_off.cqes + u->params.cq_entries * sizeof(struct io_uring_cqe),
		    IORING_OFF_CQ_RING);
	u->sqes = map(u->fd, u->params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	return true;
}

static bool open_uring(struct uring *u)
{
	memset(u, 0, sizeof(*u));
	u->fd = (int)bare_call(SYS_io_uring_setup, 4, (long)&u->params, 0, 0, 0, 0);
	return u->fd >= 0 && map_uring(u);
}

/* Submit one poll for input, sleep until it is complete; its result. */
static int uring_poll(struct uring *u, int fd)
{
	uint32_t *tail = (uint32_t *)(void *)(u->sq + u->params.sq_off.tail);
	uint32_t *array = (uint32_t *)(void *)(u->sq + u->params.sq_off.array);
	uint32_t *head = (uint32_t *)(void *)(u->cq + u->params.cq_off.head);
	uint32_t *mask = (uint32_t *)(void *)(u->cq + u->params.cq_off.ring_mask);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(void *)(u->cq + u->params.cq_off.cqes);
	uint32_t at = *tail % u->params.sq_entries;
	int result;

	memset(&u->sqes[at], 0, sizeof(u->sqes[at]));
	u->sqes[at].opcode = IORING_OP_POLL_ADD;
	u->sqes[at].fd = fd;
	u->sqes[at].poll32_events = POLLIN;
	array[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (bare_call(SYS_io_uring_enter, u->fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) < 0)
		return -1;
	result = cqes[*head & *mask].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

static void uring_server(int listener)
{
	int fd = accept_warm(listener, by_poll);
	struct uring u;
	bool have = open_uring(&u);
	char byte = 0;

	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		if (have) /* where the kernel forbids it there is nothing to see */
			obs_val("uring poll", uring_poll(&u, fd) & POLLIN);
		obs("recv", recv(fd, &byte, 1, have ? MSG_DONTWAIT : 0));
	}
	if (have)
		bare_call(SYS_close, u.fd, 0, 0, 0, 0, 0);
	both();
	close(fd);
}
CASE("raw.io_uring_poll", uring_server, late_bytes, CONF_RAW);

/* Read by our own blocking calls first, for long; then waited for by a ring. */
static void uring_after_reads(int listener, bool early)
{
	struct uring u = { .fd = -1 };
	bool have = early && open_uring(&u);
	int fd = conf_accept(listener);
	char byte = 0;

	warm_up(fd, WARM_ROUNDS);
	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		obs("recv", recv(fd, &byte, 1, 0));
	}
	if (!early)
		have = setup_uring(&u) && map_uring(&u);
	for (int i = 0; i < ROUNDS; i++) {
		tell(0);
		if (have)
			obs_val("uring poll", uring_poll(&u, fd) & POLLIN);
		obs("recv", recv(fd, &byte, 1, have ? MSG_DONTWAIT : 0));
	}
	if (have)
		close(u.fd);
	both();
	close(fd);
}

static void late_bytes_twice(int none)
{
	int fd = connect_warm();

	(void)none;
	for (int i = 0; i < 2 * ROUNDS; i++) {
		await();
		nap_ms(10);
		send_exact(fd, "r", 1);
	}
	both();
	close(fd);
}

static void uring_early_server(int listener)
{
	uring_after_reads(listener, true);
}
CASE("raw.io_uring_made_before", uring_early_server, late_bytes_twice, CONF_RAW);

/* Set up through libc. */
static void uring_late_server(int listener)
{
	uring_after_reads(listener, false);
}
CASE("raw.io_uring_made_later", uring_late_server, late_bytes_twice, CONF_RAW);
