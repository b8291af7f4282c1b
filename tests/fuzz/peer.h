/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of a session under test: it made or received the two mappings, and may write into
 * them whatever it likes, whenever it likes.  Written after the protocol, with none of core's code.
 */
#ifndef SHMIPC_TESTS_FUZZ_PEER_H
#define SHMIPC_TESTS_FUZZ_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shmipc.h"

enum { PEER_QUEUE_CAPACITY = 16, PEER_RING_BYTES = 24 + 12 * PEER_QUEUE_CAPACITY, PEER_LISTS = 2 };

struct fuzz_peer {
	int fd;			  /* of the control connection */
	uint8_t *queues, *buffer; /* the mappings, as the peer sees them */
	size_t queue_bytes, buffer_bytes;
	bool is_client;
	struct {
		uint32_t first, stride, count; /* of the slices' headers */
	} lists[PEER_LISTS];
};

/* Memory as a client makes it; two descriptors to pass: buffer, queues. */
void peer_make_memory(struct fuzz_peer *peer, int fds[2]);

/* A session whose handshake went as it should; its peer is `peer`.  role: of the session. */
void peer_connect(struct fuzz_peer *peer, enum shmipc_role role, const struct shmipc_config *config,
		  struct shmipc_loop *loop, const struct shmipc_session_callbacks *callbacks,
		  void *user, struct shmipc_session **session_out);

/* Small memory, no spinning, short waits. */
void peer_configure(struct shmipc_config *config);

/* The ring that the session takes from, and the one that it puts into. */
uint8_t *peer_ring_out(const struct fuzz_peer *peer);
uint8_t *peer_ring_in(const struct fuzz_peer *peer);
void peer_put(struct fuzz_peer *peer, uint32_t stream, uint32_t offset, uint32_t status);
/* Takes all that the session has put. */
void peer_take_all(struct fuzz_peer *peer);

void peer_send(const struct fuzz_peer *peer, const void *bytes, size_t count);
void peer_send_descriptors(const struct fuzz_peer *peer, const int fds[2]);
/* Reads and forgets what the session has sent. */
void peer_drain_socket(const struct fuzz_peer *peer);

/* Reads every byte of a view. */
void peer_touch(const void *view, size_t bytes);

/* Closes and unmaps. */
void peer_end(struct fuzz_peer *peer);

/* Ends the process if a descriptor stayed open since `lowest` was asked for. */
int peer_lowest_descriptor(void);
void peer_check_descriptors(int lowest);

#endif
