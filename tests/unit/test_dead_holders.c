/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* A process that shares an end with others was killed inside it: whichever call of the others comes
 * next takes its lock over, and nothing is sent twice, taken twice or left out. */
#include <sys/wait.h>

#include "core/bypass.h"
#include "core/sender_parts.h"
#include "tests/unit/conversation.h"

static void killed_inside(struct shmipc_lock *lock)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	atomic_store(&lock->owner, (uint32_t)pid);
}

static size_t in_kernel(void)
{
	ssize_t n;

	let_arrive();
	n = recv(pair.server.fd, in, BIG, MSG_DONTWAIT | MSG_PEEK);
	return n > 0 ? (size_t)n : 0;
}

/* Bytes taken off the socket and not counted: a poll comes first, a receive then. */
static void a_poll_hides_no_hole(void)
{
	pair_consent(&pair);
	say(100, 0);
	pair.server.rx.in_kernel = true;
	killed_inside(&pair.server.rx.lock);
	assert_true(shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false));
	assert_int_equal(end_receive(&pair.server, in, BIG, MSG_DONTWAIT), -ECONNRESET);
}
BOTH(a_poll_hides_no_hole)

static void no_call_hides_a_hole(void)
{
	pair_consent(&pair);
	say(100, 0);
	pair.server.rx.in_kernel = true;
	killed_inside(&pair.server.rx.lock);
	shmipc_receiver_pending(&pair.server.rx, pair.server.fd, false);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	assert_true(shmipc_receiver_is_entangled(&pair.server.rx));
	assert_int_equal(end_receive(&pair.server, in, BIG, MSG_DONTWAIT), -ECONNRESET);
}
BOTH(no_call_hides_a_hole)

/* LAST was sent, the phase does not say so: another LAST would be read as a byte. */
static void last_is_sent_once(void)
{
	pair_consent(&pair);
	say(100, 0);
	hear(BIG, 100);
	pair.client.tx.tokens++;
	atomic_store(&pair.client.tx.tx->tokens_promised, pair.client.tx.tokens);
	atomic_store(&pair.client.tx.doing, SHMIPC_SENDER_IN_CUT);
	assert_int_equal(send(pair.client.fd, "L", 1, 0), 1);
	killed_inside(&pair.client.tx.lock);
	assert_true(shmipc_sender_lock(&pair.client.tx, pair.client.fd, false));
	assert_int_equal(shmipc_sender_downgrade(&pair.client.tx, pair.client.fd), -ECONNRESET);
	shmipc_lock_drop(&pair.client.tx.lock, false);
	assert_int_equal(in_kernel(), 1);
	assert_int_equal(end_send(&pair.client, out, 1, 0), -ECONNRESET);
}
BOTH(last_is_sent_once)

/* Part of a stopped ring was sent by the kernel and not counted. */
static void a_stopped_ring_is_sent_once(void)
{
	struct shmipc_sender *s = &pair.client.tx;
	bool ended;

	pair_consent(&pair);
	say(400, 0);
	assert_false(shmipc_receiver_stop(&pair.server.rx, pair.server.fd, false));
	shmipc_sender_serve(s, pair.client.fd, false);
	assert_int_equal(in_kernel(), 400);
	s->head -= 100;
	s->owing = true;
	atomic_store(&s->doing, SHMIPC_SENDER_IN_CUT);
	killed_inside(&s->lock);
	assert_int_equal(shmipc_bypass_send_begin(s, pair.client.fd, false, &ended), -ECONNRESET);
	assert_int_equal(in_kernel(), 400);
}
BOTH(a_stopped_ring_is_sent_once)

/* Bytes that a helper has sent and not counted: its heir does not send them again, and does not let
 * the sender believe that no one helps. */
static void a_helper_has_no_heir(void)
{
	struct shmipc_receiver *r = &pair.server.rx;

	pair_consent(&pair);
	say(400, 0);
	assert_false(shmipc_receiver_stop(r, pair.server.fd, false));
	atomic_fetch_or(&r->want->want, SHMIPC_WANT_HELPING);
	r->in_kernel = true;
	assert_int_equal(send(pair.client.fd, out, 400, 0), 400);
	killed_inside(&r->lock);
	shmipc_receiver_help(r, pair.client.fd, false);
	assert_int_equal(in_kernel(), 400);
	assert_true(atomic_load(&r->want->want) & SHMIPC_WANT_HELPING);
	assert_int_equal(end_send(&pair.client, out, 10, 0), -ECONNRESET);
	assert_int_equal(in_kernel(), 400);
}
BOTH(a_helper_has_no_heir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(a_poll_hides_no_hole), TESTS(no_call_hides_a_hole),
		TESTS(last_is_sent_once),    TESTS(a_stopped_ring_is_sent_once),
		TESTS(a_helper_has_no_heir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
