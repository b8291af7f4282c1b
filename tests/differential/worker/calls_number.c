/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors as such: close, duplicates, options, shutdown, ioctl. */
#include "tests/differential/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static void do_close(struct actor *actor, const struct words *words)
{
	int fd = slot_fd(word(words, 1));

	slot_set(word(words, 1), -1);
	say_result(actor, "close", close(fd));
}

/* close_range SLOT */
static void do_close_range(struct actor *actor, const struct words *words)
{
	int fd = slot_fd(word(words, 1));

	slot_set(word(words, 1), -1);
	say_result(actor, "close_range", close_range((unsigned int)fd, (unsigned int)fd, 0));
}

static int duplicate(const char *call, int from, int to)
{
	if (strcmp(call, "dup") == 0)
		return dup(from);
	if (strcmp(call, "dup2") == 0)
		return dup2(from, to);
	if (strcmp(call, "dup3") == 0)
		return dup3(from, to, O_CLOEXEC);
	if (strcmp(call, "F_DUPFD") == 0)
		return fcntl(from, F_DUPFD, 0);
	return fcntl(from, F_DUPFD_CLOEXEC, 20);
}

/* dup CALL FROM TO: the slot TO is empty, except for dup2 and dup3, which replace what is there. */
static void do_dup(struct actor *actor, const struct words *words)
{
	int fd = duplicate(word(words, 1), slot_fd(word(words, 2)), slot_fd(word(words, 3)));

	say_result(actor, "dup", fd);
	if (fd >= 0)
		slot_set(word(words, 3), fd);
}

static void do_shutdown(struct actor *actor, const struct words *words)
{
	say_result(actor, "shutdown", shutdown(slot_fd(word(words, 1)), (int)number(words, 2)));
}

/* nonblock SLOT 0|1 CALL */
static void do_nonblock(struct actor *actor, const struct words *words)
{
	int fd = slot_fd(word(words, 1)), on = (int)number(words, 2);
	int flags = fcntl(fd, F_GETFL);

	if (strcmp(word(words, 3), "ioctl") == 0)
		say_result(actor, "nonblock", ioctl(fd, FIONBIO, &on));
	else
		say_result(actor, "nonblock",
			   fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
	say(actor, " flags=%o", (unsigned int)fcntl(fd, F_GETFL));
}

static void do_set(struct actor *actor, const struct words *words)
{
	int level, option, value = (int)number(words, 3);

	option_of(word(words, 2), &level, &option);
	say_result(actor, "set",
		   setsockopt(slot_fd(word(words, 1)), level, option, &value, sizeof(value)));
}

static void do_get(struct actor *actor, const struct words *words)
{
	int level, option, value = 0;
	socklen_t bytes = sizeof(value);

	option_of(word(words, 2), &level, &option);
	say_result(actor, "get",
		   getsockopt(slot_fd(word(words, 1)), level, option, &value, &bytes));
	say(actor, " value=%d bytes=%u", value, bytes);
}

/* timeout SLOT RCV|SND MS */
static void do_timeout(struct actor *actor, const struct words *words)
{
	long ms = number(words, 3);
	struct timeval time = { ms / 1000, ms % 1000 * 1000 };
	int option = strcmp(word(words, 2), "RCV") == 0 ? SO_RCVTIMEO : SO_SNDTIMEO;
	socklen_t bytes = sizeof(time);
	int fd = slot_fd(word(words, 1));

	say_result(actor, "timeout", setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)));
	getsockopt(fd, SOL_SOCKET, option, &time, &bytes);
	say(actor, " %ld.%06ld", (long)time.tv_sec, (long)time.tv_usec);
}

/* linger SLOT ON SECONDS */
static void do_linger(struct actor *actor, const struct words *words)
{
	struct linger linger = { (int)number(words, 2), (int)number(words, 3) };
	socklen_t bytes = sizeof(linger);
	int fd = slot_fd(word(words, 1));

	say_result(actor, "linger", setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &bytes);
	say(actor, " %d,%d", linger.l_onoff, linger.l_linger);
}

/* ioctl SLOT FIONREAD|SIOCATMARK|SIOCOUTQ.  What is unsent is a matter of the kernel's memory: zero
 * or not. */
static void do_ioctl(struct actor *actor, const struct words *words)
{
	int fd = slot_fd(word(words, 1)), value = -1;
	const char *request = word(words, 2);

	if (strcmp(request, "FIONREAD") == 0) {
		say_result(actor, "ioctl", ioctl(fd, FIONREAD, &value));
	} else if (strcmp(request, "SIOCATMARK") == 0) {
		say_result(actor, "ioctl", ioctl(fd, SIOCATMARK, &value));
	} else {
		say_result(actor, "ioctl", ioctl(fd, SIOCOUTQ, &value));
		value = value > 0;
	}
	say(actor, " value=%d", value);
}

static void do_name(struct actor *actor, const struct words *words)
{
	struct sockaddr_storage name;
	socklen_t bytes = sizeof(name);
	int fd = slot_fd(word(words, 1));

	say_result(actor, "getsockname", getsockname(fd, (struct sockaddr *)&name, &bytes));
	say(actor, " bytes=%u", bytes);
	bytes = sizeof(name);
	say_result(actor, " getpeername", getpeername(fd, (struct sockaddr *)&name, &bytes));
	say(actor, " bytes=%u", bytes);
}

static void do_stat(struct actor *actor, const struct words *words)
{
	struct stat status;
	int fd = slot_fd(word(words, 1));

	say_result(actor, "fstat", fstat(fd, &status));
	say_result(actor, " lseek", lseek(fd, 0, SEEK_CUR));
	say(actor, " mode=%o cloexec=%d", (unsigned int)status.st_mode, fcntl(fd, F_GETFD));
}

const struct call number_calls[] = {
	{ "close", do_close },
	{ "close_range", do_close_range },
	{ "dup", do_dup },
	{ "shutdown", do_shutdown },
	{ "nonblock", do_nonblock },
	{ "set", do_set },
	{ "get", do_get },
	{ "timeout", do_timeout },
	{ "linger", do_linger },
	{ "ioctl", do_ioctl },
	{ "name", do_name },
	{ "stat", do_stat },
	{ NULL, NULL },
};
