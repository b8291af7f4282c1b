/* SPDX-License-Identifier: Apache-2.0 */
/* SO_RCVTIMEO and SO_SNDTIMEO. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP };

static void set_timeout(int fd, int option, int ms)
{
	struct timeval t = { ms / 1000, (ms % 1000) * 1000 };
	socklen_t len = sizeof(t);

	obs("setsockopt", setsockopt(fd, SOL_SOCKET, option, &t, sizeof(t)));
	memset(&t, 0, sizeof(t));
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, option, &t, &len));
	obs_text("%ld.%06ld", (long)t.tv_sec, (long)t.tv_usec);
}

static void recv_server(int fd)
{
	char byte;
	long start;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	set_timeout(fd, SO_RCVTIMEO, 40);
	start = now_ms();
	obs("recv", recv(fd, &byte, 1, 0));
	obs_val("waited", now_ms() - start >= 36);
	obs("read", read(fd, &byte, 1));
	obs("recvmsg", recvmsg(fd, &m, 0));
	obs("peek", recv(fd, &byte, 1, MSG_PEEK));
	tell(0);
	set_timeout(fd, SO_RCVTIMEO, 2000);
	obs("recv", recv(fd, &byte, 1, 0));
	set_timeout(fd, SO_RCVTIMEO, 0);
	await();
	tell(0);
	obs("recv", recv(fd, &byte, 1, 0));
	await();
	tell(0);
}

static void recv_client(int fd)
{
	for (int i = 0; i < 2; i++) {
		await();
		nap_ms(CONF_NAP_MS);
		send_exact(fd, "t", 1);
		tell(0);
	}
	await();
}
CASE("timeouts.recv", recv_server, recv_client, ANY);

/* MSG_WAITALL with a time-out gives what there is. */
static void waitall_server(int fd)
{
	char bytes[100];

	set_timeout(fd, SO_RCVTIMEO, 40);
	tell(0);
	await();
	ready(fd, POLLIN);
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_WAITALL));
	obs("recv", recv(fd, bytes, sizeof(bytes), MSG_WAITALL));
	tell(0);
}

static void waitall_client(int fd)
{
	await();
	send_pat(fd, 30, 0);
	tell(0);
	await();
}
CASE("timeouts.waitall", waitall_server, waitall_client, ANY);

static void send_server(int fd)
{
	uint64_t len = await();
	char *bytes = big_buffer();
	bool good = true;

	for (uint64_t done = 0; done < len;) {
		size_t want = len - done < CONF_BIG ? (size_t)(len - done) : CONF_BIG;

		good = good && recv_exact(fd, bytes, want) == (long)want &&
		       pat_good(bytes, want, done);
		done += want;
	}
	obs_val("right", good);
	tell(0);
}

static void send_client(int fd)
{
	char bytes[8192];
	uint64_t total = 0;
	long start;

	set_timeout(fd, SO_SNDTIMEO, 50);
	for (;;) {
		pat_fill(bytes, sizeof(bytes), total);
		ssize_t n = send(fd, bytes, sizeof(bytes), 0);

		if (n < 0)
			break;
		total += (uint64_t)n;
	}
	obs_text("full: %s", strerrorname_np(errno));
	start = now_ms();
	obs("send", send(fd, bytes, 1, 0));
	obs_val("waited", now_ms() - start >= 44);
	tell(total);
	await();
}
CASE("timeouts.send", send_server, send_client, ANY);

/* A time-out is inherited from the listener (TCP) or not (Unix): whatever the kernel does. */
static void inherited_server(int listener)
{
	struct timeval t = { 0, 40000 };
	char byte;
	int fd;

	setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	tell(0);
	fd = conf_accept(listener);
	socklen_t len = sizeof(t);
	memset(&t, 0, sizeof(t));
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &len));
	obs_text("%ld.%06ld", (long)t.tv_sec, (long)t.tv_usec);
	t = (struct timeval){ 0, 40000 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	obs("recv", recv(fd, &byte, 1, 0));
	both();
	close(fd);
}

static void inherited_client(int none)
{
	(void)none;
	await();
	int fd = conf_connect();
	both();
	close(fd);
}
CASE("timeouts.inherited", inherited_server, inherited_client, CONF_RAW);
