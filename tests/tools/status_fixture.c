/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for a program under the shim: makes a status table with known rows, says "ready", and
 * waits for its standard input to end.  The rows: one accelerated, one plain, one candidate with
 * torn text, one of a process that is gone, one half-made.  A forked child shares the table and
 * owns one more.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/status.h"

static struct shmipc_status table;

static struct shmipc_status_row *add(pid_t pid, int fd, uint32_t state, uint32_t reason,
				     const char *endpoint)
{
	struct shmipc_status_row *row = shmipc_status_take(&table, 0);

	row->fd = fd;
	row->state = state;
	row->reason = reason;
	row->family = AF_INET;
	strncpy(row->endpoint, endpoint, sizeof(row->endpoint) - 1);
	row->pid = (uint32_t)pid;
	return row;
}

static void fill(void)
{
	struct shmipc_status_row *row;
	pid_t gone = fork();

	if (gone == 0)
		_exit(0);
	waitpid(gone, NULL, 0);
	row = add(getpid(), 5, SHMIPC_STATE_ATTACHED, SHMIPC_REASON_NONE, "tcp:127.0.0.1:5201");
	row->is_server = 1;
	strcpy(table.header->object, "/lib/rust\n.so");
	row->system_calls = 1;
	shmipc_count(&row->tx.ring_bytes, 12345678901234567);
	shmipc_count(&row->rx.spins_won, 42);
	add(getpid(), 6, SHMIPC_STATE_PLAIN, SHMIPC_REASON_PEER_PLAIN, "unix:/tmp/a\"b\\c");
	row = add(getpid(), 7, SHMIPC_STATE_CANDIDATE, SHMIPC_REASON_YOUNG, "");
	memset(row->endpoint, 'x', sizeof(row->endpoint)); /* no end */
	memcpy(row->endpoint, "\033[2J\n\xff", 6);
	add(gone, 8, SHMIPC_STATE_ATTACHED, SHMIPC_REASON_NONE, "tcp:gone:1");
	shmipc_status_take(&table, 0); /* no pid yet */
}

int main(void)
{
	pid_t child;
	int fd, c;

	if (shmipc_status_create(&table, &fd))
		return 1;
	fill();
	child = fork();
	if (child == 0) {
		add(getpid(), 9, SHMIPC_STATE_PLAIN, 9999, "tcp:[::1]:80");
		puts("ready");
		fflush(stdout);
		pause();
		_exit(0);
	}
	do {
		c = getchar();
	} while (c != EOF);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}
