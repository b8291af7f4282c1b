/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes on the control connection, to a server or a client, during the handshake or after
 * it.  The first byte says which; the second, where among the bytes descriptors are passed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/peer.h"

enum { SERVER = 1, ESTABLISHED = 2, DESCRIPTORS = 4, FILES = 8, BYTES_MAX = 8192 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static char prefix[4096]; /* of a client's files */

/* Files are opened by the names that the peer says: only in here (see no_path()). */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *directory = getenv("FUZZ_DIRECTORY");

	(void)argc;
	(void)argv;
	if (!directory || chdir(directory) < 0) {
		fputs("FUZZ_DIRECTORY must name an empty directory\n", stderr);
		exit(2);
	}
	snprintf(prefix, sizeof(prefix), "%s/shmipc", directory);
	return 0;
}

/* No name of a peer leads out of the working directory. */
static void no_path(uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i] == '/')
			bytes[i] = '_';
}

static void make_file(const char *name, int memfd)
{
	off_t end = lseek(memfd, 0, SEEK_END);
	void *memory;
	int fd;

	if (access(name, F_OK) == 0)
		return;
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	memory = mmap(NULL, (size_t)end, PROT_READ, MAP_SHARED, memfd, 0);
	if (fd < 0 || memory == MAP_FAILED || write(fd, memory, (size_t)end) != end)
		abort();
	munmap(memory, (size_t)end);
	close(fd);
}

static void send_all(const struct fuzz_peer *peer, const uint8_t *bytes, size_t count,
		     const int *fds, size_t fds_at)
{
	if (fds_at > count || !fds)
		fds_at = count;
	peer_send(peer, bytes, fds_at);
	if (fds)
		peer_send_descriptors(peer, fds);
	peer_send(peer, bytes + fds_at, count - fds_at);
}

/* Reads whatever a stream has, and answers. */
static void use_stream(struct shmipc_stream *stream)
{
	const void *view;
	ssize_t n;

	shmipc_stream_set_read_deadline(stream, SHMIPC_NOWAIT);
	shmipc_stream_set_write_deadline(stream, SHMIPC_NOWAIT);
	while ((n = shmipc_stream_read_some_view(stream, 4096, &view)) > 0) {
		peer_touch(view, (size_t)n);
		shmipc_stream_release(stream);
	}
	shmipc_stream_send(stream, "answer", 6);
	shmipc_stream_close(stream);
}

static void use_session(struct shmipc_session *session, bool server)
{
	struct shmipc_stream *stream, *mine = NULL;

	if (!server && shmipc_session_open_stream(session, &mine) == 0) {
		shmipc_stream_set_read_deadline(mine, SHMIPC_NOWAIT);
		shmipc_stream_readable(mine);
	}
	while (shmipc_session_accept_stream(session, SHMIPC_NOWAIT, &stream) == 0)
		use_stream(stream);
	if (mine)
		use_stream(mine);
	shmipc_session_close(session);
}

static void establish(const struct shmipc_config *config, bool server, const uint8_t *bytes,
		      size_t count)
{
	struct shmipc_session *session;
	struct fuzz_peer peer;

	peer_connect(&peer, server ? SHMIPC_ROLE_SERVER : SHMIPC_ROLE_CLIENT, config, NULL, NULL,
		     NULL, &session);
	peer_send(&peer, bytes, count);
	shutdown(peer.fd, SHUT_RDWR);
	use_session(session, server);
	peer_end(&peer);
}

static void shake(const struct shmipc_config *config, uint8_t how, uint8_t fds_at,
		  const uint8_t *bytes, size_t count)
{
	bool server = how & SERVER;
	struct shmipc_session *session;
	struct fuzz_peer peer = { 0 };
	int ends[2], fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		abort();
	peer_make_memory(&peer, fds);
	make_file("b", fds[0]);
	make_file("q", fds[1]);
	peer.fd = ends[1];
	send_all(&peer, bytes, count, how & DESCRIPTORS ? fds : NULL, fds_at);
	shutdown(peer.fd, SHUT_WR);
	if (shmipc_session_create(ends[0], server ? SHMIPC_ROLE_SERVER : SHMIPC_ROLE_CLIENT, config,
				  NULL, NULL, NULL, &session) == 0)
		use_session(session, server);
	else
		close(ends[0]);
	close(fds[0]);
	close(fds[1]);
	peer_end(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t copy[BYTES_MAX];
	struct shmipc_config config;
	int lowest = peer_lowest_descriptor();

	if (bytes < 2 || bytes - 2 > sizeof(copy))
		return -1;
	peer_configure(&config);
	config.handshake_timeout_ms = 200;
	config.path_prefix = prefix;
	if (data[0] & FILES)
		config.memory = SHMIPC_MEMORY_FILE;
	memcpy(copy, data + 2, bytes - 2);
	if (data[0] & ESTABLISHED) {
		config.memory = SHMIPC_MEMORY_MEMFD;
		establish(&config, data[0] & SERVER, copy, bytes - 2);
	} else {
		no_path(copy, bytes - 2);
		shake(&config, data[0], data[1], copy, bytes - 2);
	}
	peer_check_descriptors(lowest);
	return 0;
}
