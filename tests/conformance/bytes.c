/* SPDX-License-Identifier: Apache-2.0 */
/* Every spelling of "send bytes" and "receive bytes", in every interesting size. */
#include "tests/conformance/lib/conf.h"

typedef ssize_t (*transfer)(int fd, char *bytes, size_t len);

static const size_t sizes[] = { 0, 1, 64, 4096, 65537, CONF_BIG };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
enum { SPELLING_FLAGS = CONF_COLD | CONF_MID | CONF_SWAP };

static ssize_t tx_write(int fd, char *p, size_t n)
{
	return write(fd, p, n);
}

static ssize_t tx_writev(int fd, char *p, size_t n)
{
	struct iovec v[3] = { { p, n / 3 }, { p + n / 3, 0 }, { p + n / 3, n - n / 3 } };

	return writev(fd, v, 3);
}

static ssize_t tx_send(int fd, char *p, size_t n)
{
	return send(fd, p, n, 0);
}

static ssize_t tx_sendto(int fd, char *p, size_t n)
{
	return sendto(fd, p, n, MSG_NOSIGNAL, NULL, 0);
}

/* TCP ignores the address, a Unix socket refuses it. */
static ssize_t tx_sendto_named(int fd, char *p, size_t n)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);
	ssize_t sent;

	obs("getpeername", getpeername(fd, (struct sockaddr *)&peer, &len));
	sent = sendto(fd, p, n, 0, (struct sockaddr *)&peer, len);
	if (peer.ss_family != AF_UNIX)
		return sent;
	obs("named", sent);
	return send(fd, p, n, 0);
}

static ssize_t tx_sendmsg(int fd, char *p, size_t n)
{
	struct iovec v[2] = { { p, n / 2 }, { p + n / 2, n - n / 2 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	return sendmsg(fd, &m, 0);
}

static ssize_t tx_sendmmsg(int fd, char *p, size_t n)
{
	struct iovec v[2] = { { p, n / 2 }, { p + n / 2, n - n / 2 } };
	struct mmsghdr m[2] = { { .msg_hdr = { .msg_iov = v, .msg_iovlen = 1 } },
				{ .msg_hdr = { .msg_iov = v + 1, .msg_iovlen = 1 } } };
	int r = sendmmsg(fd, m, 2, 0);

	return r < 0 ? r : (ssize_t)(m[0].msg_len + (r > 1 ? m[1].msg_len : 0));
}

static ssize_t rx_read(int fd, char *p, size_t n)
{
	return read(fd, p, n);
}

static ssize_t rx_readv(int fd, char *p, size_t n)
{
	struct iovec v[3] = { { p, n / 3 }, { p + n / 3, 0 }, { p + n / 3, n - n / 3 } };

	return readv(fd, v, 3);
}

static ssize_t rx_recv(int fd, char *p, size_t n)
{
	return recv(fd, p, n, 0);
}

static ssize_t rx_recvfrom(int fd, char *p, size_t n)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);

	return recvfrom(fd, p, n, 0, (struct sockaddr *)&from, &len);
}

static ssize_t rx_recvmsg(int fd, char *p, size_t n)
{
	struct iovec v[2] = { { p, n / 2 }, { p + n / 2, n - n / 2 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	return recvmsg(fd, &m, 0);
}

static ssize_t rx_recvmmsg(int fd, char *p, size_t n)
{
	struct iovec v = { p, n };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &v, .msg_iovlen = 1 } };
	int r = recvmmsg(fd, &m, 1, MSG_WAITFORONE, NULL);

	return r < 0 ? r : (ssize_t)m.msg_len;
}

static ssize_t rx_waitall(int fd, char *p, size_t n)
{
	return recv(fd, p, n, MSG_WAITALL);
}

/* The sender's blocking call takes everything: its return value is part of the outcome. */
static void transmit(int fd, transfer tx)
{
	char *buffer = big_buffer();
	uint64_t position = 0;

	for (int i = 0; i < SIZES; i++) {
		pat_fill(buffer, sizes[i], position);
		errno = 0;
		obs("transmit", tx(fd, buffer, sizes[i]));
		position += sizes[i];
		await();
	}
}

static void receive(int fd, transfer rx)
{
	char *buffer = big_buffer();
	uint64_t position = 0;

	for (int i = 0; i < SIZES; i++) {
		size_t done = 0;
		ssize_t n = 1;

		while (done < sizes[i] && n > 0) {
			n = rx(fd, buffer + done, sizes[i] - done);
			done += n > 0 ? (size_t)n : 0;
		}
		obs_text("received %zu, %s", done,
			 pat_good(buffer, sizes[i], position) ? "right" : "WRONG");
		if (n < 0)
			obs("receive", n);
		position += sizes[i];
		tell(0);
	}
}

static void receive_plainly(int fd)
{
	receive(fd, rx_recv);
}

static void transmit_plainly(int fd)
{
	transmit(fd, tx_send);
}

#define TX_CASE(spelling)                       \
	static void transmit_##spelling(int fd) \
	{                                       \
		transmit(fd, tx_##spelling);    \
	}                                       \
	CASE("bytes.tx_" #spelling, receive_plainly, transmit_##spelling, SPELLING_FLAGS)

#define RX_CASE(spelling)                      \
	static void receive_##spelling(int fd) \
	{                                      \
		receive(fd, rx_##spelling);    \
	}                                      \
	CASE("bytes.rx_" #spelling, receive_##spelling, transmit_plainly, SPELLING_FLAGS)

TX_CASE(write);
TX_CASE(writev);
TX_CASE(send);
TX_CASE(sendto);
TX_CASE(sendto_named);
TX_CASE(sendmsg);
TX_CASE(sendmmsg);
RX_CASE(read);
RX_CASE(readv);
RX_CASE(recv);
RX_CASE(recvfrom);
RX_CASE(recvmsg);
RX_CASE(recvmmsg);
RX_CASE(waitall);

/* A round trip of every size around each power of two up to 64 KiB. */
static void echo_sizes_server(int fd)
{
	char *buffer = big_buffer();

	for (size_t p = 1; p <= 65536; p *= 4) {
		for (size_t n = p > 1 ? p - 1 : 1; n <= p + 1; n++) {
			if (recv_exact(fd, buffer, n) != (long)n)
				obs_text("short request of %zu", n);
			send_exact(fd, buffer, n);
		}
	}
}

static void echo_sizes_client(int fd)
{
	char *buffer = big_buffer();

	for (size_t p = 1; p <= 65536; p *= 4) {
		for (size_t n = p > 1 ? p - 1 : 1; n <= p + 1; n++) {
			pat_fill(buffer, n, p);
			send_exact(fd, buffer, n);
			memset(buffer, 0, n);
			obs("echo", recv_exact(fd, buffer, n));
			obs_val("right", pat_good(buffer, n, p));
		}
	}
}
CASE("bytes.echo_sizes", echo_sizes_server, echo_sizes_client, SPELLING_FLAGS);

/* Many small writes, few large reads; then the other way round. */
static void small_and_large_server(int fd)
{
	for (int i = 0; i < 20000; i++) {
		char bytes[7];

		pat_fill(bytes, sizeof(bytes), (uint64_t)i * 7);
		send_exact(fd, bytes, sizeof(bytes));
	}
	recv_pat(fd, 140000, 5);
}

static void small_and_large_client(int fd)
{
	recv_pat(fd, 140000, 0);
	send_pat(fd, 140000, 5);
}
CASE("bytes.small_and_large", small_and_large_server, small_and_large_client, SPELLING_FLAGS);

/* What has arrived comes in one call, up to the size asked for. */
static void partial_reads_server(int fd)
{
	char bytes[100];

	await();
	ready(fd, POLLIN);
	obs("recv 1", recv(fd, bytes, 1, 0));
	obs("recv 9", recv(fd, bytes + 1, 9, 0));
	obs("read 50", read(fd, bytes + 10, 50));
	obs("recv rest", recv(fd, bytes + 60, 100 - 60, 0));
	obs_sum("bytes", bytes, sizeof(bytes));
}

static void partial_reads_client(int fd)
{
	char bytes[100];

	pat_fill(bytes, sizeof(bytes), 77);
	obs("send", send(fd, bytes, sizeof(bytes), 0));
	tell(0);
}
CASE("bytes.partial_reads", partial_reads_server, partial_reads_client, SPELLING_FLAGS);
