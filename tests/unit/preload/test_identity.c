/* SPDX-License-Identifier: Apache-2.0 */
// LINK: preload/identity.c preload/identity_diag.c preload/address.c
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/address.h"
#include "preload/identity.h"

/* One connection and its addresses as each end sees them. */
struct pair {
	int listener, client, server;
	struct sockaddr_storage client_local, client_peer, server_local, server_peer;
};

struct tcp_case {
	const char *bind_ip;	/* of the listener; contains ':' = AF_INET6 socket */
	const char *connect_ip; /* likewise for the client's socket */
};

static const struct tcp_case tcp_cases[] = {
	{ "127.0.0.1", "127.0.0.1" },
	{ "::1", "::1" },
	{ "::", "127.0.0.1" },		     /* dual-stack listener, IPv4 client */
	{ "::", "::ffff:127.0.0.1" },	     /* mapped at both ends */
	{ "127.0.0.1", "::ffff:127.0.0.1" }, /* IPv4 listener, mapped client */
	{ "::ffff:127.0.0.1", "127.0.0.1" }, /* listener bound to a mapped address */
	{ "::", "::1" },
	{ "0.0.0.0", "127.0.0.7" },
};

enum { TCP_CASES = sizeof(tcp_cases) / sizeof(tcp_cases[0]) };

static socklen_t make_address(struct sockaddr_storage *address, const char *ip, in_port_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	if (strchr(ip, ':')) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = port;
		assert_int_equal(inet_pton(AF_INET6, ip, &in6->sin6_addr), 1);
		return sizeof(*in6);
	}
	in->sin_family = AF_INET;
	in->sin_port = port;
	assert_int_equal(inet_pton(AF_INET, ip, &in->sin_addr), 1);
	return sizeof(*in);
}

static void note_addresses(struct pair *pair)
{
	socklen_t bytes[4] = { sizeof(pair->client_local), sizeof(pair->client_local),
			       sizeof(pair->client_local), sizeof(pair->client_local) };

	assert_int_equal(getsockname(pair->client, (void *)&pair->client_local, &bytes[0]), 0);
	assert_int_equal(getpeername(pair->client, (void *)&pair->client_peer, &bytes[1]), 0);
	assert_int_equal(getsockname(pair->server, (void *)&pair->server_local, &bytes[2]), 0);
	assert_int_equal(getpeername(pair->server, (void *)&pair->server_peer, &bytes[3]), 0);
}

static int listen_tcp(const char *ip, in_port_t *port)
{
	struct sockaddr_storage address;
	socklen_t bytes = make_address(&address, ip, 0);
	int off = 0, fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (address.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	assert_int_equal(bind(fd, (void *)&address, bytes), 0);
	assert_int_equal(listen(fd, 8), 0);
	bytes = sizeof(address);
	assert_int_equal(getsockname(fd, (void *)&address, &bytes), 0);
	*port = ((struct sockaddr_in *)&address)->sin_port; /* at one place in both families */
	return fd;
}

static void connect_tcp(struct pair *pair, const struct tcp_case *which)
{
	struct sockaddr_storage address;
	socklen_t bytes;
	in_port_t port;

	pair->listener = listen_tcp(which->bind_ip, &port);
	bytes = make_address(&address, which->connect_ip, port);
	pair->client = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(pair->client >= 0);
	assert_int_equal(connect(pair->client, (void *)&address, bytes), 0);
	pair->server = accept(pair->listener, NULL, NULL);
	assert_true(pair->server >= 0);
	note_addresses(pair);
}

static void close_pair(struct pair *pair)
{
	close(pair->client);
	close(pair->server);
	close(pair->listener);
}

static void check_same(const struct shim_socket_identity *seen, int fd)
{
	struct shim_socket_identity self;

	assert_int_equal(shim_identity_self(fd, &self), 0);
	assert_int_equal(seen->inode, self.inode);
	assert_int_equal(seen->cookie, self.cookie);
	assert_int_equal(seen->uid, self.uid);
}

static void self_is_what_the_kernel_says(void **state)
{
	struct shim_socket_identity self;
	struct stat status;
	struct pair pair;
	int other = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	connect_tcp(&pair, &tcp_cases[0]);
	assert_int_equal(shim_identity_self(pair.client, &self), 0);
	assert_int_equal(fstat(pair.client, &status), 0);
	assert_int_equal(self.inode, status.st_ino);
	assert_int_equal(self.uid, geteuid());
	assert_int_equal(self.peer_uid, SHIM_UID_UNKNOWN);
	assert_int_equal(self.state, SHIM_TCP_ESTABLISHED);
	assert_true(self.cookie != 0);
	assert_int_equal(shim_identity_self(pair.listener, &self), 0);
	assert_int_equal(self.state, SHIM_TCP_LISTEN);
	assert_int_equal(shim_identity_self(other, &self), -ENOTSOCK);
	assert_int_equal(shim_identity_self(-1, &self), -EBADF);
	close(other);
	close_pair(&pair);
}

static void inet_lookup_finds_both_ends(void **state)
{
	struct shim_socket_identity seen;

	(void)state;
	for (int i = 0; i < TCP_CASES; i++) {
		struct pair pair;

		connect_tcp(&pair, &tcp_cases[i]);
		/* each end looks up the other by its own two addresses, the other way round */
		assert_int_equal(
			shim_identity_inet_lookup(&pair.client_peer, &pair.client_local, &seen), 0);
		assert_int_equal(seen.state, SHIM_TCP_ESTABLISHED);
		check_same(&seen, pair.server);
		assert_int_equal(
			shim_identity_inet_lookup(&pair.server_peer, &pair.server_local, &seen), 0);
		assert_int_equal(seen.state, SHIM_TCP_ESTABLISHED);
		check_same(&seen, pair.client);
		/* and itself */
		assert_int_equal(
			shim_identity_inet_lookup(&pair.server_local, &pair.server_peer, &seen), 0);
		check_same(&seen, pair.server);
		close_pair(&pair);
	}
}

static void inet_lookup_does_not_take_the_listener(void **state)
{
	struct shim_socket_identity seen;

	(void)state;
	for (int i = 0; i < TCP_CASES; i++) {
		struct sockaddr_storage absent;
		struct pair pair;

		connect_tcp(&pair, &tcp_cases[i]);
		absent = pair.server_peer;
		((struct sockaddr_in *)&absent)->sin_port = htons(1);
		assert_int_equal(shim_identity_inet_lookup(&pair.server_local, &absent, &seen),
				 -ENOENT);
		assert_int_equal(shim_identity_inet_lookup(&absent, &pair.server_local, &seen),
				 -ENOENT);
		close_pair(&pair);
	}
}

static void inet_lookup_before_accept(void **state)
{
	struct shim_socket_identity seen;
	struct sockaddr_storage address, local;
	socklen_t bytes;
	in_port_t port;
	int listener = listen_tcp("127.0.0.1", &port), client, server;

	(void)state;
	bytes = make_address(&address, "127.0.0.1", port);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (void *)&address, bytes), 0);
	bytes = sizeof(local);
	assert_int_equal(getsockname(client, (void *)&local, &bytes), 0);
	assert_int_equal(shim_identity_inet_lookup(&address, &local, &seen), 0);
	assert_int_equal(seen.inode, 0);
	server = accept(listener, NULL, NULL);
	assert_int_equal(shim_identity_inet_lookup(&address, &local, &seen), 0);
	check_same(&seen, server);
	/* a dead end is not established any more, or gone */
	close(server);
	if (shim_identity_inet_lookup(&address, &local, &seen) == 0)
		assert_int_not_equal(seen.state, SHIM_TCP_ESTABLISHED);
	close(client);
	close(listener);
	address.ss_family = AF_UNIX;
	assert_int_equal(shim_identity_inet_lookup(&address, &local, &seen), -EAFNOSUPPORT);
}

/* bind_client: the client has a name, too. */
static void connect_unix(struct pair *pair, bool abstract, bool bind_client, bool do_accept)
{
	static unsigned int serial;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t bytes = sizeof(sa_family_t);

	snprintf(address.sun_path + abstract, sizeof(address.sun_path) - 1,
		 "/tmp/shmipc-identity-%d-%u", (int)getpid(), serial++);
	pair->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pair->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pair->server = -1;
	assert_true(pair->listener >= 0 && pair->client >= 0);
	assert_int_equal(bind(pair->listener, (void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(pair->listener, 4), 0);
	if (bind_client)
		assert_int_equal(bind(pair->client, (void *)&address, bytes), 0);
	assert_int_equal(connect(pair->client, (void *)&address, sizeof(address)), 0);
	if (do_accept)
		pair->server = accept(pair->listener, NULL, NULL);
	if (!abstract)
		unlink(address.sun_path);
}

static void unix_lookup_finds_the_peer(void **state)
{
	struct shim_socket_identity client, server, seen;

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct pair pair;

		connect_unix(&pair, i & 1, i >> 1, true);
		assert_int_equal(shim_identity_self(pair.client, &client), 0);
		assert_int_equal(shim_identity_self(pair.server, &server), 0);
		assert_int_equal(client.peer_uid, geteuid());
		assert_int_equal(client.peer_pid, getpid());
		assert_int_equal(client.netns_cookie, server.netns_cookie);
		assert_int_equal(shim_identity_unix_lookup(server.inode, server.cookie, &seen), 0);
		assert_int_equal(seen.state, SHIM_TCP_ESTABLISHED);
		assert_int_equal(seen.peer_inode, client.inode);
		check_same(&seen, pair.server);
		assert_int_equal(shim_identity_unix_lookup(client.inode, SHIM_COOKIE_ANY, &seen),
				 0);
		assert_int_equal(seen.peer_inode, server.inode);
		check_same(&seen, pair.client);
		assert_int_equal(shim_identity_unix_lookup(client.inode, client.cookie + 1, &seen),
				 -ESTALE);
		close_pair(&pair);
		assert_int_equal(shim_identity_unix_lookup(client.inode, client.cookie, &seen),
				 -ENOENT);
	}
	assert_int_equal(shim_identity_unix_lookup(0, 0, &seen), -ENOENT);
	assert_int_equal(shim_identity_unix_lookup(UINT64_C(1) << 32 | client.inode, 0, &seen),
			 -ENOENT);
}

static void unix_lookup_before_accept(void **state)
{
	struct shim_socket_identity client, seen;
	struct pair pair;

	(void)state;
	connect_unix(&pair, true, false, false);
	assert_int_equal(shim_identity_self(pair.client, &client), 0);
	assert_int_equal(shim_identity_unix_lookup(client.inode, client.cookie, &seen), 0);
	assert_int_equal(seen.peer_inode, 0);
	close(pair.client);
	close(pair.listener);
}

/* No look-up leaves a descriptor behind. */
static void lookups_close_what_they_open(void **state)
{
	struct shim_socket_identity self, seen;
	struct pair pair;
	int before = dup(0), after;

	(void)state;
	close(before);
	connect_tcp(&pair, &tcp_cases[0]);
	for (int i = 0; i < 8; i++) {
		shim_identity_inet_lookup(&pair.client_local, &pair.client_peer, &seen);
		shim_identity_inet_lookup(&pair.client_local, &pair.client_local, &seen);
		shim_identity_self(pair.client, &self);
		shim_identity_unix_lookup(self.inode, 0, &seen);
		shim_identity_seccomp_filtered();
	}
	close_pair(&pair);
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
}

static void nothing_is_translated_here(void **state)
{
	struct pair pair;

	(void)state;
	for (int i = 0; i < TCP_CASES; i++) {
		connect_tcp(&pair, &tcp_cases[i]);
		assert_int_equal(shim_identity_is_translated(pair.client, true), 0);
		assert_int_equal(shim_identity_is_translated(pair.server, false), 0);
		close_pair(&pair);
	}
	connect_unix(&pair, true, false, true);
	assert_int_equal(shim_identity_is_translated(pair.client, true), -EAFNOSUPPORT);
	close_pair(&pair);
}

static void check_counters(int fd, bool client_side, uint64_t sent, uint64_t received)
{
	struct shim_tcp_counters counters;
	int error = shim_identity_tcp_counters(fd, client_side, &counters);

	for (int i = 0; error == -EAGAIN && i < 100; i++) {
		usleep(1000); /* acknowledgements on their way */
		error = shim_identity_tcp_counters(fd, client_side, &counters);
	}
	assert_int_equal(error, 0);
	assert_int_equal(counters.sent, sent);
	assert_int_equal(counters.received, received);
}

/* Until EAGAIN; returns how many bytes went. */
static uint64_t fill(int fd)
{
	char block[4093]; /* odd, so that segments end anywhere */
	uint64_t total = 0;
	ssize_t got;

	memset(block, 'x', sizeof(block));
	while ((got = send(fd, block, sizeof(block), MSG_DONTWAIT)) > 0)
		total += (uint64_t)got;
	assert_int_equal(errno, EAGAIN);
	return total;
}

static uint64_t take(int fd, uint64_t bytes)
{
	char block[7919];
	uint64_t total = 0;
	ssize_t got;

	while (total < bytes) {
		size_t want = bytes - total < sizeof(block) ? bytes - total : sizeof(block);

		got = recv(fd, block, want, 0);
		assert_true(got > 0);
		total += (uint64_t)got;
	}
	return total;
}

static void counters_are_exact(void **state)
{
	(void)state;
	for (int i = 0; i < TCP_CASES; i++) {
		struct pair pair;
		uint64_t up, down, taken_up, taken_down;

		connect_tcp(&pair, &tcp_cases[i]);
		check_counters(pair.client, true, 0, 0);
		check_counters(pair.server, false, 0, 0);
		assert_int_equal(send(pair.client, "abc", 3, 0), 3);
		check_counters(pair.client, true, 3, 0);
		check_counters(pair.server, false, 0, 0);
		taken_up = take(pair.server, 2);
		check_counters(pair.server, false, 0, 2);
		/* both queues full to the brim, then half empty */
		up = 3 + fill(pair.client);
		down = fill(pair.server);
		check_counters(pair.client, true, up, 0);
		check_counters(pair.server, false, down, 2);
		taken_up += take(pair.server, up / 2);
		taken_down = take(pair.client, down / 3);
		check_counters(pair.client, true, up, taken_down);
		check_counters(pair.server, false, down, taken_up);
		taken_up += take(pair.server, up - taken_up);
		taken_down += take(pair.client, down - taken_down);
		check_counters(pair.client, true, up, taken_down);
		check_counters(pair.server, false, down, taken_up);
		close_pair(&pair);
	}
}

static void counters_do_not_count_fins(void **state)
{
	struct shim_tcp_counters counters;
	struct linger reset = { 1, 0 };
	struct pair pair;

	(void)state;
	connect_tcp(&pair, &tcp_cases[0]);
	assert_int_equal(send(pair.client, "hello", 5, 0), 5);
	assert_int_equal(shutdown(pair.client, SHUT_WR), 0);
	check_counters(pair.client, true, 5, 0);
	check_counters(pair.server, false, 0, 0);
	take(pair.server, 5);
	check_counters(pair.server, false, 0, 5);
	assert_int_equal(recv(pair.server, &reset, 1, 0), 0); /* the end has been read */
	check_counters(pair.server, false, 0, 5);
	assert_int_equal(send(pair.server, "hi", 2, 0), 2);
	check_counters(pair.server, false, 2, 5);
	check_counters(pair.client, true, 5, 0);
	close_pair(&pair);

	/* FIN behind data that the peer's full queue keeps back */
	connect_tcp(&pair, &tcp_cases[1]);
	uint64_t up = fill(pair.client);

	assert_int_equal(shutdown(pair.client, SHUT_WR), 0);
	check_counters(pair.client, true, up, 0);
	check_counters(pair.server, false, 0, 0);
	take(pair.server, up);
	check_counters(pair.server, false, 0, up);
	check_counters(pair.client, true, up, 0);
	close_pair(&pair);

	connect_tcp(&pair, &tcp_cases[0]);
	reset.l_onoff = 1;
	setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(pair.client);
	assert_int_equal(shim_identity_tcp_counters(pair.server, false, &counters), -ENOTCONN);
	assert_int_equal(counters.state, SHIM_TCP_CLOSE);
	assert_int_equal(shim_identity_tcp_counters(pair.listener, false, &counters), -ENOTCONN);
	close(pair.server);
	close(pair.listener);
}

/* In a child each, since the answer is remembered. */
static int child_sees_filter(int kind)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (kind == 1 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
				  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)))
			_exit(99);
		if (kind == 2)
			shim_identity_seccomp_installed();
		_exit(shim_identity_seccomp_filtered() ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WEXITSTATUS(status);
}

static void seccomp_is_seen(void **state)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[256];
	int mode = -1;

	(void)state;
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		sscanf(line, "Seccomp: %d", &mode);
	fclose(file);
	assert_int_equal(child_sees_filter(0), mode != 0);
	assert_int_equal(child_sees_filter(1), 1);
	assert_int_equal(child_sees_filter(2), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seccomp_is_seen), /* before this process remembers an answer */
		cmocka_unit_test(self_is_what_the_kernel_says),
		cmocka_unit_test(inet_lookup_finds_both_ends),
		cmocka_unit_test(inet_lookup_does_not_take_the_listener),
		cmocka_unit_test(inet_lookup_before_accept),
		cmocka_unit_test(unix_lookup_finds_the_peer),
		cmocka_unit_test(unix_lookup_before_accept),
		cmocka_unit_test(lookups_close_what_they_open),
		cmocka_unit_test(nothing_is_translated_here),
		cmocka_unit_test(counters_are_exact),
		cmocka_unit_test(counters_do_not_count_fins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
