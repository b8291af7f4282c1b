/* SPDX-License-Identifier: Apache-2.0 */
// LINK: preload/address.c
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "preload/address.h"

static struct sockaddr_storage make(const char *ip, uint16_t port, uint32_t scope)
{
	struct sockaddr_storage address;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	memset(&address, 0xa5, sizeof(address)); /* what lies behind the address must not count */
	in6.sin6_scope_id = scope;
	if (strchr(ip, ':')) {
		assert_int_equal(inet_pton(AF_INET6, ip, &in6.sin6_addr), 1);
		memcpy(&address, &in6, sizeof(in6));
	} else {
		assert_int_equal(inet_pton(AF_INET, ip, &in.sin_addr), 1);
		memcpy(&address, &in, sizeof(in));
	}
	return address;
}

static struct shim_tcp_key key_of(struct sockaddr_storage local, struct sockaddr_storage peer,
				  bool client)
{
	struct shim_tcp_key key;

	memset(&key, 0x5a, sizeof(key));
	assert_int_equal(shim_tcp_key_make(&key, &local, &peer, client), 0);
	return key;
}

static void both_ends_make_one_key(void **state)
{
	struct shim_tcp_key a, b;

	(void)state;
	a = key_of(make("127.0.0.1", 40000, 0), make("127.0.0.1", 80, 0), true);
	b = key_of(make("127.0.0.1", 80, 0), make("127.0.0.1", 40000, 0), false);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(a.client_port, 40000);
	assert_int_equal(a.server_port, 80);
	assert_int_equal(a.family, 4);
	a = key_of(make("::1", 40000, 0), make("::2", 80, 0), true);
	b = key_of(make("::2", 80, 0), make("::1", 40000, 0), false);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(a.family, 6);
	assert_int_equal(a.client_ip[15], 1);
	assert_int_equal(a.server_ip[15], 2);
}

static void mapped_and_plain_agree(void **state)
{
	static const char *const clients[] = { "127.0.0.1", "::ffff:127.0.0.1" };
	static const char *const servers[] = { "127.0.0.2", "::ffff:127.0.0.2" };
	struct shim_tcp_key want = key_of(make(clients[0], 1, 0), make(servers[0], 2, 0), true);

	(void)state;
	for (unsigned int i = 0; i < 16; i++) {
		struct sockaddr_storage client = make(clients[i & 1], 1, 0);
		struct sockaddr_storage server = make(servers[i >> 1 & 1], 2, 0);
		struct shim_tcp_key got = i & 4 ? key_of(client, server, true)
						: key_of(server, client, false);

		assert_memory_equal(&got, &want, sizeof(want));
	}
}

static void scope_counts_for_link_local_only(void **state)
{
	struct shim_tcp_key a, b;

	(void)state;
	a = key_of(make("fe80::1", 1, 2), make("fe80::1", 2, 2), true);
	b = key_of(make("fe80::1", 1, 3), make("fe80::1", 2, 3), true);
	assert_memory_not_equal(&a, &b, sizeof(a));
	a = key_of(make("::1", 1, 7), make("::1", 2, 0), true);
	b = key_of(make("::1", 2, 9), make("::1", 1, 0), false);
	assert_memory_equal(&a, &b, sizeof(a));
	a = key_of(make("fe80::1", 1, 2), make("2001:db8::1", 2, 0), true);
	b = key_of(make("2001:db8::1", 2, 0), make("fe80::1", 1, 2), false);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(a.scope, 2);
}

static void direction_and_family_distinguish(void **state)
{
	struct shim_tcp_key a = key_of(make("127.0.0.1", 1, 0), make("127.0.0.1", 2, 0), true);
	struct shim_tcp_key b = key_of(make("127.0.0.1", 1, 0), make("127.0.0.1", 2, 0), false);
	struct sockaddr_storage six = make("::1", 1, 0), four = make("127.0.0.1", 1, 0), none;

	(void)state;
	assert_memory_not_equal(&a, &b, sizeof(a));
	b = key_of(make("7f00:1::", 1, 0), make("7f00:1::", 2, 0), true);
	assert_memory_not_equal(&a, &b, sizeof(a));
	memset(&none, 0, sizeof(none));
	none.ss_family = AF_UNIX;
	assert_int_equal(shim_tcp_key_make(&a, &six, &four, true), -EAFNOSUPPORT);
	assert_int_equal(shim_tcp_key_make(&a, &none, &four, true), -EAFNOSUPPORT);
	assert_int_equal(shim_tcp_key_make(&a, &four, &none, true), -EAFNOSUPPORT);
}

static bool loopback(const char *local_ip, const char *peer_ip)
{
	struct sockaddr_storage local = make(local_ip, 1, 0), peer = make(peer_ip, 2, 0);

	return shim_address_is_loopback(&local, &peer);
}

static void loopback_addresses(void **state)
{
	struct sockaddr_storage peer = make("127.3.2.1", 1, 0), none = { .ss_family = AF_UNIX };

	(void)state;
	assert_true(loopback("127.0.0.1", "127.255.0.1"));
	assert_true(loopback("::1", "::1"));
	assert_true(loopback("::ffff:127.0.0.1", "::ffff:127.0.0.1"));
	assert_true(loopback("10.0.0.5", "10.0.0.5"));
	assert_true(loopback("10.0.0.5", "::ffff:10.0.0.5"));
	assert_true(loopback("2001:db8::5", "2001:db8::5"));
	assert_false(loopback("10.0.0.5", "10.0.0.6"));
	assert_false(loopback("2001:db8::5", "2001:db8::6"));
	assert_false(loopback("10.0.0.5", "128.0.0.1"));
	assert_false(loopback("7f00:1::", "7f00:2::")); /* begins with 127, is IPv6 */
	assert_false(loopback("::", "::2"));
	assert_true(shim_address_is_loopback(NULL, &peer));
	assert_false(shim_address_is_loopback(NULL, &none));
	peer = make("10.0.0.5", 1, 0);
	assert_false(shim_address_is_loopback(NULL, &peer));
	assert_false(shim_address_is_loopback(&none, &peer));
}

/* Results of `openssl mac -macopt size:16 SIPHASH` for key 00..0f and data 00, 01, 02, ... */
static void siphash_vectors(void **state)
{
	static const struct {
		size_t bytes;
		uint8_t want[16];
	} vectors[] = {
		{ 0,
		  { 0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7,
		    0x55, 0x02, 0x93 } },
		{ 1,
		  { 0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b,
		    0x22, 0xfc, 0x45 } },
		{ 8,
		  { 0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61, 0x0f, 0x83, 0xe2, 0x64, 0xf3,
		    0x14, 0x97, 0xb4 } },
		{ 63,
		  { 0x51, 0x50, 0xd1, 0x77, 0x2f, 0x50, 0x83, 0x4a, 0x50, 0x3e, 0x06, 0x9a, 0x97,
		    0x3f, 0xbd, 0x7c } },
	};
	uint8_t data[65], key[16], got[16];

	(void)state;
	for (uint8_t i = 0; i < 16; i++)
		key[i] = i;
	for (size_t v = 0; v < sizeof(vectors) / sizeof(vectors[0]); v++) {
		for (uint8_t i = 0; i < 64; i++) /* at an odd address */
			data[i + 1] = i;
		shim_siphash128(key, data + 1, vectors[v].bytes, got);
		assert_memory_equal(got, vectors[v].want, 16);
	}
}

static void rendezvous_names(void **state)
{
	struct shim_tcp_key tcp = key_of(make("127.0.0.1", 1, 0), make("127.0.0.1", 2, 0), true);
	struct shim_unix_key unixes[2] = { { 77, 88 }, { 77, 89 } };
	struct sockaddr_un names[3];
	socklen_t bytes[3];

	(void)state;
	assert_int_equal(shim_rendezvous_name(&tcp, sizeof(tcp), &names[0], &bytes[0]), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(shim_rendezvous_name(&unixes[i], sizeof(unixes[i]), &names[i + 1],
						      &bytes[i + 1]),
				 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(bytes[i], offsetof(struct sockaddr_un, sun_path) + 1 + 9 + 64);
		assert_int_equal(names[i].sun_family, AF_UNIX);
		assert_memory_equal(names[i].sun_path, "\0shmipc.1.", 10);
		assert_int_equal(strspn(names[i].sun_path + 10, "0123456789abcdef"), 64);
		for (int j = 0; j < i; j++)
			assert_memory_not_equal(&names[i], &names[j], sizeof(names[i]));
	}
	assert_int_equal(shim_rendezvous_name(&tcp, 0, &names[1], &bytes[1]), -EINVAL);
	assert_int_equal(shim_rendezvous_name(NULL, 4, &names[1], &bytes[1]), -EINVAL);
	/* the name is one that the kernel takes, and the same each time */
	assert_int_equal(shim_rendezvous_name(&tcp, sizeof(tcp), &names[2], &bytes[2]), 0);
	assert_memory_equal(&names[0], &names[2], sizeof(names[0]));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&names[0], bytes[0]), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ends_make_one_key),
		cmocka_unit_test(mapped_and_plain_agree),
		cmocka_unit_test(scope_counts_for_link_local_only),
		cmocka_unit_test(direction_and_family_distinguish),
		cmocka_unit_test(loopback_addresses),
		cmocka_unit_test(siphash_vectors),
		cmocka_unit_test(rendezvous_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
