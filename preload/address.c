/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "preload/address.h"

static const uint8_t mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static void end_of_inet6(const struct sockaddr_in6 *address, struct shim_tcp_end *end)
{
	const uint8_t *ip = address->sin6_addr.s6_addr;

	end->port = ntohs(address->sin6_port);
	if (memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		end->family = 4;
		memcpy(end->ip, ip + sizeof(mapped_prefix), 4);
		return;
	}
	end->family = 6;
	memcpy(end->ip, ip, 16);
	/* Elsewhere the kernel ignores the field, and so a program may leave anything in it. */
	if (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80)
		end->scope = address->sin6_scope_id;
}

bool shim_tcp_end_of(const struct sockaddr_storage *address, struct shim_tcp_end *end)
{
	memset(end, 0, sizeof(*end));
	if (address->ss_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		end->family = 4;
		end->port = ntohs(in.sin_port);
		memcpy(end->ip, &in.sin_addr, 4);
		return true;
	}
	if (address->ss_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, address, sizeof(in6));
		end_of_inet6(&in6, end);
		return true;
	}
	return false;
}

int shim_tcp_key_make(struct shim_tcp_key *key, const struct sockaddr_storage *local,
		      const struct sockaddr_storage *peer, bool client)
{
	struct shim_tcp_end ends[2]; /* the client's, the server's */

	memset(key, 0, sizeof(*key));
	if (!shim_tcp_end_of(local, &ends[client ? 0 : 1]) ||
	    !shim_tcp_end_of(peer, &ends[client ? 1 : 0]) || ends[0].family != ends[1].family)
		return -EAFNOSUPPORT;
	memcpy(key->client_ip, ends[0].ip, sizeof(key->client_ip));
	memcpy(key->server_ip, ends[1].ip, sizeof(key->server_ip));
	key->client_port = ends[0].port;
	key->server_port = ends[1].port;
	/* One of the two may be a global address, which has no scope. */
	key->scope = ends[0].scope ? ends[0].scope : ends[1].scope;
	key->family = ends[0].family;
	return 0;
}

bool shim_address_is_loopback(const struct sockaddr_storage *local,
			      const struct sockaddr_storage *peer)
{
	static const uint8_t loopback6[16] = { [15] = 1 };
	struct shim_tcp_end there, here;

	if (!shim_tcp_end_of(peer, &there))
		return false;
	if (there.family == 4 ? there.ip[0] == 127 : memcmp(there.ip, loopback6, 16) == 0)
		return true;
	return local && shim_tcp_end_of(local, &here) && here.family == there.family &&
	       memcmp(here.ip, there.ip, sizeof(here.ip)) == 0;
}

/* ---- SipHash-2-4-128 ------------------------------------------------------------------------ */

static uint64_t rotate_left(uint64_t word, unsigned int bits)
{
	return word << bits | word >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], unsigned int count)
{
	while (count--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate_left(v[1], 13) ^ v[0];
		v[3] = rotate_left(v[3], 16) ^ v[2];
		v[0] = rotate_left(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate_left(v[1], 17) ^ v[2];
		v[3] = rotate_left(v[3], 21) ^ v[0];
		v[2] = rotate_left(v[2], 32);
	}
}

static void sip_absorb(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_rounds(v, 2);
	v[0] ^= word;
}

/* Up to eight bytes, little-endian. */
static uint64_t load_le(const uint8_t *from, size_t bytes)
{
	uint64_t word = 0;

	memcpy(&word, from, bytes);
	return le64toh(word);
}

static void store_le(uint8_t *to, uint64_t word)
{
	word = htole64(word);
	memcpy(to, &word, sizeof(word));
}

void shim_siphash128(const uint8_t key[SHIM_SIPHASH_KEY_BYTES], const void *data, size_t bytes,
		     uint8_t out[SHIM_SIPHASH_BYTES])
{
	uint64_t k0 = load_le(key, 8), k1 = load_le(key + 8, 8);
	uint64_t v[4] = { k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d ^ 0xee,
			  k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573 };
	uint64_t last = (uint64_t)bytes << 56;
	const uint8_t *at = data;

	for (; bytes >= 8; bytes -= 8, at += 8)
		sip_absorb(v, load_le(at, 8));
	if (bytes)
		last |= load_le(at, bytes);
	sip_absorb(v, last);
	v[2] ^= 0xee;
	sip_rounds(v, 4);
	store_le(out, v[0] ^ v[1] ^ v[2] ^ v[3]);
	v[1] ^= 0xdd;
	sip_rounds(v, 4);
	store_le(out + 8, v[0] ^ v[1] ^ v[2] ^ v[3]);
}

void shim_address_digest(const void *key, size_t bytes, uint8_t out[SHIM_DIGEST_BYTES])
{
	/* 16 bytes each; part of the rendezvous protocol, changed only with its version. */
	static const char first[] = "shmipc.rendezv.a", second[] = "shmipc.rendezv.b";

	shim_siphash128((const uint8_t *)first, key, bytes, out);
	shim_siphash128((const uint8_t *)second, key, bytes, out + SHIM_SIPHASH_BYTES);
}

int shim_rendezvous_name(const void *key, size_t bytes, struct sockaddr_un *out,
			 socklen_t *out_bytes)
{
	static const char prefix[] = "shmipc.1.";
	static const char hex[] = "0123456789abcdef";
	uint8_t digest[SHIM_DIGEST_BYTES];
	char *at;

	if (!key || bytes == 0)
		return -EINVAL;
	shim_address_digest(key, bytes, digest);
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	memcpy(out->sun_path + 1, prefix, sizeof(prefix) - 1);
	at = out->sun_path + sizeof(prefix); /* the leading NUL stands for prefix's own */
	for (size_t i = 0; i < sizeof(digest); i++) {
		*at++ = hex[digest[i] >> 4];
		*at++ = hex[digest[i] & 15];
	}
	*out_bytes = (socklen_t)(at - (char *)out);
	return 0;
}
