/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "core/sys.h"

enum { BACKLOG = 4096 };

static int parse_unix(const char *path, struct shmipc_address *out)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&out->storage;
	size_t bytes = strlen(path);

	if (bytes == 0 || (path[0] == '@' && bytes == 1))
		return -EINVAL;
	if (bytes >= sizeof(un->sun_path))
		return -ENAMETOOLONG;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, bytes + 1);
	out->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
	if (path[0] == '@')
		un->sun_path[0] = 0;
	else
		out->bytes++;
	return 0;
}

static int parse_port(const char *text, in_port_t *out)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || port > 65535)
		return -EINVAL;
	*out = htons((uint16_t)port);
	return 0;
}

static int parse_tcp(const char *text, struct shmipc_address *out)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&out->storage;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->storage;
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t bytes;

	if (!colon || (bytes = (size_t)(colon - text)) >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, bytes);
	host[bytes] = 0;
	if (bytes > 2 && host[0] == '[' && host[bytes - 1] == ']') {
		host[bytes - 1] = 0;
		in6->sin6_family = AF_INET6;
		out->bytes = sizeof(*in6);
		return inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1
			       ? parse_port(colon + 1, &in6->sin6_port)
			       : -EINVAL;
	}
	in->sin_family = AF_INET;
	out->bytes = sizeof(*in);
	return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? parse_port(colon + 1, &in->sin_port)
							    : -EINVAL;
}

int shmipc_address_parse(const char *text, struct shmipc_address *out)
{
	memset(out, 0, sizeof(*out));
	if (text && strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, out);
	if (text && strncmp(text, "tcp:", 4) == 0)
		return parse_tcp(text + 4, out);
	return -EINVAL;
}

bool shmipc_address_is_unix(const struct shmipc_address *address)
{
	return address->storage.ss_family == AF_UNIX;
}

const char *shmipc_address_path(const struct shmipc_address *address)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;

	return shmipc_address_is_unix(address) && un->sun_path[0] ? un->sun_path : NULL;
}

int shmipc_address_of(int fd, char text[SHMIPC_ADDRESS_TEXT_ROOM])
{
	struct sockaddr_storage storage = { 0 };
	const struct sockaddr_un *un = (const struct sockaddr_un *)&storage;
	const struct sockaddr_in *in = (const struct sockaddr_in *)&storage;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&storage;
	socklen_t bytes = sizeof(storage) - 1; /* a path may come without its NUL */
	char host[INET6_ADDRSTRLEN];
	int error = sys_getsockname(fd, &storage, &bytes);

	if (error)
		return error;
	if (storage.ss_family == AF_UNIX) {
		size_t path = bytes - offsetof(struct sockaddr_un, sun_path);

		if (path > 0 && !un->sun_path[0])
			snprintf(text, SHMIPC_ADDRESS_TEXT_ROOM, "unix:@%.*s", (int)path - 1,
				 un->sun_path + 1);
		else
			snprintf(text, SHMIPC_ADDRESS_TEXT_ROOM, "unix:%.*s", (int)path,
				 un->sun_path);
	} else if (storage.ss_family == AF_INET) {
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, SHMIPC_ADDRESS_TEXT_ROOM, "tcp:%s:%u", host, ntohs(in->sin_port));
	} else if (storage.ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, SHMIPC_ADDRESS_TEXT_ROOM, "tcp:[%s]:%u", host,
			 ntohs(in6->sin6_port));
	} else {
		return -EAFNOSUPPORT;
	}
	return 0;
}

int shmipc_address_connect(const struct shmipc_address *address, bool *pending_out)
{
	int fd = sys_socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			    0);
	int error;

	if (fd < 0)
		return fd;
	do
		error = sys_connect(fd, &address->storage, address->bytes);
	while (error == -EINTR);
	*pending_out = error == -EINPROGRESS;
	if (error && error != -EINPROGRESS) {
		sys_close(fd);
		return error;
	}
	return fd;
}

/* Nobody behind the path any more? */
static bool is_stale(const struct shmipc_address *address)
{
	bool pending;
	int fd = shmipc_address_connect(address, &pending);

	if (fd >= 0)
		sys_close(fd);
	return fd == -ECONNREFUSED;
}

/* Binds beside the path and moves the new socket over the old one: there is no moment at which a
 * client is refused. */
static int bind_over(int fd, const struct shmipc_address *address)
{
	struct shmipc_address beside = *address;
	struct sockaddr_un *un = (struct sockaddr_un *)&beside.storage;
	const char *path = shmipc_address_path(address);
	int error;

	if (snprintf(un->sun_path, sizeof(un->sun_path), "%s.%x", path,
		     (unsigned int)sys_gettid()) >= (int)sizeof(un->sun_path))
		return -ENAMETOOLONG;
	beside.bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(un->sun_path) +
				   1);
	sys_unlink(un->sun_path);
	error = sys_bind(fd, &beside.storage, beside.bytes);
	if (!error)
		error = sys_listen(fd, BACKLOG);
	if (!error)
		error = sys_rename(un->sun_path, path);
	if (error)
		sys_unlink(un->sun_path);
	return error;
}

static int bind_and_listen(int fd, const struct shmipc_address *address, bool replace)
{
	const char *path = shmipc_address_path(address);
	int error, on = 1;

	if (!shmipc_address_is_unix(address))
		sys_setsockopt(fd, SOL_SOCKET, replace ? SO_REUSEPORT : SO_REUSEADDR, &on,
			       sizeof(on));
	if (path && replace)
		return bind_over(fd, address);
	error = sys_bind(fd, &address->storage, address->bytes);
	if (error == -EADDRINUSE && path && is_stale(address))
		return bind_over(fd, address);
	return error ? error : sys_listen(fd, BACKLOG);
}

int shmipc_address_listen(const struct shmipc_address *address, bool replace)
{
	int fd = sys_socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			    0);
	int error;

	if (fd < 0)
		return fd;
	error = bind_and_listen(fd, address, replace);
	if (error) {
		sys_close(fd);
		return error;
	}
	return fd;
}
