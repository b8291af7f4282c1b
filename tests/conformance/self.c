/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases for the harness itself (run --self-test): each is named after the verdict that it must get.
 * They may look at what the other cases must not know.
 */
#include "tests/conformance/lib/conf.h"

static void nothing(int fd)
{
	(void)fd;
}

static void ten_each_way(int fd)
{
	send_pat(fd, 10, 0);
	recv_pat(fd, 10, 0);
}
CASE("self.passes", ten_each_way, ten_each_way, CONF_SELF);

static void show_preload(int fd)
{
	obs_val("preloaded", getenv("LD_PRELOAD") != NULL);
	ten_each_way(fd);
}
CASE("self.differs", show_preload, ten_each_way, CONF_SELF);

static void hang_when_shimmed(int fd)
{
	(void)fd;
	if (getenv("LD_PRELOAD"))
		pause();
}
CASE("self.hangs", hang_when_shimmed, nothing, CONF_SELF);

static void leave_child(int fd)
{
	(void)fd;
	if (getenv("LD_PRELOAD") && fork() == 0) {
		for (;;)
			pause();
	}
}
CASE("self.leaks_child", leave_child, nothing, CONF_SELF);

/* The log's folder is the one that the runner watches. */
static void leave_file(int fd)
{
	const char *log = getenv("SHMIPC_LOG");
	char path[512];

	(void)fd;
	if (!log || !strchr(log, '/'))
		return;
	snprintf(path, sizeof(path), "%s.left", strchr(log, '/'));
	close(open(path, O_CREAT | O_WRONLY, 0600));
}
CASE("self.leaks_file", leave_file, nothing, CONF_SELF);

static void claim(const char *line)
{
	const char *log = getenv("SHMIPC_LOG");
	int fd;

	if (!log || !strchr(log, '/'))
		return;
	fd = open(strchr(log, '/'), O_CREAT | O_WRONLY | O_APPEND, 0600);
	dprintf(fd, "%s\n", line);
	close(fd);
}

static void claim_accelerated(int fd)
{
	(void)fd;
	claim("shmipc: event=accelerated");
}
CASE("self.wrongly_accelerated", claim_accelerated, nothing, CONF_SELF);

/* Unconnected to any endpoint: a socket that cannot be accelerated, where it must be. */
static void silence_log(int fd)
{
	const char *log = getenv("SHMIPC_LOG");

	close(fd);
	if (log && strchr(log, '/'))
		unlink(strchr(log, '/'));
}
CASE("self.not_accelerated", silence_log, silence_log, CONF_SELF);
