/* SPDX-License-Identifier: Apache-2.0 */
/* Event loops that change what they wait for around each message: the kernel hears of it late. */
#include <dlfcn.h>
#include <link.h>

#include "tests/conformance/lib/running_set.h"

enum { ANY = CONF_COLD | CONF_SWAP, EVERY = CONF_COLD | CONF_SWAP | CONF_MID };

enum { ROUNDS = 300 };

/* ---- the loop of ae.c: room is added for a request, removed, bytes are added for the reply ----
 */

static void flip(int fd, bool first)
{
	int set = epoll_create1(0);
	uint64_t data = 0;
	char bytes[64];
	bool good = true;

	pat_fill(bytes, sizeof(bytes), 0);
	for (int i = 0; i < ROUNDS; i++) {
		size_t want = 1 + (size_t)i % 60, got = 0;
		struct epoll_event e = { 0 };

		for (int step = 0; step < 2; step++) {
			bool sends = (step == 0) == first;

			change(set, EPOLL_CTL_ADD, fd, sends ? EPOLLOUT : EPOLLIN, ++data);
			if (i % 50 == 0 && !sends)
				nap_ms(1);
			got = 0;
			do {
				ssize_t n;

				good = good && epoll_wait(set, &e, 1, CONF_WAIT_MS) == 1 &&
				       e.data.u64 == data &&
				       e.events == (sends ? EPOLLOUT : EPOLLIN);
				n = sends ? send(fd, bytes, want, 0)
					  : recv(fd, bytes + got, want - got, MSG_DONTWAIT);
				got += n > 0 ? (size_t)n : 0;
			} while (good && got < want);
			good = good && change(set, EPOLL_CTL_DEL, fd, 0, 0) == 0;
		}
		good = good && pat_good(bytes, want, 0);
	}
	obs_text("rounds %s", good ? "right" : "WRONG");
	close(set);
}

static void flip_server(int fd)
{
	flip(fd, false);
}

static void flip_client(int fd)
{
	flip(fd, true);
}
CASE("epoll_loop.flip", flip_server, flip_client, EVERY);

/* ---- what epoll_ctl answers ---- */

static void errors_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);

	obs("add again", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("del again", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("mod of none", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("bad op", change(set, 77, fd, EPOLLIN, 1));
	obs("bad event", epoll_ctl(set, EPOLL_CTL_ADD, fd, bad_pointer()));
	obs("not a set", change(fd, EPOLL_CTL_ADD, set, EPOLLIN, 1));
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLOUT, 1));
	obs("bad event", epoll_ctl(set, EPOLL_CTL_MOD, fd, bad_pointer()));
	obs("exclusive mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLEXCLUSIVE, 1));
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("exclusive add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE, 2));
	obs("mod of exclusive", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 3));
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, bad_pointer()));
	obs("wrong exclusive",
	    change(set, EPOLL_CTL_ADD, fd, EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLIN, 2));
	see("nothing", set, 0);
	close(set);
	obs("closed set", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	tell(NO_MORE);
}
CASE("epoll_loop.errors", errors_server, on_demand_client, ANY);

/* ---- a change, and then a sleep ---- */

static void asleep_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);

	for (uint64_t i = 0; i < 6; i++) {
		obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
		if (i % 3 == 1)
			see("none", set, 0);
		obs("add", change(set, EPOLL_CTL_ADD, fd, i % 2 ? EPOLLIN : EPOLLIN | EPOLLET, i));
		if (i % 3 == 2)
			see("idle", set, 5);
		tell(WHEN_ASLEEP);
		see("woken", set, CONF_WAIT_MS);
		await();
		recv_pat(fd, 10, i * 10);
	}
	obs("mod", change(set, EPOLL_CTL_MOD, fd, 0, 7));
	tell(WHEN_ASLEEP);
	see("not asked", set, 2 * CONF_NAP_MS);
	await();
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP, 8));
	see("asked", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 60);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	tell(WHEN_ASLEEP);
	see("removed", set, 2 * CONF_NAP_MS);
	await();
	recv_pat(fd, 10, 70);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_loop.asleep", asleep_server, on_demand_client, EVERY);

static void times_out(int set)
{
	long start = now_ms();

	see("timed out", set, 30);
	obs_val("waited", now_ms() - start >= 30);
}

static void timeout_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);

	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	times_out(set);
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	times_out(set);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_loop.timeout", timeout_server, on_demand_client, ANY);

/* ---- the number goes ---- */

/* Removed, then closed while a duplicate keeps the socket: nothing may come of it any more. */
static void del_close_server(int fd)
{
	int copy = dup(fd);
	int again = fcntl(fd, F_DUPFD, 40);
	int set = running_set(copy, EPOLLIN, 1);

	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, copy, NULL));
	obs("close", close(copy));
	demand();
	ready(fd, POLLIN);
	see("removed", set, 20);
	obs("add", change(set, EPOLL_CTL_ADD, again, EPOLLIN, 2));
	see("another", set, CONF_WAIT_MS);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, again, NULL));
	obs("dup2", dup2(set, again) == again);
	see("replaced", again, 20);
	close(again);
	recv_pat(fd, 10, 0);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_loop.del_close", del_close_server, on_demand_client, ANY);

/* Changed, then closed while a duplicate keeps the socket: the change holds. */
static void mod_close_server(int fd)
{
	int copy = dup(fd);
	int set = running_set(copy, EPOLLIN, 1);

	obs("mod", change(set, EPOLL_CTL_MOD, copy, EPOLLIN | EPOLLRDNORM, 5));
	obs("close", close(copy));
	demand();
	ready(fd, POLLIN);
	see("changed", set, CONF_WAIT_MS);
	recv_pat(fd, 10, 0);
	see("empty", set, 0);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_loop.mod_close", mod_close_server, on_demand_client, ANY);

/* The set itself goes with changes in it, and its number is born again. */
static void set_close_server(int fd)
{
	int set = running_set(fd, EPOLLIN, 1);
	int next;

	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("close", close(set));
	next = epoll_create1(0);
	obs_val("same number", next == set);
	obs("add", change(next, EPOLL_CTL_ADD, fd, EPOLLIN, 2));
	tell(WHEN_ASLEEP);
	see("woken", next, CONF_WAIT_MS);
	await();
	recv_pat(fd, 10, 0);
	close(next);
	tell(NO_MORE);
}
CASE("epoll_loop.set_close", set_close_server, on_demand_client, ANY);

/* ---- room ---- */

static void drain_when_told(int fd)
{
	static char bytes[65536];
	ssize_t n;

	while (await() == 0) {
		set_nonblock(fd, true);
		do {
			n = recv(fd, bytes, sizeof(bytes), 0);
			/* what is under way arrives */
			if (n < 0 && !ready(fd, POLLIN))
				break;
		} while (n != 0 && !(n == 1 && bytes[0] == 'e') && !(n > 1 && bytes[n - 1] == 'e'));
		set_nonblock(fd, false);
		tell(0);
	}
}

static size_t fill_once(int fd)
{
	static char bytes[65536];
	size_t total = 0;

	memset(bytes, 'f', sizeof(bytes));
	for (size_t piece = sizeof(bytes); piece > 0; piece /= 2)
		for (ssize_t n; (n = send(fd, bytes, piece, 0)) > 0;)
			total += (size_t)n;
	return total;
}

/* There may be room anew: that of a ring which has just been attached, or what TCP has moved on
 * when it probes the closed window. */
static void fill(int fd)
{
	set_nonblock(fd, true);
	while (fill_once(fd) > 0)
		usleep(CONF_PROBE_MS * 1000);
	obs("full", send(fd, "f", 1, 0));
	set_nonblock(fd, false);
}

static void room_level_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLOUT, 1);
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	see("room", set, CONF_WAIT_MS);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
	see("room", set, CONF_WAIT_MS);
	see("room", set, CONF_WAIT_MS);
	fill(fd);
	see("full", set, 0);
	see("full", set, 10);
	obs_poll("full", poll(&p, 1, 10), p.revents);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT, 3));
	see("full", set, 0);
	tell(0);
	see("room", set, CONF_WAIT_MS);
	obs_poll("room", poll(&p, 1, CONF_WAIT_MS), p.revents);
	obs("end", send(fd, "e", 1, 0));
	await();
	see("room", set, CONF_WAIT_MS);
	obs_poll("room", poll(&p, 1, CONF_WAIT_MS), p.revents);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	see("removed", set, 0);
	close(set);
	tell(1);
}
CASE("epoll_loop.room_level", room_level_server, drain_when_told, EVERY);

static void room_edge_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLOUT | EPOLLET, 1);

	see("edge", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLET, 2));
	see("edge of mod", set, CONF_WAIT_MS);
	see("no edge", set, 10);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, 3));
	see("none asked", set, 0);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, 4));
	see("edge of add", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	fill(fd);
	see("full", set, 0);
	tell(0);
	see("edge", set, CONF_WAIT_MS);
	obs("end", send(fd, "e", 1, 0));
	await();
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLET, 5));
	see("edge of mod", set, CONF_WAIT_MS);
	see("no edge", set, 0);
	close(set);
	tell(1);
}
CASE("epoll_loop.room_edge", room_edge_server, drain_when_told, EVERY);

static void oneshot_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLOUT | EPOLLONESHOT, 1);

	see("room", set, CONF_WAIT_MS);
	see("used up", set, 10);
	demand();
	ready(fd, POLLIN);
	see("used up", set, 10);
	for (uint64_t i = 0; i < 3; i++) {
		obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLONESHOT, i));
		see("both", set, CONF_WAIT_MS);
		see("used up", set, i == 1 ? 10 : 0);
	}
	recv_pat(fd, 10, 0);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 6));
	see("none", set, 0);
	tell(WHEN_ASLEEP);
	see("woken", set, CONF_WAIT_MS);
	await();
	see("used up", set, 10);
	recv_pat(fd, 10, 10);
	obs("del", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET | EPOLLONESHOT, 7));
	see("room", set, CONF_WAIT_MS);
	see("used up", set, 10);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_loop.oneshot", oneshot_server, on_demand_client, EVERY);

/* ---- what only the kernel knows ---- */

/* A descriptor that the kernel alone knows, beside one that is ready in every wait. */
static void plain_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLOUT, 1);
	struct epoll_event e[2];
	int ends[2];
	long start;

	if (pipe(ends) < 0)
		return;
	obs("add", change(set, EPOLL_CTL_ADD, ends[0], EPOLLIN, 2));
	for (int round = 0; round < 20; round++) {
		int room = 1 + round % 2;
		bool seen = false;

		for (int i = 0; i < 100; i++)
			if (epoll_wait(set, e, room, CONF_WAIT_MS) != 1 || e[0].data.u64 != 1)
				obs_text("not the socket");
		if (write(ends[1], "x", 1) != 1)
			obs_text("pipe");
		start = now_ms();
		while (!seen && now_ms() - start < 1000) {
			int n = epoll_wait(set, e, room, CONF_WAIT_MS);

			for (int i = 0; i < n; i++)
				seen = seen || e[i].data.u64 == 2;
		}
		if (!seen || read(ends[0], e, 1) != 1)
			obs_text("starved");
	}
	close(ends[0]);
	close(ends[1]);
	close(set);
	tell(NO_MORE);
}
CASE("epoll_loop.plain", plain_server, on_demand_client, ANY);

static void hangup_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLRDHUP | EPOLLOUT, 1);
	struct epoll_event e;

	for (int i = 0; i < SETTLE_WAITS; i++)
		epoll_wait(set, &e, 1, CONF_WAIT_MS);
	tell(0);
	await();
	ready(fd, POLLRDHUP);
	see("half closed", set, CONF_WAIT_MS);
	obs("mod", change(set, EPOLL_CTL_MOD, fd, EPOLLIN, 2));
	see("bytes", set, CONF_WAIT_MS);
	recv_to_eof(fd, 0);
	see("end", set, CONF_WAIT_MS);
	close(set);
	tell(0);
}

CASE("epoll_loop.hangup", hangup_server, half_closes_client, ANY);

/* The other end is killed while this one's set answers from memory. */
static void killed_server(int fd)
{
	int set = running_set(fd, EPOLLOUT, 1);
	struct epoll_event e = { 0 };
	long start;

	for (int i = 0; i < SETTLE_WAITS; i++)
		epoll_wait(set, &e, 1, CONF_WAIT_MS);
	tell(0);
	await_peer_exit();
	start = now_ms();
	do
		epoll_wait(set, &e, 1, CONF_WAIT_MS);
	while (!(e.events & EPOLLHUP) && now_ms() - start < 2000);
	obs_val("hang-up seen", (e.events & EPOLLHUP) != 0);
	close(set);
}

static void killed_oneshot_server(int fd)
{
	int set = epoll_create1(0);

	tell(0);
	await_peer_exit();
	obs("add", change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLONESHOT, 1));
	see("all at once", set, 0);
	see("used up", set, 0);
	close(set);
}

static void killed_client(int fd)
{
	(void)fd;
	await();
	raise(SIGKILL);
}
CASE("epoll_loop.killed", killed_server, killed_client, CONF_COLD | CONF_KILLED | CONF_UNIX_ONLY);
CASE("epoll_loop.killed_oneshot", killed_oneshot_server, killed_client,
     CONF_COLD | CONF_KILLED | CONF_UNIX_ONLY);

/* Told once, of the last bytes and of the end behind them: who reads on finds the end. */
static void killed_edge_server(int fd)
{
	int set = running_set(fd, EPOLLIN | EPOLLET, 1);
	struct epoll_event e;
	char bytes[100];
	ssize_t n = -1, total = 0;

	set_nonblock(fd, true);
	tell(0);
	while (n != 0) {
		if (epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1) {
			obs_text("the end was not told");
			break;
		}
		while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
			total += n;
		if (n < 0 && errno != EAGAIN)
			break;
	}
	obs_val("bytes", (long)total);
	close(set);
}

static void killed_edge_client(int fd)
{
	await();
	send_pat(fd, 10, 0);
	raise(SIGKILL);
}
CASE("epoll_loop.killed_edge", killed_edge_server, killed_edge_client, CONF_COLD | CONF_KILLED);

/* ---- asked once, again and again, while libraries are loaded: what waits knows less for a while
 * than before and after ---- */

enum { COPIES = 8, TURNS = 30, LOOKS_A_TURN = 30 };

/* Nobody has ever loaded it under this name. */
static bool load_copy(const char *name)
{
	char path[] = "/tmp/conformance-library.XXXXXX", bytes[65536];
	struct link_map *map = NULL;
	void *original = dlopen(name, RTLD_LAZY);
	int from = -1, to = mkstemp(path);
	bool loaded = false;
	ssize_t n = 0;

	if (original && dlinfo(original, RTLD_DI_LINKMAP, &map) == 0)
		from = open(map->l_name, O_RDONLY);
	while (from >= 0 && (n = read(from, bytes, sizeof(bytes))) > 0)
		if (write(to, bytes, (size_t)n) != n)
			break;
	if (from >= 0 && n == 0)
		loaded = dlopen(path, RTLD_LAZY) != NULL;
	close(from);
	close(to);
	unlink(path);
	return loaded;
}

static bool once_more(int set, int fd)
{
	struct epoll_event e;
	char bytes[10];

	if (epoll_wait(set, &e, 1, CONF_WAIT_MS) != 1) {
		obs_text("not told");
		return false;
	}
	for (int i = 0; i < LOOKS_A_TURN; i++)
		epoll_wait(set, &e, 1, 0);
	recv_exact(fd, bytes, sizeof(bytes));
	if (change(set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 1) != 0) {
		obs_text("cannot ask again");
		return false;
	}
	return send_exact(fd, bytes, sizeof(bytes)) == (long)sizeof(bytes);
}

static void once_beside_loading_server(int fd)
{
	int set = epoll_create1(EPOLL_CLOEXEC);
	bool good = true;

	change(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, 1);
	for (int i = 0; i < COPIES && good; i++) {
		obs_val("loaded", load_copy("libcrypto.so.3"));
		for (int k = 0; k < TURNS && good; k++)
			good = once_more(set, fd);
	}
	obs_val("good", good);
	close(set);
	shutdown(fd, SHUT_RDWR);
}

static void ping_client(int fd)
{
	char bytes[10];

	for (int i = 0; i < COPIES * TURNS; i++) {
		if (send(fd, "0123456789", sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes) ||
		    recv(fd, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes))
			break;
	}
}
CASE("epoll_loop.once_beside_loading", once_beside_loading_server, ping_client, ANY);
