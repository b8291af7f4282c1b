/* SPDX-License-Identifier: Apache-2.0 */
/* A thread sleeps in a set for two connections of one peer, and another one takes what would have
 * ended its sleep: the bytes of the first, or the first itself.  Of the second it must hear. */
#include <stdatomic.h>

#include "tests/conformance/lib/epoll_set.h"

enum {
	FIRST,
	SECOND, /* only the sleeper serves it, or whoever was told of it by the set */
	LAST,	/* all is done */
	ENDS,
	WARM_ROUNDS = 30,
	ROUNDS = 1000,
	SHORT_ROUNDS = 300,
	CLOSINGS = 100, /* rounds, each with a first one of its own */
	LATE_MS = 1500,
	NAP_US = 400,
	DISTURB_US = 500,
	BETWEEN_US = 60,
	CALM_ROUNDS = 2, /* in which the sleeper lies down for both again */
	SOME_BYTES = 64,
	LOOKS = 200,
};

static int set, ends[ENDS], firsts[CLOSINGS];
static _Atomic int served;
static _Atomic bool is_over;

static void pause_us(int i, int most)
{
	usleep((useconds_t)(i * 7 % most));
}

/* The sleeper, or who is told for it. */
static void serve(const struct epoll_event *e)
{
	int end = (int)e->data.u64;
	char bytes[SOME_BYTES];
	ssize_t n = recv(ends[end], bytes, sizeof(bytes), MSG_DONTWAIT);

	if (end == LAST)
		atomic_store(&is_over, true);
	if (end != SECOND || n != 1)
		return;
	send_exact(ends[SECOND], bytes, 1);
	atomic_fetch_add(&served, 1);
}

static void wait_for_rounds(int rounds)
{
	int until = atomic_load(&served) + rounds;

	while (atomic_load(&served) < until && !atomic_load(&is_over))
		usleep(20);
}

/* About when the next bytes come.  Then how many have been served. */
static int find_a_moment(int i)
{
	wait_for_rounds(CALM_ROUNDS);
	pause_us(i, DISTURB_US);
	return atomic_load(&served);
}

/* What is lost now nobody else makes good. */
static void hold_until_served(int before)
{
	while (atomic_load(&served) == before && !atomic_load(&is_over))
		usleep(20);
}

static void *takes_bytes(void *none)
{
	char bytes[SOME_BYTES];

	for (int i = 0; !atomic_load(&is_over); i++) {
		find_a_moment(i);
		for (int k = 0; k < LOOKS; k++)
			recv(ends[FIRST], bytes, sizeof(bytes), MSG_DONTWAIT);
	}
	return none;
}

static void *asks_for_nothing(void *none)
{
	for (int i = 0; !atomic_load(&is_over); i++) {
		int before = find_a_moment(i);

		change(set, EPOLL_CTL_MOD, ends[FIRST], 0, FIRST);
		hold_until_served(before);
		change(set, EPOLL_CTL_MOD, ends[FIRST], EPOLLIN, FIRST);
	}
	return none;
}

static void *leaves_the_set(void *none)
{
	for (int i = 0; !atomic_load(&is_over); i++) {
		int before = find_a_moment(i);

		change(set, EPOLL_CTL_DEL, ends[FIRST], 0, 0);
		hold_until_served(before);
		change(set, EPOLL_CTL_ADD, ends[FIRST], EPOLLIN, FIRST);
	}
	return none;
}

/* It need not sleep to be told, and may be told before the sleeper is awake. */
static bool is_told(struct epoll_event *e)
{
	for (int k = 0; k < LOOKS; k++)
		if (epoll_wait(set, e, 1, 0) == 1)
			return true;
	return false;
}

static void look_too(int i)
{
	int before = find_a_moment(i);
	struct epoll_event e;

	if (is_told(&e))
		serve(&e);
	hold_until_served(before);
}

static void *looks_too(void *none)
{
	for (int i = 0; !atomic_load(&is_over); i++)
		look_too(i);
	return none;
}

/* Whoever was told of the first. */
static void ask_again(void)
{
	change(set, EPOLL_CTL_MOD, ends[FIRST], EPOLLIN | EPOLLONESHOT, FIRST);
}

static void *looks_once(void *none)
{
	for (int i = 0; !atomic_load(&is_over); i++) {
		look_too(i);
		ask_again();
	}
	return none;
}

/* What the sleeper was to be woken by now lies before whoever looks next. */
static void *takes_and_looks(void *none)
{
	char bytes[SOME_BYTES];
	struct epoll_event e;

	for (int i = 0; !atomic_load(&is_over); i++) {
		int before = find_a_moment(i);

		for (int k = 0; k < LOOKS; k++) {
			if (recv(ends[FIRST], bytes, sizeof(bytes), MSG_DONTWAIT) <= 0)
				continue;
			recv(ends[FIRST], bytes, sizeof(bytes), MSG_DONTWAIT);
			if (epoll_wait(set, &e, 1, 0) == 1)
				serve(&e);
			break;
		}
		hold_until_served(before);
	}
	return none;
}

static void *polls_the_first(void *none)
{
	char bytes[SOME_BYTES];

	for (int i = 0; !atomic_load(&is_over); i++) {
		struct pollfd first = { .fd = ends[FIRST], .events = POLLIN };

		find_a_moment(i);
		if (poll(&first, 1, 1) == 1 && i % 2)
			recv(ends[FIRST], bytes, sizeof(bytes), MSG_DONTWAIT);
	}
	return none;
}

static void sleep_for_all(bool once)
{
	int late = 0;

	while (!atomic_load(&is_over) && late == 0) {
		struct epoll_event e[ENDS];
		int n = epoll_wait(set, e, ENDS, LATE_MS);

		for (int i = 0; i < n; i++) {
			serve(&e[i]);
			if (once && e[i].data.u64 == FIRST)
				ask_again();
		}
		late += n == 0 && !atomic_load(&is_over); /* or another one has heard of it */
	}
	atomic_store(&is_over, true);
	obs_val("late", late);
}

static void accept_and_add(int listener, uint32_t first_events)
{
	set = epoll_create1(EPOLL_CLOEXEC);
	for (uint64_t i = 0; i < ENDS; i++) {
		ends[i] = conf_accept(listener);
		warm_up(ends[i], WARM_ROUNDS);
		change(set, EPOLL_CTL_ADD, ends[i], i == FIRST ? first_events : EPOLLIN, i);
	}
}

static void close_ends(void)
{
	both();
	for (int i = 0; i < ENDS; i++)
		close(ends[i]);
}

static void disturbed_server(int listener, uint32_t first_events, void *(*other)(void *))
{
	pthread_t thread;

	accept_and_add(listener, first_events);
	thread = spawn(other, NULL);
	sleep_for_all(first_events & EPOLLONESHOT);
	pthread_join(thread, NULL);
	close_ends();
	close(set);
}

static void connect_all(void)
{
	for (int i = 0; i < ENDS; i++) {
		ends[i] = conf_connect();
		warm_up(ends[i], WARM_ROUNDS);
	}
}

static int one_round(int i, int first)
{
	char byte = 's';

	pause_us(i, NAP_US);
	send(first, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT); /* may be closed, or full */
	if (i % 3 == 0)
		pause_us(i, BETWEEN_US);
	send_exact(ends[SECOND], &byte, 1);
	return recv_exact(ends[SECOND], &byte, 1) != 1;
}

static void sending_client(int none)
{
	int bad = 0;

	(void)none;
	connect_all();
	for (int i = 0; i < ROUNDS && bad == 0; i++)
		bad += one_round(i, ends[FIRST]);
	obs_val("bad", bad);
	send_exact(ends[LAST], "e", 1);
	close_ends();
}

static void take_server(int listener)
{
	disturbed_server(listener, EPOLLIN, takes_bytes);
}
CASE("together_threads.take", take_server, sending_client, CONF_RAW | CONF_MUST);

static void take_edge_server(int listener)
{
	disturbed_server(listener, EPOLLIN | EPOLLET, takes_bytes);
}
CASE("together_threads.take_edge", take_edge_server, sending_client, CONF_RAW | CONF_MUST);

static void take_and_look_server(int listener)
{
	disturbed_server(listener, EPOLLIN, takes_and_looks);
}
CASE("together_threads.take_and_look", take_and_look_server, sending_client, CONF_RAW | CONF_MUST);

static void poll_server(int listener)
{
	disturbed_server(listener, EPOLLIN, polls_the_first);
}
CASE("together_threads.poll", poll_server, sending_client, CONF_RAW | CONF_MUST);

static void modify_server(int listener)
{
	disturbed_server(listener, EPOLLIN, asks_for_nothing);
}
CASE("together_threads.modify", modify_server, sending_client, CONF_RAW | CONF_MUST);

static void remove_server(int listener)
{
	disturbed_server(listener, EPOLLIN, leaves_the_set);
}
CASE("together_threads.remove", remove_server, sending_client, CONF_RAW | CONF_MUST);

static void look_server(int listener)
{
	disturbed_server(listener, EPOLLIN, looks_too);
}
CASE("together_threads.look", look_server, sending_client, CONF_RAW | CONF_MUST);

static void look_edge_server(int listener)
{
	disturbed_server(listener, EPOLLIN | EPOLLET, looks_too);
}
CASE("together_threads.look_edge", look_edge_server, sending_client, CONF_RAW | CONF_MUST);

static void look_once_server(int listener)
{
	disturbed_server(listener, EPOLLIN | EPOLLONESHOT, looks_once);
}
CASE("together_threads.look_once", look_once_server, sending_client, CONF_RAW | CONF_MUST);

/* ---- room for one event, which the waking of a sleeper must not take ---- */

static int ready_pipe[2];
static _Atomic int asked;

static void *writes_and_rouses(void *none)
{
	for (int i = 1; i <= SHORT_ROUNDS; i++) {
		while (atomic_load(&asked) < i)
			usleep(20);
		pause_us(i, NAP_US);
		write(ready_pipe[1], "p", 1);
		change(set, EPOLL_CTL_MOD, ends[FIRST], EPOLLIN, FIRST);
	}
	return none;
}

/* Both have news, and the next sleep is for both. */
static void have_both_answered(void)
{
	char byte = 'a';

	for (int i = FIRST; i <= SECOND; i++)
		send_exact(ends[i], &byte, 1);
	for (int answers = 0; answers < 2;) {
		struct epoll_event e;

		if (epoll_wait(set, &e, 1, LATE_MS) != 1)
			break;
		answers += recv(ends[e.data.u64], &byte, 1, MSG_DONTWAIT) == 1;
	}
}

static void short_array_server(int listener)
{
	struct epoll_event e;
	pthread_t thread;
	int missed = 0;
	char byte;

	accept_and_add(listener, EPOLLIN);
	if (pipe(ready_pipe) < 0)
		return;
	change(set, EPOLL_CTL_ADD, ready_pipe[0], EPOLLIN, LAST);
	thread = spawn(writes_and_rouses, NULL);
	for (int i = 1; i <= SHORT_ROUNDS; i++) {
		have_both_answered();
		atomic_store(&asked, i);
		missed += epoll_wait(set, &e, 1, LATE_MS) != 1;
		missed += epoll_wait(set, &e, 1, 0) != 1;
		missed += read(ready_pipe[0], &byte, 1) != 1;
	}
	obs_val("missed", missed);
	pthread_join(thread, NULL);
	close(ready_pipe[0]);
	close(ready_pipe[1]);
	close_ends();
	close(set);
}

static void answering_client(int none)
{
	char byte;

	(void)none;
	connect_all();
	for (int i = 0; i < SHORT_ROUNDS; i++)
		for (int k = FIRST; k <= SECOND; k++)
			if (recv_exact(ends[k], &byte, 1) == 1)
				send_exact(ends[k], &byte, 1);
	close_ends();
}
CASE("together_threads.short_array", short_array_server, answering_client, CONF_RAW | CONF_MUST);

/* ---- it is closed, or something else gets its number ---- */

static bool by_dup2;

static void wait_for_bytes(int fd)
{
	char byte;

	while (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 1 && !atomic_load(&is_over))
		;
}

static void *closes(void *none)
{
	for (int i = 0; i < CLOSINGS && !atomic_load(&is_over); i++) {
		wait_for_bytes(firsts[i]);
		if (by_dup2)
			dup2(STDERR_FILENO, firsts[i]);
		close(firsts[i]);
		hold_until_served(i);
	}
	return none;
}

/* Each joins before the sleep in which it is closed, or it lies alone. */
static void sleep_and_add(void)
{
	int late = 0;

	for (int added = 0; !atomic_load(&is_over) && late == 0;) {
		struct epoll_event e[ENDS];
		int n;

		for (; added <= atomic_load(&served) && added < CLOSINGS; added++)
			change(set, EPOLL_CTL_ADD, firsts[added], EPOLLIN, FIRST);
		n = epoll_wait(set, e, ENDS, LATE_MS);
		for (int i = 0; i < n; i++)
			serve(&e[i]);
		late += n == 0 && !atomic_load(&is_over); /* or another one has heard of it */
	}
	atomic_store(&is_over, true);
	obs_val("late", late);
}

static void closing_server(int listener)
{
	pthread_t thread;

	accept_and_add(listener, EPOLLIN);
	for (int i = 0; i < CLOSINGS; i++) {
		firsts[i] = conf_accept(listener);
		warm_up(firsts[i], WARM_ROUNDS);
	}
	thread = spawn(closes, NULL);
	sleep_and_add();
	pthread_join(thread, NULL);
	close_ends();
	close(set);
}

static void closing_client(int none)
{
	int bad = 0;

	(void)none;
	connect_all();
	for (int i = 0; i < CLOSINGS; i++) {
		firsts[i] = conf_connect();
		warm_up(firsts[i], WARM_ROUNDS);
	}
	for (int i = 0; i < CLOSINGS && bad == 0; i++)
		bad += one_round(i, firsts[i]);
	obs_val("bad", bad);
	send_exact(ends[LAST], "e", 1);
	close_ends();
	for (int i = 0; i < CLOSINGS; i++)
		close(firsts[i]);
}
CASE("together_threads.close", closing_server, closing_client, CONF_RAW | CONF_MUST);

static void replacing_server(int listener)
{
	by_dup2 = true;
	closing_server(listener);
}
CASE("together_threads.dup2", replacing_server, closing_client, CONF_RAW | CONF_MUST);
