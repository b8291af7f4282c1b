/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel counts of a stream, and what of it lies unread. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP };

/* ---- TCP_INFO: the counters of the stream ---- */

/* The kernel's, as it is today: libc's is older. */
struct counters {
	struct tcp_info old;
	uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
	uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
	uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
	uint32_t delivered, delivered_ce;
	uint64_t bytes_sent, bytes_retrans;
};

/* What had been sent has been answered: acknowledged too.  The client's SYN counts as acknowledged.
 */
static void show_counters(int fd)
{
	struct counters info = { 0 };
	socklen_t len = sizeof(info);

	obs("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	obs_val("length", len);
	obs_val("established", info.old.tcpi_state == TCP_ESTABLISHED);
	obs_val("options", info.old.tcpi_options & 7);
	obs_val("retransmits", info.old.tcpi_retransmits);
	obs_val("received", (long)info.bytes_received);
	obs_val("sent", (long)(info.bytes_sent - info.bytes_retrans));
	obs_val("acknowledged", (long)info.bytes_acked);
}

static void info_server(int fd)
{
	struct counters info;
	socklen_t len = 8;
	char byte;

	recv_pat(fd, 50000, 0);
	send_pat(fd, 30000, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	show_counters(fd);
	obs("TCP_INFO of 8 bytes", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	obs_val("length", len);
	send_pat(fd, 1, 0);
	both();
	both();
}

static void info_client(int fd)
{
	char byte;

	send_pat(fd, 50000, 0);
	recv_pat(fd, 30000, 0);
	send_pat(fd, 1, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	both();
	show_counters(fd);
	both();
}
CASE("counters.tcp_info", info_server, info_client, ANY | CONF_TCP_ONLY);

/* More than the ring holds, so that some of it went by the kernel; and back to the kernel. */
static void info_much_server(int fd)
{
	char byte;

	both();
	nap_ms(CONF_NAP_MS);
	recv_pat(fd, 6000000, 0);
	send_pat(fd, 100, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	show_counters(fd);
	fclose(fdopen(dup(fd), "w"));
	send_pat(fd, 1, 0);
	recv_pat(fd, 100, 0);
	show_counters(fd);
	send_pat(fd, 1, 0);
	both();
	both();
}

static void info_much_client(int fd)
{
	char byte;

	both();
	send_pat(fd, 6000000, 0);
	recv_pat(fd, 100, 0);
	send_pat(fd, 1, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	send_pat(fd, 100, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	both();
	show_counters(fd);
	both();
}
CASE("counters.tcp_info_much", info_much_server, info_much_client,
     ANY | CONF_TCP_ONLY | CONF_EITHER);

/* ---- SIOCOUTQ: what the peer has not read ---- */

static void outq_server(int fd)
{
	both();
	both();
	recv_pat(fd, 1000, 0);
	both();
}

static void outq_client(int fd)
{
	int left = -1;

	both();
	send_pat(fd, 1000, 0);
	obs("TIOCOUTQ", ioctl(fd, TIOCOUTQ, &left));
	if (!conf.is_tcp) /* TCP counts what is not acknowledged, Unix what is not read */
		obs_val("something", left > 0);
	obs("FIONREAD", ioctl(fd, FIONREAD, &left));
	obs_val("mine", left);
	both();
	both();
	for (int i = 0; i < 200; i++) {
		ioctl(fd, TIOCOUTQ, &left);
		if (left == 0)
			break;
		nap_ms(5);
	}
	obs_val("left", left);
}
CASE("counters.outq", outq_server, outq_client, ANY);

/* What lies there stays there when the pipe breaks: the other end refuses more, and reads on. */
static void outq_refused_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	obs("poll", poll(&p, 1, 0));
	both();
	both();
	obs("shutdown", shutdown(fd, SHUT_RD));
	both();
	both();
	recv_pat(fd, 500, 0);
	both();
}

static void outq_refused_client(int fd)
{
	int left = -1;

	both();
	send_pat(fd, 500, 0);
	both();
	both();
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	obs("TIOCOUTQ", ioctl(fd, TIOCOUTQ, &left));
	obs_val("something", left > 0);
	both();
	both();
	obs("TIOCOUTQ", ioctl(fd, TIOCOUTQ, &left));
	obs_val("left", left);
}
CASE("counters.outq_refused", outq_refused_server, outq_refused_client, ANY | CONF_UNIX_ONLY);
