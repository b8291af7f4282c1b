/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epoll sets under the shim: two processes, many connections, and what each end waits for changed
 * all the time.  set_stress [SECONDS [SEED]]; run it with and without the shim in LD_PRELOAD, which
 * it knows nothing of.
 *
 * What must hold: a message that was sent is told of, no event is told that was not asked for at
 * the time, and every byte is right.  A round ends when each connection has finished its exchange
 * and asks for nothing any more: one that was forgotten does not hide behind the others, the wait
 * for it takes LOST_MS.
 *
 * In every second round the last connections belong to a second thread: the loop hands it their
 * events, and it changes the set while the loop looks at it, or sleeps.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	CONNS = 24,
	ROUND_MS = 400,
	LOST_MS = 20000, /* on a machine that is busy with other things */
	MESSAGE_MAX = 6000,
	IDLE_PERCENT = 3,
};

static _Thread_local uint64_t random_state;

static uint32_t dice(uint32_t sides)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(random_state >> 33) % sides;
}

static __attribute__((noreturn)) void wrong(const char *what)
{
	fprintf(stderr, "set_stress: %s (errno %d)\n", what, errno);
	_exit(1);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void nap_us(long us)
{
	nanosleep(&(struct timespec){ 0, us * 1000 }, NULL);
}

/* ---- one connection of the loop ---- */

struct conn {
	int fd;
	uint32_t version; /* in the data of its registration: a new one with every change */
	uint32_t events;  /* 0: not in the set */
	uint64_t told;	  /* bytes sent */
	uint64_t heard;
	size_t owed; /* of a message that is being sent */
	size_t due;  /* of one that is being received */
};

static int set;
static struct conn conns[CONNS];
static int count;	  /* of this round */
static int handed;	  /* from this one on */
static _Atomic int busy;  /* that have not parked */
static _Atomic bool over; /* the other end has gone */
static int bell[2];	  /* the second thread ends the loop's wait */
static uint64_t end_ms;	  /* 0: the other end knows */

#define BELL_DATA (UINT64_MAX - 1)

static unsigned char pattern(uint64_t position, unsigned int index)
{
	return (unsigned char)(position * 131 + (position >> 9) + index * 17);
}

static uint64_t data_of(const struct conn *c)
{
	return (uint64_t)(c - conns) | (uint64_t)c->version << 8;
}

/* What the second thread gets is told once. */
static uint32_t with_mode(const struct conn *c, uint32_t events)
{
	static const uint32_t modes[] = {
		0, 0, 0, EPOLLONESHOT, (uint32_t)EPOLLET, (uint32_t)EPOLLET | EPOLLONESHOT
	};

	return events | modes[dice(sizeof(modes) / sizeof(*modes))] |
	       (c - conns >= handed ? EPOLLONESHOT : 0);
}

/* From whatever it is to these events, by a way that differs. */
static void ask(struct conn *c, uint32_t events)
{
	struct epoll_event e = { .events = with_mode(c, events) };

	c->version++;
	e.data.u64 = data_of(c);
	if (c->events && dice(2)) {
		if (epoll_ctl(set, EPOLL_CTL_DEL, c->fd, NULL))
			wrong("DEL");
		c->events = 0;
	}
	if (epoll_ctl(set, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e))
		wrong("ADD or MOD");
	if (epoll_ctl(set, EPOLL_CTL_ADD, c->fd, &e) == 0 || errno != EEXIST)
		wrong("ADD of what is there");
	c->events = e.events;
}

static void ask_nothing(struct conn *c)
{
	if (c->events && epoll_ctl(set, EPOLL_CTL_DEL, c->fd, NULL))
		wrong("DEL");
	c->events = 0;
	if (epoll_ctl(set, EPOLL_CTL_DEL, c->fd, NULL) == 0 || errno != ENOENT)
		wrong("DEL of what is not there");
}

/* The descriptor lives on under another number, or the registration dies with a copy. */
static void renumber(struct conn *c)
{
	int copy = dup(c->fd);

	if (copy < 0)
		wrong("dup");
	ask_nothing(c);
	if (dice(2)) {
		close(c->fd);
		c->fd = copy;
	} else {
		struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.u64 = UINT64_MAX };

		if (epoll_ctl(set, EPOLL_CTL_ADD, copy, &e) ||
		    epoll_ctl(set, EPOLL_CTL_DEL, copy, NULL))
			wrong("a copy");
		close(copy);
	}
}

static void send_some(struct conn *c, unsigned int index)
{
	unsigned char bytes[MESSAGE_MAX];
	ssize_t n;

	for (size_t i = 0; i < c->owed; i++)
		bytes[i] = pattern(c->told + i, index);
	n = send(c->fd, bytes, c->owed, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno == EAGAIN)
		wrong("there is no room");
	if (n > 0) { /* else the other end has come to its own */
		c->told += (uint64_t)n;
		c->owed -= (size_t)n;
	}
}

/* At most what is due; in pieces now and then.  False: the end. */
static bool receive_some(struct conn *c, unsigned int index)
{
	unsigned char bytes[MESSAGE_MAX];
	size_t room = c->due && dice(4) == 0 ? 1 + dice((uint32_t)c->due) : c->due;
	ssize_t n = recv(c->fd, bytes, room, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		wrong("there are no bytes");
	if (n <= 0)
		return false;
	for (ssize_t i = 0; i < n; i++)
		if (bytes[i] != pattern(c->heard + (uint64_t)i, index))
			wrong("a byte");
	if (n > 0) {
		c->heard += (uint64_t)n;
		c->due -= (size_t)n;
	}
	return true;
}

/* Both ends know how long message number so many of a connection is. */
static size_t message_bytes(uint64_t position, unsigned int index)
{
	return 1 + (position * 7919 + index * 104729) % (position % 5 ? 60 : MESSAGE_MAX);
}

static void ring(void)
{
	if (write(bell[1], "", 1) != 1)
		wrong("the bell");
}

static void park(struct conn *c)
{
	ask_nothing(c);
	if (atomic_fetch_sub(&busy, 1) == 1)
		ring();
}

/* What it waits for, after what it has done; an edge is not told twice. */
static void go_on(struct conn *c, unsigned int index, bool leads)
{
	if (c->owed == 0 && c->due == 0) {
		bool sends = leads ? c->told == c->heard : c->told < c->heard;

		if (sends && leads && now_ms() >= end_ms) {
			park(c);
			return;
		}
		if (sends)
			c->owed = message_bytes(c->told, index);
		else
			c->due = message_bytes(c->heard, index);
	}
	if (dice(40) == 0)
		renumber(c);
	ask(c, c->owed ? EPOLLOUT : EPOLLIN);
}

/* ---- the loop ---- */

static bool serve(const struct epoll_event *e, bool leads)
{
	unsigned int index = e->data.u64 & 255;
	struct conn *c = &conns[index];

	if (e->data.u64 != data_of(c) || !c->events)
		wrong("an event of before");
	if (e->events & (EPOLLHUP | EPOLLERR))
		return false;
	if (e->events & ~c->events)
		wrong("an event that was not asked for");
	if ((e->events & EPOLLOUT) && c->owed)
		send_some(c, index);
	if ((e->events & EPOLLIN) && c->due && !receive_some(c, index))
		return false;
	go_on(c, index, leads);
	return true;
}

/* ---- the second thread's part ---- */

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static struct epoll_event queue[CONNS];
static unsigned int queued, taken;

static void hand_over(const struct epoll_event *e)
{
	pthread_mutex_lock(&queue_lock);
	if (queued - taken == CONNS)
		wrong("told more than once");
	queue[queued++ % CONNS] = *e;
	pthread_cond_signal(&queue_filled);
	pthread_mutex_unlock(&queue_lock);
}

static struct epoll_event take(void)
{
	struct epoll_event e;

	pthread_mutex_lock(&queue_lock);
	while (queued == taken)
		pthread_cond_wait(&queue_filled, &queue_lock);
	e = queue[taken++ % CONNS];
	pthread_mutex_unlock(&queue_lock);
	return e;
}

struct second {
	uint64_t seed;
	bool leads;
};

static void *second(void *argument)
{
	const struct second *how = argument;

	random_state = how->seed;
	for (int i = handed; i < count; i++)
		go_on(&conns[i], (unsigned int)i, how->leads);
	while (!over) {
		struct epoll_event e = take();

		if (dice(4) == 0)
			nap_us(dice(3) == 0 ? 1000 : 50);
		over = !serve(&e, how->leads);
	}
	ring();
	return NULL;
}

/* False: the other end is gone. */
static bool told(const struct epoll_event *e, bool leads)
{
	char byte;

	if (e->data.u64 == BELL_DATA)
		return read(bell[0], &byte, 1) == 1;
	if (e->data.u64 == UINT64_MAX && handed < count)
		return true; /* a copy of the second thread's, for a moment */
	if ((e->data.u64 & 255) >= (uint64_t)count)
		wrong("an event of nobody");
	if ((int)(e->data.u64 & 255) < handed)
		return serve(e, leads);
	hand_over(e);
	return true;
}

static void loop(bool leads)
{
	struct epoll_event e[8];

	for (int i = 0; i < handed; i++)
		go_on(&conns[i], (unsigned int)i, leads);
	while (busy > 0 && !over) {
		bool asks = dice(4) == 0;
		int n = epoll_wait(set, e, 1 + (int)dice(8), asks ? 0 : LOST_MS);

		if (n == 0 && !asks)
			wrong("a wake-up is lost");
		for (int i = 0; i < n; i++)
			if (!told(&e[i], leads))
				return;
		if (dice(100) < IDLE_PERCENT)
			nap_us(dice(3) == 0 ? 2000 : 20);
	}
}

/* ---- another thread, with a connection of its own in the same set ---- */

static void *meddle(void *argument)
{
	int pair[2];

	random_state = (uint64_t)(uintptr_t)argument;
	for (;;) {
		struct epoll_event e = { .events = EPOLLIN, .data.u64 = UINT64_MAX };

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
		    epoll_ctl(set, EPOLL_CTL_ADD, pair[0], &e))
			wrong("a second thread");
		nap_us(200 + dice(1000));
		if (epoll_ctl(set, EPOLL_CTL_DEL, pair[0], NULL))
			wrong("a second thread's DEL");
		close(pair[0]);
		close(pair[1]);
	}
}

/* ---- two processes ---- */

static int listener_of(bool is_tcp, struct sockaddr_storage *name, socklen_t *bytes)
{
	int fd = socket(is_tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);

	memset(name, 0, sizeof(*name));
	if (is_tcp) {
		*(struct sockaddr_in *)name = (struct sockaddr_in){
			.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
		};
		*bytes = sizeof(struct sockaddr_in);
	} else {
		struct sockaddr_un *path = (struct sockaddr_un *)name;

		path->sun_family = AF_UNIX;
		snprintf(path->sun_path, sizeof(path->sun_path), "/tmp/set_stress.%d", getpid());
		*bytes = sizeof(*path);
	}
	if (bind(fd, (struct sockaddr *)name, *bytes) || listen(fd, CONNS) ||
	    getsockname(fd, (struct sockaddr *)name, bytes))
		wrong("listen");
	return fd;
}

static void open_all(int listener, const struct sockaddr_storage *name, socklen_t bytes)
{
	for (int i = 0; i < count; i++) {
		int fd = listener >= 0 ? accept(listener, NULL, NULL)
				       : socket(name->ss_family, SOCK_STREAM, 0);

		if (fd < 0 ||
		    (listener < 0 && connect(fd, (const struct sockaddr *)name, bytes) < 0))
			wrong("connect");
		conns[i] = (struct conn){ .fd = fd };
	}
}

/* The loop of one end, in a set of its own. */
static void play(bool leads, uint64_t seed)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = BELL_DATA };
	struct second how = { seed * 31 + leads, leads };
	pthread_t thread;

	random_state = seed + leads;
	handed = seed % 2 ? count - (count + 3) / 4 : count;
	set = epoll_create1(EPOLL_CLOEXEC);
	if (pipe(bell) || epoll_ctl(set, EPOLL_CTL_ADD, bell[0], &e))
		wrong("pipe");
	if (seed % 2 && pthread_create(&thread, NULL, second, &how) != 0)
		wrong("pthread_create");
	if (seed % 4 == 3 && pthread_create(&thread, NULL, meddle, (void *)(uintptr_t)seed) != 0)
		wrong("pthread_create");
	loop(leads);
}

/* Where few are at work the loops sleep a lot, and nobody's event ends a sleep for another. */
static void run(uint64_t seed)
{
	static const int counts[] = { CONNS, 1, 3 };
	bool is_tcp = seed / 4 % 2;
	struct sockaddr_storage name;
	socklen_t bytes;
	int listener = listener_of(is_tcp, &name, &bytes), status = 0;
	pid_t child = fork();

	busy = count = counts[seed / 8 % 3];
	end_ms = now_ms() + ROUND_MS;
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		open_all(-1, &name, bytes);
		play(true, seed);
		_exit(0);
	}
	open_all(listener, NULL, 0);
	close(listener);
	if (!is_tcp)
		unlink(((struct sockaddr_un *)&name)->sun_path);
	play(false, seed);
	waitpid(child, &status, 0);
	if (status != 0)
		wrong("the other end");
}

int main(int argc, char **argv)
{
	time_t seconds = argc > 1 ? atoi(argv[1]) : 5;
	uint64_t seed = argc > 2 ? (uint64_t)atoll(argv[2]) : (uint64_t)time(NULL);
	time_t end = time(NULL) + seconds;

	for (uint64_t round = 0; time(NULL) < end; round++) {
		pid_t child = fork();
		int status = 0;

		if (child == 0) {
			run(seed + round);
			_exit(0);
		}
		if (waitpid(child, &status, 0) != child || status != 0) {
			fprintf(stderr, "set_stress: seed %llu\n",
				(unsigned long long)(seed + round));
			return 1;
		}
	}
	printf("set_stress: seed %llu, all told\n", (unsigned long long)seed);
	return 0;
}
