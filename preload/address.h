/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name under which the two ends of one connection find each other: both compute the same key
 * from what the kernel tells them about the connection, and from the key an abstract socket name.
 */
#ifndef SHMIPC_PRELOAD_ADDRESS_H
#define SHMIPC_PRELOAD_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { SHIM_DIGEST_BYTES = 32, SHIM_SIPHASH_KEY_BYTES = 16, SHIM_SIPHASH_BYTES = 16 };

/* One end of a TCP connection, taken out of its sockaddr; unused bytes are zero. */
struct shim_tcp_end {
	uint8_t family; /* 4 or 6; a v4-mapped IPv6 address counts as 4 */
	uint8_t ip[16]; /* IPv4 in the first four bytes */
	uint16_t port;	/* host order */
	uint32_t scope; /* interface of a link-local address, else 0 */
};

/* The same bytes at both ends whatever families their sockets have; unused bytes are zero. */
struct shim_tcp_key {
	uint8_t client_ip[16]; /* IPv4 in the first four bytes, also if the socket is dual-stack */
	uint8_t server_ip[16];
	uint16_t client_port; /* host order */
	uint16_t server_port;
	uint32_t scope; /* interface of a link-local address, else 0 */
	uint8_t family; /* 4 or 6 */
	uint8_t zero[3];
};

/* The client socket of a Unix connection. */
struct shim_unix_key {
	uint64_t inode;
	uint64_t cookie;
};

/* False, and *end all zero, for anything but an IPv4 or IPv6 address. */
bool shim_tcp_end_of(const struct sockaddr_storage *address, struct shim_tcp_end *end);

/* `client`: this process called connect().  -EAFNOSUPPORT unless both are IPv4 or both IPv6. */
int shim_tcp_key_make(struct shim_tcp_key *key, const struct sockaddr_storage *local,
		      const struct sockaddr_storage *peer, bool client);

/* Is the other end on this host as far as the addresses alone can tell?  `local` may be NULL. */
bool shim_address_is_loopback(const struct sockaddr_storage *local,
			      const struct sockaddr_storage *peer);

/* SipHash-2-4 with its 128-bit result, as its authors specify it. */
void shim_siphash128(const uint8_t key[SHIM_SIPHASH_KEY_BYTES], const void *data, size_t bytes,
		     uint8_t out[SHIM_SIPHASH_BYTES]);

/* A fingerprint for naming, not a secret: the hash keys are constants. */
void shim_address_digest(const void *key, size_t bytes, uint8_t out[SHIM_DIGEST_BYTES]);

/* "\0shmipc.1." and the digest of `key` in hexadecimal.  0 or -EINVAL. */
int shim_rendezvous_name(const void *key, size_t bytes, struct sockaddr_un *out,
			 socklen_t *out_bytes);

#endif
