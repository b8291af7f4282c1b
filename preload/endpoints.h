/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which connections the user wants accelerated: the SHMIPC_ENDPOINTS list, parsed once and then
 * only read.  Nothing here allocates, asks the DNS or touches a descriptor.
 */
#ifndef SHMIPC_PRELOAD_ENDPOINTS_H
#define SHMIPC_PRELOAD_ENDPOINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
	SHIM_ENDPOINTS_MAX = 64,       /* entries; more are complained about and ignored */
	SHIM_ENDPOINT_ENTRY_MAX = 160, /* bytes of one entry's text */
	SHIM_ENDPOINT_TEXT_MAX = 512,  /* a buffer in which shim_endpoint_text() never truncates */
	SHIM_ENDPOINT_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path)
};

enum shim_endpoint_kind {
	SHIM_ENDPOINT_TCP_ANY,	     /* tcp:*:PORT */
	SHIM_ENDPOINT_TCP_ADDRESS,   /* tcp:HOST:PORT */
	SHIM_ENDPOINT_TCP_LOCALHOST, /* tcp:localhost:PORT: 127.0.0.1 and ::1 */
	SHIM_ENDPOINT_UNIX_ANY,	     /* unix:* (any named socket) */
	SHIM_ENDPOINT_UNIX_PATH,     /* unix:/path */
	SHIM_ENDPOINT_UNIX_ABSTRACT  /* unix:@name */
};

struct shim_endpoint {
	enum shim_endpoint_kind kind;
	bool exclude;
	uint16_t port;	/* host order; 0 = any */
	uint8_t family; /* of ip, as in struct shim_tcp_end */
	uint8_t ip[16];
	uint16_t path_bytes; /* of path, without a NUL and without the '@' */
	char path[SHIM_ENDPOINT_PATH_MAX + 1];
};

struct shim_endpoints {
	unsigned int count;
	struct shim_endpoint entries[SHIM_ENDPOINTS_MAX];
};

/*
 * Parse `text` (may be NULL).  A malformed entry is reported once to `complain` (may be NULL) and
 * skipped.  Returns the number of entries accepted.
 */
int shim_endpoints_parse(struct shim_endpoints *list, const char *text,
			 void (*complain)(const char *entry, const char *why));

/*
 * Is this endpoint wanted?  `address` is the listener side's address: its peer's for a client, its
 * own for a server.  An excluding entry wins wherever it stands.
 */
bool shim_endpoints_match(const struct shim_endpoints *list, const struct sockaddr_storage *address,
			  socklen_t bytes);

/*
 * `tcp:127.0.0.1:80`, `tcp:[::1]:80`, `unix:/path`, `unix:@name`, `unix:` (unnamed) or `family:N`;
 * bytes outside printable ASCII, space and backslash become \xNN, so that it is one word of a log
 * line.  Always NUL-terminated.  Returns its length, or -ENOSPC when it was truncated.
 */
int shim_endpoint_text(const struct sockaddr_storage *address, socklen_t bytes, char *text,
		       size_t text_bytes);

#endif
