/* SPDX-License-Identifier: Apache-2.0 */
/* sendfile to a peer that was killed with everything read: what the kernel takes before it finds
 * out. */
#include "tests/conformance/lib/conf.h"

#include <sys/mman.h>
#include <sys/sendfile.h>

enum { ANY = CONF_COLD | CONF_SWAP | CONF_KILLED, FILE_BYTES = 200000 };

static void killed(int fd)
{
	both();
	(void)fd;
	kill(getpid(), SIGKILL);
}

static int empty_pages(void)
{
	int file = memfd_create("pages", MFD_CLOEXEC);

	return ftruncate(file, FILE_BYTES) == 0 ? file : -1;
}

static void await_end(int fd)
{
	on_signal(SIGPIPE, 0);
	both();
	await_peer_exit();
	ready(fd, POLLRDHUP);
}

/* And what is left to tell afterwards. */
static void observe_sendfile(int fd, int file, off_t offset, size_t bytes)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };
	int error = -1;
	socklen_t len = sizeof(error);

	obs("sendfile", sendfile(fd, file, &offset, bytes));
	obs_val("offset", offset);
	obs_val("signals", signal_count(SIGPIPE));
	nap_ms(CONF_NAP_MS); /* the answer, if there is one */
	obs_poll("poll", poll(&p, 1, 0), p.revents);
	obs("getsockopt", getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	obs_val("error", error);
	obs("send", send(fd, "x", 1, 0));
	obs_val("signals", signal_count(SIGPIPE));
	close(file);
}

/* What goes to the socket at once, it takes. */
static void at_once(int fd)
{
	await_end(fd);
	observe_sendfile(fd, empty_pages(), 0, 32000);
}
CASE("files_killed.at_once", killed, at_once, ANY);

/* Of more than that the rest finds the pipe broken. */
static void more(int fd)
{
	await_end(fd);
	observe_sendfile(fd, empty_pages(), 1000, 100000);
}
CASE("files_killed.more", killed, more, ANY);

static void to_the_byte(int fd)
{
	await_end(fd);
	observe_sendfile(fd, empty_pages(), FILE_BYTES - 5000, 100000);
}
CASE("files_killed.rest_of_file", killed, to_the_byte, ANY);

/* Nothing is sent, and nothing found out. */
static void nothing(int fd)
{
	await_end(fd);
	observe_sendfile(fd, empty_pages(), FILE_BYTES, 100);
}
CASE("files_killed.end_of_file", killed, nothing, ANY);

static void refused(int fd)
{
	await_end(fd);
	observe_sendfile(fd, open("/", O_RDONLY | O_CLOEXEC), 0, 100);
}
CASE("files_killed.directory", killed, refused, ANY);

/* With bytes unread that was a reset. */
static void killed_unread(int fd)
{
	both();
	ready(fd, POLLIN);
	kill(getpid(), SIGKILL);
}

static void after_reset(int fd)
{
	send_pat(fd, 100, 0);
	await_end(fd);
	ready(fd, POLLHUP);
	observe_sendfile(fd, empty_pages(), 0, 100000);
}
CASE("files_killed.reset", killed_unread, after_reset, ANY);

static void nothing_after_reset(int fd)
{
	send_pat(fd, 100, 0);
	await_end(fd);
	ready(fd, POLLHUP);
	observe_sendfile(fd, empty_pages(), FILE_BYTES, 100);
}
CASE("files_killed.reset_end_of_file", killed_unread, nothing_after_reset, ANY);

/* A directory gives nothing while the peer lives either. */
static void living(int fd)
{
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
}

static void directory_client(int fd)
{
	int file = open("/", O_RDONLY | O_CLOEXEC);

	obs("sendfile", sendfile(fd, file, NULL, 100));
	close(file);
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
}
CASE("files_killed.directory_to_the_living", living, directory_client, CONF_COLD | CONF_SWAP);
