/* SPDX-License-Identifier: Apache-2.0 */
#include "core/json.h"

#include <errno.h>
#include <string.h>

/* What is still to be read. Every scan_x() moves at, or returns false for what is not allowed. */
struct scanner {
	const char *at;
	const char *end;
};

static bool scan_value(struct scanner *scan, unsigned int depth, enum shmipc_json_type *type);

static int peek(const struct scanner *scan)
{
	return scan->at < scan->end ? (unsigned char)*scan->at : -1;
}

static bool accept(struct scanner *scan, int character)
{
	if (peek(scan) != character)
		return false;
	scan->at++;
	return true;
}

static void skip_space(struct scanner *scan)
{
	int next = peek(scan);

	while (next == ' ' || next == '\t' || next == '\n' || next == '\r') {
		scan->at++;
		next = peek(scan);
	}
}

static bool is_digit(int character)
{
	return character >= '0' && character <= '9';
}

static int hex_value(int character)
{
	if (is_digit(character))
		return character - '0';
	if (character >= 'a' && character <= 'f')
		return character - 'a' + 10;
	if (character >= 'A' && character <= 'F')
		return character - 'A' + 10;
	return -1;
}

static bool scan_hex4(struct scanner *scan, uint32_t *out)
{
	int i, digit;

	*out = 0;
	for (i = 0; i < 4; i++) {
		digit = hex_value(peek(scan));
		if (digit < 0)
			return false;
		*out = *out << 4 | (uint32_t)digit;
		scan->at++;
	}
	return true;
}

/* After \u: one code point, of two escapes if it is outside the basic plane. */
static bool scan_unicode_escape(struct scanner *scan, uint32_t *code)
{
	uint32_t low;

	if (!scan_hex4(scan, code))
		return false;
	if (*code >= 0xdc00 && *code <= 0xdfff)
		return false;
	if (*code < 0xd800 || *code > 0xdbff)
		return true;
	if (!accept(scan, '\\') || !accept(scan, 'u') || !scan_hex4(scan, &low))
		return false;
	if (low < 0xdc00 || low > 0xdfff)
		return false;
	*code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

static bool scan_escape(struct scanner *scan, uint32_t *code)
{
	static const char names[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	int next = peek(scan);
	const char *name;

	if (next <= 0)
		return false;
	scan->at++;
	if (next == 'u')
		return scan_unicode_escape(scan, code);
	name = strchr(names, next);
	if (!name)
		return false;
	*code = (unsigned char)meanings[name - names];
	return true;
}

/* One UTF-8 character above 0x7f: shortest form only, no surrogates, nothing above U+10FFFF. */
static bool scan_utf8(struct scanner *scan, uint32_t *code)
{
	uint32_t first = (unsigned char)*scan->at++;
	uint32_t lowest;
	int more;

	if (first >= 0xc2 && first <= 0xdf) {
		more = 1;
		lowest = 0x80;
		*code = first & 0x1f;
	} else if (first >= 0xe0 && first <= 0xef) {
		more = 2;
		lowest = 0x800;
		*code = first & 0x0f;
	} else if (first >= 0xf0 && first <= 0xf4) {
		more = 3;
		lowest = 0x10000;
		*code = first & 0x07;
	} else {
		return false;
	}
	for (; more > 0; more--) {
		if ((peek(scan) & 0xc0) != 0x80 || peek(scan) < 0)
			return false;
		*code = *code << 6 | ((uint32_t)peek(scan) & 0x3f);
		scan->at++;
	}
	return *code >= lowest && *code <= 0x10ffff && (*code < 0xd800 || *code > 0xdfff);
}

/* One character of a string, decoded. The closing quote is not one. */
static bool scan_character(struct scanner *scan, uint32_t *code)
{
	int next = peek(scan);

	if (next < 0x20 || next == '"')
		return false;
	if (next >= 0x80)
		return scan_utf8(scan, code);
	scan->at++;
	if (next == '\\')
		return scan_escape(scan, code);
	*code = (uint32_t)next;
	return true;
}

static bool scan_string(struct scanner *scan)
{
	uint32_t code;

	if (!accept(scan, '"'))
		return false;
	while (!accept(scan, '"'))
		if (!scan_character(scan, &code))
			return false;
	return true;
}

static bool scan_digits(struct scanner *scan)
{
	if (!is_digit(peek(scan)))
		return false;
	while (is_digit(peek(scan)))
		scan->at++;
	return true;
}

static bool scan_number(struct scanner *scan)
{
	accept(scan, '-');
	if (!accept(scan, '0') && !scan_digits(scan))
		return false;
	if (accept(scan, '.') && !scan_digits(scan))
		return false;
	if (accept(scan, 'e') || accept(scan, 'E')) {
		if (!accept(scan, '+'))
			accept(scan, '-');
		return scan_digits(scan);
	}
	return true;
}

static bool scan_word(struct scanner *scan, const char *word)
{
	while (*word)
		if (!accept(scan, (unsigned char)*word++))
			return false;
	return true;
}

static bool scan_name(struct scanner *scan)
{
	skip_space(scan);
	if (!scan_string(scan))
		return false;
	skip_space(scan);
	return accept(scan, ':');
}

static bool scan_container(struct scanner *scan, unsigned int depth, bool object)
{
	int closing = object ? '}' : ']';
	enum shmipc_json_type type;

	if (depth == SHMIPC_JSON_DEPTH_MAX)
		return false;
	scan->at++;
	skip_space(scan);
	if (accept(scan, closing))
		return true;
	do {
		if (object && !scan_name(scan))
			return false;
		if (!scan_value(scan, depth + 1, &type))
			return false;
		skip_space(scan);
	} while (accept(scan, ','));
	return accept(scan, closing);
}

/* Leading space is skipped; scan->at ends behind the value's last character. */
static bool scan_value(struct scanner *scan, unsigned int depth, enum shmipc_json_type *type)
{
	skip_space(scan);
	switch (peek(scan)) {
	case '{':
		*type = SHMIPC_JSON_OBJECT;
		return scan_container(scan, depth, true);
	case '[':
		*type = SHMIPC_JSON_ARRAY;
		return scan_container(scan, depth, false);
	case '"':
		*type = SHMIPC_JSON_STRING;
		return scan_string(scan);
	case 't':
		*type = SHMIPC_JSON_TRUE;
		return scan_word(scan, "true");
	case 'f':
		*type = SHMIPC_JSON_FALSE;
		return scan_word(scan, "false");
	case 'n':
		*type = SHMIPC_JSON_NULL;
		return scan_word(scan, "null");
	default:
		*type = SHMIPC_JSON_NUMBER;
		return scan_number(scan);
	}
}

static bool take_value(struct scanner *scan, struct shmipc_json *value)
{
	skip_space(scan);
	value->at = scan->at;
	if (!scan_value(scan, 0, &value->type))
		return false;
	value->bytes = (size_t)(scan->at - value->at);
	return true;
}

int shmipc_json_parse(const char *text, size_t bytes, struct shmipc_json *root)
{
	struct scanner scan = { text, text + bytes };

	if (!take_value(&scan, root))
		return -EBADMSG;
	skip_space(&scan);
	return scan.at == scan.end ? 0 : -EBADMSG;
}

int shmipc_json_iterate(const struct shmipc_json *container, struct shmipc_json_iterator *iterator)
{
	if (container->type != SHMIPC_JSON_OBJECT && container->type != SHMIPC_JSON_ARRAY)
		return -EBADMSG;
	iterator->at = container->at + 1;
	iterator->end = container->at + container->bytes - 1;
	iterator->object = container->type == SHMIPC_JSON_OBJECT;
	return 0;
}

bool shmipc_json_next(struct shmipc_json_iterator *iterator, struct shmipc_json *name,
		      struct shmipc_json *value)
{
	struct scanner scan = { iterator->at, iterator->end };
	struct shmipc_json ignored;

	skip_space(&scan);
	accept(&scan, ',');
	skip_space(&scan);
	if (scan.at == scan.end)
		return false;
	if (iterator->object) {
		if (!take_value(&scan, name ? name : &ignored))
			return false;
		skip_space(&scan);
		if (!accept(&scan, ':'))
			return false;
	}
	if (!take_value(&scan, value))
		return false;
	iterator->at = scan.at;
	return true;
}

int shmipc_json_member(const struct shmipc_json *object, const char *name,
		       struct shmipc_json *value)
{
	struct shmipc_json_iterator iterator;
	struct shmipc_json member, found;
	bool seen = false;

	if (object->type != SHMIPC_JSON_OBJECT || shmipc_json_iterate(object, &iterator))
		return -EBADMSG;
	while (shmipc_json_next(&iterator, &member, &found)) {
		if (!shmipc_json_string_is(&member, name))
			continue;
		if (seen)
			return -EBADMSG;
		seen = true;
		*value = found;
	}
	return seen ? 0 : -ENOENT;
}

static size_t put_utf8(uint32_t code, char to[4])
{
	if (code < 0x80) {
		to[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		to[0] = (char)(0xc0 | code >> 6);
		to[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		to[0] = (char)(0xe0 | code >> 12);
		to[1] = (char)(0x80 | (code >> 6 & 0x3f));
		to[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | code >> 18);
	to[1] = (char)(0x80 | (code >> 12 & 0x3f));
	to[2] = (char)(0x80 | (code >> 6 & 0x3f));
	to[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}

int shmipc_json_string(const struct shmipc_json *value, char *to, size_t room)
{
	struct scanner scan = { value->at + 1, value->at + value->bytes - 1 };
	size_t used = 0, count;
	uint32_t code;
	char utf8[4];

	if (value->type != SHMIPC_JSON_STRING)
		return -EBADMSG;
	while (scan.at < scan.end) {
		if (!scan_character(&scan, &code) || code == 0)
			return -EBADMSG;
		count = put_utf8(code, utf8);
		if (count >= room - used)
			return -ENOBUFS;
		memcpy(to + used, utf8, count);
		used += count;
	}
	if (used >= room)
		return -ENOBUFS;
	to[used] = '\0';
	return (int)used;
}

bool shmipc_json_string_is(const struct shmipc_json *value, const char *text)
{
	struct scanner scan = { value->at + 1, value->at + value->bytes - 1 };
	size_t left = strlen(text), count;
	uint32_t code;
	char utf8[4];

	if (value->type != SHMIPC_JSON_STRING)
		return false;
	while (scan.at < scan.end) {
		if (!scan_character(&scan, &code))
			return false;
		count = put_utf8(code, utf8);
		if (count > left || memcmp(text, utf8, count) != 0)
			return false;
		text += count;
		left -= count;
	}
	return left == 0;
}

int shmipc_json_uint(const struct shmipc_json *value, uint64_t *out)
{
	uint64_t number = 0;
	unsigned int digit;
	size_t i;

	if (value->type != SHMIPC_JSON_NUMBER)
		return -EBADMSG;
	for (i = 0; i < value->bytes; i++) {
		if (!is_digit((unsigned char)value->at[i]))
			return -ERANGE;
		digit = (unsigned int)(value->at[i] - '0');
		if (number > (UINT64_MAX - digit) / 10)
			return -ERANGE;
		number = number * 10 + digit;
	}
	*out = number;
	return 0;
}
