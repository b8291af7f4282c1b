/* SPDX-License-Identifier: Apache-2.0 */
/* Signal handlers that fork while their thread sleeps in a call: it returns in both processes. */
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP, FIRST_MS = 150, CHILD_LIVES_MS = 1500, TRIPS = 40 };

static volatile pid_t child = -1;

static void fork_in_handler(int signo)
{
	(void)signo;
	if (child == -1)
		child = fork();
}

static void fork_soon(void)
{
	struct sigaction a = { .sa_handler = fork_in_handler, .sa_flags = SA_RESTART };
	struct itimerval t = { { 0, 0 }, { 0, FIRST_MS / 3 * 1000 } };

	sigaction(SIGALRM, &a, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
}

static void receive_one(int fd)
{
	char byte;

	while (recv(fd, &byte, 1, 0) < 0 && errno == EINTR)
		;
}

/* Each of the two takes a byte, then the child closes, and lives on.  The parent's later waits are
 * woken as before. */
static void return_twice(int fd)
{
	int status = 0;

	receive_one(fd);
	if (child == 0) {
		close(fd);
		nap_ms(CHILD_LIVES_MS);
		_exit(0);
	}
	tell(0);
	for (int i = 0; i < TRIPS; i++) {
		receive_one(fd);
		send_pat(fd, 1, 0);
	}
	close(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
}

static void receive_server(int fd)
{
	fork_soon();
	return_twice(fd);
}

static void poll_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	fork_soon();
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	return_twice(fd);
}

static void client(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int result;

	nap_ms(FIRST_MS);
	send_pat(fd, 1, 0);
	nap_ms(FIRST_MS / 3);
	send_pat(fd, 1, 1);
	await();
	nap_ms(FIRST_MS / 3);
	for (int i = 0; i < TRIPS; i++) {
		nap_ms(1);
		send_pat(fd, 1, 0);
		recv_pat(fd, 1, 0);
	}
	result = poll(&p, 1, CHILD_LIVES_MS / 3);
	obs_poll("end", result, p.revents);
	recv_to_eof(fd, 0);
}
CASE("handlers_fork.receive", receive_server, client, ANY);
CASE("handlers_fork.poll", poll_server, client, ANY);
