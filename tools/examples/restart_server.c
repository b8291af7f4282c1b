/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restart_server ADDRESS [OLD_PID]: hot restart.  Echoes frames, with its own process number in the
 * first word.  With OLD_PID it takes the address over from that process and tells it, by SIGUSR1,
 * to send its clients here.  The old one then waits until its streams are done, and ends.
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

enum { DRAIN_S = 20, STEP_NS = 5000000 };

static void on_data(struct shmipc_stream *stream, void *user)
{
	uint64_t pid = (uint64_t)getpid();
	const void *view;
	void *room;

	(void)user;
	while (shmipc_stream_readable(stream) >= FRAME_BYTES) {
		need(shmipc_stream_read_view(stream, FRAME_BYTES, &view), "read");
		need(shmipc_stream_reserve(stream, FRAME_BYTES, &room), "reserve");
		memcpy(room, view, FRAME_BYTES);
		memcpy(room, &pid, sizeof(pid));
		need(shmipc_stream_commit(stream, FRAME_BYTES), "commit");
		shmipc_stream_flush(stream); /* a client that is gone is no concern of ours */
		shmipc_stream_release(stream);
	}
}

static void on_close(struct shmipc_stream *stream, int reason, void *user)
{
	(void)reason;
	(void)user;
	shmipc_stream_close(stream);
}

static void on_stream(struct shmipc_session *session, struct shmipc_stream *stream, void *user)
{
	static const struct shmipc_stream_callbacks callbacks = { .on_data = on_data,
								  .on_close = on_close };

	(void)session;
	need(shmipc_stream_set_callbacks(stream, &callbacks, user), "callbacks");
}

static void process_for_a_moment(struct shmipc_loop *loop)
{
	need(shmipc_process(loop, shmipc_deadline_after(STEP_NS)), "process");
}

/* Every client moves, every stream that is open here comes to its end. */
static int hand_over(struct shmipc_loop *loop, struct shmipc_listener *listener)
{
	uint64_t deadline = shmipc_deadline_after(DRAIN_S * UINT64_C(1000000000));
	struct shmipc_metrics metrics;
	int moved;

	need(shmipc_listener_hot_restart(listener, (uint64_t)getpid()), "hot restart");
	while ((moved = shmipc_listener_hot_restart_wait(listener, SHMIPC_NOWAIT)) == -EAGAIN)
		process_for_a_moment(loop);
	if (moved) {
		fprintf(stderr, "clients did not move: %s\n", strerror(-moved));
		return 1;
	}
	do {
		process_for_a_moment(loop);
		shmipc_listener_metrics(listener, &metrics, sizeof(metrics));
	} while (metrics.active_streams > 0 && shmipc_deadline_after(0) < deadline);
	printf("%d: all clients moved, %llu streams left\n", (int)getpid(),
	       (unsigned long long)metrics.active_streams);
	return metrics.active_streams > 0;
}

static int signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	need(fd < 0 ? -errno : 0, "signalfd");
	return fd;
}

/* Until a signal; which one. */
static unsigned int serve(struct shmipc_loop *loop, int signal_fd)
{
	struct pollfd fds[] = { { .fd = signal_fd, .events = POLLIN },
				{ .fd = shmipc_fd(loop), .events = POLLIN } };
	struct signalfd_siginfo info;

	while (!(fds[0].revents & POLLIN)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			need(-errno, "poll");
		need(shmipc_process(loop, SHMIPC_NOWAIT), "process");
	}
	return read(signal_fd, &info, sizeof(info)) == sizeof(info) ? info.ssi_signo : SIGTERM;
}

int main(int argc, char **argv)
{
	static const struct shmipc_session_callbacks callbacks = { .on_stream = on_stream };
	struct shmipc_listener *listener;
	struct shmipc_loop *loop;
	int signal_fd, status = 0;

	need_usage(argc == 2 || argc == 3, "restart_server ADDRESS [OLD_PID]");
	signal_fd = signals();
	need(shmipc_loop_create(&loop), "loop");
	/* The path is kept at the end: by then it may be that of the next server. */
	need(shmipc_listener_create(argv[1],
				    SHMIPC_LISTEN_KEEP_PATH |
					    (argc == 3 ? (unsigned int)SHMIPC_LISTEN_REPLACE : 0),
				    NULL, loop, &callbacks, NULL, &listener),
	     "listen");
	printf("%d: listening\n", (int)getpid());
	fflush(stdout);
	if (argc == 3)
		kill(atoi(argv[2]), SIGUSR1);
	if (serve(loop, signal_fd) == SIGUSR1)
		status = hand_over(loop, listener);
	shmipc_listener_destroy(listener);
	need(shmipc_process(loop, SHMIPC_NOWAIT), "process");
	need(shmipc_loop_destroy(loop), "end the loop");
	close(signal_fd);
	return status;
}
