/* SPDX-License-Identifier: Apache-2.0 */
/* SO_ZEROCOPY and MSG_ZEROCOPY: a notice for each send. */
#include "tests/conformance/lib/conf.h"

#include <linux/errqueue.h>

enum { ANY = CONF_COLD | CONF_SWAP };

static void plain_end(int fd)
{
	exchange(fd);
	both();
	exchange(fd);
	both();
}

static void zerocopy_server(int fd)
{
	exchange(fd);
	recv_pat(fd, 100000, 0);
	both();
	exchange(fd);
	both();
}

static void zerocopy_client(int fd)
{
	char *bytes = big_buffer(), control[200];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };
	struct sock_extended_err notice = { 0 };
	struct cmsghdr *c;

	exchange(fd);
	pat_fill(bytes, 100000, 0);
	obs("without the option", send(fd, bytes, 1000, MSG_ZEROCOPY));
	obs_set("SO_ZEROCOPY", fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	obs("send", send(fd, bytes + 1000, 99000, MSG_ZEROCOPY));
	both();
	if (conf.is_tcp) {
		ready(fd, POLLERR);
		obs("notice", recvmsg(fd, &m, MSG_ERRQUEUE));
		c = CMSG_FIRSTHDR(&m);
		if (c)
			memcpy(&notice, CMSG_DATA(c), sizeof(notice));
		obs_text("origin %d from %u to %u", notice.ee_origin, notice.ee_info,
			 notice.ee_data);
	}
	obs_set("SO_ZEROCOPY", fd, SOL_SOCKET, SO_ZEROCOPY, 0);
	exchange(fd);
	both();
}
CASE("zerocopy.notice", zerocopy_server, zerocopy_client, ANY | CONF_TCP_ONLY | CONF_EITHER);

/* Asked for at the very start, as many programs do, and used once, among other sends. */
static void zerocopy_late_server(int listener)
{
	int fd = conf_accept(listener);

	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	both();
	recv_pat(fd, 300000, 0);
	both();
	exchange(fd);
	both();
	close(fd);
}

static void zerocopy_late_client(int none)
{
	char *bytes = big_buffer();
	size_t done = 1000;
	int fd = conf_connect(), notices = 0;

	(void)none;
	obs_set("SO_ZEROCOPY", fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	both();
	pat_fill(bytes, 300000, 0);
	obs("send", send(fd, bytes, 1000, 0));
	for (int i = 0; i < 3; i++) {
		ssize_t n = send(fd, bytes + done, 50000, MSG_ZEROCOPY);

		obs("zero copy", n);
		done += n > 0 ? (size_t)n : 0;
	}
	obs_val("the rest", (long)(send(fd, bytes + done, 300000 - done, 0) + (ssize_t)done));
	both();
	ready(fd, POLLERR);
	for (;;) {
		char control[200];
		struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };
		struct sock_extended_err notice = { 0 };
		struct cmsghdr *c;

		if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			break;
		c = CMSG_FIRSTHDR(&m);
		if (c)
			memcpy(&notice, CMSG_DATA(c), sizeof(notice));
		notices += (int)(notice.ee_data - notice.ee_info) + 1;
	}
	obs_val("sends of which a notice tells", notices);
	exchange(fd);
	both();
	close(fd);
}
CASE("zerocopy.late", zerocopy_late_server, zerocopy_late_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_EITHER);

static void zerocopy_unix_client(int fd)
{
	exchange(fd);
	obs_set("SO_ZEROCOPY", fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	both();
	exchange(fd);
	both();
}
CASE("zerocopy.refused", plain_end, zerocopy_unix_client, ANY | CONF_UNIX_ONLY | CONF_EITHER);

/* As qemu does with each of its sockets: no reason to stay plain as long as no send uses it. */
static void zerocopy_asked_server(int listener)
{
	int fd = conf_accept(listener);

	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	both();
	close(fd);
}

static void zerocopy_asked_client(int none)
{
	int fd = conf_connect();

	(void)none;
	obs_set("SO_ZEROCOPY", fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	both();
	close(fd);
}
CASE("zerocopy.asked_for", zerocopy_asked_server, zerocopy_asked_client, CONF_RAW | CONF_MUST);
