/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* Which memory of a ring is used: how far a conversation strays, and what a burst leaves behind. */
#include "tests/unit/conversation.h"

#include <sys/wait.h>

#include "core/cpu.h"

static bool loop_is_untouched(void)
{
	const struct shmipc_ring *ring = &pair.client.tx.ring;

	for (size_t i = 0; i < RING_BYTES; i++)
		if (ring->loop[i])
			return false;
	return true;
}

static void talk(size_t bytes, int times)
{
	for (int i = 0; i < times; i++) {
		say(bytes, 0);
		hear(BIG, bytes);
	}
}

static void begin_to_talk(void)
{
	say(1, 0);
	pair_consent(&pair);
	hear(BIG, 1);
}

/* An empty ring starts again: small messages that are read one by one stay in its lead. */
static void small_talk_stays_in_the_lead(void)
{
	begin_to_talk();
	talk(100, 100);
	talk(SHMIPC_LEAD_BYTES, 30);
	assert_true(pair.client.tx.base > 0);
	assert_true(loop_is_untouched());
	assert_false(atomic_load(&pair.control->direction[0].tx.flags) & SHMIPC_TX_GROWN);
}
BOTH(small_talk_stays_in_the_lead)

/* What does not fit the lead, or is not read in time, goes on in the loop. */
static void more_goes_on_in_the_loop(void)
{
	begin_to_talk();
	say(1000, 0);
	say(1000, 0);
	assert_false(loop_is_untouched());
	assert_true(atomic_load(&pair.control->direction[0].tx.flags) & SHMIPC_TX_GROWN);
	hear(BIG, 2000);
	talk(SHMIPC_LEAD_BYTES + 1, 30);
	talk(100, 30);
}
BOTH(more_goes_on_in_the_loop)

/* To look whether the ring is empty costs a cache line: not for each message of middling size. */
static void middling_talk_moves_to_the_loop(void)
{
	begin_to_talk();
	for (int i = 0; i < 100 && loop_is_untouched(); i++)
		talk(800, 1);
	assert_false(loop_is_untouched());
	talk(800, 10);
	assert_true(pair.client.tx.tail - pair.client.tx.base <= SHMIPC_LEAD_BYTES + 2048 + 800);
}
BOTH(middling_talk_moves_to_the_loop)

/* A burst of long ago leaves no memory behind: the sender gives it back when it sends again, or
 * when it is asked to, and only then. */
static void burst_is_given_back(bool by_sending)
{
	struct shmipc_sender *s = &pair.client.tx;

	begin_to_talk();
	talk(RING_BYTES, 3);
	assert_true(s->grown);
	assert_true(shmipc_sender_grown_at() != 0);
	assert_false(shmipc_sender_shrink(s)); /* just now */
	say(1000, 0);
	say(2000, 0);
	s->grown_ticks -= 2 * SHMIPC_SENDER_QUIET_MS * 1000 * shmipc_ticks_per_us();
	assert_false(shmipc_sender_shrink(s)); /* not empty */
	hear(BIG, 3000);
	assert_false(loop_is_untouched());
	s->grown_ticks -= 2 * SHMIPC_SENDER_QUIET_MS * 1000 * shmipc_ticks_per_us();
	if (by_sending)
		talk(100, 60);
	else
		assert_true(shmipc_sender_shrink(s));
	assert_false(s->grown);
	assert_true(loop_is_untouched());
	assert_false(atomic_load(&pair.control->direction[0].tx.flags) & SHMIPC_TX_GROWN);
	talk(100, 10);
	assert_true(loop_is_untouched());
	talk(RING_BYTES, 2);
	talk(100, 20);
}

static void burst_is_given_back_by_the_next_talk(void)
{
	burst_is_given_back(true);
}
BOTH(burst_is_given_back_by_the_next_talk)

static void burst_is_given_back_on_request(void)
{
	burst_is_given_back(false);
}
BOTH(burst_is_given_back_on_request)

/* One that shared this end was killed when it had moved the base and not said so yet. */
static void heir_says_where_the_ring_begins(void)
{
	struct shmipc_sender *s = &pair.client.tx;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	begin_to_talk();
	talk(100, 3);
	assert_true(s->base < s->tail);
	s->base = s->tail;
	atomic_store(&s->lock.owner, (uint32_t)pid);
	talk(100, 3);
	assert_false(s->broken);
}
BOTH(heir_says_where_the_ring_begins)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(small_talk_stays_in_the_lead),	TESTS(more_goes_on_in_the_loop),
		TESTS(middling_talk_moves_to_the_loop), TESTS(burst_is_given_back_by_the_next_talk),
		TESTS(burst_is_given_back_on_request),	TESTS(heir_says_where_the_ring_begins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
