/* SPDX-License-Identifier: Apache-2.0 */
/* How a case prints what it saw. One write() per line: a kill loses nothing. */
#include "tests/conformance/lib/conf.h"

#include <stdarg.h>

static void put_line(const char *line, size_t len)
{
	ssize_t r = write(STDOUT_FILENO, line, len);

	(void)r;
}

void obs_text(const char *format, ...)
{
	int saved = errno;
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (n < 0)
		n = 0;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n] = '\n';
	put_line(line, (size_t)n + 1);
	errno = saved;
}

void obs(const char *what, long r)
{
	const char *name;

	if (r != -1) {
		obs_text("%s = %ld", what, r);
		return;
	}
	name = strerrorname_np(errno);
	obs_text("%s = -1 %s", what, name ? name : "E?");
}

void obs_val(const char *what, long value)
{
	obs_text("%s: %ld", what, value);
}

void obs_set(const char *what, int fd, int level, int option, int value)
{
	obs(what, setsockopt(fd, level, option, &value, sizeof(value)));
}

void obs_sum(const char *what, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	uint64_t sum = 1469598103934665603ULL;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * 1099511628211ULL;
	obs_text("%s: %zu bytes, sum %016llx", what, len, (unsigned long long)sum);
}

struct bit_name {
	unsigned int bit;
	const char *name;
};

static const struct bit_name bit_names[] = {
	{ EPOLLIN, "IN" },	   { EPOLLPRI, "PRI" },	      { EPOLLOUT, "OUT" },
	{ EPOLLERR, "ERR" },	   { EPOLLHUP, "HUP" },	      { POLLNVAL, "NVAL" },
	{ EPOLLRDNORM, "RDNORM" }, { EPOLLRDBAND, "RDBAND" }, { EPOLLWRNORM, "WRNORM" },
	{ EPOLLWRBAND, "WRBAND" }, { EPOLLMSG, "MSG" },	      { EPOLLRDHUP, "RDHUP" },
};

static const char *bits_text(unsigned int bits, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof(bit_names) / sizeof(bit_names[0]); i++) {
		if (!(bits & bit_names[i].bit))
			continue;
		used += (size_t)snprintf(text + used, size - used, "%s%s", used ? "|" : "",
					 bit_names[i].name);
		bits &= ~bit_names[i].bit;
	}
	if (bits)
		snprintf(text + used, size - used, "|%#x", bits);
	return text;
}

void obs_poll(const char *what, int r, short revents)
{
	char text[160];

	if (r < 0)
		obs(what, r);
	else
		obs_text("%s = %d [%s]", what, r,
			 bits_text((unsigned short)revents, text, sizeof(text)));
}

void obs_epoll(const char *what, int r, const struct epoll_event *events)
{
	char text[160];

	obs(what, r);
	for (int i = 0; i < r; i++)
		obs_text("  data %#llx [%s]", (unsigned long long)events[i].data.u64,
			 bits_text(events[i].events, text, sizeof(text)));
}

void obs_exit(const char *what, int status)
{
	if (WIFSIGNALED(status))
		obs_text("%s: killed by %s", what, sigabbrev_np(WTERMSIG(status)));
	else
		obs_text("%s: exit %d", what, WEXITSTATUS(status));
}
