/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ipc/killing.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/ipc/peer.h"

enum { STREAMS = 3, BYTES_MAX = 300000, LIFE_MAX_US = 25000, HANG_SECONDS = 60 };

static void require(int truth, const char *what, int value)
{
	if (truth)
		return;
	fprintf(stderr, "killing: %s: %d\n", what, value);
	abort();
}

/* Sends and reads back until something fails; views are held across the failure. */
static int work(struct shmipc_stream *streams[STREAMS], unsigned int seed)
{
	static uint8_t out[BYTES_MAX];
	const void *view, *held = NULL;
	size_t held_bytes = 0;
	int error = 0;

	for (unsigned int i = seed; !error; i++) {
		size_t bytes = 1 + (i * 7919u + seed) % (i % 5 ? 9000 : BYTES_MAX);

		for (int k = 0; k < STREAMS && !error; k++) {
			peer_fill(out, bytes, i + (unsigned int)k);
			error = shmipc_stream_send(streams[k], out, bytes);
		}
		for (int k = 0; k < STREAMS && !error; k++) {
			error = shmipc_stream_read_view(streams[k], bytes, &view);
			if (error)
				break;
			peer_check(view, bytes, i + (unsigned int)k);
			if (k > 0)
				shmipc_stream_reuse(streams[k]);
			else if (i % 4 == 0)
				shmipc_stream_release(streams[k]);
			held = k == 0 && i % 4 ? view : held;
			held_bytes = k == 0 && i % 4 ? bytes : k == 0 ? 0 : held_bytes;
			if (k == 0 && held_bytes)
				seed = i;
		}
	}
	if (held_bytes) /* it is there still, whatever became of the peer */
		peer_check(held, held_bytes, seed);
	return error;
}

static int run_client(struct peer *peer, unsigned int seed)
{
	struct shmipc_stream *streams[STREAMS];
	struct shmipc_client *client;
	int error;

	alarm(HANG_SECONDS);
	peer->config.handshake_timeout_ms = 30000;
	if (shmipc_client_create(peer->address, &peer->config, NULL, &client))
		return 0; /* killed before it could answer */
	for (int k = 0; k < STREAMS; k++)
		if (shmipc_client_get_stream(client, SHMIPC_NOWAIT, &streams[k])) {
			while (k > 0)
				shmipc_stream_close(streams[--k]);
			shmipc_client_destroy(client);
			return 0;
		}
	error = work(streams, seed);
	for (int k = 0; k < STREAMS; k++)
		shmipc_stream_close(streams[k]);
	shmipc_client_destroy(client);
	return error == -ECONNRESET ? 0 : -error;
}

static pid_t fork_client(struct peer *peer, unsigned int seed)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(run_client(peer, seed));
	}
	return pid;
}

static void after_a_dead_client(struct peer *peer)
{
	struct shmipc_client *client = peer_connect(peer, NULL);
	struct shmipc_stream *stream = peer_stream(client);
	uint8_t out[20000], in[20000];

	peer_fill(out, sizeof(out), 1);
	for (int i = 0; i < 3; i++) {
		int error = shmipc_stream_send(stream, out, sizeof(out));

		require(error == 0, "send to a server that lives", error);
		error = shmipc_stream_read_full(stream, in, sizeof(in));
		require(error == 0, "read from a server that lives", error);
		peer_check(in, sizeof(in), 1);
	}
	shmipc_stream_close(stream);
	shmipc_client_destroy(client);
	peer_stop(peer);
}

void killing_round(unsigned int seed)
{
	unsigned int life_us = seed * 2654435761u % LIFE_MAX_US;
	struct peer peer;
	int status = 0;
	pid_t client;

	peer_prepare(&peer, (enum peer_kind)(seed / 2 % PEER_KINDS));
	peer.config.spin_us = seed % 3 ? 50 : 0;
	peer.config.queue_capacity = seed % 5 ? 8192 : 8;
	peer_start(&peer);
	client = fork_client(&peer, seed);
	usleep(life_us);
	if (seed % 2) {
		kill(client, SIGKILL);
		waitpid(client, NULL, 0);
		after_a_dead_client(&peer);
	} else {
		peer_kill(&peer);
		waitpid(client, &status, 0);
		require(status == 0, "the client's end", status);
	}
	require(peer_files(&peer) == 0, "files left", (int)peer_files(&peer));
}
