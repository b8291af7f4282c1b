/* SPDX-License-Identifier: Apache-2.0 */
/*
 * async_server ADDRESS: callbacks, in an event loop of the program's own: shmipc_fd() stands in
 * poll() beside the program's other descriptors, and no thread is made.  Echoes frames; ends at
 * SIGTERM or SIGINT.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "shmipc.h"
#include "tools/examples/fail.h"
#include "tools/examples/frame.h"

static unsigned long long frames;

/* False: the peer reads too slowly, or is gone; on_writable or on_close follow. */
static bool flush(struct shmipc_stream *stream)
{
	return shmipc_stream_flush(stream) == 0;
}

/* Everything that is there is one message back, with one flush. */
static void on_data(struct shmipc_stream *stream, void *user)
{
	const void *view;
	void *room;

	(void)user;
	/* A message that waits for room is not made longer: the peer is to read first. */
	if (shmipc_stream_unflushed(stream) > 0 && !flush(stream))
		return;
	while (shmipc_stream_readable(stream) >= FRAME_BYTES) {
		need(shmipc_stream_read_view(stream, FRAME_BYTES, &view), "read");
		need(shmipc_stream_reserve(stream, FRAME_BYTES, &room), "reserve");
		memcpy(room, view, FRAME_BYTES);
		need(shmipc_stream_commit(stream, FRAME_BYTES), "commit");
		frames++;
	}
	shmipc_stream_release(stream);
	flush(stream);
}

static void on_writable(struct shmipc_stream *stream, void *user)
{
	if (flush(stream))
		on_data(stream, user); /* what arrived meanwhile */
}

static void on_close(struct shmipc_stream *stream, int reason, void *user)
{
	(void)reason;
	(void)user;
	shmipc_stream_close(stream);
}

static void on_stream(struct shmipc_session *session, struct shmipc_stream *stream, void *user)
{
	static const struct shmipc_stream_callbacks callbacks = {
		.on_data = on_data,
		.on_close = on_close,
		.on_writable = on_writable,
	};

	(void)session;
	/* A callback that waits holds up all the others: flush and read do not wait here. */
	shmipc_stream_set_write_deadline(stream, SHMIPC_NOWAIT);
	shmipc_stream_set_read_deadline(stream, SHMIPC_NOWAIT);
	need(shmipc_stream_set_callbacks(stream, &callbacks, user), "callbacks");
}

static int signals(void)
{
	sigset_t ends;
	int fd;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	fd = signalfd(-1, &ends, SFD_CLOEXEC);
	need(fd < 0 ? -errno : 0, "signalfd");
	return fd;
}

int main(int argc, char **argv)
{
	static const struct shmipc_session_callbacks callbacks = { .on_stream = on_stream };
	struct shmipc_listener *listener;
	struct shmipc_loop *loop;
	struct pollfd fds[2];

	need_usage(argc == 2, "async_server ADDRESS");
	fds[0] = (struct pollfd){ .fd = signals(), .events = POLLIN };
	need(shmipc_loop_create(&loop), "loop");
	need(shmipc_listener_create(argv[1], 0, NULL, loop, &callbacks, NULL, &listener), "listen");
	fds[1] = (struct pollfd){ .fd = shmipc_fd(loop), .events = POLLIN };
	printf("listening on %s\n", shmipc_listener_address(listener));
	fflush(stdout);

	while (!(fds[0].revents & POLLIN)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			need(-errno, "poll");
		need(shmipc_process(loop, SHMIPC_NOWAIT), "process");
	}
	shmipc_listener_destroy(listener);
	/* the sessions' last callbacks */
	need(shmipc_process(loop, SHMIPC_NOWAIT), "process");
	need(shmipc_loop_destroy(loop), "end the loop");
	close(fds[0].fd);
	printf("%llu frames echoed\n", frames);
	return 0;
}
