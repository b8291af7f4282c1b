/* SPDX-License-Identifier: Apache-2.0 */
/* What only the kernel's socket can do, asked for before and in mid-stream. */
#include "tests/conformance/lib/conf.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

enum { ANY = CONF_COLD | CONF_SWAP };

static void plain_end(int fd)
{
	exchange(fd);
	both();
	exchange(fd);
	both();
}

/* ---- MSG_ERRQUEUE: the error queue is empty, and no byte of the stream comes from it ---- */

static void errqueue_server(int fd)
{
	char bytes[100], control[100];
	struct iovec v = { bytes, 100 };
	struct msghdr m = { .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };

	both();
	ready(fd, POLLIN);
	obs("recv", recv(fd, bytes, 10, MSG_ERRQUEUE | MSG_DONTWAIT));
	obs("recvmsg", recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT));
	obs("peek", recv(fd, bytes, 10, MSG_ERRQUEUE | MSG_PEEK | MSG_DONTWAIT));
	both();
	recv_to_eof(fd, conf.is_tcp ? 0 : 110);
}

static void errqueue_client(int fd)
{
	send_pat(fd, 200, 0);
	both();
	both();
	shutdown(fd, SHUT_WR);
}
CASE("special.errqueue", errqueue_server, errqueue_client, ANY);

/* ---- urgent data ---- */

static void oob_inline_server(int fd)
{
	char bytes[100];

	obs_set("SO_OOBINLINE", fd, SOL_SOCKET, SO_OOBINLINE, 1);
	both();
	both();
	ready(fd, POLLPRI);
	obs("recv to the mark", recv(fd, bytes, 100, 0));
	obs("at mark", sockatmark(fd));
	obs("recv", recv(fd, bytes, 1, 0));
	obs_text("<%c>", bytes[0]);
	obs("at mark", sockatmark(fd));
	recv_pat(fd, 20, 20);
	both();
}

static void oob_inline_client(int fd)
{
	both();
	send_pat(fd, 20, 0);
	obs("send oob", send(fd, "!", 1, MSG_OOB));
	send_pat(fd, 20, 20);
	both();
	both();
}
CASE("special.oob_inline", oob_inline_server, oob_inline_client, ANY | CONF_TCP_ONLY | CONF_EITHER);

static void oob_unix_server(int fd)
{
	char bytes[100] = { 0 };

	both();
	ready(fd, POLLPRI);
	obs("recv oob", recv(fd, bytes, 1, MSG_OOB));
	obs_text("<%c>", bytes[0]);
	obs("recv oob again", recv(fd, bytes, 1, MSG_OOB));
	recv_pat(fd, 20, 0);
	recv_pat(fd, 20, 20);
	both();
}

static void oob_client(int fd)
{
	send_pat(fd, 20, 0);
	obs("send oob", send(fd, "!", 1, MSG_OOB));
	send_pat(fd, 20, 20);
	both();
	both();
}
CASE("special.oob_unix", oob_unix_server, oob_client, ANY | CONF_UNIX_ONLY | CONF_EITHER);

static void oob_select_server(int fd)
{
	struct timeval t = { 5, 0 };
	fd_set in, except;
	char byte = 0;

	both();
	ready(fd, POLLPRI);
	FD_ZERO(&in);
	FD_ZERO(&except);
	FD_SET(fd, &in);
	FD_SET(fd, &except);
	obs("select", select(fd + 1, &in, NULL, &except, &t));
	obs_text("in %d except %d", !!FD_ISSET(fd, &in), !!FD_ISSET(fd, &except));
	obs("recv oob", recv(fd, &byte, 1, MSG_OOB));
	recv_pat(fd, 20, 0);
	recv_pat(fd, 20, 20);
	both();
}
CASE("special.oob_select", oob_select_server, oob_client, ANY | CONF_TCP_ONLY | CONF_EITHER);

/* SIGURG for the owner. */
static void oob_signal_server(int fd)
{
	char byte;

	on_signal(SIGURG, 0);
	obs("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	obs_val("F_GETOWN", fcntl(fd, F_GETOWN) == getpid());
	both();
	for (int i = 0; i < 500 && signal_count(SIGURG) == 0; i++)
		nap_ms(5);
	obs_val("SIGURG", signal_count(SIGURG));
	obs("recv oob", recv(fd, &byte, 1, MSG_OOB));
	recv_pat(fd, 20, 0);
	recv_pat(fd, 20, 20);
	both();
}

static void oob_when_told_client(int fd)
{
	both();
	send_pat(fd, 20, 0);
	obs("send oob", send(fd, "!", 1, MSG_OOB));
	send_pat(fd, 20, 20);
	both();
}
CASE("special.oob_signal", oob_signal_server, oob_when_told_client,
     ANY | CONF_TCP_ONLY | CONF_EITHER);

/* ---- O_ASYNC: a signal for what arrives ---- */

static void async_body(int fd, int before)
{
	char bytes[100];

	both();
	for (int i = 0; i < 500 && signal_count(SIGIO) == before; i++)
		nap_ms(5);
	obs_val("SIGIO", signal_count(SIGIO) > before);
	ready(fd, POLLIN);
	obs("recv", recv_exact(fd, bytes, 100));
	obs_val("right", pat_good(bytes, 100, 0));
}

static void async_server(int fd)
{
	exchange(fd);
	on_signal(SIGIO, SA_RESTART);
	obs("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	obs("F_SETFL", fcntl(fd, F_SETFL, O_RDWR | O_ASYNC));
	obs_text("flags %#x", (unsigned int)fcntl(fd, F_GETFL));
	async_body(fd, signal_count(SIGIO));
	async_body(fd, signal_count(SIGIO));
	obs("F_SETFL", fcntl(fd, F_SETFL, O_RDWR));
	both();
	exchange(fd);
	both();
}

static void async_client(int fd)
{
	exchange(fd);
	both();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 100, 0);
	both();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 100, 0);
	both();
	exchange(fd);
	both();
}
CASE("special.async", async_server, async_client, ANY | CONF_EITHER);

static void fioasync_server(int fd)
{
	int on = 1, off = 0;

	exchange(fd);
	on_signal(SIGIO, SA_RESTART);
	obs("FIOSETOWN", fcntl(fd, F_SETOWN, getpid()));
	obs("FIOASYNC", ioctl(fd, FIOASYNC, &on));
	async_body(fd, signal_count(SIGIO));
	async_body(fd, signal_count(SIGIO));
	obs("FIOASYNC", ioctl(fd, FIOASYNC, &off));
	both();
	exchange(fd);
	both();
}
CASE("special.fioasync", fioasync_server, async_client, ANY | CONF_EITHER);

/* Another signal than SIGIO, which says what happened to which descriptor. */
static volatile sig_atomic_t informed_fd = -1, informed_band;

static void informed(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	informed_fd = info->si_fd;
	informed_band = (sig_atomic_t)info->si_band;
}

static void setsig_server(int fd)
{
	struct sigaction action = { .sa_sigaction = informed, .sa_flags = SA_SIGINFO | SA_RESTART };
	char bytes[100];

	exchange(fd);
	sigaction(SIGRTMIN, &action, NULL);
	obs("F_SETSIG", fcntl(fd, F_SETSIG, SIGRTMIN));
	obs("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	obs("F_SETFL", fcntl(fd, F_SETFL, O_RDWR | O_ASYNC | O_NONBLOCK));
	both();
	for (int i = 0; i < 500 && !(informed_band & POLLIN); i++)
		nap_ms(5);
	obs_val("the descriptor", informed_fd == fd);
	obs_val("POLLIN", !!(informed_band & POLLIN));
	ready(fd, POLLIN);
	obs("recv", recv(fd, bytes, 100, 0));
	obs("F_SETFL", fcntl(fd, F_SETFL, O_RDWR));
	both();
	both();
	exchange(fd);
	both();
}
CASE("special.setsig", setsig_server, async_client, ANY | CONF_EITHER);

static void async_early_server(int listener)
{
	int fd = conf_accept(listener);

	on_signal(SIGIO, SA_RESTART);
	obs("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	obs("F_SETFL", fcntl(fd, F_SETFL, O_RDWR | O_ASYNC));
	warm_up(fd, CONF_WARM_ROUNDS);
	async_body(fd, signal_count(SIGIO)); /* nobody is inside a receive: then a signal comes */
	obs("F_SETFL", fcntl(fd, F_SETFL, O_RDWR));
	recv_pat(fd, 5000, 0);
	both();
	close(fd);
}

static void async_early_client(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, CONF_WARM_ROUNDS);
	both();
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 100, 0);
	send_pat(fd, 5000, 0);
	both();
	close(fd);
}
CASE("special.async_early", async_early_server, async_early_client, CONF_RAW | CONF_EITHER);

/* ---- kernel TLS ---- */

static void ulp_server(int fd)
{
	exchange(fd);
	obs("TCP_ULP tls", setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 4));
	obs("TCP_ULP nonsense", setsockopt(fd, IPPROTO_TCP, TCP_ULP, "nonsense", 9));
	both();
	exchange(fd);
	both();
}
CASE("special.ulp", ulp_server, plain_end, ANY | CONF_EITHER);

/* ---- credentials with each message ---- */

static void passcred_late_server(int fd)
{
	char bytes[100];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(struct ucred))];
	} c;
	struct iovec v = { bytes, 100 };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)
	};
	struct ucred cred = { 0, 0, 0 };

	exchange(fd);
	obs_set("SO_PASSCRED", fd, SOL_SOCKET, SO_PASSCRED, 1);
	both();
	ready(fd, POLLIN);
	obs("recvmsg", recvmsg(fd, &m, MSG_WAITALL));
	if (m.msg_controllen >= sizeof(c.header))
		memcpy(&cred, CMSG_DATA(&c.header), sizeof(cred));
	obs_val("the peer's pid", cred.pid == conf.peer_pid);
	obs_val("uid", (long)cred.uid);
	obs_val("right", pat_good(bytes, 100, 0));
	send_pat(fd, 100, 0);
	obs_set("SO_PASSCRED", fd, SOL_SOCKET, SO_PASSCRED, 0);
	both();
}

CASE("special.passcred_late", passcred_late_server, plain_end, ANY | CONF_UNIX_ONLY | CONF_EITHER);

/* SO_TIMESTAMP in mid-stream: a time with each message. */
static void timestamp_server(int fd)
{
	char bytes[100], control[100];
	struct iovec v = { bytes, 100 };
	struct msghdr m = { .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c;

	exchange(fd);
	obs_set("SO_TIMESTAMP", fd, SOL_SOCKET, SO_TIMESTAMP, 1);
	both();
	ready(fd, POLLIN);
	obs("recvmsg", recvmsg(fd, &m, MSG_WAITALL));
	c = CMSG_FIRSTHDR(&m); /* the kernel begins to take the time a little later */
	obs_val("nothing else",
		!c || (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMP));
	obs_val("right", pat_good(bytes, 100, 0));
	send_pat(fd, 100, 0);
	both();
}
CASE("special.timestamp", timestamp_server, plain_end, ANY | CONF_TCP_ONLY | CONF_EITHER);

/* ---- SO_RCVLOWAT: how much a blocking receive waits for ---- */

static void lowat_server(int fd)
{
	char bytes[100];

	exchange(fd);
	obs_set("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT, 60);
	both();
	obs("recv", recv(fd, bytes, 100, 0));
	obs_val("right", pat_good(bytes, 60, 0));
	obs_set("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	both();
	exchange(fd);
	both();
}

static void lowat_client(int fd)
{
	exchange(fd);
	both();
	send_pat(fd, 20, 0);
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 40, 20);
	both();
	exchange(fd);
	both();
}
/* TCP sleeps on after the 40: of those that it has not taken there are fewer than 60. */
CASE("special.lowat_recv", lowat_server, lowat_client, ANY | CONF_UNIX_ONLY | CONF_EITHER);

static void lowat_early_server(int listener)
{
	int fd = conf_accept(listener);
	char bytes[100];

	obs_set("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT, 16);
	warm_up(fd, CONF_WARM_ROUNDS);
	obs("recv", recv(fd, bytes, 100, 0));
	obs_val("right", pat_good(bytes, 16, 0));
	both();
	close(fd);
}

static void lowat_early_client(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, CONF_WARM_ROUNDS);
	nap_ms(CONF_NAP_MS);
	send_pat(fd, 16, 0);
	both();
	close(fd);
}
CASE("special.lowat_early", lowat_early_server, lowat_early_client, CONF_RAW | CONF_NEVER);

/* ---- an address space of the size that vsftpd gives itself ---- */

static void become_small(void)
{
	const struct rlimit limit = { 200 << 20, 200 << 20 };

	obs("setrlimit", setrlimit(RLIMIT_AS, &limit));
}

/* As vsftpd does after that.  What was announced may be followed by a filter. */
static void become_small_and_modest(void)
{
	become_small();
	obs("prctl", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void two_megabytes_server(int listener)
{
	int fd = conf_accept(listener);

	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	recv_pat(fd, 2000000, 0);
	send_pat(fd, 2000000, 0);
	both();
	close(fd);
}

static void two_megabytes_client(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, 2 * CONF_WARM_ROUNDS);
	send_pat(fd, 2000000, 0);
	recv_pat(fd, 2000000, 0);
	both();
	close(fd);
}

static void small_server(int listener)
{
	become_small();
	two_megabytes_server(listener);
}
CASE("special.small_address_space", small_server, two_megabytes_client, CONF_RAW | CONF_MUST);

static void small_client(int none)
{
	become_small();
	two_megabytes_client(none);
}
CASE("special.small_address_space_connects", two_megabytes_server, small_client,
     CONF_RAW | CONF_MUST);

static void modest_server(int listener)
{
	become_small_and_modest();
	two_megabytes_server(listener);
}
CASE("special.unknown_address_space", modest_server, two_megabytes_client, CONF_RAW | CONF_MUST);

static void modest_client(int none)
{
	become_small_and_modest();
	two_megabytes_client(none);
}
CASE("special.unknown_address_space_connects", two_megabytes_server, modest_client,
     CONF_RAW | CONF_MUST);
