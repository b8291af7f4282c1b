/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON reader: what RFC 8259 allows and nothing else, within the bytes given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "core/json.h"

enum { FUZZ_ROUNDS = 100000, WALK_ROOM = 64 };

static const char sample[] = "{\"a\": [1, 2.5e+3, -0, {\"b\": \"\\u00e9\\ud83d\\ude00\"}], "
			     "\"c\" : {}, \"d\":[], \"e\":true,\"f\":false,\"g\":null}\n";

/* Reads everything that was accepted by every reader there is. */
static void walk(const struct shmipc_json *value)
{
	struct shmipc_json_iterator iterator;
	struct shmipc_json name = { 0 }, element;
	char text[WALK_ROOM];
	uint64_t number;

	shmipc_json_string(value, text, sizeof(text));
	shmipc_json_string_is(value, "a");
	shmipc_json_uint(value, &number);
	if (shmipc_json_iterate(value, &iterator))
		return;
	while (shmipc_json_next(&iterator, &name, &element)) {
		if (value->type == SHMIPC_JSON_OBJECT)
			walk(&name);
		walk(&element);
	}
}

/* The text is copied to a block of just its size, where a sanitizer sees a read past the end. */
static int parse_bytes(const char *text, size_t bytes)
{
	char *exact = malloc(bytes ? bytes : 1);
	struct shmipc_json root;
	int result;

	assert_non_null(exact);
	memcpy(exact, text, bytes);
	result = shmipc_json_parse(exact, bytes, &root);
	if (result == 0)
		walk(&root);
	free(exact);
	return result;
}

static int parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static void accepts_what_the_standard_allows(void **state)
{
	static const char *const good[] = {
		"{}",
		"[]",
		" [ ] ",
		"\t{\r\n} ",
		"0",
		"-0",
		"10",
		"1.5",
		"1e9",
		"1E-9",
		"-1.25e+10",
		"\"\"",
		"true",
		"false",
		"null",
		"[1,2,3]",
		"{\"a\":1,\"b\":[{}]}",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"",
		"\"\\ud800\\udc00\"",
		"\"\xc3\xa9\"",
		"\"\xe2\x82\xac\"",
		"\"\xf0\x9f\x98\x80\"",
		"\"\x7f\"",
		"\"\\u0000\"",
		"{\"\":0}",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(parse(good[i]), 0);
	assert_int_equal(parse(sample), 0);
}

static const char *const bad[] = {
	"",
	" ",
	"{",
	"}",
	"[",
	"]",
	"[1",
	"[1,",
	"[1,]",
	"[,1]",
	"[1 2]",
	"{\"a\"}",
	"{\"a\":}",
	"{\"a\":1,}",
	"{,}",
	"{a:1}",
	"{1:1}",
	"{\"a\" 1}",
	"{\"a\":1 \"b\":2}",
	"[}",
	"{]",
	"01",
	"-",
	"+1",
	".5",
	"1.",
	"1e",
	"1e+",
	"0x1",
	"1_0",
	"NaN",
	"Infinity",
	"tru",
	"True",
	"nul",
	"\"",
	"\"a",
	"'a'",
	"\"\\\"",
	"\"\\x41\"",
	"\"\\u12\"",
	"\"\\u12g4\"",
	"\"\\ud800\"",
	"\"\\udc00\"",
	"\"\\ud800\\u0041\"",
	"\"\\ud800x\"",
	"\"\n\"",
	"\"\t\"",
	"\"\x01\"",
	"\"\x80\"",
	"\"\xc0\x80\"",
	"\"\xc3\"",
	"\"\xc3(\"",
	"\"\xe0\x80\x80\"",
	"\"\xed\xa0\x80\"",
	"\"\xf4\x90\x80\x80\"",
	"\"\xf5\x80\x80\x80\"",
	"\"\xff\"",
	"{} {}",
	"1 1",
	"// x\n1",
	"\v1",
	"\xef\xbb\xbf{}",
};

static void refuses_everything_else(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (parse(bad[i]) != -EBADMSG)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(parse_bytes("\"\0\"", 3), -EBADMSG);
	assert_int_equal(parse_bytes("{}\0", 3), -EBADMSG);
	assert_int_equal(parse_bytes("\"\\\0\"", 4), -EBADMSG);
}

static void depth_is_limited(void **state)
{
	char text[4 * SHMIPC_JSON_DEPTH_MAX];
	size_t depth;

	(void)state;
	for (depth = 1; depth < 2 * SHMIPC_JSON_DEPTH_MAX; depth++) {
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		assert_int_equal(parse_bytes(text, 2 * depth),
				 depth <= SHMIPC_JSON_DEPTH_MAX ? 0 : -EBADMSG);
	}
}

static void every_truncation_is_refused(void **state)
{
	size_t bytes;

	(void)state;
	for (bytes = 0; bytes < sizeof(sample) - 2; bytes++)
		assert_int_equal(parse_bytes(sample, bytes), -EBADMSG);
}

static void members_are_found_once(void **state)
{
	static const char text[] =
		"{\"a\":1,\"nested\":{\"b\":2},\"\\u0062\":3,\"twice\":1,\"twice\":2,\"last\":[]}";
	struct shmipc_json root, value;
	uint64_t number;

	(void)state;
	assert_int_equal(shmipc_json_parse(text, sizeof(text) - 1, &root), 0);
	assert_int_equal(shmipc_json_member(&root, "a", &value), 0);
	assert_int_equal(shmipc_json_uint(&value, &number), 0);
	assert_int_equal(number, 1);
	assert_int_equal(shmipc_json_member(&root, "b", &value), 0); /* written with an escape */
	assert_int_equal(shmipc_json_uint(&value, &number), 0);
	assert_int_equal(number, 3);
	assert_int_equal(shmipc_json_member(&root, "last", &value), 0);
	assert_int_equal(value.type, SHMIPC_JSON_ARRAY);
	assert_int_equal(shmipc_json_member(&value, "a", &value), -EBADMSG);
	assert_int_equal(shmipc_json_member(&root, "absent", &value), -ENOENT);
	assert_int_equal(shmipc_json_member(&root, "", &value), -ENOENT);
	assert_int_equal(shmipc_json_member(&root, "twice", &value), -EBADMSG);
}

static void arrays_are_walked_in_order(void **state)
{
	static const char text[] = " [ 10 ,\"x\",[1,2] , {\"k\":[3]}, null ] ";
	static const enum shmipc_json_type types[] = { SHMIPC_JSON_NUMBER, SHMIPC_JSON_STRING,
						       SHMIPC_JSON_ARRAY, SHMIPC_JSON_OBJECT,
						       SHMIPC_JSON_NULL };
	struct shmipc_json_iterator iterator;
	struct shmipc_json root, value;
	size_t i;

	(void)state;
	assert_int_equal(shmipc_json_parse(text, sizeof(text) - 1, &root), 0);
	assert_int_equal(shmipc_json_iterate(&root, &iterator), 0);
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		assert_true(shmipc_json_next(&iterator, NULL, &value));
		assert_int_equal(value.type, types[i]);
		assert_int_equal(shmipc_json_iterate(&value, &(struct shmipc_json_iterator){ 0 }),
				 i == 2 || i == 3 ? 0 : -EBADMSG);
	}
	assert_false(shmipc_json_next(&iterator, NULL, &value));
}

static void strings_are_decoded_within_their_room(void **state)
{
	static const char text[] = "\"a\\n\\u00e9\\u20ac\\ud83d\\ude00\"";
	static const char meaning[] = "a\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
	struct shmipc_json root;
	char to[sizeof(meaning)];
	size_t room;

	(void)state;
	assert_int_equal(shmipc_json_parse(text, sizeof(text) - 1, &root), 0);
	for (room = 0; room < sizeof(meaning); room++)
		assert_int_equal(shmipc_json_string(&root, to, room), -ENOBUFS);
	assert_int_equal(shmipc_json_string(&root, to, sizeof(to)), sizeof(meaning) - 1);
	assert_string_equal(to, meaning);
	assert_true(shmipc_json_string_is(&root, meaning));
	assert_false(shmipc_json_string_is(&root, "a\n"));
	assert_false(shmipc_json_string_is(&root, "a\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80!"));
	assert_int_equal(shmipc_json_parse("\"a\\u0000b\"", 10, &root), 0);
	assert_int_equal(shmipc_json_string(&root, to, sizeof(to)), -EBADMSG);
	assert_false(shmipc_json_string_is(&root, "a"));
	assert_int_equal(shmipc_json_parse("12", 2, &root), 0);
	assert_int_equal(shmipc_json_string(&root, to, sizeof(to)), -EBADMSG);
	assert_false(shmipc_json_string_is(&root, ""));
}

static int read_uint(const char *text, uint64_t *number)
{
	struct shmipc_json root;

	assert_int_equal(shmipc_json_parse(text, strlen(text), &root), 0);
	return shmipc_json_uint(&root, number);
}

static void numbers_are_whole_and_fit(void **state)
{
	static const char *const outside[] = {
		"-1", "-0", "1.0", "1e2", "18446744073709551616", "99999999999999999999999999"
	};
	uint64_t number;
	size_t i;

	(void)state;
	assert_int_equal(read_uint("0", &number), 0);
	assert_int_equal(number, 0);
	assert_int_equal(read_uint("18446744073709551615", &number), 0);
	assert_true(number == UINT64_MAX);
	for (i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
		assert_int_equal(read_uint(outside[i], &number), -ERANGE);
	assert_int_equal(read_uint("\"1\"", &number), -EBADMSG);
	assert_int_equal(read_uint("true", &number), -EBADMSG);
}

static void mutations_are_never_read_past_their_end(void **state)
{
	static const char alphabet[] = "{}[]\",:\\u0d8ce+-.tfn \x80\xc3\xf0";
	char text[sizeof(sample)];
	size_t bytes;
	int i, j;

	(void)state;
	srandom(2);
	for (i = 0; i < FUZZ_ROUNDS; i++) {
		memcpy(text, sample, sizeof(sample));
		bytes = sizeof(sample) - 1;
		for (j = (int)(random() % 3); j >= 0; j--)
			text[(size_t)random() % bytes] = random() % 2
								 ? (char)random()
								 : alphabet[(size_t)random() %
									    (sizeof(alphabet) - 1)];
		if (random() % 4 == 0)
			bytes = (size_t)random() % (bytes + 1);
		parse_bytes(text, bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_what_the_standard_allows),
		cmocka_unit_test(refuses_everything_else),
		cmocka_unit_test(depth_is_limited),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(members_are_found_once),
		cmocka_unit_test(arrays_are_walked_in_order),
		cmocka_unit_test(strings_are_decoded_within_their_room),
		cmocka_unit_test(numbers_are_whole_and_fit),
		cmocka_unit_test(mutations_are_never_read_past_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
