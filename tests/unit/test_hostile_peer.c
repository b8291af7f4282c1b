/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/conversation.c
/* Senders and receivers among words that a lying peer writes: they may say anything, but return and
 * stay inside the ring. */
#include "tests/unit/conversation.h"

#include "core/spin.h"

/* ---- peers that lie ---- */

/* A receiver among hostile words: it may say anything, but it returns and stays inside the ring. */
static void hostile_sender(void)
{
	struct shmipc_tx_line *tx = &pair.control->direction[0].tx;
	uint64_t random = 12345;

	pair_consent(&pair);
	shmipc_spin_set_budget(0);
	for (int i = 0; i < 3000; i++) {
		uint64_t wild = pair_random(&random) & 1 ? (uint64_t)pair_random(&random) << 32
							 : pair_random(&random) % 10000 - 5000;

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
		end_receive(&pair.server, in, 1 + pair_random(&random) % BIG,
			    MSG_DONTWAIT | (pair_random(&random) & 1 ? MSG_PEEK : 0));
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
	shmipc_spin_set_budget(50);
}
BOTH(hostile_receiver)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(hostile_sender),
		TESTS(hostile_receiver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
