/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of many cases. */
#include "tests/conformance/lib/conf.h"

enum { ROUNDS = 50, ROUND_BYTES = 100 };

void goes_on_server(int fd)
{
	tell(0);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		recv_pat(fd, ROUND_BYTES, i);
		send_pat(fd, ROUND_BYTES, i);
	}
	obs("close", close(fd));
	both();
}

void goes_on_client(int fd)
{
	char byte;

	await();
	for (uint64_t i = 0; i < ROUNDS; i++) {
		send_pat(fd, ROUND_BYTES, i);
		recv_pat(fd, ROUND_BYTES, i);
	}
	obs("recv", recv(fd, &byte, 1, 0));
	both();
}

void drain_client(int fd)
{
	char *bytes = big_buffer();
	ssize_t n;

	await();
	while ((n = recv(fd, bytes, CONF_BIG, 0)) > 0)
		;
	obs("last", n);
	both();
}
