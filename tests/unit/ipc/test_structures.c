/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/golden.c
/* Pool and queue against the recorded images, and against everything a peer may do to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>

#include "core/ipc/pool.h"
#include "core/ipc/queue.h"
#include "tests/unit/ipc/golden.h"

enum { SNAPSHOTS = 112, NAME_ROOM = 128 };

typedef void (*visitor)(const char *scenario, const char *snapshot);

/* Every snapshot of every scenario. */
static unsigned int for_each_snapshot(visitor visit)
{
	char scenario[NAME_ROOM], snapshot[NAME_ROOM], path[2 * NAME_ROOM];
	unsigned int count = 0;
	struct dirent *outer, *inner;
	DIR *root = opendir(GOLDEN_ROOT), *dir;

	assert_non_null(root);
	while ((outer = readdir(root)) != NULL) {
		if (outer->d_name[0] == '.' || outer->d_type == DT_REG)
			continue;
		snprintf(scenario, sizeof(scenario), "%.100s", outer->d_name);
		snprintf(path, sizeof(path), GOLDEN_ROOT "%s", scenario);
		dir = opendir(path);
		assert_non_null(dir);
		while ((inner = readdir(dir)) != NULL) {
			char *end = strstr(inner->d_name, ".expect.txt");

			if (!end)
				continue;
			snprintf(snapshot, sizeof(snapshot), "%.*s", (int)(end - inner->d_name),
				 inner->d_name);
			visit(scenario, snapshot);
			count++;
		}
		closedir(dir);
	}
	closedir(root);
	return count;
}

static enum shmipc_queue_layout layout_of(const char *scenario)
{
	return strncmp(scenario, "arm64", 5) == 0 ? SHMIPC_QUEUE_ALIGNED : SHMIPC_QUEUE_X86;
}

/* ---- what we create ------------------------------------------------------------------------- */

static void created_alike(const char *scenario, const char *snapshot)
{
	struct golden_image buffer, queue;
	struct shmipc_config config;
	struct shmipc_pool pool;
	uint8_t *made;

	if (strcmp(snapshot, "00_init") != 0)
		return;
	golden_config(scenario, &config);
	buffer = golden_image(scenario, snapshot, "buffer");
	queue = golden_image(scenario, snapshot, "queue");
	assert_int_equal(buffer.size, config.buffer_bytes);
	made = calloc(1, buffer.size);
	assert_int_equal(shmipc_pool_format(&pool, made, config.buffer_bytes, config.slice_classes,
					    config.slice_class_count),
			 0);
	assert_memory_equal(made, buffer.bytes, buffer.size);
	shmipc_pool_detach(&pool);
	free(made);
	assert_int_equal(queue.size, shmipc_queue_mapping_bytes(config.queue_capacity));
	made = calloc(1, queue.size);
	shmipc_queue_format(made, config.queue_capacity);
	assert_memory_equal(made, queue.bytes, queue.size);
	free(made);
	free(buffer.bytes);
	free(queue.bytes);
}

static void fresh_mappings_are_byte_identical(void **state)
{
	(void)state;
	for_each_snapshot(created_alike);
}

/* ---- what we read --------------------------------------------------------------------------- */

static void check_message(struct shmipc_pool *pool, const struct golden_facts *facts,
			  unsigned int n, uint32_t offset)
{
	struct shmipc_slice_content content;
	long long payload = golden_number(facts, "msg.%u.payload_len", n), seen = 0, slices = 0;
	unsigned int at, capacity, bytes, start, next, flags;
	char key[64];

	assert_int_equal(golden_number(facts, "msg.%u.offset", n), offset);
	while (offset) {
		snprintf(key, sizeof(key), "msg.%u.slice.%lld", n, slices++);
		assert_int_equal(sscanf(golden_text(facts, key), "%u %u %u %u %u %u", &at,
					&capacity, &bytes, &start, &next, &flags),
				 6);
		assert_int_equal(at, offset);
		assert_int_equal(shmipc_pool_adopt(pool, offset, &content), 0);
		assert_int_equal(content.bytes, bytes);
		assert_int_equal(content.start, start);
		assert_int_equal(content.next, flags & 1 ? next : 0);
		assert_int_equal(pool->lists[content.slice.list].capacity, capacity);
		for (uint32_t i = 0; i < content.bytes; i++)
			assert_int_equal(
				shmipc_slice_payload(pool, content.slice)[content.start + i],
				golden_byte((size_t)seen + i));
		seen += content.bytes;
		/* a second time it is ours already */
		assert_int_equal(shmipc_pool_adopt(pool, offset, &content), -EPROTO);
		offset = content.next;
	}
	assert_int_equal(seen, payload);
	assert_int_equal(slices, golden_number(facts, "msg.%u.slices", n));
}

static void check_lists(const struct shmipc_pool *pool, const struct golden_facts *facts)
{
	long long counters = 0;

	assert_int_equal(pool->list_count, golden_number(facts, "buffer.list_count"));
	for (unsigned int i = 0; i < pool->list_count; i++) {
		const struct shmipc_pool_list *list = &pool->lists[i];

		assert_int_equal(list->header, golden_number(facts, "list.%u.offset", i));
		assert_int_equal(list->region, golden_number(facts, "list.%u.region_offset", i));
		assert_int_equal(list->stride, golden_number(facts, "list.%u.stride", i));
		assert_int_equal(list->count, golden_number(facts, "list.%u.cap", i));
		assert_int_equal(list->capacity, golden_number(facts, "list.%u.slice_capacity", i));
		counters += golden_number(facts, "list.%u.creator_counter", i) +
			    golden_number(facts, "list.%u.mapper_counter", i);
	}
	assert_int_equal(shmipc_pool_outstanding(pool), counters);
}

static unsigned int check_ring(struct shmipc_pool *pool, const struct golden_facts *facts,
			       struct golden_image *image, unsigned int n, unsigned int message,
			       enum shmipc_queue_layout layout)
{
	uint8_t *at = image->bytes + n * (image->size / 2);
	struct shmipc_queue consumer, producer;
	unsigned int stream, offset, status;
	char key[64];

	assert_int_equal(shmipc_queue_attach(&consumer, at, image->size / 2, layout, false), 0);
	assert_int_equal(shmipc_queue_attach(&producer, at, image->size / 2, layout, true), 0);
	assert_int_equal(consumer.capacity, golden_number(facts, "ring.%u.cap", n));
	assert_int_equal(consumer.position, golden_number(facts, "ring.%u.head", n));
	assert_int_equal(producer.position, golden_number(facts, "ring.%u.tail", n));
	assert_int_equal(*consumer.working, golden_number(facts, "ring.%u.working_flag", n));
	assert_int_equal(shmipc_queue_available(&consumer),
			 golden_number(facts, "ring.%u.pending", n));
	for (unsigned int i = 0; i < golden_number(facts, "ring.%u.pending", n); i++) {
		struct shmipc_queue_element element = shmipc_queue_look(&consumer, i);

		snprintf(key, sizeof(key), "ring.%u.pending.%u", n, i);
		assert_int_equal(
			sscanf(golden_text(facts, key), "%u %u %u", &stream, &offset, &status), 3);
		assert_int_equal(element.stream, stream);
		assert_int_equal(element.offset, offset);
		assert_int_equal(element.status, status);
		if ((status & 0xff) == 0)
			check_message(pool, facts, message++, offset);
	}
	return message;
}

static void read_alike(const char *scenario, const char *snapshot)
{
	struct golden_image buffer = golden_image(scenario, snapshot, "buffer");
	struct golden_image queue = golden_image(scenario, snapshot, "queue");
	struct golden_facts facts = golden_facts(scenario, snapshot);
	struct shmipc_pool pool;
	unsigned int messages;

	assert_int_equal(shmipc_pool_attach(&pool, buffer.bytes, (uint32_t)buffer.size), 0);
	check_lists(&pool, &facts);
	messages = check_ring(&pool, &facts, &queue, 0, 0, layout_of(scenario));
	check_ring(&pool, &facts, &queue, 1, messages, layout_of(scenario));
	shmipc_pool_detach(&pool);
	golden_free(&facts);
	free(buffer.bytes);
	free(queue.bytes);
}

static void recorded_mappings_are_understood(void **state)
{
	(void)state;
	assert_int_equal(for_each_snapshot(read_alike), SNAPSHOTS);
}

/* The test's own decoder says what the recorded values say: the replay test leans on it. */
static void decoded_alike(const char *scenario, const char *snapshot)
{
	struct golden_image buffer = golden_image(scenario, snapshot, "buffer");
	struct golden_image queue = golden_image(scenario, snapshot, "queue");
	struct golden_facts facts = golden_facts(scenario, snapshot);
	struct golden_facts mine = golden_decode(buffer.bytes, buffer.size, queue.bytes, queue.size,
						 layout_of(scenario) == SHMIPC_QUEUE_ALIGNED);
	char key[64], value[NAME_ROOM];
	unsigned int compared = 0;

	for (const char *at = mine.text; *at; at = strchr(at, '\n') + 1) {
		assert_int_equal(sscanf(at, "%63[^=]=%127[^\n]", key, value), 2);
		/* of many slices in use only the number is recorded */
		if (!*golden_text(&facts, key))
			continue;
		assert_string_equal(golden_text(&facts, key), value);
		compared++;
	}
	assert_true(compared > 40);
	golden_free(&mine);
	golden_free(&facts);
	free(buffer.bytes);
	free(queue.bytes);
}

static void the_tests_own_decoder_agrees(void **state)
{
	(void)state;
	for_each_snapshot(decoded_alike);
}

/* ---- pool ----------------------------------------------------------------------------------- */

static const struct shmipc_slice_class three[] = { { 1000, 50 }, { 4000, 30 }, { 16000, 20 } };

struct two_sides {
	uint8_t *memory;
	struct shmipc_pool creator, mapper;
};

enum { POOL_BYTES = 1 << 20 };

static int make_sides(void **state)
{
	struct two_sides *sides = calloc(1, sizeof(*sides));

	sides->memory = calloc(1, POOL_BYTES);
	assert_int_equal(shmipc_pool_format(&sides->creator, sides->memory, POOL_BYTES, three, 3),
			 0);
	assert_int_equal(shmipc_pool_attach(&sides->mapper, sides->memory, POOL_BYTES), 0);
	*state = sides;
	return 0;
}

static int free_sides(void **state)
{
	struct two_sides *sides = *state;

	shmipc_pool_detach(&sides->creator);
	shmipc_pool_detach(&sides->mapper);
	free(sides->memory);
	free(sides);
	return 0;
}

static void the_last_slice_is_never_handed_out(void **state)
{
	struct two_sides *sides = *state;
	struct shmipc_slice slice, taken[2048];
	uint32_t count = sides->creator.lists[0].count, n = 0;

	while (shmipc_pool_take(n % 2 ? &sides->creator : &sides->mapper, 0, &slice) == 0)
		taken[n++] = slice;
	assert_int_equal(n, count - 1);
	assert_int_equal(shmipc_pool_outstanding(&sides->creator), n);
	for (uint32_t i = 0; i < n; i++)
		shmipc_pool_give(i % 2 ? &sides->creator : &sides->mapper, taken[i]);
	assert_int_equal(shmipc_pool_outstanding(&sides->creator), 0);
	assert_int_equal(shmipc_pool_in_use(&sides->creator), 0);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(shmipc_pool_take(&sides->creator, 0, &slice), 0);
	assert_int_equal(shmipc_pool_take(&sides->creator, 0, &slice), -ENOBUFS);
}

static void a_chain_goes_from_side_to_side(void **state)
{
	struct two_sides *sides = *state;
	struct shmipc_slice first, second;
	struct shmipc_slice_content content;

	assert_int_equal(shmipc_pool_take(&sides->creator, 0, &first), 0);
	assert_int_equal(shmipc_pool_take(&sides->creator, 2, &second), 0);
	shmipc_pool_seal(&sides->creator, second, 16000, 0);
	shmipc_pool_seal(&sides->creator, first, 7, second.offset);
	shmipc_pool_disown(&sides->creator, first);
	shmipc_pool_disown(&sides->creator, second);
	assert_int_equal(shmipc_pool_adopt(&sides->mapper, first.offset, &content), 0);
	assert_int_equal(content.bytes, 7);
	assert_int_equal(content.next, second.offset);
	assert_int_equal(shmipc_pool_adopt(&sides->mapper, content.next, &content), 0);
	assert_int_equal(content.bytes, 16000);
	assert_int_equal(content.next, 0); /* whatever stands in the stale word */
	assert_int_equal(content.slice.list, 2);
	shmipc_pool_give(&sides->mapper, first);
	shmipc_pool_give(&sides->mapper, content.slice);
	assert_int_equal(shmipc_pool_outstanding(&sides->mapper), 0);
}

static void offsets_that_are_no_slice_are_refused(void **state)
{
	struct two_sides *sides = *state;
	const struct shmipc_pool_list *list = &sides->mapper.lists[1];
	struct shmipc_slice_content content;
	const uint32_t bad[] = { 0,
				 8,
				 list->region - 1,
				 list->region + 1,
				 list->region + 4,
				 list->region + list->stride * list->count,
				 POOL_BYTES - 1,
				 POOL_BYTES,
				 UINT32_MAX - 3,
				 UINT32_MAX };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(shmipc_pool_adopt(&sides->mapper, bad[i], &content), -EPROTO);
}

static void sizes_beyond_the_slice_are_refused(void **state)
{
	struct two_sides *sides = *state;
	uint32_t slice = sides->mapper.lists[0].region;
	struct shmipc_slice_content content;
	static const uint32_t bad[][2] = { { 1001, 0 },	      { 1000, 1 },
					   { 1, 1000 },	      { UINT32_MAX, 0 },
					   { 0, 1001 },	      { 1, UINT32_MAX },
					   { UINT32_MAX, 2 }, { 500, UINT32_MAX - 400 } };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memcpy(sides->memory + slice + 4, bad[i], 8);
		assert_int_equal(shmipc_pool_adopt(&sides->mapper, slice, &content), -EPROTO);
	}
}

static void damaged_free_lists_end_no_process(void **state)
{
	struct two_sides *sides = *state;
	uint32_t header = sides->mapper.lists[0].header, seed = 1;
	struct shmipc_slice slice;

	for (int round = 0; round < 20000; round++) {
		uint32_t word;

		seed = seed * 1664525 + 1013904223;
		word = seed >> 28 == 0 ? seed : seed % 70000;
		memcpy(sides->memory + header + 4 * (seed >> 8) % 36 / 4 * 4, &word, 4);
		memcpy(sides->memory + sides->mapper.lists[0].region + (seed >> 4) % 60000 / 4 * 4,
		       &word, 4);
		if (shmipc_pool_take(&sides->mapper, 0, &slice) == 0)
			shmipc_pool_give(&sides->mapper, slice);
	}
}

static void impossible_pools_are_not_attached(void **state)
{
	struct two_sides *sides = *state;
	static const struct {
		uint32_t at, value;
	} bad[] = {
		{ 0, 0 },  { 0, 65 },	       { 4, POOL_BYTES },  { 4, UINT32_MAX }, { 12, 0 },
		{ 24, 0 }, { 24, UINT32_MAX }, { 12, UINT32_MAX }, { 24, 1002 },      { 4, 100 },
		{ 0, 4 }
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct shmipc_pool pool;
		uint8_t *copy = malloc(POOL_BYTES);

		memcpy(copy, sides->memory, POOL_BYTES);
		memcpy(copy + bad[i].at, &bad[i].value, 4);
		assert_int_equal(shmipc_pool_attach(&pool, copy, POOL_BYTES), -EPROTO);
		free(copy);
	}
}

enum { THREADS = 4, TURNS = 20000 };

static void *take_and_give(void *argument)
{
	struct shmipc_pool *pool = argument;
	struct shmipc_slice mine[8];
	unsigned int n = 0;

	for (unsigned int i = 0; i < TURNS; i++) {
		if (n < 8 && i % 3 && shmipc_pool_take(pool, 1, &mine[n]) == 0) {
			memset(shmipc_slice_payload(pool, mine[n]), (int)i, 64);
			n++;
		} else if (n > 0) {
			shmipc_pool_give(pool, mine[--n]);
		}
	}
	while (n > 0)
		shmipc_pool_give(pool, mine[--n]);
	return NULL;
}

static void slices_survive_a_crowd(void **state)
{
	struct two_sides *sides = *state;
	uint32_t n = 0, count = sides->creator.lists[1].count;
	pthread_t threads[THREADS];
	struct shmipc_slice slice;

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_and_give,
						i % 2 ? &sides->creator : &sides->mapper),
				 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(shmipc_pool_outstanding(&sides->creator), 0);
	while (shmipc_pool_take(&sides->creator, 1, &slice) == 0)
		n++;
	assert_int_equal(n, count - 1);
}

/* ---- queue ---------------------------------------------------------------------------------- */

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

static void impossible_counters_are_noticed(void **state)
{
	uint8_t *memory = calloc(1, shmipc_queue_mapping_bytes(8));
	uint64_t bytes = shmipc_queue_mapping_bytes(8) / 2;
	struct shmipc_queue_element element = { 1, 2, 3 };
	struct shmipc_queue producer, consumer;
	uint32_t lie = 9;

	(void)state;
	shmipc_queue_format(memory, 8);
	assert_int_equal(shmipc_queue_attach(&producer, memory, bytes, SHMIPC_QUEUE_NATIVE, true),
			 0);
	assert_int_equal(shmipc_queue_attach(&consumer, memory, bytes, SHMIPC_QUEUE_NATIVE, false),
			 0);
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
	uint8_t *memory = calloc(1, shmipc_queue_mapping_bytes(8));
	uint64_t bytes = shmipc_queue_mapping_bytes(8) / 2;
	struct shmipc_queue_element element = { 1, 2, 3 };
	struct shmipc_queue producer, consumer;

	(void)state;
	shmipc_queue_format(memory, 8);
	shmipc_queue_attach(&producer, memory, bytes, SHMIPC_QUEUE_NATIVE, true);
	shmipc_queue_attach(&consumer, memory, bytes, SHMIPC_QUEUE_NATIVE, false);
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
	uint8_t *memory = calloc(1, shmipc_queue_mapping_bytes(4));
	uint64_t bytes = shmipc_queue_mapping_bytes(4) / 2;
	struct shmipc_queue_element element = { 0, 0, 0 };
	struct shmipc_queue producer, consumer;

	(void)state;
	shmipc_queue_format(memory, 4);
	shmipc_queue_attach(&producer, memory, bytes, SHMIPC_QUEUE_NATIVE, true);
	shmipc_queue_attach(&consumer, memory, bytes, SHMIPC_QUEUE_NATIVE, false);
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
		cmocka_unit_test(fresh_mappings_are_byte_identical),
		cmocka_unit_test(recorded_mappings_are_understood),
		cmocka_unit_test(the_tests_own_decoder_agrees),
		cmocka_unit_test_setup_teardown(the_last_slice_is_never_handed_out, make_sides,
						free_sides),
		cmocka_unit_test_setup_teardown(a_chain_goes_from_side_to_side, make_sides,
						free_sides),
		cmocka_unit_test_setup_teardown(offsets_that_are_no_slice_are_refused, make_sides,
						free_sides),
		cmocka_unit_test_setup_teardown(sizes_beyond_the_slice_are_refused, make_sides,
						free_sides),
		cmocka_unit_test_setup_teardown(damaged_free_lists_end_no_process, make_sides,
						free_sides),
		cmocka_unit_test_setup_teardown(impossible_pools_are_not_attached, make_sides,
						free_sides),
		cmocka_unit_test_setup_teardown(slices_survive_a_crowd, make_sides, free_sides),
		cmocka_unit_test(queues_work_across_every_wrap),
		cmocka_unit_test(impossible_counters_are_noticed),
		cmocka_unit_test(one_wake_up_for_many_elements),
		cmocka_unit_test(a_dead_consumers_elements_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
