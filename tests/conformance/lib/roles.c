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

void on_demand_client(int fd)
{
	uint64_t position = 0, when;
	int on = 1;

	if (conf.is_tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	while ((when = await()) < NO_MORE) {
		if (when == WHEN_ASLEEP)
			nap_ms(CONF_NAP_MS);
		send_pat(fd, 10, position);
		position += 10;
		tell(0);
	}
}

void demand(void)
{
	tell(AT_ONCE);
	await();
}

void half_closes_client(int fd)
{
	await();
	send_pat(fd, 100, 0);
	shutdown(fd, SHUT_WR);
	tell(0);
	await();
}
