/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A strict reader for small JSON texts from a peer that nobody trusts: no allocation, no recursion
 * deeper than the limit, nothing read past the end given.  shmipc_json_parse() checks the whole
 * text once; everything else walks what it has accepted.  A value is a slice of that text, which
 * must stay unchanged (copy it out of shared memory first).
 */
#ifndef SHMIPC_CORE_JSON_H
#define SHMIPC_CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHMIPC_JSON_DEPTH_MAX = 16 };

enum shmipc_json_type {
	SHMIPC_JSON_OBJECT,
	SHMIPC_JSON_ARRAY,
	SHMIPC_JSON_STRING,
	SHMIPC_JSON_NUMBER,
	SHMIPC_JSON_TRUE,
	SHMIPC_JSON_FALSE,
	SHMIPC_JSON_NULL
};

struct shmipc_json {
	const char *at; /* the value's first character, quotes and brackets included */
	size_t bytes;
	enum shmipc_json_type type;
};

struct shmipc_json_iterator {
	const char *at;
	const char *end;
	bool object;
};

/* 0, or -EBADMSG for anything that RFC 8259 does not allow, nesting above the limit included. */
int shmipc_json_parse(const char *text, size_t bytes, struct shmipc_json *root);

/* 0, or -EBADMSG if the value is neither an object nor an array. */
int shmipc_json_iterate(const struct shmipc_json *container, struct shmipc_json_iterator *iterator);

/* true and the next element (of an object also its name), or false at the end; name may be NULL */
bool shmipc_json_next(struct shmipc_json_iterator *iterator, struct shmipc_json *name,
		      struct shmipc_json *value);

/* 0, -ENOENT, or -EBADMSG if the value is no object or has the name twice. */
int shmipc_json_member(const struct shmipc_json *object, const char *name,
		       struct shmipc_json *value);

/* The decoded text with a final NUL: its length, -EBADMSG (no string, or NUL inside), -ENOBUFS. */
int shmipc_json_string(const struct shmipc_json *value, char *to, size_t room);
bool shmipc_json_string_is(const struct shmipc_json *value, const char *text);

/* 0, -EBADMSG if it is no number, -ERANGE if negative, not an integer as written, or too large. */
int shmipc_json_uint(const struct shmipc_json *value, uint64_t *out);

#endif
