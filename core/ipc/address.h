/* SPDX-License-Identifier: Apache-2.0 */
/* "unix:/path", "unix:@abstract", "tcp:127.0.0.1:7000", "tcp:[::1]:7000". */
#ifndef SHMIPC_CORE_IPC_ADDRESS_H
#define SHMIPC_CORE_IPC_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

struct shmipc_address {
	struct sockaddr_storage storage;
	socklen_t bytes;
};

enum { SHMIPC_ADDRESS_TEXT_ROOM = 160 };

/* -EINVAL: not an address; -ENAMETOOLONG: does not fit into a sockaddr_un. */
int shmipc_address_parse(const char *text, struct shmipc_address *out);
/* Of the socket's own end; "unix:" if it has no name. */
int shmipc_address_of(int fd, char text[SHMIPC_ADDRESS_TEXT_ROOM]);
bool shmipc_address_is_unix(const struct shmipc_address *address);
/* NULL unless it is a Unix path. */
const char *shmipc_address_path(const struct shmipc_address *address);

/* A nonblocking, close-on-exec socket whose connect() is done or under way (*pending_out). */
int shmipc_address_connect(const struct shmipc_address *address, bool *pending_out);
/* A nonblocking, close-on-exec listening socket.  A path that nobody listens on is replaced;
 * `replace`: also one where somebody does, at one instant. */
int shmipc_address_listen(const struct shmipc_address *address, bool replace);

#endif
