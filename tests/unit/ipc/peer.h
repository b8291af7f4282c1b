/* SPDX-License-Identifier: Apache-2.0 */
/* A server in a process of its own, for tests of the library. */
#ifndef TESTS_UNIT_IPC_PEER_H
#define TESTS_UNIT_IPC_PEER_H

#include <stdbool.h>
#include <sys/types.h>

#include "shmipc.h"

struct peer {
	pid_t pid;
	int life;      /* closed: the server ends in order */
	bool alone;    /* nobody takes its address over */
	int ready, go; /* of one that is to start later */
	char address[128];
	char prefix[64]; /* of files, of this test alone */
	struct shmipc_config config;
};

enum peer_kind { PEER_UNIX_FILE, PEER_UNIX_MEMFD, PEER_TCP_FILE, PEER_KINDS };

/* Address and configuration; nothing runs yet. */
void peer_prepare(struct peer *peer, enum peer_kind kind);
/* A server that sends back what it receives, until it is stopped. */
void peer_start(struct peer *peer);
/* One that takes the address over, at peer_go().  It is forked before the test has threads: in a
 * child of several threads the sanitizers' own locks may be held for ever. */
void peer_prepare_successor(struct peer *peer);
void peer_go(struct peer *peer);
/* With a hot restart: the server at SIGUSR1 tells its clients, and ends when all have moved. */
void peer_stop(struct peer *peer);
void peer_kill(struct peer *peer);
/* Runs what a test wants the server to do, once, with the first session it gets. */
void peer_run(struct peer *peer, void (*serve)(struct shmipc_session *session));
/* Its exit status: 0 when peer_run's function returned. */
int peer_wait(struct peer *peer);

/* Two sessions in this process over one connection. */
struct peer_pair {
	struct shmipc_session *client, *server;
	int wire; /* another descriptor of the client's socket, to talk behind its back */
};

/* With the peer's configuration; loop and what follows are the server's and may be NULL. */
void peer_make_pair(const struct peer *peer, struct shmipc_loop *loop,
		    const struct shmipc_session_callbacks *callbacks, void *user,
		    struct peer_pair *pair);
void peer_close_pair(struct peer_pair *pair);

struct shmipc_client *peer_connect(struct peer *peer, struct shmipc_loop *loop);
struct shmipc_stream *peer_stream(struct shmipc_client *client);

/* Bytes that show where they belong. */
void peer_fill(void *to, size_t bytes, unsigned int seed);
void peer_check(const void *at, size_t bytes, unsigned int seed);

/* Files in /dev/shm that begin with the test's prefix. */
unsigned int peer_files(const struct peer *peer);

#endif
