/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/load/address.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/load/load.h"

enum { BACKLOG = 4096, PORT_MAX = 65535 };

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
};

static socklen_t parse_unix(const char *path, union address *address)
{
	if (strlen(path) >= sizeof(address->un.sun_path))
		load_fail("the path is too long");
	address->un.sun_family = AF_UNIX;
	memcpy(address->un.sun_path, path, strlen(path) + 1);
	return sizeof(address->un);
}

static socklen_t parse_tcp(const char *text, union address *address)
{
	const char *colon = strrchr(text, ':');
	char host[INET_ADDRSTRLEN] = "";
	long port;

	if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
		load_fail("not tcp:HOST:PORT");
	memcpy(host, text, (size_t)(colon - text));
	port = strtol(colon + 1, NULL, 10);
	if (port < 1 || port > PORT_MAX || inet_pton(AF_INET, host, &address->in.sin_addr) != 1)
		load_fail("not tcp:HOST:PORT");
	address->in.sin_family = AF_INET;
	address->in.sin_port = htons((uint16_t)port);
	return sizeof(address->in);
}

static socklen_t parse(const char *text, union address *address)
{
	memset(address, 0, sizeof(*address));
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, address);
	if (strncmp(text, "tcp:", 4) == 0)
		return parse_tcp(text + 4, address);
	load_fail("an address is tcp:HOST:PORT or unix:PATH");
}

static int new_socket(const union address *address)
{
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		load_fail("socket");
	if (address->any.sa_family == AF_INET &&
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		load_fail("TCP_NODELAY");
	return fd;
}

int address_listen(const char *text)
{
	union address address;
	socklen_t length = parse(text, &address);
	int fd = new_socket(&address);
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		load_fail("SO_REUSEADDR");
	if (bind(fd, &address.any, length) < 0)
		load_fail("bind");
	if (listen(fd, BACKLOG) < 0)
		load_fail("listen");
	return fd;
}

int address_connect(const char *text)
{
	union address address;
	socklen_t length = parse(text, &address);
	int fd = new_socket(&address);

	if (connect(fd, &address.any, length) < 0)
		load_fail("connect");
	return fd;
}
