/* SPDX-License-Identifier: Apache-2.0 */
/* squat hold|silent|garbage CLIENT_PORT SERVER_PORT: takes the rendezvous name of a connection over
 * 127.0.0.1 before its client can.  hold: nobody is accepted; silent: accepted and never answered;
 * garbage: answered with nonsense. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/address.h"

static struct sockaddr_storage loopback(const char *port)
{
	struct sockaddr_storage address = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&address;

	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	in->sin_port = htons((uint16_t)atoi(port));
	return address;
}

static int take_name(const char *client_port, const char *server_port)
{
	const struct sockaddr_storage client = loopback(client_port),
				      server = loopback(server_port);
	uint8_t digest[SHIM_DIGEST_BYTES];
	struct shim_tcp_key key;
	struct sockaddr_un name;
	socklen_t bytes;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (shim_tcp_key_make(&key, &client, &server, true) < 0)
		return -1;
	shim_address_digest(&key, sizeof(key), digest);
	if (shim_rendezvous_name(digest, sizeof(digest), &name, &bytes) < 0 ||
	    bind(fd, (const struct sockaddr *)&name, bytes) < 0 || listen(fd, 4) < 0)
		return -1;
	return fd;
}

int main(int count, char **arguments)
{
	static const char
		garbage[] = "GET / HTTP/1.0\r\n\r\n and so on, for longer than any header is";
	int fd = count == 4 ? take_name(arguments[2], arguments[3]) : -1;

	if (fd < 0) {
		perror("squat");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	while (strcmp(arguments[1], "hold") != 0) {
		int channel = accept(fd, NULL, NULL);

		if (strcmp(arguments[1], "garbage") == 0 &&
		    write(channel, garbage, sizeof(garbage)) == (ssize_t)sizeof(garbage))
			close(channel);
	}
	for (;;)
		pause();
}
