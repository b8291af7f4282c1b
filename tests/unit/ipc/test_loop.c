/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/peer.c
/* The loop by itself: who is woken, who is awake when it is left, what is cancelled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/ipc/loop_parts.h"
#include "tests/unit/ipc/peer.h"

static struct shmipc_loop *make_loop(bool start)
{
	struct shmipc_loop *loop;

	assert_int_equal(shmipc_loop_create(&loop), 0);
	if (start)
		assert_int_equal(shmipc_loop_start(loop), 0);
	return loop;
}

static bool is_readable(const struct shmipc_loop *loop, int timeout_ms)
{
	struct pollfd wait = { .fd = shmipc_fd(loop), .events = POLLIN };

	return poll(&wait, 1, timeout_ms) == 1;
}

static void await(const _Atomic bool *flag)
{
	while (!*flag)
		usleep(100);
}

/* ---- waking --------------------------------------------------------------------------------- */

enum { WAKERS = 2, WAKES = 100000, PAUSES = 512, SECOND = 1000000000 /* ns */ };

struct waking {
	struct shmipc_loop *loop;
	_Atomic uint32_t asked, number;
	uint32_t seen;
};

/* At all moments, also while the loop reads away the one before. */
static void *wake_often(void *argument)
{
	struct waking *waking = argument;
	uint32_t random = 1 + waking->number++;

	for (uint32_t i = 0; i < WAKES; i++) {
		random = random * 1664525 + 1013904223;
		for (uint32_t k = random >> 16 & (PAUSES - 1); k > 0; k--)
			shmipc_cpu_pause();
		waking->asked++;
		shmipc_loop_wake(waking->loop);
	}
	return NULL;
}

static void wait_in_process(struct shmipc_loop *loop)
{
	assert_true(shmipc_process(loop, shmipc_deadline_after(SECOND)) >= 0);
}

static void wait_in_poll(struct shmipc_loop *loop)
{
	is_readable(loop, SECOND / 1000000);
	assert_true(shmipc_process(loop, SHMIPC_NOWAIT) >= 0);
}

static void no_wake_up_is_lost(void **state)
{
	static void (*const ways[])(struct shmipc_loop *) = { wait_in_process, wait_in_poll };

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct waking waking = { .loop = make_loop(false) };
		pthread_t threads[WAKERS];

		for (int k = 0; k < WAKERS; k++)
			pthread_create(&threads[k], NULL, wake_often, &waking);
		while (waking.seen < WAKERS * WAKES) {
			ways[i](waking.loop);
			waking.seen = waking.asked;
		}
		for (int k = 0; k < WAKERS; k++)
			pthread_join(threads[k], NULL);
		for (int k = 0; k < 3; k++)
			shmipc_process(waking.loop, SHMIPC_NOWAIT);
		/* the flag agrees with the descriptor, and stays so */
		assert_false(is_readable(waking.loop, 0));
		assert_false(waking.loop->event_sent);
		shmipc_loop_wake(waking.loop);
		assert_true(is_readable(waking.loop, 0));
		assert_int_equal(shmipc_loop_destroy(waking.loop), 0);
	}
}

static void a_child_does_not_wake_its_parents_loop(void **state)
{
	struct shmipc_loop *loop = make_loop(false);

	(void)state;
	if (fork() == 0) {
		shmipc_loop_wake(loop);
		_exit(0);
	}
	wait(NULL);
	assert_false(is_readable(loop, 0));
	assert_int_equal(shmipc_loop_destroy(loop), 0);
}

/* ---- the dispatcher's end ------------------------------------------------------------------- */

/* What stands for a session: a descriptor, and a queue that is looked at until it may rest. */
struct stand_in {
	struct shmipc_source source;
	struct shmipc_awake awake;
	struct shmipc_loop *loop;
	_Atomic bool rests, may_rest; /* the loop is about to let it rest, and may */
	_Atomic bool is_awake;
};

static bool is_nothing(struct shmipc_awake *awake)
{
	(void)awake;
	return false;
}

static void take_nothing(struct shmipc_awake *awake)
{
	(void)awake;
}

static bool rest(struct shmipc_awake *awake)
{
	struct stand_in *s = (struct stand_in *)(void *)((char *)awake -
							 offsetof(struct stand_in, awake));

	s->rests = true;
	await(&s->may_rest);
	s->is_awake = false;
	return true;
}

static void stand_in_ready(struct shmipc_source *source, uint32_t events)
{
	struct stand_in *s = (struct stand_in *)(void *)source;
	uint64_t count;

	(void)events;
	assert_int_equal(read(source->fd, &count, sizeof(count)), sizeof(count));
	s->is_awake = true;
	shmipc_loop_stays_awake(s->loop, &s->awake);
}

static void nothing_gone(struct shmipc_source *source)
{
	(void)source;
}

static void add_stand_in(struct shmipc_loop *loop, struct stand_in *s)
{
	*s = (struct stand_in){
		.source = { .fd = eventfd(0, 0),
			    .events = EPOLLIN,
			    .ready = stand_in_ready,
			    .gone = nothing_gone },
		.awake = { .look = is_nothing, .take = take_nothing, .rest = rest },
		.loop = loop,
	};
	assert_int_equal(shmipc_loop_add(loop, &s->source), 0);
}

static void ring_stand_in(struct stand_in *s)
{
	uint64_t one = 1;

	assert_int_equal(write(s->source.fd, &one, sizeof(one)), sizeof(one));
}

static void *stop_loop(void *argument)
{
	assert_int_equal(shmipc_loop_stop(argument), 0);
	return NULL;
}

/* The last thing that the dispatcher did may have been to wake up for somebody. */
static void a_stopped_loop_can_be_polled(void **state)
{
	struct shmipc_loop *loop = make_loop(true);
	struct stand_in first, second;
	pthread_t thread;

	(void)state;
	add_stand_in(loop, &first);
	add_stand_in(loop, &second);
	second.may_rest = true;
	ring_stand_in(&first);
	await(&first.rests);
	/* it has seen that nobody woke it, and asks the kernel next */
	ring_stand_in(&second);
	pthread_create(&thread, NULL, stop_loop, loop);
	while (!loop->event_sent)
		usleep(100);
	usleep(1000);
	first.may_rest = true;
	pthread_join(thread, NULL);
	assert_true(is_readable(loop, 0));
	assert_int_equal(shmipc_process(loop, SHMIPC_NOWAIT), 0);
	assert_false(first.is_awake);
	assert_false(second.is_awake);
	shmipc_loop_remove(loop, &first.source);
	shmipc_loop_remove(loop, &second.source);
	assert_int_equal(shmipc_loop_destroy(loop), 0);
	close(first.source.fd);
	close(second.source.fd);
}

static void *read_one(void *stream)
{
	const void *view;
	int error = shmipc_stream_read_view(stream, 1, &view);

	return (void *)(intptr_t)error;
}

/* Who waits while a dispatcher takes in for him goes on by himself when it has ended. */
static void who_waits_outlives_the_dispatcher(void **state)
{
	struct shmipc_stream *from, *to;
	struct peer_pair pair;
	struct peer peer;
	pthread_t thread;
	uint64_t late;
	void *result;

	(void)state;
	for (int round = 0; round < 2; round++) {
		struct shmipc_loop *loop = make_loop(true);

		peer_prepare(&peer, PEER_UNIX_MEMFD);
		peer.config.spin_us = round ? 50 : 0;
		peer_make_pair(&peer, loop, NULL, NULL, &pair);
		assert_int_equal(shmipc_session_open_stream(pair.client, &from), 0);
		assert_int_equal(shmipc_stream_send(from, "1", 1), 0);
		assert_int_equal(shmipc_session_accept_stream(pair.server, SHMIPC_NEVER, &to), 0);
		assert_int_equal((intptr_t)read_one(to), 0);
		late = shmipc_deadline_after(5 * (uint64_t)SECOND);
		shmipc_stream_set_read_deadline(to, late);
		pthread_create(&thread, NULL, read_one, to);
		usleep(20000);
		assert_int_equal(shmipc_loop_stop(loop), 0);
		assert_int_equal(shmipc_stream_send(from, "2", 1), 0);
		pthread_join(thread, &result);
		assert_int_equal((intptr_t)result, 0);
		assert_true(shmipc_deadline_after(0) < late);
		shmipc_stream_close(from);
		shmipc_stream_close(to);
		peer_close_pair(&pair);
		assert_int_equal(shmipc_loop_destroy(loop), 0);
	}
}

/* ---- cancelling ----------------------------------------------------------------------------- */

struct stubborn {
	struct shmipc_task task;
	struct shmipc_loop *loop;
	_Atomic bool started;
	_Atomic unsigned int runs;
};

/* Queues itself again when somebody waits for its end, as a stream does that has more to tell. */
static int run_again(struct shmipc_task *task)
{
	struct stubborn *stubborn = (struct stubborn *)(void *)task;

	stubborn->started = true;
	if (stubborn->runs++ == 0) {
		bool awaited = false;

		while (!awaited) {
			shmipc_mutex_lock(&stubborn->loop->lock);
			awaited = stubborn->loop->cancelling > 0;
			shmipc_mutex_unlock(&stubborn->loop->lock);
		}
		shmipc_loop_queue(stubborn->loop, task);
	}
	return 1;
}

/* The loop's thread stops here until it may go on. */
struct barrier {
	struct shmipc_task task;
	_Atomic bool there, may_go;
};

static int stop_here(struct shmipc_task *task)
{
	struct barrier *barrier = (struct barrier *)(void *)task;

	barrier->there = true;
	await(&barrier->may_go);
	return 0;
}

static void what_was_cancelled_is_not_queued(void **state)
{
	struct stubborn stubborn = { .task = { .run = run_again }, .loop = make_loop(true) };
	struct barrier barrier = { .task = { .run = stop_here } };

	(void)state;
	shmipc_loop_queue(stubborn.loop, &stubborn.task);
	await(&stubborn.started);
	shmipc_loop_queue(stubborn.loop, &barrier.task);
	shmipc_loop_cancel(stubborn.loop, &stubborn.task);
	assert_null(stubborn.task.next);
	await(&barrier.there);
	barrier.may_go = true;
	assert_int_equal(shmipc_loop_destroy(stubborn.loop), 0);
	assert_int_equal(stubborn.runs, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_wake_up_is_lost),
		cmocka_unit_test(a_child_does_not_wake_its_parents_loop),
		cmocka_unit_test(a_stopped_loop_can_be_polled),
		cmocka_unit_test(who_waits_outlives_the_dispatcher),
		cmocka_unit_test(what_was_cancelled_is_not_queued),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
