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
