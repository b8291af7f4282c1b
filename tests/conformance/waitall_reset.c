/* SPDX-License-Identifier: Apache-2.0 */
/* A Unix peer closes with bytes unread, which is a reset: what a receive meets behind a part of
 * what it waits for, the kernel forgets.  And what belongs together where bytes come with
 * credentials. */
#include "tests/conformance/lib/conf.h"

enum {
	ANY = CONF_COLD | CONF_SWAP | CONF_UNIX_ONLY | CONF_EITHER,
	HALF = 50,
	BYTES = 2 * HALF, /* what each receive asks for */
	ROUNDS = 64,	  /* of PIECE bytes: worth a ring */
	PIECE = 16384,
};

/* What the server asks for before anything is sent to it, and how it receives. */
struct way {
	void (*prepare)(int fd);
	ssize_t (*take)(int fd);
};

/* ---- before ---- */

static void asks_for_nothing(int fd)
{
	(void)fd;
}

static void asks_for_credentials(int fd)
{
	obs_set("SO_PASSCRED", fd, SOL_SOCKET, SO_PASSCRED, 1);
}

static void asks_for_many(int fd)
{
	obs_set("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT, HALF + 1);
}

static void asks_for_few(int fd)
{
	obs_set("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT, HALF);
}

/* Has not received anything since its sending went over to shared memory. */
static void sends_alone(int fd)
{
	for (int i = 0; i < ROUNDS; i++)
		send_pat(fd, PIECE, 0);
}

/* ---- how ---- */

static ssize_t by_recv(int fd, int flags)
{
	char bytes[BYTES];

	return recv(fd, bytes, sizeof(bytes), flags);
}

static ssize_t one_receive(int fd)
{
	return by_recv(fd, 0);
}

static ssize_t all(int fd)
{
	return by_recv(fd, MSG_WAITALL);
}

static ssize_t all_now(int fd)
{
	return by_recv(fd, MSG_WAITALL | MSG_DONTWAIT);
}

static ssize_t by_recvmsg(int fd, int flags)
{
	char bytes[BYTES];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} c;
	struct iovec v[] = { { bytes, HALF / 2 }, { bytes + HALF / 2, sizeof(bytes) - HALF / 2 } };
	struct msghdr m = {
		.msg_iov = v, .msg_iovlen = 2, .msg_control = &c, .msg_controllen = sizeof(c)
	};
	ssize_t n = recvmsg(fd, &m, flags);

	if (n > 0)
		obs_text("control %zu, flags %x", m.msg_controllen, (unsigned int)m.msg_flags);
	return n;
}

static ssize_t all_by_recvmsg(int fd)
{
	return by_recvmsg(fd, MSG_WAITALL);
}

static ssize_t now_by_recvmsg(int fd)
{
	return by_recvmsg(fd, MSG_DONTWAIT);
}

static ssize_t by_readv(int fd)
{
	char bytes[BYTES];
	struct iovec v[] = { { bytes, HALF / 2 }, { bytes + HALF / 2, sizeof(bytes) - HALF / 2 } };

	return readv(fd, v, 2);
}

static ssize_t look_then_all(int fd)
{
	obs("look", by_recv(fd, MSG_WAITALL | MSG_PEEK));
	return all(fd);
}

/* Asks, when all has come, for what only the kernel has: its receiving stays there. */
static void stays_plain(int fd)
{
	obs_set("SO_OOBINLINE", fd, SOL_SOCKET, SO_OOBINLINE, 1);
}

static ssize_t plain_all(int fd)
{
	stays_plain(fd);
	return all(fd);
}

static ssize_t plain_all_by_recvmsg(int fd)
{
	stays_plain(fd);
	return all_by_recvmsg(fd);
}

static ssize_t plain_readv(int fd)
{
	stays_plain(fd);
	return by_readv(fd);
}

static ssize_t many_by_readv(int fd)
{
	asks_for_many(fd);
	return by_readv(fd);
}

/* ---- a part is there, and the reset behind it ---- */

static void reset_server(int fd, const struct way *way)
{
	way->prepare(fd);
	send_pat(fd, 5, 0);
	both();
	both();
	obs("recv", way->take(fd));
	obs("recv", one_receive(fd));
	obs("recv", one_receive(fd));
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	obs("recv", one_receive(fd));
}

static void closes(int fd)
{
	both();
	send_pat(fd, HALF, 0);
	close(fd);
	both();
}

static void all_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_nothing, all });
}
CASE("waitall.reset", all_server, closes, ANY);

static void all_now_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_nothing, all_now });
}
CASE("waitall.reset_now", all_now_server, closes, ANY);

static void look_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_nothing, look_then_all });
}
CASE("waitall.reset_look", look_server, closes, ANY);

static void kept_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_nothing, by_readv });
}
CASE("waitall.reset_kept", kept_server, closes, ANY);

static void labelled_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_credentials, all });
}
CASE("waitall.reset_credentials", labelled_server, closes, ANY);

static void labelled_now_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_credentials, all_now });
}
CASE("waitall.reset_credentials_now", labelled_now_server, closes, ANY);

static void labelled_recvmsg_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_credentials, all_by_recvmsg });
}
CASE("waitall.reset_credentials_recvmsg", labelled_recvmsg_server, closes, ANY);

static void labelled_kept_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_credentials, now_by_recvmsg });
}
CASE("waitall.reset_credentials_kept", labelled_kept_server, closes, ANY);

static void many_readv_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_many, by_readv });
}
CASE("waitall.reset_low_water", many_readv_server, closes, ANY);

static void many_recvmsg_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_many, now_by_recvmsg });
}
CASE("waitall.reset_low_water_now", many_recvmsg_server, closes, ANY);

static void few_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_few, by_readv });
}
CASE("waitall.reset_low_water_met", few_server, closes, ANY);

/* ---- the same, received by the kernel alone ---- */

static void takes_much(int fd)
{
	for (int i = 0; i < ROUNDS; i++)
		recv_pat(fd, PIECE, 0);
}

static void takes_much_and_closes(int fd)
{
	takes_much(fd);
	closes(fd);
}

static void one_way_server(int fd)
{
	reset_server(fd, &(struct way){ sends_alone, plain_all });
}
CASE("waitall.reset_one_way", one_way_server, takes_much_and_closes, ANY);

static void one_way_recvmsg_server(int fd)
{
	reset_server(fd, &(struct way){ sends_alone, plain_all_by_recvmsg });
}
CASE("waitall.reset_one_way_recvmsg", one_way_recvmsg_server, takes_much_and_closes, ANY);

static void one_way_low_water_server(int fd)
{
	reset_server(fd, &(struct way){ sends_alone, many_by_readv });
}
CASE("waitall.reset_one_way_low_water", one_way_low_water_server, takes_much_and_closes, ANY);

static void one_way_kept_server(int fd)
{
	reset_server(fd, &(struct way){ sends_alone, plain_readv });
}
CASE("waitall.reset_one_way_kept", one_way_kept_server, takes_much_and_closes, ANY);

/* ---- a descriptor rides on the part: the receive ends there, and meets no error ---- */

static void sends_file(int fd, int file)
{
	char bytes[HALF] = { 0 };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)),
			    .cmsg_level = SOL_SOCKET,
			    .cmsg_type = SCM_RIGHTS } };
	struct iovec v = { bytes, sizeof(bytes) };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)
	};

	memcpy(CMSG_DATA(&c.header), &file, sizeof(file));
	obs("sendmsg", sendmsg(fd, &m, 0));
}

static void closes_behind_file(int fd)
{
	int null = open("/dev/null", O_RDONLY);

	both();
	sends_file(fd, null);
	close(null);
	close(fd);
	both();
}

static void takes_much_and_closes_behind_file(int fd)
{
	takes_much(fd);
	closes_behind_file(fd);
}

static void file_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_nothing, all_by_recvmsg });
}
CASE("waitall.reset_file", file_server, closes_behind_file, ANY);

static void dropped_file_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_nothing, all });
}
CASE("waitall.reset_file_dropped", dropped_file_server, closes_behind_file, ANY);

static void labelled_file_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_credentials, all_by_recvmsg });
}
CASE("waitall.reset_file_credentials", labelled_file_server, closes_behind_file, ANY);

static void labelled_dropped_file_server(int fd)
{
	reset_server(fd, &(struct way){ asks_for_credentials, all });
}
CASE("waitall.reset_file_credentials_dropped", labelled_dropped_file_server, closes_behind_file,
     ANY);

static void one_way_file_server(int fd)
{
	reset_server(fd, &(struct way){ sends_alone, plain_all_by_recvmsg });
}
CASE("waitall.reset_file_one_way", one_way_file_server, takes_much_and_closes_behind_file, ANY);

static void one_way_dropped_file_server(int fd)
{
	reset_server(fd, &(struct way){ sends_alone, plain_all });
}
CASE("waitall.reset_file_one_way_dropped", one_way_dropped_file_server,
     takes_much_and_closes_behind_file, ANY);

/* ---- it comes to a receive that waits for the rest ---- */

static void waiting_server(int fd, const struct way *way)
{
	way->prepare(fd);
	send_pat(fd, 5, 0);
	both();
	obs("recv", way->take(fd));
	both();
	obs("recv", one_receive(fd));
	obs("recv", one_receive(fd));
}

static void closes_late(int fd)
{
	both();
	send_pat(fd, HALF, 0);
	nap_ms(CONF_NAP_MS);
	close(fd);
	both();
}

static void all_waiting_server(int fd)
{
	waiting_server(fd, &(struct way){ asks_for_nothing, all });
}
CASE("waitall.reset_waiting", all_waiting_server, closes_late, ANY);

static void labelled_waiting_server(int fd)
{
	waiting_server(fd, &(struct way){ asks_for_credentials, all });
}
CASE("waitall.reset_waiting_credentials", labelled_waiting_server, closes_late, ANY);

static void many_waiting_server(int fd)
{
	waiting_server(fd, &(struct way){ asks_for_many, by_readv });
}
CASE("waitall.reset_waiting_low_water", many_waiting_server, closes_late, ANY);

static void takes_much_and_closes_late(int fd)
{
	takes_much(fd);
	closes_late(fd);
}

static void one_way_waiting_server(int fd)
{
	waiting_server(fd, &(struct way){ sends_alone, plain_all });
}
CASE("waitall.reset_waiting_one_way", one_way_waiting_server, takes_much_and_closes_late, ANY);

/* ---- credentials: what one writer sends belongs together, by however many sends ---- */

static void labelled_parts_server(int fd, ssize_t (*take)(int fd))
{
	asks_for_credentials(fd);
	both();
	obs("recv", take(fd));
	both();
	obs("recv", by_recv(fd, MSG_DONTWAIT));
	both();
}

static void sends_in_parts(int fd)
{
	both();
	send_pat(fd, HALF, 0);
	nap_ms(CONF_NAP_MS);
	send_pat(fd, HALF, HALF);
	both();
	both();
}

static void parts_server(int fd)
{
	labelled_parts_server(fd, all);
}
CASE("waitall.credentials", parts_server, sends_in_parts, ANY);

static void parts_recvmsg_server(int fd)
{
	labelled_parts_server(fd, all_by_recvmsg);
}
CASE("waitall.credentials_recvmsg", parts_recvmsg_server, sends_in_parts, ANY);

/* A receive for all ends where another process has written. */
static void sends_as_two(int fd)
{
	pid_t child;

	both();
	send_pat(fd, HALF, 0);
	child = fork();
	if (child == 0) {
		send(fd, "0123456789", 10, MSG_NOSIGNAL);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	both();
	both();
}
CASE("waitall.credentials_of_two", parts_server, sends_as_two, ANY);
CASE("waitall.credentials_of_two_recvmsg", parts_recvmsg_server, sends_as_two, ANY);
