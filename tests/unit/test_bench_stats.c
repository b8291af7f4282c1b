/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tools/bench/stats.c tools/bench/pattern.c tools/bench/shimlog.c tools/bench/rows.c
/* The arithmetic of shmipc-bench: order statistics, payload patterns, names and the shim's account.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bench/pattern.h"
#include "tools/bench/rows.h"
#include "tools/bench/shimlog.h"
#include "tools/bench/stats.h"

enum { MANY = 1000 };

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*state >> 33);
}

static void percentile_of_nothing_and_of_one(void **state)
{
	uint32_t one = 7;

	(void)state;
	assert_int_equal(stats_percentile(NULL, 0, 500), 0);
	assert_int_equal(stats_percentile(&one, 1, 0), 7);
	assert_int_equal(stats_percentile(&one, 1, 500), 7);
	assert_int_equal(stats_percentile(&one, 1, 1000), 7);
}

static void percentile_by_nearest_rank(void **state)
{
	uint32_t samples[MANY];

	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		samples[i] = MANY - i; /* 1000 .. 1 */
	assert_int_equal(stats_percentile(samples, MANY, 500), 500);
	assert_int_equal(stats_percentile(samples, MANY, 990), 990);
	assert_int_equal(stats_percentile(samples, MANY, 999), 999);
	assert_int_equal(stats_percentile(samples, MANY, 1000), 1000);
	assert_int_equal(stats_percentile(samples, MANY, 0), 1);
}

/* Against a sort, for many lengths, few and many distinct values. */
static void percentile_agrees_with_a_sort(void **state)
{
	uint32_t samples[MANY], sorted[MANY];
	uint64_t seed = 1;

	(void)state;
	for (size_t count = 1; count < MANY; count += 1 + count / 8)
		for (uint32_t distinct = 1; distinct < 1u << 30; distinct *= 7) {
			for (size_t i = 0; i < count; i++)
				sorted[i] = samples[i] = next_random(&seed) % distinct;
			qsort(sorted, count, sizeof(sorted[0]), compare);
			for (unsigned int p = 0; p <= 1000; p += 37) {
				size_t rank = (count * p + 999) / 1000;

				assert_int_equal(stats_percentile(samples, count, p),
						 sorted[rank ? rank - 1 : 0]);
			}
		}
}

static void percentile_of_a_million_equal_samples(void **state)
{
	size_t count = 1000000;
	uint32_t *samples = calloc(count, sizeof(samples[0]));

	(void)state;
	assert_non_null(samples);
	assert_int_equal(stats_percentile(samples, count, 500), 0);
	samples[17] = 9;
	assert_int_equal(stats_percentile(samples, count, 1000), 9);
	assert_int_equal(stats_percentile(samples, count, 999), 0);
	free(samples);
}

static void medians(void **state)
{
	double odd[] = { 9, 1, 5 }, even[] = { 4, 1, 3, 2 };

	(void)state;
	assert_true(stats_median(odd, 3) == 5);
	assert_true(stats_median(even, 4) == 2.5);
	assert_true(isnan(stats_median(odd, 0)));
	assert_true(stats_min(even, 4) == 1);
	assert_true(isnan(stats_min(even, 0)));
}

/* Every single flipped bit of a message is seen, at every length. */
static void a_changed_message_is_seen(void **state)
{
	unsigned char *message = pattern_buffer(512);

	(void)state;
	assert_non_null(message);
	for (size_t bytes = 8; bytes <= 512; bytes += 8) {
		pattern_fill(message, bytes, bytes);
		assert_true(pattern_check(message, bytes, bytes));
		assert_false(pattern_check(message, bytes, bytes + 1));
		for (size_t at = 0; at < bytes; at++) {
			message[at] ^= 0x10;
			assert_false(pattern_check(message, bytes, bytes));
			message[at] ^= 0x10;
		}
	}
	free(message);
}

/* However a stream is cut up, right bytes pass, and bytes one stride away from their place do not.
 */
static void a_stream_is_verified_by_position(void **state)
{
	enum { BYTES = 4096 };
	unsigned char *stream = pattern_buffer(BYTES), piece[BYTES];
	uint64_t start = (1ULL << 32) - 2048;
	size_t stride = pattern_stride(64);

	(void)state;
	assert_non_null(stream);
	assert_int_equal(stride, 64);
	pattern_stamp(stream, BYTES, start, stride);
	for (size_t from = 0; from < 200; from++)
		for (size_t bytes = 1; bytes < 300; bytes += 13) {
			memcpy(piece, stream + from, bytes);
			assert_true(pattern_verify(piece, bytes, start + from, stride));
		}
	assert_false(pattern_verify(stream, BYTES, start + 64, stride));
	memmove(stream + 128, stream + 192, BYTES - 192); /* 64 bytes were lost */
	assert_false(pattern_verify(stream, BYTES, start, stride));
	free(stream);
}

static void strides_divide_the_message(void **state)
{
	(void)state;
	assert_int_equal(pattern_stride(8), 8);
	assert_int_equal(pattern_stride(24), 8);
	assert_int_equal(pattern_stride(96), 32);
	assert_int_equal(pattern_stride(1 << 20), 256);
}

static void sizes_and_rows(void **state)
{
	char name[16];

	(void)state;
	assert_int_equal(bench_parse_size("64"), 64);
	assert_int_equal(bench_parse_size("4K"), 4096);
	assert_int_equal(bench_parse_size("1m"), 1 << 20);
	assert_int_equal(bench_parse_size("65M"), 0);
	assert_int_equal(bench_parse_size("7"), 0);
	assert_int_equal(bench_parse_size("-8"), 0);
	assert_int_equal(bench_parse_size("8x"), 0);
	assert_int_equal(bench_parse_size(""), 0);
	bench_size_name(1 << 20, name);
	assert_string_equal(name, "1M");
	bench_size_name(1536, name);
	assert_string_equal(name, "1536");
	assert_true(bench_row_matches("pingpong.tcp.block", "rate.*,pingpong.*.block"));
	assert_false(bench_row_matches("pingpong.tcp.block", "rate.*,pingpong"));
}

static void the_account_counts_each_byte_once(void **state)
{
	static const char log
		[] = "shmipc: pid=1 fd=5 endpoint=tcp:127.0.0.1:1 role=client event=accelerated\n"
		     "shmipc: pid=1 fd=5 endpoint=tcp:127.0.0.1:1 role=client event=closed "
		     "state=accelerated ring_tx=100 ring_rx=40 kernel_tx=7 kernel_rx=2 tokens=0\n"
		     "shmipc: pid=2 fd=4 endpoint=tcp:127.0.0.1:1 role=server event=closed "
		     "state=accelerated ring_tx=40 ring_rx=100 kernel_tx=2 kernel_rx=7 tokens=0\n";
	char path[] = "/tmp/shmipc-test.XXXXXX";
	uint64_t ring, kernel;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, log, sizeof(log) - 1), sizeof(log) - 1);
	close(fd);
	shimlog_sum(path, &ring, &kernel);
	assert_int_equal(ring, 140);
	assert_int_equal(kernel, 9);
	unlink(path);
	shimlog_sum(path, &ring, &kernel);
	assert_int_equal(ring + kernel, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percentile_of_nothing_and_of_one),
		cmocka_unit_test(percentile_by_nearest_rank),
		cmocka_unit_test(percentile_agrees_with_a_sort),
		cmocka_unit_test(percentile_of_a_million_equal_samples),
		cmocka_unit_test(medians),
		cmocka_unit_test(a_changed_message_is_seen),
		cmocka_unit_test(a_stream_is_verified_by_position),
		cmocka_unit_test(strides_divide_the_message),
		cmocka_unit_test(sizes_and_rows),
		cmocka_unit_test(the_account_counts_each_byte_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
