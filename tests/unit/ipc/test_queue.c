/* SPDX-License-Identifier: Apache-2.0 */
/* The queue: across every wrap, asleep and awake, and with counters that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "core/ipc/queue.h"

static void set_counters(uint8_t *queue, enum shmipc_queue_layout layout, uint64_t value)
{
	memcpy(queue + (layout == SHMIPC_QUEUE_X86 ? 4 : 8), &value, 8);
	memcpy(queue + (layout == SHMIPC_QUEUE_X86 ? 12 : 16), &value, 8);
}

static uint64_t counter(const uint8_t *queue, enum shmipc_queue_layout layout, bool tail)
{
	uint64_t value;

	memcpy(&value, queue + (layout == SHMIPC_QUEUE_X86 ? 4 : 8) + (tail ? 8 : 0), 8);
	return value;
}

static void run_queue_from(uint32_t capacity, enum shmipc_queue_layout layout, uint64_t start)
{
	uint64_t bytes = shmipc_queue_mapping_bytes(capacity) / 2;
	uint8_t *memory = aligned_alloc(64, (2 * bytes + 63) / 64 * 64), *at = memory + bytes;
	struct shmipc_queue producer, consumer;
	uint32_t sent = 0, received = 0;

	memset(memory, 0, 2 * bytes);
	shmipc_queue_format(memory, capacity);
	set_counters(at, layout, start);
	assert_int_equal(shmipc_queue_attach(&producer, at, bytes, layout, true), 0);
	assert_int_equal(shmipc_queue_attach(&consumer, at, bytes, layout, false), 0);
	for (uint32_t round = 0; round < 3 * capacity + 7; round++) {
		struct shmipc_queue_element element;
		uint32_t burst = round % (capacity + 1);

		while (sent - received < burst) {
			element = (struct shmipc_queue_element){ sent, sent * 3, sent * 7 };
			assert_int_equal(shmipc_queue_put(&producer, &element), 0);
			sent++;
		}
		if (burst == capacity) {
			assert_int_equal(shmipc_queue_has_room(&producer), 0);
			assert_int_equal(shmipc_queue_put(&producer, &element), -EAGAIN);
		}
		assert_int_equal(shmipc_queue_available(&consumer), sent - received);
		for (uint32_t i = 0; received + i < sent; i++) {
			element = shmipc_queue_look(&consumer, i);
			assert_int_equal(element.stream, received + i);
			assert_int_equal(element.offset, (received + i) * 3);
			assert_int_equal(element.status, (received + i) * 7);
		}
		shmipc_queue_consume(&consumer, sent - received);
		received = sent;
		assert_true(shmipc_queue_is_drained(&producer));
		assert_int_equal(counter(at, layout, false), start + received);
		assert_int_equal(counter(at, layout, true), start + sent);
	}
	free(memory);
}

static void queues_work_across_every_wrap(void **state)
{
	static const uint32_t capacities[] = { 1, 2, 3, 8, 10, 64, 100 };
	static const uint64_t starts[] = { 0,
					   5,
					   UINT32_MAX - 2,
					   (UINT64_C(1) << 31) - 3,
					   (UINT64_C(7) << 32) - 1,
					   (UINT64_C(1) << 63) - 5 };

	(void)state;
	for (size_t c = 0; c < sizeof(capacities) / sizeof(capacities[0]); c++)
		for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++)
			for (int layout = 0; layout < 2; layout++)
				run_queue_from(capacities[c], (enum shmipc_queue_layout)layout,
					       starts[s]);
}

/* Both ends of the first queue of a mapping, which the caller frees. */
static uint8_t *make_queue(uint32_t capacity, struct shmipc_queue *producer,
			   struct shmipc_queue *consumer)
{
	uint64_t bytes = shmipc_queue_mapping_bytes(capacity) / 2;
	uint8_t *memory = calloc(2, bytes);

	shmipc_queue_format(memory, capacity);
	assert_int_equal(shmipc_queue_attach(producer, memory, bytes, SHMIPC_QUEUE_NATIVE, true),
			 0);
	assert_int_equal(shmipc_queue_attach(consumer, memory, bytes, SHMIPC_QUEUE_NATIVE, false),
			 0);
	return memory;
}

static void impossible_counters_are_noticed(void **state)
{
	uint64_t bytes = shmipc_queue_mapping_bytes(8) / 2;
	struct shmipc_queue_element element = { 1, 2, 3 };
	struct shmipc_queue producer, consumer;
	uint8_t *memory = make_queue(8, &producer, &consumer);
	uint32_t lie = 9;

	(void)state;
	*producer.own = lie;
	assert_int_equal(shmipc_queue_available(&consumer), -EPROTO);
	*producer.own = 0;
	for (int i = 0; i < 8; i++)
		assert_int_equal(shmipc_queue_put(&producer, &element), 0);
	*consumer.own = lie;
	assert_int_equal(shmipc_queue_put(&producer, &element), -EPROTO);
	*consumer.own = 0;
	*producer.own = 9;
	assert_int_equal(shmipc_queue_attach(&consumer, memory, bytes, SHMIPC_QUEUE_NATIVE, false),
			 -EPROTO);
	assert_int_equal(
		shmipc_queue_attach(&consumer, memory, bytes - 12, SHMIPC_QUEUE_NATIVE, false),
		-EPROTO);
	memset(memory, 0, 4);
	assert_int_equal(shmipc_queue_attach(&consumer, memory, bytes, SHMIPC_QUEUE_NATIVE, false),
			 -EPROTO);
	free(memory);
}

static void one_wake_up_for_many_elements(void **state)
{
	struct shmipc_queue_element element = { 1, 2, 3 };
	struct shmipc_queue producer, consumer;
	uint8_t *memory = make_queue(8, &producer, &consumer);

	(void)state;
	shmipc_queue_put(&producer, &element);
	assert_true(shmipc_queue_must_wake(&producer));
	shmipc_queue_put(&producer, &element);
	assert_false(shmipc_queue_must_wake(&producer));
	assert_false(shmipc_queue_rest(&consumer)); /* something is there */
	assert_int_equal(*consumer.working, 1);
	shmipc_queue_consume(&consumer, (uint32_t)shmipc_queue_available(&consumer));
	assert_true(shmipc_queue_rest(&consumer));
	shmipc_queue_put(&producer, &element);
	assert_true(shmipc_queue_must_wake(&producer));
	shmipc_queue_consume(&consumer, (uint32_t)shmipc_queue_available(&consumer));
	shmipc_queue_rest(&consumer);
	shmipc_queue_stay_awake(&consumer);
	shmipc_queue_put(&producer, &element);
	assert_false(shmipc_queue_must_wake(&producer));
	free(memory);
}

static void a_dead_consumers_elements_come_back(void **state)
{
	struct shmipc_queue_element element = { 0, 0, 0 };
	struct shmipc_queue producer, consumer;
	uint8_t *memory = make_queue(4, &producer, &consumer);

	(void)state;
	for (uint32_t i = 0; i < 7; i++) {
		element.stream = i;
		assert_int_equal(shmipc_queue_put(&producer, &element), 0);
		if (i < 3)
			shmipc_queue_consume(&consumer, 1);
	}
	assert_int_equal(shmipc_queue_has_room(&producer), 0); /* looks at the counter */
	for (uint32_t i = 3; i < 7; i++) {
		assert_true(shmipc_queue_take_back(&producer, &element));
		assert_int_equal(element.stream, i);
	}
	assert_false(shmipc_queue_take_back(&producer, &element));
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queues_work_across_every_wrap),
		cmocka_unit_test(impossible_counters_are_noticed),
		cmocka_unit_test(one_wake_up_for_many_elements),
		cmocka_unit_test(a_dead_consumers_elements_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
