/* SPDX-License-Identifier: Apache-2.0 */
// LINK: preload/session.c preload/session_client.c preload/session_server.c preload/session_warm.c
/* Sessions: this process is both sides of one, by two mappings of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/identity.h"
#include "preload/session_parts.h"

enum {
	ENDPOINT = 7,
	STREAMS = 100,	       /* more are not kept when it is idle */
	RING_BYTES = 32 << 20, /* to give it back takes a while */
	SERVER_PID = 4711,
	HEAD_START_US = 200,
};

static struct {
	int client, server; /* sessions */
	struct shmipc_segment segment;
} both;

bool shim_identity_seccomp_filtered(void)
{
	return false;
}

static struct shim_session_claim claim_of(uint32_t number, uint8_t key[SHMIPC_KEY_BYTES])
{
	memset(key, 0, SHMIPC_KEY_BYTES);
	memcpy(key + 4, &number, sizeof(number)); /* all in one bucket */
	return (struct shim_session_claim){ key, 0, 0 };
}

static struct shmipc_stream_control *control(uint32_t stream)
{
	return shmipc_segment_stream(&both.segment, stream);
}

/* The first stream is taken for good, so that the session stays. */
static int begin(void **state)
{
	const struct shim_session_peer client = { .is_client = true, .endpoint = ENDPOINT },
				       server = { .pid = SERVER_PID };
	struct shmipc_segment mapped;
	uint8_t key[SHMIPC_KEY_BYTES];
	const struct shim_session_claim claim = claim_of(1000000, key);
	int fd;

	(void)state;
	if (shmipc_segment_create(&both.segment, STREAMS, RING_BYTES, &fd) < 0 ||
	    shmipc_segment_map(&mapped, fd, UINT64_MAX) < 0)
		return -1;
	close(fd);
	both.server = shim_session_add(&both.segment, &server, &claim);
	both.client = shim_session_add(&mapped, &client, &claim);
	return both.server < 0 || both.client < 0 ? -1 : 0;
}

/* Both sides unmap. */
static int end(void **state)
{
	(void)state;
	shim_session_leave(both.client, 0);
	shim_session_leave(both.server, 0);
	return 0;
}

static uint32_t offer(uint32_t number)
{
	uint8_t key[SHMIPC_KEY_BYTES];
	const struct shim_session_claim claim = claim_of(number, key);
	uint32_t stream = 0;
	int session = -1;

	assert_int_equal(shim_session_offer(ENDPOINT, &claim, &session, &stream), 0);
	assert_int_equal(session, both.client);
	return stream;
}

/* The stream that the server takes for it; 0: none. */
static uint32_t answer(uint32_t number)
{
	uint8_t key[SHMIPC_KEY_BYTES];
	const struct shim_session_claim claim = claim_of(number, key);
	uint32_t stream = 0;
	int session = -1;

	if (shim_session_answer(&claim, &session, &stream) < 0)
		return 0;
	assert_int_equal(session, both.server);
	return stream;
}

static void leave_both(uint32_t stream)
{
	shim_session_leave(both.client, stream);
	shim_session_leave(both.server, stream);
}

static void each_finds_its_own(void **state)
{
	uint32_t streams[STREAMS];

	(void)state;
	for (uint32_t i = 1; i < STREAMS; i++)
		streams[i] = offer(i);
	for (uint32_t i = 1; i < STREAMS; i += 2) {
		assert_int_equal(answer(i), streams[i]);
		assert_int_equal(answer(i), 0); /* once */
		assert_true(shim_session_answered(both.client, streams[i], 0));
	}
	assert_int_equal(answer(STREAMS), 0);
	for (uint32_t i = 2; i < STREAMS; i += 2)
		assert_int_equal(answer(i), streams[i]);
	for (uint32_t i = 1; i < STREAMS; i++)
		leave_both(streams[i]);
}

/* What was never seen is confirmed, and handed out again; not before. */
static void withdrawn_offer_comes_back(void **state)
{
	uint32_t first, second;

	(void)state;
	first = offer(1);
	shim_session_withdraw(both.client, first);
	second = offer(2);
	assert_int_not_equal(second, first);
	assert_int_equal(answer(1), 0);
	assert_int_equal(answer(2), second);
	assert_int_equal(offer(3), first);
	assert_int_equal(answer(1), 0); /* reads the letter of this one */
	shim_session_withdraw(both.client, first);
	assert_int_equal(answer(3), 0);
	assert_int_equal(offer(4), first);
	shim_session_withdraw(both.client, first);
	leave_both(second);
}

/* A server that is asked seldom finds what it needs although letters were overwritten. */
static void late_server_finds_all(void **state)
{
	const uint32_t rounds = 3 * SHMIPC_LETTERS_ROOM;
	uint32_t early, late;

	(void)state;
	early = offer(1);
	for (uint32_t i = 0; i < rounds; i++) {
		uint32_t stream = offer(2);

		shim_session_withdraw(both.client, stream);
		/* as the server would have done */
		atomic_store(&control(stream)->answer,
			     shim_session_word(atomic_load(&control(stream)->offer) >> 8,
					       SHMIPC_ANSWER_CLOSED));
	}
	late = offer(3);
	assert_int_equal(answer(1), early);
	assert_int_equal(answer(3), late);
	assert_int_equal(answer(2), 0);
	leave_both(early);
	leave_both(late);
}

/* Nothing of what a client writes leads anywhere else. */
static void foreign_letters_are_harmless(void **state)
{
	struct shmipc_segment_header *header = both.segment.header;
	uint32_t stream, letters = atomic_load(&header->letters);

	(void)state;
	for (uint32_t i = 0; i < SHMIPC_LETTERS_ROOM; i++)
		atomic_store(&header->letter[i], (uint16_t)(i * 67 + STREAMS));
	for (uint32_t ahead = 1; ahead != 0; ahead *= 2) {
		atomic_store(&header->letters, letters + ahead);
		assert_int_equal(answer(1), 0);
	}
	atomic_store(&header->letters, letters);
	assert_int_equal(answer(1), 0);

	claim_of(1, control(STREAMS)->key); /* in a loop */
	atomic_store(&control(STREAMS)->offer, shim_session_word(1, SHMIPC_OFFER_OPEN));
	atomic_store(&header->letter[letters % SHMIPC_LETTERS_ROOM], STREAMS);
	atomic_store(&header->letters, letters + 1);
	assert_int_equal(answer(1), 0);
	atomic_store(&header->letters, letters);
	assert_int_equal(answer(1), 0);

	stream = offer(1);
	assert_int_equal(answer(2), 0);
	control(stream)->key[8] ^= 1; /* learned, and then another one */
	assert_int_equal(answer(1), 0);
	control(stream)->key[8] ^= 1;
	atomic_fetch_add(&control(stream)->offer, 1 << 8);
	assert_int_equal(answer(1), 0);
	atomic_fetch_sub(&control(stream)->offer, 1 << 8);
	assert_int_equal(answer(1), stream);
	leave_both(stream);
}

/* The last holder may be another process than the one that hands the streams out. */
static void relative_leaves_last(int last, int first)
{
	struct shmipc_ring ring;
	uint32_t stream = 0;
	int status;
	pid_t pid;

	for (uint32_t i = 1; i < 5; i++) /* one that keeps no memory */
		stream = offer(i);
	assert_int_equal(answer(4), stream);
	assert_true(shim_session_answered(both.client, stream, 0));
	ring = shmipc_segment_ring(&both.segment, stream, 0);
	memset(ring.loop, 1, ring.ring_bytes);
	atomic_store(&control(stream)->direction[0].tx.tail, ring.ring_bytes);
	atomic_store(&control(stream)->direction[0].tx.flags, SHMIPC_TX_GROWN);
	shim_session_leave(first, stream);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		shim_session_leave(last, stream);
		_exit(0);
	}
	shim_session_release(last, stream);
	while ((atomic_load(&control(stream)->offer) & 0xff) != SHMIPC_OFFER_CLOSED ||
	       (atomic_load(&control(stream)->answer) & 0xff) != SHMIPC_ANSWER_CLOSED)
		;
	usleep(HEAD_START_US);
	atomic_store(&control(stream)->direction[0].tx.flags, 0); /* or we should wait for it */
	assert_int_equal(offer(9), stream);
	atomic_store(&control(stream)->direction[0].tx.tail, 3);
	ring.loop[ring.ring_bytes - 1] = 3;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(atomic_load(&control(stream)->direction[0].tx.tail), 3);
	assert_int_equal(ring.loop[ring.ring_bytes - 1], 3);
	for (uint32_t i = 1; i <= stream; i++)
		shim_session_withdraw(both.client, i);
}

static void clients_child_that_leaves_last_spoils_nothing(void **state)
{
	(void)state;
	relative_leaves_last(both.client, both.server);
}

static void servers_child_that_leaves_last_spoils_nothing(void **state)
{
	(void)state;
	relative_leaves_last(both.server, both.client);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, begin, end)
	const struct CMUnitTest tests[] = {
		EACH(each_finds_its_own),
		EACH(withdrawn_offer_comes_back),
		EACH(late_server_finds_all),
		EACH(foreign_letters_are_harmless),
		EACH(clients_child_that_leaves_last_spoils_nothing),
		EACH(servers_child_that_leaves_last_spoils_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
