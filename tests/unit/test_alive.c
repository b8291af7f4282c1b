/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* Who has asked the kernel for a peer that was killed, and for whom that counts; and that an error
 * which somebody has met there is told. */
#include <fcntl.h>
#include <sys/resource.h>

#include "core/cpu.h"
#include "core/receiver_parts.h"
#include "core/relaxing.h"
#include "tests/unit/conversation.h"

static _Atomic uint64_t watch;

/* ---- what is known ---- */

static void a_watch_counts_from_its_beginning(void)
{
	struct shmipc_sender *s = &pair.client.tx;

	shmipc_sender_watch(s, &watch, 100);
	watch = 100;
	assert_int_equal(shmipc_sender_alive(s), 0);
	watch = 101;
	assert_int_equal(shmipc_sender_alive(s), 101);
	/* told of something now: what was known so far stays known */
	shmipc_sender_watch_from(s, 150, false);
	watch = 140;
	assert_int_equal(shmipc_sender_alive(s), 101);
	watch = 160;
	assert_int_equal(shmipc_sender_alive(s), 160);
	/* and it does when nobody watches any more */
	shmipc_sender_watch(s, NULL, 0);
	watch = 200;
	assert_int_equal(shmipc_sender_alive(s), 160);
}
BOTH(a_watch_counts_from_its_beginning)

static void what_is_told_once_must_be_asked_for(void)
{
	struct shmipc_sender *s = &pair.client.tx;

	watch = 0;
	shmipc_sender_watch(s, &watch, 100);
	shmipc_sender_watch_from(s, 900, true);
	watch = 1000;
	assert_int_equal(shmipc_sender_alive(s), 0);
	shmipc_sender_found_alive(s, 800); /* another thread's look, from before */
	assert_int_equal(shmipc_sender_alive(s), 800);
	shmipc_sender_found_alive(s, 1100); /* asked */
	assert_int_equal(shmipc_sender_alive(s), 1100);
	watch = 1200;
	assert_int_equal(shmipc_sender_alive(s), 1200);
}
BOTH(what_is_told_once_must_be_asked_for)

/* ---- who uses it ---- */

/* As if killed: nothing is said in shared memory. */
static void kill_server(void)
{
	close(pair.server.fd);
	pair.server.fd = -1;
}

static void a_watched_sender_does_not_look(void)
{
	struct shmipc_sender *s = &pair.client.tx;

	pair_consent(&pair);
	say(10, 0);
	hear(BIG, 10);
	shmipc_receiver_relax(&pair.server.rx);
	shmipc_sender_watch(s, &watch, 1);
	kill_server();
	usleep(20 * 1000);
	watch = shmipc_ticks(); /* a lie, by which we see that it was asked */
	assert_int_equal(end_send(&pair.client, out, 10, 0), 10);
	assert_false(s->gone);
	watch = 2; /* long ago */
	s->looked_ticks = 0;
	end_send(&pair.client, out, 10, MSG_NOSIGNAL);
	assert_true(s->gone);
}
BOTH(a_watched_sender_does_not_look)

/* A Unix socket takes nothing for a peer that is gone; TCP does.  Neither says whether the peer has
 * shut its own direction. */
static void a_token_is_a_look(void)
{
	struct shmipc_sender *s = &pair.client.tx;
	uint64_t looked, alive;

	pair_consent(&pair);
	say(10, 0);
	hear(BIG, 10);
	looked = s->looked_ticks;
	alive = shmipc_sender_alive(s);
	shmipc_receiver_arm(&pair.server.rx);
	say(10, 0);
	assert_int_equal(s->looked_ticks > looked, s->is_unix);
	assert_int_equal(shmipc_sender_alive(s), alive);
	shmipc_receiver_disarm(&pair.server.rx);
}
BOTH(a_token_is_a_look)

/* The receive that finds nothing has asked the socket, and speaks for its sender as well. */
static void a_receive_is_a_look(void)
{
	struct shmipc_receiver *r = &pair.server.rx;
	uint64_t before;

	pair_consent(&pair);
	say(10, 0);
	hear(BIG, 10);
	r->asked_ticks = 0;
	before = shmipc_sender_alive(r->sibling);
	hear_nothing();
	assert_true(shmipc_sender_alive(r->sibling) > before);
}
BOTH(a_receive_is_a_look)

/* An edge that a set was told stands until the socket itself is asked, whoever polls meanwhile. */
static void a_poll_forgets_no_edge(void)
{
	struct shmipc_receiver *r = &pair.server.rx;

	pair_consent(&pair);
	shmipc_receiver_relax(r);
	r->watchers = 1; /* a set */
	say(10, 0);
	hear(BIG, 10);
	hear_nothing();
	assert_true(shmipc_receiver_is_quiet(r));
	close(pair.client.fd); /* as if killed */
	pair.client.fd = -1;
	let_arrive();
	shmipc_receiver_was_reported(r);
	shmipc_receiver_was_looked_at(r, shmipc_ticks());
	assert_int_equal(end_receive(&pair.server, in, 10, MSG_DONTWAIT), 0);
}
BOTH(a_poll_forgets_no_edge)

/* poll() refuses any number of descriptors beyond the limit: that is no answer. */
static void a_look_that_fails_finds_nobody_alive(void)
{
	struct shmipc_sender *s = &pair.client.tx;
	struct rlimit limit, none;

	pair_consent(&pair);
	say(10, 0);
	hear(BIG, 10);
	s->looked_ticks = 0;
	s->alive_ticks = 0;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){ 0, limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	end_send(&pair.client, out, 10, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(shmipc_sender_alive(s), 0);
}
BOTH(a_look_that_fails_finds_nobody_alive)

/* ---- what was met ---- */

/* Whatever call of ours has taken it off the socket: the application's next one is told. */
static void a_receive_is_told_what_a_send_met(void)
{
	int error = 0;
	socklen_t bytes = sizeof(error);

	cut_away();
	pair.client.tx.kept_error = ECONNRESET;
	kill_server();
	usleep(20 * 1000);
	getsockopt(pair.client.fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
	assert_int_equal(end_receive(&pair.client, in, 10, MSG_DONTWAIT), -ECONNRESET);
	assert_int_equal(end_receive(&pair.client, in, 10, MSG_DONTWAIT), 0);
}
BOTH(a_receive_is_told_what_a_send_met)

/* ---- O_NONBLOCK ---- */

enum { A_WHILE_US = 5000 };

static bool is_asked_again(struct shmipc_receiver *r)
{
	uint64_t then;

	hear_nothing();
	then = r->flags_ticks - A_WHILE_US * shmipc_ticks_per_us();
	r->flags_ticks = then;
	assert_int_equal(end_receive(&pair.server, in, 10, 0), -EAGAIN);
	return r->flags_ticks != then;
}

/* It is known for as long as nobody can change it unseen. */
static void flags_are_known(void)
{
	struct shmipc_receiver *r = &pair.server.rx;

	pair_consent(&pair);
	say(10, 0);
	hear(BIG, 10);
	fcntl(pair.server.fd, F_SETFL, O_RDWR | O_NONBLOCK);
	assert_int_equal(end_receive(&pair.server, in, 10, 0), -EAGAIN);
	assert_false(is_asked_again(r));
	shmipc_receiver_flags_changed(r);
	assert_true(is_asked_again(r));
	r->foreign = SHMIPC_FOREIGN_HOLDERS;
	assert_true(is_asked_again(r));
	r->foreign = SHMIPC_FOREIGN_NONE;
	assert_false(is_asked_again(r));
	shmipc_relaxing = SHMIPC_RELAXING_FORBIDDEN;
	assert_true(is_asked_again(r));
	shmipc_relaxing = SHMIPC_RELAXING_ALLOWED;
}
BOTH(flags_are_known)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(a_watch_counts_from_its_beginning),
		TESTS(what_is_told_once_must_be_asked_for),
		TESTS(a_watched_sender_does_not_look),
		TESTS(a_token_is_a_look),
		TESTS(a_receive_is_a_look),
		TESTS(a_poll_forgets_no_edge),
		TESTS(a_look_that_fails_finds_nobody_alive),
		TESTS(a_receive_is_told_what_a_send_met),
		TESTS(flags_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
