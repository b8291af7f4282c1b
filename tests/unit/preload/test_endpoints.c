/* SPDX-License-Identifier: Apache-2.0 */
// LINK: preload/endpoints.c preload/address.c
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "preload/endpoints.h"

static struct shim_endpoints list;
static unsigned int complaints;
static char last_entry[SHIM_ENDPOINT_ENTRY_MAX];
static char last_why[160];

static void complain(const char *entry, const char *why)
{
	complaints++;
	snprintf(last_entry, sizeof(last_entry), "%s", entry);
	snprintf(last_why, sizeof(last_why), "%s", why);
}

static int parse(const char *text)
{
	complaints = 0;
	last_entry[0] = last_why[0] = '\0';
	return shim_endpoints_parse(&list, text, complain);
}

/* A fresh address each time: what an earlier one left behind must not matter. */
static socklen_t inet_address(struct sockaddr_storage *address, const char *ip, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	memset(address, 0, sizeof(*address));
	if (!strchr(ip, ':')) {
		assert_int_equal(inet_pton(AF_INET, ip, &in.sin_addr), 1);
		memcpy(address, &in, sizeof(in));
		return sizeof(in);
	}
	assert_int_equal(inet_pton(AF_INET6, ip, &in6.sin6_addr), 1);
	memcpy(address, &in6, sizeof(in6));
	return sizeof(in6);
}

static socklen_t unix_address(struct sockaddr_storage *address, const char *name, size_t bytes)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	memset(address, 0, sizeof(*address));
	memcpy(un.sun_path, name, bytes);
	memcpy(address, &un, sizeof(un));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
}

static bool tcp(const char *ip, uint16_t port)
{
	struct sockaddr_storage address;
	socklen_t bytes = inet_address(&address, ip, port);

	return shim_endpoints_match(&list, &address, bytes);
}

/* As the kernel reports a path: with its NUL. */
static bool path(const char *name)
{
	struct sockaddr_storage address;
	socklen_t bytes = unix_address(&address, name, strlen(name) + 1);

	return shim_endpoints_match(&list, &address, bytes);
}

/* `bytes` may be more than the name has: NULs then. */
static bool abstract(const char *name, size_t bytes)
{
	struct sockaddr_storage address;
	char raw[108] = { 0 };

	memcpy(raw + 1, name, strlen(name));
	return shim_endpoints_match(&list, &address, unix_address(&address, raw, bytes + 1));
}

static void empty_lists_match_nothing(void **state)
{
	(void)state;
	assert_int_equal(parse(NULL), 0);
	assert_false(tcp("127.0.0.1", 80));
	assert_int_equal(parse(""), 0);
	assert_int_equal(parse(" , ,,\t"), 0);
	assert_int_equal(complaints, 0);
	assert_false(path("/tmp/x"));
}

static void tcp_addresses(void **state)
{
	(void)state;
	assert_int_equal(parse(" tcp:127.0.0.1:80 ,tcp:[::1]:81,\ttcp:10.0.0.1:*,"), 3);
	assert_int_equal(complaints, 0);
	assert_true(tcp("127.0.0.1", 80));
	assert_false(tcp("127.0.0.1", 81));
	assert_false(tcp("127.0.0.2", 80));
	assert_true(tcp("::1", 81));
	assert_false(tcp("::1", 80));
	assert_false(tcp("::2", 81));
	assert_true(tcp("10.0.0.1", 1));
	assert_true(tcp("10.0.0.1", 65535));
	assert_false(path("/tcp"));
}

static void mapped_addresses_are_ipv4(void **state)
{
	(void)state;
	assert_int_equal(parse("tcp:127.0.0.1:80,tcp:[::ffff:10.1.2.3]:90"), 2);
	assert_true(tcp("::ffff:127.0.0.1", 80));
	assert_true(tcp("10.1.2.3", 90));
	assert_true(tcp("::ffff:10.1.2.3", 90));
	assert_false(tcp("::10.1.2.3", 90));
	/* ::7f00:1 has the bytes of 127.0.0.1, at another place and in another family */
	assert_false(tcp("7f00:1::", 80));
}

static void localhost_means_both(void **state)
{
	(void)state;
	assert_int_equal(parse("tcp:LocalHost:5201"), 1);
	assert_true(tcp("127.0.0.1", 5201));
	assert_true(tcp("::1", 5201));
	assert_true(tcp("::ffff:127.0.0.1", 5201));
	assert_false(tcp("127.0.0.2", 5201));
	assert_false(tcp("127.0.0.1", 5202));
}

static void tcp_wildcards(void **state)
{
	(void)state;
	assert_int_equal(parse("tcp:*:80"), 1);
	assert_true(tcp("1.2.3.4", 80));
	assert_true(tcp("fe80::1", 80));
	assert_false(tcp("1.2.3.4", 81));
	assert_int_equal(parse("tcp:*"), 1);
	assert_true(tcp("1.2.3.4", 81));
	assert_false(path("/tmp/x"));
	assert_int_equal(parse("tcp:*:*"), 1);
	assert_true(tcp("::5", 9));
}

static void exclusion_wins_anywhere(void **state)
{
	(void)state;
	assert_int_equal(parse("!tcp:127.0.0.1:22,tcp:*, ! unix:/tmp/no ,unix:*,!tcp:*:23"), 5);
	assert_false(tcp("127.0.0.1", 22));
	assert_true(tcp("127.0.0.2", 22));
	assert_false(tcp("9.9.9.9", 23));
	assert_false(path("/tmp/no"));
	assert_true(path("/tmp/yes"));
	assert_int_equal(parse("!tcp:*"), 1);
	assert_false(tcp("127.0.0.1", 80));
}

static void unix_names(void **state)
{
	struct sockaddr_storage address;
	char padded[108] = { 0 };

	(void)state;
	assert_int_equal(parse("unix:/tmp/a,unix:@name"), 2);
	assert_true(path("/tmp/a"));
	assert_false(path("/tmp/ab"));
	assert_false(path("/tmp/"));
	assert_false(path("name"));
	assert_true(abstract("name", 4));
	assert_false(abstract("nam", 3));
	assert_false(abstract("name2", 5));
	assert_false(abstract("/tmp/a", 6));
	assert_true(abstract("name", 107)); /* sizeof(sockaddr_un) given to bind() */
	assert_false(abstract("name", 5));  /* another name: it ends in one NUL */
	memcpy(padded + 1, "name", 4);
	padded[60] = 'x';
	assert_false(shim_endpoints_match(&list, &address, unix_address(&address, padded, 108)));
	assert_false(tcp("127.0.0.1", 80));
	assert_int_equal(parse("unix:*"), 1);
	assert_true(path("/tmp/a"));
	assert_true(abstract("x", 1));
	assert_false(shim_endpoints_match(&list, &address, unix_address(&address, "", 0)));
	assert_false(tcp("127.0.0.1", 80));
}

static void longest_names(void **state)
{
	struct sockaddr_storage address;
	char entry[160] = "unix:", full[108];

	(void)state;
	memset(full, 'p', sizeof(full));
	full[0] = '/';
	memcpy(entry + 5, full, sizeof(full));
	assert_int_equal(parse(entry), 1);
	assert_true(shim_endpoints_match(&list, &address, unix_address(&address, full, 108)));
	entry[5 + 108] = 'q';
	assert_int_equal(parse(entry), 0);
	assert_string_equal(last_why, "longer than a socket name can be");
	memset(entry + 5, 'n', 108);
	entry[5] = '@';
	entry[5 + 108] = '\0';
	assert_int_equal(parse(entry), 1);
	assert_true(abstract(entry + 6, 107));
	entry[5 + 108] = 'n';
	assert_int_equal(parse(entry), 0);
}

static void relative_paths_by_file(void **state)
{
	char directory[] = "/tmp/shmipc-endpoints-XXXXXX", entry[96], file[64];
	FILE *made;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(file, sizeof(file), "%s/sock", directory);
	snprintf(entry, sizeof(entry), "unix:%s", file);
	made = fopen(file, "w");
	assert_non_null(made);
	fclose(made);
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(parse(entry), 1);
	assert_true(path("sock"));
	assert_true(path("./sock"));
	assert_false(path("other"));
	unlink(file);
	assert_false(path("sock")); /* nothing to compare any more */
	assert_int_equal(parse("unix:sock"), 1);
	assert_true(path("sock"));
	assert_false(path(file));
	assert_int_equal(chdir("/"), 0);
	rmdir(directory);
}

static void malformed_entries_are_skipped(void **state)
{
	static const char *const bad[] = { "tcp",
					   "tcp:",
					   "tcp::80",
					   "tcp:127.0.0.1",
					   "tcp:127.0.0.1:",
					   "tcp:127.0.0.1:0",
					   "tcp:127.0.0.1:65536",
					   "tcp:127.0.0.1:80x",
					   "tcp:127.0.0.1:-1",
					   "tcp:127.0.0.1: 80",
					   "tcp:99999999999999999999999:80",
					   "tcp:1.2.3:80",
					   "tcp:example.org:80",
					   "tcp:::1:80",
					   "tcp:[::1]",
					   "tcp:[::1:80",
					   "tcp:[]:80",
					   "tcp:[127.0.0.1]:80",
					   "tcp:0.0.0.0:80",
					   "tcp:[::]:80",
					   "tcp:127.0.0.1:99999999999999999999999",
					   "tcp:[:80",
					   "tcp:]:80",
					   "unix:",
					   "unix:@",
					   "udp:*:53",
					   "*",
					   "!",
					   "!!tcp:*",
					   "TCP:*",
					   "127.0.0.1:80" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[256];

		snprintf(text, sizeof(text), "tcp:*:1, %s ,unix:/ok", bad[i]);
		assert_int_equal(parse(text), 2);
		assert_int_equal(complaints, 1);
		assert_string_equal(last_entry, bad[i]);
		assert_true(strlen(last_why) > 5);
		assert_true(tcp("127.0.0.1", 1));
		assert_false(tcp("127.0.0.1", 80));
		assert_true(path("/ok"));
	}
	assert_int_equal(shim_endpoints_parse(&list, "nonsense,tcp:*", NULL), 1);
}

static void excess_is_complained_about(void **state)
{
	char text[SHIM_ENDPOINTS_MAX * 16 + 64] = "";
	size_t at = 0;

	(void)state;
	for (int i = 1; i <= SHIM_ENDPOINTS_MAX + 2; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "tcp:*:%d,", i);
	assert_int_equal(parse(text), SHIM_ENDPOINTS_MAX);
	assert_int_equal(complaints, 2);
	assert_string_equal(last_why, "too many entries");
	assert_true(tcp("1.1.1.1", SHIM_ENDPOINTS_MAX));
	assert_false(tcp("1.1.1.1", SHIM_ENDPOINTS_MAX + 1));
	memset(text, 'x', 400);
	text[400] = '\0';
	assert_int_equal(parse(text), 0);
	assert_int_equal(complaints, 1);
	assert_string_equal(last_why, "too long");
}

static void check_text(const struct sockaddr_storage *address, socklen_t bytes, const char *want)
{
	char text[SHIM_ENDPOINT_TEXT_MAX];

	assert_int_equal(shim_endpoint_text(address, bytes, text, sizeof(text)), strlen(want));
	assert_string_equal(text, want);
}

static void texts(void **state)
{
	struct sockaddr_storage address;
	socklen_t bytes;
	char full[108], text[SHIM_ENDPOINT_TEXT_MAX];

	(void)state;
	bytes = inet_address(&address, "127.0.0.1", 80);
	check_text(&address, bytes, "tcp:127.0.0.1:80");
	bytes = inet_address(&address, "::1", 65535);
	check_text(&address, bytes, "tcp:[::1]:65535");
	bytes = inet_address(&address, "::ffff:10.0.0.1", 0);
	check_text(&address, bytes, "tcp:10.0.0.1:0");
	bytes = inet_address(&address, "fe80::2", 7);
	((struct sockaddr_in6 *)&address)->sin6_scope_id = 4294967295U;
	check_text(&address, bytes, "tcp:[fe80::2%4294967295]:7");
	bytes = unix_address(&address, "/tmp/a b\\\n\xff", 12);
	check_text(&address, bytes, "unix:/tmp/a\\x20b\\x5c\\x0a\\xff");
	bytes = unix_address(&address, "\0n\0m", 4);
	check_text(&address, bytes, "unix:@n\\x00m");
	bytes = unix_address(&address, "", 0);
	check_text(&address, bytes, "unix:");
	address.ss_family = AF_NETLINK;
	check_text(&address, sizeof(address), "family:16");
	check_text(&address, 0, "family:0");
	memset(full, 0, sizeof(full));
	bytes = unix_address(&address, full, sizeof(full));
	assert_int_equal(shim_endpoint_text(&address, bytes, text, sizeof(text)), 6 + 107 * 4);
}

static void short_buffers(void **state)
{
	static const char want[] = "tcp:127.0.0.1:80";
	struct sockaddr_storage address;
	socklen_t bytes = inet_address(&address, "127.0.0.1", 80);

	(void)state;
	for (size_t room = 0; room <= sizeof(want); room++) {
		char *text = malloc(room + 1); /* exact, for the sanitizer to watch */
		int length = shim_endpoint_text(&address, bytes, text, room);

		if (room < sizeof(want))
			assert_int_equal(length, -ENOSPC);
		else
			assert_int_equal(length, sizeof(want) - 1);
		if (room)
			assert_memory_equal(text, want, strlen(text));
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_lists_match_nothing),
		cmocka_unit_test(tcp_addresses),
		cmocka_unit_test(mapped_addresses_are_ipv4),
		cmocka_unit_test(localhost_means_both),
		cmocka_unit_test(tcp_wildcards),
		cmocka_unit_test(exclusion_wins_anywhere),
		cmocka_unit_test(unix_names),
		cmocka_unit_test(longest_names),
		cmocka_unit_test(relative_paths_by_file),
		cmocka_unit_test(malformed_entries_are_skipped),
		cmocka_unit_test(excess_is_complained_about),
		cmocka_unit_test(texts),
		cmocka_unit_test(short_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
