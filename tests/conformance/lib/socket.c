/* SPDX-License-Identifier: Apache-2.0 */
/* How the two roles get their connection, and the traffic that makes it worth accelerating. */
#include "tests/conformance/lib/conf.h"
#include "tests/conformance/lib/main.h"

#include <arpa/inet.h>

static void fatal(const char *what)
{
	obs(what, -1);
	exit(3);
}

int conf_socket(int type_flags)
{
	int fd = socket(conf.is_tcp ? AF_INET : AF_UNIX, SOCK_STREAM | type_flags, 0);

	if (fd < 0)
		fatal("socket");
	return fd;
}

static void name_from_address(void)
{
	if (conf.is_tcp) {
		struct sockaddr_in *in = (struct sockaddr_in *)&conf.name;

		in->sin_family = AF_INET;
		inet_pton(AF_INET, conf.address, &in->sin_addr);
		conf.name_len = sizeof(*in);
	} else {
		struct sockaddr_un *un = (struct sockaddr_un *)&conf.name;

		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%s", conf.address);
		conf.name_len = sizeof(*un);
	}
}

/* The kernel chooses the port; the client learns it by the side channel. */
int conf_listen(void)
{
	int fd = conf_socket(0);

	name_from_address();
	if (bind(fd, (struct sockaddr *)&conf.name, conf.name_len) < 0)
		fatal("bind");
	if (listen(fd, 16) < 0)
		fatal("listen");
	getsockname(fd, (struct sockaddr *)&conf.name, &conf.name_len);
	if (conf.is_tcp)
		tell(((struct sockaddr_in *)&conf.name)->sin_port);
	else
		tell(0);
	return fd;
}

int conf_connect(void)
{
	int fd = conf_socket(0);

	if (connect(fd, (struct sockaddr *)&conf.name, conf.name_len) < 0)
		fatal("connect");
	return fd;
}

int conf_accept(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		fatal("accept");
	return fd;
}

void conf_learn_name(void)
{
	uint64_t port = await();

	name_from_address();
	if (conf.is_tcp)
		((struct sockaddr_in *)&conf.name)->sin_port = (in_port_t)port;
}

/* Blocking ping-pong; afterwards nothing is in flight and the roles are in step. */
void warm_up(int fd, int rounds)
{
	unsigned char bytes[CONF_WARM_BYTES];
	bool good = true;

	for (int i = 0; i < rounds; i++) {
		uint64_t position = (uint64_t)i * CONF_WARM_BYTES;

		if (!conf.is_server) {
			pat_fill(bytes, sizeof(bytes), position);
			send_exact(fd, bytes, sizeof(bytes));
		}
		good = good && recv_exact(fd, bytes, sizeof(bytes)) == CONF_WARM_BYTES &&
		       pat_good(bytes, sizeof(bytes), position);
		if (conf.is_server)
			send_exact(fd, bytes, sizeof(bytes));
	}
	if (!good)
		obs_text("warm-up: WRONG bytes");
	both();
}

void set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

bool ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	long end = now_ms() + CONF_WAIT_MS;
	int saved = errno;

	/* HUP and ERR are always reported: poll() alone would not wait for an event beside them. */
	while (now_ms() < end) {
		if (poll(&p, 1, 100) > 0 && (p.revents & events))
			break;
		if (p.revents)
			nap_ms(1);
	}
	errno = saved;
	return p.revents & events;
}
