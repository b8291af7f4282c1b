/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/peer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LIST_HEADER_BYTES = 36,
	SLICE_HEADER_BYTES = 20,
	RING_HEADER_BYTES = 24,
	HAS_NEXT = 1,
	MEMORY_BYTES = 8 + PEER_LISTS * LIST_HEADER_BYTES + 16 * 84 + 8 * 276,
/* of a ring's header */
#if defined(__x86_64__)
	RING_HEAD = 4,
	RING_TAIL = 12,
	RING_WORKING = 20
#else
	RING_HEAD = 8,
	RING_TAIL = 16,
	RING_WORKING = 4
#endif
};

static const uint8_t version_3[] = { 0, 0, 0, 8, 0x77, 0x58, 3, 4 };
static const uint8_t ready_for_fds[] = { 0, 0, 0, 8, 0x77, 0x58, 3, 7 };
static const uint8_t memory_shared[] = { 0, 0, 0, 8, 0x77, 0x58, 3, 6 };
static const uint8_t names[] = { 0, 0, 0, 16, 0x77, 0x58, 3, 5, 0, 2, 'q', '0', 0, 2, 'b', '0' };

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	abort();
}

static void poke(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

static uint32_t peek(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t format_list(struct fuzz_peer *peer, int list, uint32_t at, uint32_t count,
			    uint32_t capacity)
{
	uint32_t stride = capacity + SLICE_HEADER_BYTES;
	uint8_t *header = peer->buffer + at;

	peer->lists[list].first = at + LIST_HEADER_BYTES;
	peer->lists[list].stride = stride;
	peer->lists[list].count = count;
	poke(header, count);
	poke(header + 4, count);
	poke(header + 12, (count - 1) * stride);
	poke(header + 16, capacity);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *slice = header + LIST_HEADER_BYTES + i * stride;

		poke(slice, capacity);
		if (i + 1 < count) {
			poke(slice + 12, (i + 1) * stride);
			slice[16] = HAS_NEXT;
		}
	}
	return at + LIST_HEADER_BYTES + count * stride;
}

static uint8_t *map(int fd, size_t *bytes)
{
	struct stat st;
	void *memory;

	must(fstat(fd, &st) == 0, "fstat");
	*bytes = (size_t)st.st_size;
	memory = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(memory != MAP_FAILED, "mmap");
	return memory;
}

void peer_make_memory(struct fuzz_peer *peer, int fds[2])
{
	uint32_t end;

	fds[0] = memfd_create("buffer", MFD_CLOEXEC);
	fds[1] = memfd_create("queues", MFD_CLOEXEC);
	must(fds[0] >= 0 && fds[1] >= 0 && ftruncate(fds[0], MEMORY_BYTES) == 0 &&
		     ftruncate(fds[1], (off_t)2 * PEER_RING_BYTES) == 0,
	     "memory");
	peer->buffer = map(fds[0], &peer->buffer_bytes);
	peer->queues = map(fds[1], &peer->queue_bytes);
	end = format_list(peer, 0, 8, 16, 64);
	end = format_list(peer, 1, end, 8, 256);
	peer->buffer[0] = PEER_LISTS;
	poke(peer->buffer + 4, end - 8);
	poke(peer->queues, PEER_QUEUE_CAPACITY);
	poke(peer->queues + PEER_RING_BYTES, PEER_QUEUE_CAPACITY);
}

/* Where the lists are in memory that the session made. */
static void find_lists(struct fuzz_peer *peer)
{
	uint32_t at = 8;

	for (int i = 0; i < PEER_LISTS; i++) {
		peer->lists[i].first = at + LIST_HEADER_BYTES;
		peer->lists[i].count = peek(peer->buffer + at + 4);
		peer->lists[i].stride = peek(peer->buffer + at + 16) + SLICE_HEADER_BYTES;
		at = peer->lists[i].first + peer->lists[i].count * peer->lists[i].stride;
	}
}

void peer_configure(struct shmipc_config *config)
{
	shmipc_config_init(config, sizeof(*config));
	config->memory = SHMIPC_MEMORY_MEMFD;
	config->buffer_bytes = 1 << 20;
	config->queue_capacity = PEER_QUEUE_CAPACITY;
	config->slice_class_count = PEER_LISTS;
	config->slice_classes[0] = (struct shmipc_slice_class){ 32748, 50 };
	config->slice_classes[1] = (struct shmipc_slice_class){ 65516, 50 };
	config->spin_us = 0;
	config->write_timeout_ms = 1;
	config->streams_max = 32;
	config->accept_backlog = 8;
	config->fallback_bytes_max = 1 << 16;
}

void peer_send(const struct fuzz_peer *peer, const void *bytes, size_t count)
{
	send(peer->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void peer_send_descriptors(const struct fuzz_peer *peer, const int fds[2])
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec one = { "", 1 };
	struct msghdr message = { .msg_iov = &one,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control.room) };

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(&control.header), fds, 2 * sizeof(int));
	sendmsg(peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void receive_descriptors(struct fuzz_peer *peer, int fds[2])
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	char bytes[1024];
	struct iovec some = { bytes, sizeof(bytes) };
	struct msghdr message = { .msg_iov = &some, .msg_iovlen = 1 };

	/* what comes with descriptors is never read together with what came before */
	do {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.room);
		must(recvmsg(peer->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) > 0, "recvmsg");
	} while (message.msg_controllen == 0);
	memcpy(fds, CMSG_DATA(&control.header), 2 * sizeof(int));
}

void peer_connect(struct fuzz_peer *peer, enum shmipc_role role, const struct shmipc_config *config,
		  struct shmipc_loop *loop, const struct shmipc_session_callbacks *callbacks,
		  void *user, struct shmipc_session **session_out)
{
	int ends[2], fds[2] = { -1, -1 };

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
	*peer = (struct fuzz_peer){ .fd = ends[1], .is_client = role == SHMIPC_ROLE_SERVER };
	/* All that the session will wait for is there before it begins. */
	peer_send(peer, version_3, sizeof(version_3));
	if (peer->is_client) {
		peer_make_memory(peer, fds);
		peer_send(peer, names, sizeof(names));
		peer_send_descriptors(peer, fds);
	} else {
		peer_send(peer, ready_for_fds, sizeof(ready_for_fds));
		peer_send(peer, memory_shared, sizeof(memory_shared));
	}
	must(shmipc_session_create(ends[0], role, config, loop, callbacks, user, session_out) == 0,
	     "a handshake as it should be");
	if (!peer->is_client) {
		receive_descriptors(peer, fds);
		peer->buffer = map(fds[0], &peer->buffer_bytes);
		peer->queues = map(fds[1], &peer->queue_bytes);
		find_lists(peer);
	}
	close(fds[0]);
	close(fds[1]);
}

uint8_t *peer_ring_out(const struct fuzz_peer *peer)
{
	return peer->queues + (peer->is_client ? 0 : PEER_RING_BYTES);
}

uint8_t *peer_ring_in(const struct fuzz_peer *peer)
{
	return peer->queues + (peer->is_client ? PEER_RING_BYTES : 0);
}

void peer_put(struct fuzz_peer *peer, uint32_t stream, uint32_t offset, uint32_t status)
{
	uint8_t *ring = peer_ring_out(peer);
	uint32_t tail = peek(ring + RING_TAIL);
	uint8_t *element = ring + RING_HEADER_BYTES + tail % PEER_QUEUE_CAPACITY * 12;

	poke(element, stream);
	poke(element + 4, offset);
	poke(element + 8, status);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	poke(ring + RING_TAIL, tail + 1);
}

void peer_take_all(struct fuzz_peer *peer)
{
	uint8_t *ring = peer_ring_in(peer);

	poke(ring + RING_HEAD, peek(ring + RING_TAIL));
	poke(ring + RING_WORKING, 0);
}

void peer_drain_socket(const struct fuzz_peer *peer)
{
	char bytes[4096];

	while (recv(peer->fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		continue;
}

void peer_touch(const void *view, size_t bytes)
{
	static volatile uint8_t sum;

	for (size_t i = 0; i < bytes; i++)
		sum = sum ^ ((const uint8_t *)view)[i];
}

void peer_end(struct fuzz_peer *peer)
{
	if (peer->fd >= 0)
		close(peer->fd);
	if (peer->buffer)
		munmap(peer->buffer, peer->buffer_bytes);
	if (peer->queues)
		munmap(peer->queues, peer->queue_bytes);
}

int peer_lowest_descriptor(void)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);

	must(fd >= 0, "a free descriptor");
	close(fd);
	return fd;
}

void peer_check_descriptors(int lowest)
{
	int now = peer_lowest_descriptor();

	if (now == lowest)
		return;
	fprintf(stderr, "descriptors: the lowest free one is %d, it was %d\n", now, lowest);
	abort();
}
