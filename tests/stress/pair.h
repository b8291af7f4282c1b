/* SPDX-License-Identifier: Apache-2.0 */
/* Two ends of a real connection with a segment between them, as the shim would set them up. */
#ifndef SHMIPC_TESTS_STRESS_PAIR_H
#define SHMIPC_TESTS_STRESS_PAIR_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/receiver.h"
#include "core/segment.h"
#include "core/sender.h"
#include "core/thread.h"

struct end {
	int fd;
	bool private_use;
	struct shmipc_sender tx;
	struct shmipc_receiver rx;
};

/* Lies in memory that forked children share. */
struct pair {
	struct shmipc_segment segment;
	struct shmipc_stream_control *control;
	struct end client, server;
};

static inline void pair_die(const char *what)
{
	perror(what);
	exit(2);
}

static inline void *pair_shared(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		pair_die("mmap");
	return at;
}

static inline void pair_tcp(int fds[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t bytes = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, bytes) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &bytes) ||
	    connect(fds[0], (struct sockaddr *)&address, bytes))
		pair_die("connect");
	fds[1] = accept(listener, NULL, NULL);
	if (fds[1] < 0)
		pair_die("accept");
	close(listener);
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* Attached and settled; the receivers have not consented. */
static inline void pair_open(struct pair *p, bool is_unix, uint64_t ring_bytes)
{
	int fds[2], memory;
	struct end *ends[2] = { &p->client, &p->server };

	shmipc_process_init();
	shmipc_membarrier_register();
	if (!is_unix)
		pair_tcp(fds);
	else if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		pair_die("socketpair");
	if (shmipc_segment_create(&p->segment, 1, ring_bytes, &memory))
		pair_die("segment");
	close(memory);
	p->control = shmipc_segment_stream(&p->segment, 0);
	for (unsigned int i = 0; i < 2; i++) {
		struct end *e = ends[i];
		struct shmipc_direction *out = &p->control->direction[i];
		struct shmipc_direction *in = &p->control->direction[!i];

		e->fd = fds[i];
		shmipc_sender_init(&e->tx, is_unix);
		shmipc_receiver_init(&e->rx, is_unix);
		e->rx.sibling = &e->tx;
		shmipc_sender_attach(&e->tx, out, in, shmipc_segment_ring(&p->segment, 0, i));
		shmipc_receiver_attach(&e->rx, in, shmipc_segment_ring(&p->segment, 0, !i));
		e->tx.settled = true;
	}
}

static inline void pair_consent(struct pair *p)
{
	shmipc_receiver_consent(&p->client.rx, atomic_load(&p->client.rx.kernel_read));
	shmipc_receiver_consent(&p->server.rx, atomic_load(&p->server.rx.kernel_read));
}

static inline ssize_t end_send(struct end *e, const void *data, size_t bytes, int flags)
{
	const struct iovec iov = { (void *)(uintptr_t)data, bytes };
	struct shmipc_io io = { .fd = e->fd,
				.flags = flags | MSG_NOSIGNAL,
				.private_use = e->private_use };

	shmipc_cursor_init(&io.cursor, &iov, 1);
	return shmipc_sender_send(&e->tx, &io);
}

static inline ssize_t end_receive(struct end *e, void *data, size_t bytes, int flags)
{
	const struct iovec iov = { data, bytes };
	struct shmipc_io io = { .fd = e->fd, .flags = flags, .private_use = e->private_use };

	shmipc_cursor_init(&io.cursor, &iov, 1);
	return shmipc_receiver_receive(&e->rx, &io);
}

/* shutdown(SHUT_WR) */
static inline void end_finish(struct end *e)
{
	shmipc_lock_take(&e->tx.lock, false);
	shmipc_sender_end(&e->tx, e->fd, SHMIPC_TX_FIN);
	e->tx.shut = true;
	shmipc_lock_drop(&e->tx.lock, false);
	shutdown(e->fd, SHUT_WR);
}

static inline void end_close(struct end *e)
{
	if (e->fd < 0)
		return;
	if (shmipc_receiver_close(&e->rx, e->fd))
		shmipc_sender_finish(&e->tx, SHMIPC_TX_RESET);
	shmipc_sender_end(&e->tx, e->fd, SHMIPC_TX_FIN | SHMIPC_TX_CLOSED);
	close(e->fd);
	e->fd = -1;
}

static inline void pair_close(struct pair *p)
{
	end_close(&p->client);
	end_close(&p->server);
	shmipc_segment_unmap(&p->segment);
}

/* What byte a direction carries at a position: never the same as its neighbours or as a lap before.
 */
static inline unsigned char pair_byte(uint64_t position, unsigned int direction)
{
	return (unsigned char)(((position + direction * 7777) * UINT64_C(0x9e3779b97f4a7c15)) >>
			       56);
}

static inline void pair_fill(unsigned char *to, size_t bytes, uint64_t position,
			     unsigned int direction)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = pair_byte(position + i, direction);
}

/* Index of the first wrong byte, or `bytes`. */
static inline size_t pair_check(const unsigned char *data, size_t bytes, uint64_t position,
				unsigned int direction)
{
	size_t i = 0;

	while (i < bytes && data[i] == pair_byte(position + i, direction))
		i++;
	return i;
}

static inline void pair_dump_direction(const struct shmipc_direction *d,
				       const struct shmipc_sender *s,
				       const struct shmipc_receiver *r)
{
	fprintf(stderr,
		"  tx: tail %lu base %lu cut %lu phase %u promised %u flags %x wanted %u\n"
		"  rx: head %lu kernel_read %lu phase %u taken %u\n  want %x ready %u\n"
		"  sender: tail %lu head %lu kernel %lu senders %u phase %u tokens %u owed %d lock %x broken %d "
		"noring %d doing %u\n"
		"  receiver: head %lu kernel_read %lu phase %u taken %u last %d eof %d error %d stopped %d lock %x "
		"broken %d watchers %u\n",
		atomic_load(&d->tx.tail), atomic_load(&d->tx.base), atomic_load(&d->tx.cut),
		atomic_load(&d->tx.phase), atomic_load(&d->tx.tokens_promised),
		atomic_load(&d->tx.flags), atomic_load(&d->tx.space_wanted),
		atomic_load(&d->rx.head), atomic_load(&d->rx.kernel_read),
		atomic_load(&d->rx.phase), atomic_load(&d->rx.tokens_taken),
		atomic_load(&d->wait.want), atomic_load(&d->wait.ready), s->tail, s->head,
		atomic_load(&s->kernel_bytes), atomic_load(&s->kernel_senders), s->phase, s->tokens,
		s->token_owed, atomic_load(&s->lock.owner), s->broken, s->no_more_ring,
		atomic_load(&s->doing), atomic_load(&r->head), atomic_load(&r->kernel_read),
		atomic_load(&r->phase), atomic_load(&r->taken), r->last_seen, r->eof,
		r->pending_error, r->stopped, atomic_load(&r->lock.owner), r->broken,
		atomic_load(&r->watchers));
}

static inline void pair_dump(const struct pair *p)
{
	fprintf(stderr, "client -> server\n");
	pair_dump_direction(&p->control->direction[0], &p->client.tx, &p->server.rx);
	fprintf(stderr, "server -> client\n");
	pair_dump_direction(&p->control->direction[1], &p->server.tx, &p->client.rx);
}

/* xorshift */
static inline uint32_t pair_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 32);
}

#endif
