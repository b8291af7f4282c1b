/* SPDX-License-Identifier: Apache-2.0 */
/* Several threads on one connection. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = CONF_COLD | CONF_SWAP | CONF_MID };
enum { DUPLEX_BYTES = 2 * 1024 * 1024, RECORDS = 2000, RECORD_BYTES = 32 };

static void *send_side(void *arg)
{
	send_pat(*(int *)arg, DUPLEX_BYTES, 0);
	return NULL;
}

static void duplex(int fd)
{
	pthread_t sender = spawn(send_side, &fd);

	recv_pat(fd, DUPLEX_BYTES, 0);
	pthread_join(sender, NULL);
}
CASE("threads.full_duplex", duplex, duplex, CONF_COLD | CONF_MID);

struct reader {
	int fd;
	uint32_t records;
	uint64_t sum;
};

/* Records of four bytes: read with MSG_WAITALL, each goes whole to one thread. */
static void *read_records(void *arg)
{
	struct reader *r = arg;
	char byte;

	while (recv(r->fd, &byte, 1, 0) == 1) {
		r->records++;
		r->sum += (unsigned char)byte;
	}
	return NULL;
}

static void two_readers_server(int fd)
{
	struct reader r[2] = { { .fd = fd }, { .fd = fd } };
	pthread_t t[2];

	for (int i = 0; i < 2; i++)
		t[i] = spawn(read_records, &r[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	obs_val("bytes", (long)(r[0].records + r[1].records));
	obs_val("sum", (long)(r[0].sum + r[1].sum));
}

static void two_readers_client(int fd)
{
	for (uint64_t i = 0; i < 100; i++) {
		send_pat(fd, 50, i * 50);
		if (i % 20 == 0)
			nap_ms(3);
	}
	shutdown(fd, SHUT_WR);
}
CASE("threads.two_readers", two_readers_server, two_readers_client, ANY);

struct writer {
	int fd;
	char id;
};

static void *write_records(void *arg)
{
	struct writer *w = arg;
	char record[RECORD_BYTES];

	memset(record, w->id, sizeof(record));
	for (int i = 0; i < RECORDS; i++) {
		if (send(w->fd, record, sizeof(record), 0) != RECORD_BYTES)
			obs_text("short record");
	}
	return NULL;
}

/* Small records of two writers do not mix. */
static void two_writers_server(int fd)
{
	char record[RECORD_BYTES], same[RECORD_BYTES];
	int counts[2] = { 0, 0 }, torn = 0;

	for (int i = 0; i < 2 * RECORDS; i++) {
		if (recv_exact(fd, record, sizeof(record)) != RECORD_BYTES)
			break;
		memset(same, record[0], sizeof(same));
		torn += memcmp(record, same, sizeof(same)) != 0;
		counts[record[0] == 'b']++;
	}
	obs_text("a %d b %d torn %d", counts[0], counts[1], torn);
}

static void two_writers_client(int fd)
{
	struct writer w[2] = { { fd, 'a' }, { fd, 'b' } };
	pthread_t t[2];

	for (int i = 0; i < 2; i++)
		t[i] = spawn(write_records, &w[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}
CASE("threads.two_writers", two_writers_server, two_writers_client, EVERY);

static void *echo_loop(void *arg)
{
	int fd = *(int *)arg;
	char bytes[64];
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		send_exact(fd, bytes, (size_t)n);
	obs("last recv", n);
	return NULL;
}

/* The connection is handed to a thread that was not there when it was made. */
static void handed_over_server(int fd)
{
	pthread_t t = spawn(echo_loop, &fd);

	pthread_join(t, NULL);
}

static void handed_over_client(int fd)
{
	for (uint64_t i = 0; i < 50; i++) {
		send_pat(fd, 64, i);
		recv_pat(fd, 64, i);
	}
	shutdown(fd, SHUT_WR);
}
CASE("threads.handed_over", handed_over_server, handed_over_client, ANY);

static void *poll_in_thread(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };
	int r = poll(&p, 1, CONF_WAIT_MS);

	obs_poll("thread's poll", r, p.revents);
	return NULL;
}

/* One thread waits for input while another sends. */
static void poll_while_sending_server(int fd)
{
	pthread_t t = spawn(poll_in_thread, &fd);

	send_pat(fd, 100000, 0);
	pthread_join(t, NULL);
	recv_pat(fd, 10, 0);
}

static void poll_while_sending_client(int fd)
{
	recv_pat(fd, 100000, 0);
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 10, 0);
}
CASE("threads.poll_while_sending", poll_while_sending_server, poll_while_sending_client, EVERY);

static void *blocked_send(void *arg)
{
	ssize_t n = send(*(int *)arg, big_buffer(), CONF_BIG, 0);

	return (void *)(intptr_t)n;
}

/* A thread is stuck in send(); another one still receives. */
static void blocked_sender_server(int fd)
{
	pthread_t t = spawn(blocked_send, &fd);
	void *sent = NULL;

	recv_pat(fd, 1000, 0);
	both();
	pthread_join(t, &sent);
	obs("blocked send", (long)(intptr_t)sent);
}

static void blocked_sender_client(int fd)
{
	char *bytes = big_buffer();

	nap_ms(CONF_NAP_MS);
	send_pat(fd, 1000, 0);
	both();
	obs("recv", recv_exact(fd, bytes, CONF_BIG));
}
CASE("threads.blocked_sender", blocked_sender_server, blocked_sender_client, ANY);

static void *close_later(void *arg)
{
	nap_ms(CONF_NAP_MS);
	obs("close", close(*(int *)arg));
	tell(0);
	return NULL;
}

/* close() does not wake a thread that sleeps in recv() on the same socket: the peer's byte does. */
static void close_under_recv_server(int fd)
{
	pthread_t t = spawn(close_later, &fd);
	char byte = 0;

	obs("recv", recv(fd, &byte, 1, 0));
	obs_val("byte", byte);
	pthread_join(t, NULL);
	obs("recv", recv(fd, &byte, 1, 0));
}

static void close_under_recv_client(int fd)
{
	await();
	nap_ms(CONF_NAP_MS);
	obs("send", send(fd, "k", 1, MSG_NOSIGNAL));
}
CASE("threads.close_under_recv", close_under_recv_server, close_under_recv_client, ANY);

static void *cancelled(void *arg)
{
	char byte;

	recv(*(int *)arg, &byte, 1, 0);
	obs_text("not cancelled");
	return NULL;
}

/* recv() is a cancellation point, and the connection is whole afterwards. */
static void cancel_server(int fd)
{
	void *result = NULL;
	pthread_t t = spawn(cancelled, &fd);

	nap_ms(CONF_NAP_MS);
	obs("cancel", pthread_cancel(t));
	pthread_join(t, &result);
	obs_val("was cancelled", result == PTHREAD_CANCELED);
	tell(0);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
}

static void cancel_client(int fd)
{
	await();
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
}
CASE("threads.cancel_recv", cancel_server, cancel_client, ANY);

struct sleeper {
	int fd, how, set;
};

static void *sleep_by(void *arg)
{
	struct sleeper *s = arg;
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct epoll_event e;
	char bytes[64];
	struct iovec v = { bytes, sizeof(bytes) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	fd_set in;

	FD_ZERO(&in);
	FD_SET(s->fd, &in);
	switch (s->how) {
	case 0:
		recvmsg(s->fd, &m, MSG_WAITALL);
		break;
	case 1:
		recv(s->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_WAITALL);
		break;
	case 2:
		poll(&p, 1, CONF_WAIT_MS);
		break;
	case 3:
		ppoll(&p, 1, NULL, NULL);
		break;
	case 4:
		select(s->fd + 1, &in, NULL, NULL, NULL);
		break;
	case 5:
		epoll_wait(s->set, &e, 1, CONF_WAIT_MS);
		break;
	case 6:
		read(s->fd, bytes, sizeof(bytes));
		break;
	default:
		for (;;)
			send(s->fd, big_buffer(), CONF_BIG, MSG_NOSIGNAL);
	}
	obs_text("not cancelled");
	return NULL;
}

static void cancel_in(struct sleeper *s)
{
	void *result = NULL;
	pthread_t t = spawn(sleep_by, s);

	nap_ms(s->how < 7 ? 10 : 200);
	pthread_cancel(t);
	pthread_join(t, &result);
	if (result != PTHREAD_CANCELED)
		obs_text("%d was not cancelled", s->how);
}

/* Every call that sleeps is a cancellation point; afterwards the connection is whole and ends. */
static void cancel_all_server(int fd)
{
	struct epoll_event e = { .events = EPOLLIN };
	struct sleeper s = { .fd = fd, .set = epoll_create1(EPOLL_CLOEXEC) };

	epoll_ctl(s.set, EPOLL_CTL_ADD, fd, &e);
	for (s.how = 0; s.how < 7; s.how++)
		cancel_in(&s);
	close(s.set);
	goes_on_server(fd);
}
CASE("threads.cancel_sleeps", cancel_all_server, goes_on_client, ANY);

/* Out of a send that is stuck: what went arrives, and the end comes. */
static void cancel_send_server(int fd)
{
	struct sleeper s = { .fd = fd, .how = 7 };

	cancel_in(&s);
	tell(0);
	obs("close", close(fd));
	both();
}

CASE("threads.cancel_send", cancel_send_server, drain_client, ANY);

/* One thread is stuck in send(): another one's nonblocking send does not wait for it. */
static void dont_wait_server(int fd)
{
	pthread_t t = spawn(blocked_send, &fd);
	long longest = 0;
	ssize_t n;

	nap_ms(200);
	do {
		long begin = now_ms();

		n = send(fd, big_buffer(), 65536, MSG_DONTWAIT);
		if (now_ms() - begin > longest)
			longest = now_ms() - begin;
	} while (n > 0);
	obs("send", n);
	obs_val("soon", longest < CONF_WAIT_MS);
	obs("cancel", pthread_cancel(t));
	pthread_join(t, NULL);
	tell(0);
	obs("close", close(fd));
	both();
}
CASE("threads.dontwait_beside_blocked", dont_wait_server, drain_client, ANY);

static void *shut_later(void *arg)
{
	nap_ms(150);
	return (void *)(intptr_t)shutdown(*(int *)arg, SHUT_WR);
}

/* shutdown() ends another thread's send: what went counts, and there is no signal for it. */
static void shut_under_send_server(int fd)
{
	void *shut = NULL;
	pthread_t t;
	ssize_t n;

	signal(SIGPIPE, SIG_DFL);
	t = spawn(shut_later, &fd);
	n = send(fd, big_buffer(), CONF_BIG, 0);
	while (n == CONF_BIG)
		n = send(fd, big_buffer(), CONF_BIG, MSG_NOSIGNAL);
	obs_val("ended", n > 0 || errno == EPIPE);
	pthread_join(t, &shut);
	obs("shutdown", (long)(intptr_t)shut);
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	tell(0);
	both();
}
CASE("threads.shutdown_under_send", shut_under_send_server, drain_client, ANY);

/* Slowly, so that the sender waits for room again and again. */
static void trickle_client(int fd)
{
	char *bytes = big_buffer();
	ssize_t n;

	do
		nap_ms(1);
	while ((n = recv(fd, bytes, 65536, 0)) > 0);
	obs("last", n);
	await();
	both();
}
CASE("threads.shutdown_under_slow_send", shut_under_send_server, trickle_client, ANY);

enum { WRITERS = 4, MIXED_RECORDS = 600 };

/* Records of many sizes: the length says how many equal bytes follow. */
static void *write_sizes(void *arg)
{
	struct writer *w = arg;
	char record[3000];

	for (int i = 0; i < MIXED_RECORDS; i++) {
		uint16_t len = (uint16_t)(3 + (i * 37 + w->id * 101) % 2990);

		memset(record, w->id, sizeof(record));
		memcpy(record + 1, &len, sizeof(len));
		if (send(w->fd, record, len, 0) != len)
			obs_text("short record");
	}
	return NULL;
}

/* The reader is slow now and then, so the writers meet a full ring. */
static void many_writers_server(int fd)
{
	static char record[3000], same[3000];
	int counts[WRITERS] = { 0 }, torn = 0;

	for (int i = 0; i < WRITERS * MIXED_RECORDS; i++) {
		uint16_t len = 0;

		if (recv_exact(fd, record, 3) != 3)
			break;
		memcpy(&len, record + 1, sizeof(len));
		if (len < 3 || len > sizeof(record) || record[0] < 'a' ||
		    record[0] >= 'a' + WRITERS || recv_exact(fd, record + 3, len - 3u) != len - 3) {
			obs_text("torn header");
			break;
		}
		memset(same, record[0], sizeof(same));
		torn += memcmp(record + 3, same, len - 3u) != 0;
		counts[record[0] - 'a']++;
		if (i % 300 == 0)
			nap_ms(10);
	}
	obs_text("%d %d %d %d torn %d", counts[0], counts[1], counts[2], counts[3], torn);
}

static void many_writers_client(int fd)
{
	struct writer w[WRITERS];
	pthread_t t[WRITERS];

	for (int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ fd, (char)('a' + i) };
		t[i] = spawn(write_sizes, &w[i]);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
}
CASE("threads.many_writers", many_writers_server, many_writers_client, ANY);

enum { READERS = 4, MESSAGES = 4000, MESSAGE_BYTES = 64 };

static void *read_messages(void *arg)
{
	struct reader *r = arg;
	unsigned char message[MESSAGE_BYTES];
	ssize_t n;

	while ((n = recv(r->fd, message, sizeof(message), MSG_WAITALL)) > 0) {
		r->records += (uint32_t)n;
		for (ssize_t i = 0; i < n; i++)
			r->sum += message[i];
	}
	return NULL;
}

/* A worker pool on one connection: all that was sent is read, once. */
static void pool_server(int fd)
{
	struct reader r[READERS];
	uint64_t sum = 0, bytes = 0;
	pthread_t t[READERS];

	for (int i = 0; i < READERS; i++) {
		r[i] = (struct reader){ .fd = fd };
		t[i] = spawn(read_messages, &r[i]);
	}
	for (int i = 0; i < READERS; i++) {
		pthread_join(t[i], NULL);
		bytes += r[i].records;
		sum += r[i].sum;
	}
	obs_text("bytes %ld sum %ld", (long)bytes, (long)sum);
}

static void pool_client(int fd)
{
	char message[MESSAGE_BYTES];

	for (int i = 0; i < MESSAGES; i++) {
		memset(message, i, sizeof(message));
		send_exact(fd, message, sizeof(message));
		if (i % 500 == 0)
			nap_ms(2);
	}
	shutdown(fd, SHUT_WR);
}
CASE("threads.many_readers", pool_server, pool_client, ANY);
