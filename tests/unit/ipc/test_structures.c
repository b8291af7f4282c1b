/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/golden.c
/* Pool and queue against the recorded images. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_mappings_are_byte_identical),
		cmocka_unit_test(recorded_mappings_are_understood),
		cmocka_unit_test(the_tests_own_decoder_agrees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
