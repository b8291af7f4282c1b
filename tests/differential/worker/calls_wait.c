/* SPDX-License-Identifier: Apache-2.0 */
/* poll, select, epoll.  An outcome lists what is ready in the order of the slots. */
#include "tests/differential/worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

enum { ENTRIES_MAX = 8, EARLY_US = 1500 };

struct entry {
	char name[3];
	int fd;
	short events;
};

/* SLOT:EVENTS,SLOT:EVENTS */
static int parse(char *text, struct entry *entries)
{
	int count = 0;

	for (char *item; (item = strtok_r(text, ",", &text)) && count < ENTRIES_MAX; count++) {
		memcpy(entries[count].name, item, 2);
		entries[count].name[2] = 0;
		entries[count].fd = slot_fd(entries[count].name);
		entries[count].events = (short)events_of(item + 3, false);
	}
	return count;
}

/* A wait that found nothing must have lasted. */
static void say_early(struct actor *actor, long result, long timeout_ms, long long since_us)
{
	if (result == 0 && now_us() - since_us < timeout_ms * 1000 - EARLY_US)
		say(actor, " early");
}

static struct timespec timespec_of(long ms)
{
	return (struct timespec){ ms / 1000, ms % 1000 * 1000000 };
}

static void by_poll(struct actor *actor, struct entry *entries, int count, long ms, bool ppolls)
{
	struct pollfd fds[ENTRIES_MAX];
	struct timespec time = timespec_of(ms);
	long long start = now_us();
	sigset_t mask;
	int n;

	sigemptyset(&mask);
	for (int i = 0; i < count; i++)
		fds[i] = (struct pollfd){ entries[i].fd, entries[i].events, 0 };
	if (ppolls)
		n = ppoll(fds, (nfds_t)count, ms < 0 ? NULL : &time, &mask);
	else
		n = poll(fds, (nfds_t)count, (int)ms);
	say_result(actor, "poll", n);
	for (int i = 0; i < count && n > 0; i++)
		if (fds[i].revents)
			say(actor, " %s:%x", entries[i].name, (unsigned int)fds[i].revents);
	say_early(actor, n, ms, start);
}

static void by_select(struct actor *actor, struct entry *entries, int count, long ms, bool pselects)
{
	fd_set sets[3];
	struct timespec time = timespec_of(ms);
	struct timeval shorter = { ms / 1000, ms % 1000 * 1000 };
	static const short asked[3] = { POLLIN, POLLOUT, POLLPRI };
	long long start = now_us();
	int n, last = -1;

	memset(sets, 0, sizeof(sets));
	for (int i = 0; i < count; i++) {
		for (int j = 0; j < 3; j++)
			if (entries[i].fd >= 0 && (entries[i].events & asked[j]))
				FD_SET(entries[i].fd, &sets[j]);
		last = entries[i].fd > last ? entries[i].fd : last;
	}
	if (pselects)
		n = pselect(last + 1, &sets[0], &sets[1], &sets[2], ms < 0 ? NULL : &time, NULL);
	else
		n = select(last + 1, &sets[0], &sets[1], &sets[2], ms < 0 ? NULL : &shorter);
	say_result(actor, "select", n);
	for (int i = 0; i < count && n > 0; i++)
		for (int j = 0; j < 3; j++)
			if (entries[i].fd >= 0 && FD_ISSET(entries[i].fd, &sets[j]))
				say(actor, " %s:%c", entries[i].name, "rwx"[j]);
	say_early(actor, n, ms, start);
}

/* poll ENTRIES TIMEOUT CALL */
static void do_poll(struct actor *actor, const struct words *words)
{
	struct entry entries[ENTRIES_MAX];
	int count = parse(words->at[1], entries);
	const char *call = word(words, 3);
	bool with_mask = call[0] == 'p' && call[1] != 'o';

	if (strstr(call, "select"))
		by_select(actor, entries, count, number(words, 2), with_mask);
	else
		by_poll(actor, entries, count, number(words, 2), with_mask);
}

static void do_epoll_create(struct actor *actor, const struct words *words)
{
	int fd = epoll_create1(0);

	say_result(actor, "epoll_create", fd);
	slot_set(word(words, 1), fd);
}

/* epoll_ctl SET add|mod|del SLOT EVENTS [SLOT], whose data it carries */
static void do_epoll_ctl(struct actor *actor, const struct words *words)
{
	const char *name = word(words, 3), *what = word(words, 2);
	const char *data = words->count > 5 ? word(words, 5) : name;
	struct epoll_event event = { .events = (uint32_t)events_of(word(words, 4), true) };
	int operation = what[0] == 'a'	 ? EPOLL_CTL_ADD
			: what[0] == 'm' ? EPOLL_CTL_MOD
					 : EPOLL_CTL_DEL;

	event.data.u64 = 0xabcdef0000000000u | (uint64_t)data[0] << 8 | (unsigned char)data[1];
	say_result(actor, "epoll_ctl",
		   epoll_ctl(slot_fd(word(words, 1)), operation, slot_fd(name), &event));
}

static int by_data(const void *left, const void *right)
{
	const struct epoll_event *a = left, *b = right;

	if (a->data.u64 != b->data.u64)
		return a->data.u64 < b->data.u64 ? -1 : 1;
	return a->events < b->events ? -1 : a->events > b->events;
}

/* epoll_wait SET MAX TIMEOUT CALL */
static void do_epoll_wait(struct actor *actor, const struct words *words)
{
	struct epoll_event events[ENTRIES_MAX];
	int set = slot_fd(word(words, 1)), most = (int)number(words, 2), n;
	long ms = number(words, 3);
	const char *call = word(words, 4);
	struct timespec time = timespec_of(ms);
	long long start = now_us();

	if (strcmp(call, "epoll_pwait") == 0)
		n = epoll_pwait(set, events, most, (int)ms, NULL);
	else if (strcmp(call, "epoll_pwait2") == 0)
		n = epoll_pwait2(set, events, most, ms < 0 ? NULL : &time, NULL);
	else
		n = epoll_wait(set, events, most, (int)ms);
	say_result(actor, "epoll_wait", n);
	if (n > 0)
		qsort(events, (size_t)n, sizeof(events[0]), by_data);
	for (int i = 0; i < n; i++)
		say(actor, " %c%c:%x%s", (int)(events[i].data.u64 >> 8 & 0x7f),
		    (int)(events[i].data.u64 & 0x7f), events[i].events,
		    events[i].data.u64 >> 40 == 0xabcdef ? "" : " foreign data");
	say_early(actor, n, ms, start);
}

const struct call wait_calls[] = {
	{ "poll", do_poll },
	{ "epoll_create", do_epoll_create },
	{ "epoll_ctl", do_epoll_ctl },
	{ "epoll_wait", do_epoll_wait },
	{ NULL, NULL },
};
