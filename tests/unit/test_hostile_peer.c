/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* Senders and receivers among words that a lying peer writes: they may say anything, but return and
 * stay inside the ring. */
#include "tests/unit/conversation.h"

#include "core/spin.h"

/* ---- what lies beside the ring ---- */

enum { BESIDE = 0xee }; /* is in nothing that is sent */

static void mark_beside(void)
{
	const struct shmipc_ring *other = &pair.server.tx.ring;

	memset(other->lead, BESIDE, other->lead_bytes);
	memset(other->loop, BESIDE, RING_BYTES);
	memset(out, 'x', BIG);
}

static void nothing_was_written_beside(void)
{
	const struct shmipc_ring *other = &pair.server.tx.ring;

	for (size_t i = 0; i < RING_BYTES; i++)
		assert_int_equal(other->loop[i], BESIDE);
	for (size_t i = 0; i < other->lead_bytes; i++)
		assert_int_equal(other->lead[i], BESIDE);
}

static void nothing_was_read_beside(ssize_t n)
{
	assert_true(n <= 0 || !memchr(in, BESIDE, (size_t)n));
}

/* ---- peers that lie ---- */

/* A receiver among hostile words: it may say anything, but it returns and stays inside the ring. */
static void hostile_sender(void)
{
	struct shmipc_tx_line *tx = &pair.control->direction[0].tx;
	uint64_t random = 12345;

	mark_beside();
	pair_consent(&pair);
	shmipc_spin_set_budget(0);
	for (int i = 0; i < 3000; i++) {
		uint64_t wild = pair_random(&random) & 1 ? (uint64_t)pair_random(&random) << 32
							 : pair_random(&random) % 10000 - 5000;
		ssize_t n;

		switch (pair_random(&random) % 7) {
		case 0:
			atomic_store(&tx->tail, wild);
			break;
		case 1:
			atomic_store(&tx->base, wild);
			break;
		case 2:
			atomic_store(&tx->cut, wild);
			break;
		case 3:
			atomic_store(&tx->phase, (uint32_t)wild);
			break;
		case 4:
			atomic_store(&tx->tokens_promised, (uint32_t)wild);
			break;
		case 5:
			atomic_store(&tx->flags, (uint32_t)wild & ~(uint32_t)SHMIPC_TX_CUTTING);
			break;
		default:
			(void)!send(pair.client.fd, "wLwwwwLLx", 9, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		n = end_receive(&pair.server, in, 1 + pair_random(&random) % BIG,
				MSG_DONTWAIT | (pair_random(&random) & 1 ? MSG_PEEK : 0));
		nothing_was_read_beside(n);
		shmipc_receiver_readable(&pair.server.rx, pair.server.fd, false);
		shmipc_receiver_pending(&pair.server.rx, pair.server.fd, false);
		shmipc_receiver_hint(&pair.server.rx);
	}
	shmipc_spin_set_budget(50);
}
BOTH(hostile_sender)

static void hostile_receiver(void)
{
	struct shmipc_direction *d = &pair.control->direction[0];
	uint64_t random = 54321;

	mark_beside();
	pair_consent(&pair);
	shmipc_spin_set_budget(0);
	for (int i = 0; i < 3000; i++) {
		uint64_t wild = pair_random(&random) & 1 ? (uint64_t)pair_random(&random) << 32
							 : pair_random(&random) % 10000 - 5000;

		switch (pair_random(&random) % 4) {
		case 0:
			atomic_store(&d->rx.head, wild);
			break;
		case 1:
			atomic_store(&d->rx.phase, (uint32_t)wild);
			break;
		case 2:
			atomic_store(&d->rx.tokens_taken, (uint32_t)wild);
			break;
		default:
			atomic_store(&d->wait.want,
				     i < 2000 ? (uint32_t)wild & ~(uint32_t)(SHMIPC_WANT_STOPPED |
									     SHMIPC_WANT_CLOSED)
					      : (uint32_t)wild);
		}
		end_send(&pair.client, out, 1 + pair_random(&random) % BIG, MSG_DONTWAIT);
		shmipc_sender_serve(&pair.client.tx, pair.client.fd, false);
		(void)!recv(pair.server.fd, in, BIG, MSG_DONTWAIT);
	}
	nothing_was_written_beside();
	shmipc_spin_set_budget(50);
}
BOTH(hostile_receiver)

/* Only the positions lie, so that the ring is used to the last. */
static uint64_t wild_position(uint64_t *random, uint64_t near)
{
	switch (pair_random(random) % 4) {
	case 0:
		return (uint64_t)pair_random(random) << 32 | pair_random(random);
	case 1:
		return near + pair_random(random) % RING_BYTES;
	default:
		return near + pair_random(random) % (8 * RING_BYTES) - 4 * RING_BYTES;
	}
}

static void wild_tail_and_base(void)
{
	struct shmipc_tx_line *tx = &pair.control->direction[0].tx;
	uint64_t random = 777;

	mark_beside();
	pair_consent(&pair);
	say(1, 0);
	hear(1, 1);
	for (int i = 0; i < 3000; i++) {
		uint64_t head = atomic_load(&pair.control->direction[0].rx.head);

		atomic_store(&tx->tail, wild_position(&random, head));
		atomic_store(&tx->base, wild_position(&random, head));
		nothing_was_read_beside(end_receive(&pair.server, in,
						    1 + pair_random(&random) % BIG, MSG_DONTWAIT));
		assert_true(shmipc_receiver_pending(&pair.server.rx, pair.server.fd, false) <=
			    RING_BYTES);
	}
	assert_true(atomic_load(&pair.control->direction[0].rx.head) > 100 * RING_BYTES);
}
BOTH(wild_tail_and_base)

static void wild_head(void)
{
	struct shmipc_direction *d = &pair.control->direction[0];
	uint64_t random = 888;

	mark_beside();
	pair_consent(&pair);
	shmipc_spin_set_budget(0);
	atomic_store(&d->wait.want, 0);
	for (int i = 0; i < 3000; i++) {
		atomic_store(&d->rx.phase, atomic_load(&d->tx.phase)); /* it may come back */
		atomic_store(&d->rx.head,
			     wild_position(&random, atomic_load(&d->tx.tail) - RING_BYTES));
		end_send(&pair.client, out, 1 + pair_random(&random) % BIG, MSG_DONTWAIT);
		while (recv(pair.server.fd, in, BIG, MSG_DONTWAIT) > 0)
			;
	}
	assert_true(pair.client.tx.tail > 100 * RING_BYTES);
	nothing_was_written_beside();
	shmipc_spin_set_budget(50);
}
BOTH(wild_head)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(hostile_sender),
		TESTS(hostile_receiver),
		TESTS(wild_tail_and_base),
		TESTS(wild_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
