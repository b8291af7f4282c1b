/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ipc/golden.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const char *which)
{
	fprintf(stderr, "golden: %s: %s\n", what, which);
	abort();
}

static uint8_t *slurp(FILE *file, size_t *size)
{
	size_t room = 1 << 20;
	uint8_t *bytes = malloc(room);
	size_t n;

	*size = 0;
	while (bytes && (n = fread(bytes + *size, 1, room - *size, file)) > 0) {
		*size += n;
		if (*size == room)
			bytes = realloc(bytes, room *= 2);
	}
	if (!bytes)
		die("no memory", "");
	return bytes;
}

struct golden_image golden_image(const char *scenario, const char *snapshot, const char *kind)
{
	struct golden_image image;
	char command[512];
	FILE *file;

	snprintf(command, sizeof(command), "gzip -dc " GOLDEN_ROOT "%s/%s.%s.bin.gz", scenario,
		 snapshot, kind);
	file = popen(command, "r");
	if (!file)
		die("popen", command);
	image.bytes = slurp(file, &image.size);
	if (pclose(file) != 0 || image.size == 0)
		die("no such image", command);
	return image;
}

struct golden_facts golden_facts(const char *scenario, const char *snapshot)
{
	struct golden_facts facts;
	char path[512];
	size_t size;
	FILE *file;

	snprintf(path, sizeof(path), GOLDEN_ROOT "%s/%s.expect.txt", scenario, snapshot);
	file = fopen(path, "r");
	if (!file)
		die("no such file", path);
	facts.text = (char *)slurp(file, &size);
	facts.text[size] = 0;
	fclose(file);
	return facts;
}

void golden_free(struct golden_facts *facts)
{
	free(facts->text);
	facts->text = NULL;
}

const char *golden_text(const struct golden_facts *facts, const char *key)
{
	static char value[8192];
	size_t bytes = strlen(key);
	const char *at = facts->text;

	for (; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
		if (strncmp(at, key, bytes) == 0 && at[bytes] == '=') {
			snprintf(value, sizeof(value), "%.*s", (int)strcspn(at + bytes + 1, "\n"),
				 at + bytes + 1);
			return value;
		}
	return "";
}

long long golden_number(const struct golden_facts *facts, const char *format, ...)
{
	char key[128];
	const char *text;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(key, sizeof(key), format, arguments);
	va_end(arguments);
	text = golden_text(facts, key);
	if (!*text)
		die("no such key", key);
	return strtoll(text, NULL, 10);
}

void golden_config(const char *scenario, struct shmipc_config *config)
{
	static const struct shmipc_slice_class small[3] = { { 4076, 50 },
							    { 16364, 30 },
							    { 65516, 20 } };

	shmipc_config_init(config, sizeof(*config));
	config->cached_slices = 0; /* every slice through the lists, as it was recorded */
	if (strstr(scenario, "default32m"))
		return;
	config->buffer_bytes = 1 << 20;
	config->queue_capacity = strstr(scenario, "_full") ? 8 : 64;
	if (!strstr(scenario, "default1m"))
		memcpy(config->slice_classes, small, sizeof(small));
	if (strstr(scenario, "memfd"))
		config->memory = SHMIPC_MEMORY_MEMFD;
}

/* ---- decoding, by the description of the layout alone --------------------------------------- */

struct out {
	char *text;
	size_t used, room;
};

static void say(struct out *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct out *out, const char *format, ...)
{
	va_list arguments;

	if (out->room - out->used < 512) {
		out->room = out->room ? out->room * 2 : 65536;
		out->text = realloc(out->text, out->room);
		if (!out->text)
			die("no memory", "");
	}
	va_start(arguments, format);
	out->used += (size_t)vsnprintf(out->text + out->used, 512, format, arguments);
	va_end(arguments);
}

static uint32_t u32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return value;
}

static void decode_list(struct out *out, unsigned int n, const uint8_t *image, uint32_t *at)
{
	uint32_t header = *at, region = header + 36, count = u32(image + header + 4);
	uint32_t stride = u32(image + header + 16) + 20, slice = u32(image + header + 8), outs = 0;
	bool *is_free = calloc(count, sizeof(bool));

	say(out, "list.%u.size=%d\nlist.%u.cap=%u\n", n, (int)u32(image + header), n, count);
	say(out, "list.%u.head=%u\nlist.%u.tail=%u\n", n, slice, n, u32(image + header + 12));
	say(out, "list.%u.slice_capacity=%u\nlist.%u.stride=%u\n", n, stride - 20, n, stride);
	say(out, "list.%u.offset=%u\nlist.%u.region_offset=%u\n", n, header, n, region);
	say(out, "list.%u.creator_counter=%d\nlist.%u.mapper_counter=%d\n", n,
	    (int)u32(image + header + 20), n, (int)u32(image + header + 24));
	for (uint32_t i = 0; i < count && is_free; i++) {
		is_free[slice / stride] = true;
		if (!(image[region + slice + 16] & 1))
			break;
		slice = u32(image + region + slice + 12);
	}
	for (uint32_t i = 0; i < count && is_free; i++) {
		const uint8_t *s = image + region + i * stride;

		if (is_free[i])
			continue;
		say(out, "list.%u.out.%u.abs_offset=%u\n", n, outs, region + i * stride);
		say(out, "list.%u.out.%u.size=%u\n", n, outs, u32(s + 4));
		say(out, "list.%u.out.%u.start=%u\n", n, outs, u32(s + 8));
		say(out, "list.%u.out.%u.has_next=%u\n", n, outs, s[16] & 1u);
		outs++;
	}
	say(out, "list.%u.out=%u\n", n, outs);
	free(is_free);
	*at = region + count * stride;
}

static void decode_ring(struct out *out, unsigned int n, const uint8_t *ring, bool aligned)
{
	long long head, tail;
	uint32_t capacity = u32(ring);

	memcpy(&head, ring + (aligned ? 8 : 4), 8);
	memcpy(&tail, ring + (aligned ? 16 : 12), 8);
	say(out, "ring.%u.cap=%u\nring.%u.head=%lld\nring.%u.tail=%lld\n", n, capacity, n, head, n,
	    tail);
	say(out, "ring.%u.working_flag=%u\nring.%u.pending=%lld\n", n,
	    u32(ring + (aligned ? 4 : 20)), n, tail - head);
	for (long long i = head; i < tail && i < head + capacity; i++) {
		const uint8_t *e = ring + 24 + 12 * (i % capacity);

		say(out, "ring.%u.pending.%lld=%u %u %u\n", n, i - head, u32(e), u32(e + 4),
		    u32(e + 8));
	}
}

struct golden_facts golden_decode(const uint8_t *buffer, size_t buffer_bytes, const uint8_t *queue,
				  size_t queue_bytes, bool aligned)
{
	struct out out = { 0 };
	uint32_t at = 8, lists = buffer[0];

	say(&out, "buffer.file_size=%zu\nbuffer.list_count=%u\nbuffer.used_len=%u\n", buffer_bytes,
	    lists, u32(buffer + 4));
	for (unsigned int i = 0; i < lists; i++)
		decode_list(&out, i, buffer, &at);
	say(&out, "queue.file_size=%zu\n", queue_bytes);
	decode_ring(&out, 0, queue, aligned);
	decode_ring(&out, 1, queue + queue_bytes / 2, aligned);
	return (struct golden_facts){ out.text };
}
