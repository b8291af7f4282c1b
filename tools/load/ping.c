/* SPDX-License-Identifier: Apache-2.0 */
/* Round trips over many connections by epoll, or over one by blocking calls; every reply is
 * checked. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/load/address.h"
#include "tools/load/latency.h"
#include "tools/load/load.h"

enum { WARM_AT_ONCE = 100 };

struct pinger {
	const struct load_options *options;
	int set;
	size_t request_bytes;
	size_t reply_bytes;
	char *request;
	char *reply;
	uint64_t done;
	uint64_t goal_each; /* round trips of one connection, 0: until the time is over */
	uint64_t end_ns;    /* after which no request is sent, 0: never */
	int busy;	    /* connections that wait for a reply */
};

struct connection {
	int fd;
	size_t received;
	uint64_t number; /* of its last request */
	uint64_t trips;
	uint64_t sent_ns;
};

/* A request carries its number and the connection's, so that no reply can pass for another. */
static void fill(struct pinger *pinger, const struct connection *connection)
{
	uint64_t mark[2] = { connection->number, (uint64_t)connection->fd };

	if (pinger->options->send == NULL)
		memcpy(pinger->request, mark, sizeof(mark));
}

static void send_request(struct pinger *pinger, struct connection *connection)
{
	connection->number++;
	connection->received = 0;
	fill(pinger, connection);
	connection->sent_ns = load_now_ns();
	for (size_t done = 0; done < pinger->request_bytes;) {
		ssize_t n = send(connection->fd, pinger->request + done,
				 pinger->request_bytes - done, MSG_NOSIGNAL);

		if (n > 0) {
			done += (size_t)n;
		} else if (errno == EAGAIN) {
			struct pollfd writable = { .fd = connection->fd, .events = POLLOUT };

			(void)poll(&writable, 1, -1);
		} else if (errno != EINTR) {
			load_fail("send");
		}
	}
}

/* The part that came must be the part of the reply that belongs there. */
static void check(struct pinger *pinger, const struct connection *connection, size_t length)
{
	const char *want = pinger->options->send ? pinger->options->expect : pinger->request;

	fill(pinger, connection);
	if (memcmp(pinger->reply, want + connection->received, length) != 0)
		load_wrong("a reply is not what was asked for");
}

/* true when the reply is complete */
static bool receive(struct pinger *pinger, struct connection *connection)
{
	/* With room for one byte more, a reply that is too long is seen. */
	ssize_t n = recv(connection->fd, pinger->reply,
			 pinger->reply_bytes - connection->received + !pinger->options->block, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		load_wrong(n == 0 ? "end of stream instead of a reply" : "recv failed");
	if (connection->received + (size_t)n > pinger->reply_bytes)
		load_wrong("a reply is too long");
	check(pinger, connection, (size_t)n);
	connection->received += (size_t)n;
	return connection->received == pinger->reply_bytes;
}

/* The reply is there: note it, and ask again if there is still something to ask. */
static void turn(struct pinger *pinger, struct connection *connection)
{
	uint64_t now = load_now_ns();

	latency_add(now - connection->sent_ns);
	pinger->done++;
	connection->trips++;
	if ((pinger->goal_each != 0 && connection->trips >= pinger->goal_each) ||
	    (pinger->end_ns != 0 && now >= pinger->end_ns)) {
		pinger->busy--;
		return;
	}
	send_request(pinger, connection);
}

static void run(struct pinger *pinger, struct connection *connections, int active)
{
	struct epoll_event events[EVENTS_AT_ONCE];

	pinger->busy = active;
	for (int i = 0; i < active; i++) {
		connections[i].trips = 0;
		send_request(pinger, &connections[i]);
	}
	while (pinger->busy > 0) {
		int n = 1;

		if (pinger->options->block)
			events[0].data.ptr = &connections[0];
		else
			n = epoll_wait(pinger->set, events, EVENTS_AT_ONCE, -1);
		for (int i = 0; i < n; i++)
			if (receive(pinger, events[i].data.ptr))
				turn(pinger, events[i].data.ptr);
	}
}

/* In groups, as connections of a real server come: not all of ten thousand become busy at once. */
static void warm_up(struct pinger *pinger, struct connection *connections)
{
	int count = pinger->options->connections;

	for (int i = 0; i < count; i += WARM_AT_ONCE)
		run(pinger, &connections[i], count - i < WARM_AT_ONCE ? count - i : WARM_AT_ONCE);
}

static struct connection *open_all(struct pinger *pinger)
{
	int count = pinger->options->connections;
	struct connection *connections = calloc((size_t)count, sizeof(*connections));

	if (connections == NULL)
		load_fail("out of memory");
	for (int i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &connections[i] };
		int fd = address_connect(pinger->options->address);

		connections[i].fd = fd;
		if (pinger->options->block)
			continue;
		if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
		    epoll_ctl(pinger->set, EPOLL_CTL_ADD, fd, &event) < 0)
			load_fail("epoll_ctl");
	}
	return connections;
}

static void prepare(struct pinger *pinger, const struct load_options *options)
{
	pinger->options = options;
	pinger->request_bytes = options->send ? strlen(options->send) : options->bytes;
	pinger->reply_bytes = options->send ? strlen(options->expect) : options->bytes;
	pinger->request = calloc(1, pinger->request_bytes);
	pinger->reply = malloc(pinger->reply_bytes + 1);
	pinger->set = epoll_create1(EPOLL_CLOEXEC);
	if (pinger->request == NULL || pinger->reply == NULL || pinger->set < 0)
		load_fail("out of memory");
	if (options->send)
		memcpy(pinger->request, options->send, pinger->request_bytes);
	for (size_t i = 0; options->send == NULL && i < pinger->request_bytes; i++)
		pinger->request[i] = (char)(i * 131 + (i >> 8));
}

static void wait_for_end_of_input(void)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

int load_ping(const struct load_options *options)
{
	struct pinger pinger = { 0 };
	struct connection *connections;
	uint64_t start_ns;
	double cpu;

	prepare(&pinger, options);
	connections = open_all(&pinger);
	if (options->warm > 0) {
		pinger.goal_each = (uint64_t)options->warm;
		warm_up(&pinger, connections);
	}
	puts("measuring");
	fflush(stdout);
	latency_reset();
	pinger.done = pinger.goal_each = 0;
	start_ns = load_now_ns();
	cpu = load_cpu_seconds();
	pinger.end_ns = start_ns + (uint64_t)(options->seconds * 1e9);
	run(&pinger, connections, options->active);
	printf("{\"units\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n",
	       (unsigned long long)pinger.done, (double)(load_now_ns() - start_ns) / 1e9,
	       load_cpu_seconds() - cpu, latency_percentile_us(50), latency_percentile_us(99));
	fflush(stdout);
	if (options->hold)
		wait_for_end_of_input();
	for (int i = 0; i < options->connections; i++)
		close(connections[i].fd);
	free(connections);
	free(pinger.request);
	free(pinger.reply);
	return 0;
}
