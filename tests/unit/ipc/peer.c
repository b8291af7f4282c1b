/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ipc/peer.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what, int error)
{
	fprintf(stderr, "peer: %s: %s\n", what, strerror(-error));
	abort();
}

void peer_prepare(struct peer *peer, enum peer_kind kind)
{
	static unsigned int number;

	memset(peer, 0, sizeof(*peer));
	peer->life = -1;
	shmipc_config_init(&peer->config, sizeof(peer->config));
	snprintf(peer->prefix, sizeof(peer->prefix), "/dev/shm/shmipc_unit_%d_%u", getpid(),
		 ++number);
	peer->config.path_prefix = peer->prefix;
	peer->config.buffer_bytes = 4 << 20;
	peer->config.handshake_timeout_ms = 10000; /* a loaded machine is no failure */
	if (kind == PEER_UNIX_MEMFD)
		peer->config.memory = SHMIPC_MEMORY_MEMFD;
	if (kind == PEER_TCP_FILE)
		snprintf(peer->address, sizeof(peer->address), "tcp:127.0.0.1:0");
	else
		snprintf(peer->address, sizeof(peer->address), "unix:/tmp/shmipc_unit_%d_%u.sock",
			 getpid(), number);
}

/* ---- the echo server ------------------------------------------------------------------------ */

static void echo(struct shmipc_stream *stream, void *user)
{
	const void *view;
	ssize_t n;

	(void)user;
	while (shmipc_stream_readable(stream) > 0) {
		n = shmipc_stream_read_some_view(stream, 1 << 20, &view);
		if (n <= 0 || shmipc_stream_write(stream, view, (size_t)n))
			break;
		shmipc_stream_release(stream);
	}
	shmipc_stream_flush(stream);
}

static void bye(struct shmipc_stream *stream, int reason, void *user)
{
	(void)reason;
	(void)user;
	shmipc_stream_close(stream);
}

static void welcome(struct shmipc_session *session, struct shmipc_stream *stream, void *user)
{
	static const struct shmipc_stream_callbacks callbacks = { .on_data = echo,
								  .on_close = bye };

	(void)session;
	shmipc_stream_set_callbacks(stream, &callbacks, user);
}

static volatile sig_atomic_t restart_wanted;

static void want_restart(int signal)
{
	(void)signal;
	restart_wanted = 1;
}

/* Until the other end of `life` is closed, or all clients have moved. */
static void serve(struct shmipc_listener *listener, struct shmipc_loop *loop, int life)
{
	struct pollfd fds[2] = { { .fd = shmipc_fd(loop), .events = POLLIN },
				 { .fd = life, .events = POLLIN } };
	bool told = false;

	while (!fds[1].revents) {
		int n = shmipc_process(loop, SHMIPC_NOWAIT);

		if (n < 0)
			die("process", n);
		if (restart_wanted && !told) {
			told = true;
			shmipc_listener_hot_restart(listener, 0x0102030405060708);
		}
		if (told && shmipc_listener_hot_restart_wait(listener, SHMIPC_NOWAIT) == 0) {
			/* those that are open here go on for a while */
			for (int i = 0; i < 100; i++)
				shmipc_process(loop, shmipc_deadline_after(2000000));
			break;
		}
		poll(fds, 2, told ? 1 : -1);
	}
}

static int start_listener(struct peer *peer, unsigned int flags, struct shmipc_loop *loop,
			  struct shmipc_listener **listener)
{
	static const struct shmipc_session_callbacks callbacks = { .on_stream = welcome };

	return shmipc_listener_create(peer->address, flags, &peer->config, loop,
				      loop ? &callbacks : NULL, NULL, listener);
}

static pid_t fork_server(struct peer *peer, int *ready_out, int *life_out)
{
	int ready[2], life[2];
	pid_t pid;

	if (pipe(ready) || pipe(life))
		die("pipe", -errno);
	pid = fork();
	if (pid < 0)
		die("fork", -errno);
	*ready_out = pid ? ready[0] : ready[1];
	*life_out = pid ? life[1] : life[0];
	close(pid ? ready[1] : ready[0]);
	close(pid ? life[0] : life[1]);
	if (pid) {
		peer->pid = pid;
		peer->life = life[1];
		peer->ready = ready[0];
	} else {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	return pid;
}

static void await_ready(struct peer *peer)
{
	if (read(peer->ready, peer->address, sizeof(peer->address)) != sizeof(peer->address))
		die("server", -ECHILD);
	close(peer->ready);
}

static void say_ready(struct peer *peer, const struct shmipc_listener *listener, int ready)
{
	snprintf(peer->address, sizeof(peer->address), "%s", shmipc_listener_address(listener));
	if (write(ready, peer->address, sizeof(peer->address)) != sizeof(peer->address))
		die("write", -errno);
	close(ready);
}

/* The child: never returns. */
static void be_server(struct peer *peer, int ready, int life)
{
	struct shmipc_listener *listener = NULL;
	struct shmipc_loop *loop;
	int error;

	signal(SIGUSR1, want_restart);
	error = shmipc_loop_create(&loop);
	if (!error)
		error = start_listener(peer, SHMIPC_LISTEN_REPLACE, loop, &listener);
	if (error)
		die("listener", error);
	say_ready(peer, listener, ready);
	serve(listener, loop, life);
	shmipc_listener_destroy(listener);
	shmipc_process(loop, SHMIPC_NOWAIT);
	error = shmipc_loop_destroy(loop);
	_exit(error ? 3 : 0);
}

void peer_start(struct peer *peer)
{
	int ready, life;

	if (fork_server(peer, &ready, &life) == 0)
		be_server(peer, ready, life);
	await_ready(peer);
}

void peer_prepare_successor(struct peer *peer)
{
	int ready, life, go[2];
	char byte;

	if (pipe(go))
		die("pipe", -errno);
	if (fork_server(peer, &ready, &life) == 0) {
		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(4);
		close(go[0]);
		be_server(peer, ready, life);
	}
	close(go[0]);
	peer->go = go[1];
}

void peer_go(struct peer *peer)
{
	if (write(peer->go, "", 1) != 1)
		die("write", -errno);
	close(peer->go);
	await_ready(peer);
}

void peer_run(struct peer *peer, void (*function)(struct shmipc_session *))
{
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	int ready, life, error;

	peer->alone = true;
	if (fork_server(peer, &ready, &life)) {
		await_ready(peer);
		return;
	}
	error = start_listener(peer, 0, NULL, &listener);
	if (error)
		die("listener", error);
	say_ready(peer, listener, ready);
	error = shmipc_listener_accept(listener, SHMIPC_NEVER, &session);
	if (error)
		die("accept", error);
	function(session);
	shmipc_session_close(session);
	shmipc_listener_destroy(listener);
	_exit(0);
}

int peer_wait(struct peer *peer)
{
	int status;

	if (waitpid(peer->pid, &status, 0) != peer->pid)
		die("waitpid", -errno);
	if (peer->life >= 0)
		close(peer->life);
	peer->life = -1;
	/* one that ended without destroying its listener; a replaced one's path is its successor's
	 */
	if (peer->alone && strncmp(peer->address, "unix:", 5) == 0)
		unlink(peer->address + 5);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void peer_stop(struct peer *peer)
{
	int status;

	close(peer->life);
	peer->life = -1;
	status = peer_wait(peer);
	if (status) {
		fprintf(stderr, "peer: server ended with %d\n", status);
		abort();
	}
}

void peer_kill(struct peer *peer)
{
	kill(peer->pid, SIGKILL);
	peer_wait(peer);
	if (strncmp(peer->address, "unix:", 5) == 0)
		unlink(peer->address + 5);
}

/* ---- both in this process ------------------------------------------------------------------- */

struct shake {
	const struct peer *peer;
	int fd;
	struct shmipc_session *session;
};

static void *shake_as_client(void *argument)
{
	struct shake *shake = argument;
	int error = shmipc_session_create(shake->fd, SHMIPC_ROLE_CLIENT, &shake->peer->config, NULL,
					  NULL, NULL, &shake->session);

	if (error)
		die("client's session", error);
	return NULL;
}

void peer_make_pair(const struct peer *peer, struct shmipc_loop *loop,
		    const struct shmipc_session_callbacks *callbacks, void *user,
		    struct peer_pair *pair)
{
	struct shake shake = { .peer = peer };
	pthread_t thread;
	int fds[2], error;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		die("socketpair", -errno);
	pair->wire = dup(fds[0]);
	shake.fd = fds[0];
	pthread_create(&thread, NULL, shake_as_client, &shake);
	error = shmipc_session_create(fds[1], SHMIPC_ROLE_SERVER, &peer->config, loop, callbacks,
				      user, &pair->server);
	if (error)
		die("server's session", error);
	pthread_join(thread, NULL);
	pair->client = shake.session;
}

void peer_close_pair(struct peer_pair *pair)
{
	shmipc_session_close(pair->server);
	shmipc_session_close(pair->client);
	close(pair->wire);
}

/* ---- clients -------------------------------------------------------------------------------- */

struct shmipc_client *peer_connect(struct peer *peer, struct shmipc_loop *loop)
{
	struct shmipc_client *client;
	int error = shmipc_client_create(peer->address, &peer->config, loop, &client);

	if (error)
		die("client", error);
	return client;
}

struct shmipc_stream *peer_stream(struct shmipc_client *client)
{
	struct shmipc_stream *stream;
	int error = shmipc_client_get_stream(client, SHMIPC_NEVER, &stream);

	if (error)
		die("stream", error);
	return stream;
}

void peer_fill(void *to, size_t bytes, unsigned int seed)
{
	uint8_t *at = to;

	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + seed);
}

void peer_check(const void *at, size_t bytes, unsigned int seed)
{
	const uint8_t *from = at;

	for (size_t i = 0; i < bytes; i++)
		if (from[i] != (uint8_t)(i * 31 + (i >> 8) * 7 + seed)) {
			fprintf(stderr, "peer: byte %zu of %zu is wrong\n", i, bytes);
			abort();
		}
}

unsigned int peer_files(const struct peer *peer)
{
	const char *name = strrchr(peer->prefix, '/') + 1;
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	unsigned int count = 0;

	while (dir && (entry = readdir(dir)) != NULL)
		count += strncmp(entry->d_name, name, strlen(name)) == 0 &&
			 entry->d_name[strlen(name)] == '_';
	closedir(dir);
	return count;
}
