/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync_server ADDRESS: synchronous calls, a thread for each session and one for each stream.
 * Each request is a line, each answer the same line in capitals.  Ends at SIGTERM or SIGINT.
 */
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "shmipc.h"
#include "tools/examples/fail.h"

/* The answer to what is there.  Works on pieces as they lie there; a line may come in several. */
static int answer(struct shmipc_stream *stream)
{
	const void *view;
	void *room;
	ssize_t n = shmipc_stream_read_some_view(stream, 4096, &view);
	int error;

	if (n <= 0)
		return n < 0 ? (int)n : -ENODATA;
	error = shmipc_stream_reserve(stream, (size_t)n, &room);
	if (!error) {
		for (ssize_t i = 0; i < n; i++)
			((char *)room)[i] = (char)toupper(((const unsigned char *)view)[i]);
		error = shmipc_stream_commit(stream, (size_t)n);
	}
	shmipc_stream_release(stream);
	return error ? error : shmipc_stream_flush(stream);
}

static void *serve_stream(void *argument)
{
	struct shmipc_stream *stream = argument;

	while (answer(stream) == 0)
		continue;
	shmipc_stream_close(stream); /* also when the session is over */
	return NULL;
}

static void start(void *(*function)(void *), void *argument)
{
	pthread_t thread;

	need(-pthread_create(&thread, NULL, function, argument), "thread");
	pthread_detach(thread);
}

static void *serve_session(void *argument)
{
	struct shmipc_session *session = argument;
	struct shmipc_stream *stream;

	while (shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream) == 0)
		start(serve_stream, stream);
	shmipc_session_close(session); /* its streams stay valid for their threads */
	return NULL;
}

static void *accept_sessions(void *argument)
{
	struct shmipc_listener *listener = argument;
	struct shmipc_session *session;

	int error;

	while ((error = shmipc_listener_accept(listener, SHMIPC_NEVER, &session)) == 0)
		start(serve_session, session);
	need(error, "accept");
	return NULL;
}

int main(int argc, char **argv)
{
	struct shmipc_listener *listener;
	sigset_t ends;
	int number;

	need_usage(argc == 2, "sync_server ADDRESS");
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	need(shmipc_listener_create(argv[1], 0, NULL, NULL, NULL, NULL, &listener), "listen");
	printf("listening on %s\n", shmipc_listener_address(listener));
	fflush(stdout);
	start(accept_sessions, listener);
	sigwait(&ends, &number);
	return 0; /* what was sent reaches its client, and no memory stays behind */
}
