/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tables.h"

/* The text of a table is another process's: it may be torn, unterminated or made to annoy a
 * terminal. */
static void make_printable(char *text, size_t bytes)
{
	text[bytes - 1] = '\0';
	for (; *text; text++) {
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

static void read_program(pid_t pid, char program[PROGRAM_BYTES])
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, program, PROGRAM_BYTES - 1);
		close(fd);
	}
	if (n > 0 && program[n - 1] == '\n')
		n--;
	if (n <= 0)
		program[(n = 1) - 1] = '-';
	program[n] = '\0';
	make_printable(program, PROGRAM_BYTES);
}

/* Acquire, so that the second look at `used` is the last load of all: no full fence, which
 * sanitizers do not know. */
#define LOAD(word) atomic_load_explicit(&(word), memory_order_acquire)

static void copy_row(struct connection *to, struct shmipc_status_row *row)
{
	to->pid = (pid_t)LOAD(row->pid);
	to->fd = LOAD(row->fd);
	to->is_server = LOAD(row->is_server) != 0;
	to->state = LOAD(row->state);
	to->reason = LOAD(row->reason);
	to->family = LOAD(row->family);
	to->socket_inode = LOAD(row->socket_inode);
	memcpy(to->endpoint, row->endpoint, sizeof(to->endpoint));
	to->system_calls[0] = LOAD(row->system_calls) != 0;
	to->ring_tx = LOAD(row->tx.ring_bytes);
	to->ring_rx = LOAD(row->rx.ring_bytes);
	to->kernel_tx = LOAD(row->tx.kernel_bytes);
	to->kernel_rx = LOAD(row->rx.kernel_bytes);
	to->messages_tx = LOAD(row->tx.ring_messages);
	to->messages_rx = LOAD(row->rx.ring_messages);
	to->tokens = LOAD(row->tx.tokens);
	to->cuts = LOAD(row->tx.cuts);
	to->overflow = LOAD(row->tx.overflow);
	to->waits = LOAD(row->rx.waits);
	to->spins_won = LOAD(row->rx.spins_won);
	to->spins_lost = LOAD(row->rx.spins_lost);
}

/* False if the row describes nothing, or changed hands while it was read (a short connection). */
static bool read_row(struct connection *to, struct shmipc_status_row *row)
{
	uint32_t used = LOAD(row->used);

	if (!(used & 1))
		return false;
	memset(to, 0, sizeof(*to));
	copy_row(to, row);
	if (LOAD(row->used) != used || to->pid <= 0)
		return false;
	make_printable(to->endpoint, sizeof(to->endpoint));
	return true;
}

/* Rows name processes as these name themselves: translate to our PID namespace. */
static void settle_process(struct connection *connection, const struct table *table)
{
	const struct holder *holder = table_holder(table, connection->pid);

	if (holder)
		connection->pid = holder->pid;
	else
		/* perhaps a worker under another user, whose descriptors we may not list */
		connection->stale = kill(connection->pid, 0) < 0 && errno == ESRCH;
	if (connection->stale)
		strcpy(connection->program, "-");
	else
		read_program(connection->pid, connection->program);
}

/* Whoever reads the row's word finds the name written. */
static void settle_system_calls(struct connection *connection, const struct table *table)
{
	if (!connection->system_calls[0])
		return;
	memcpy(connection->system_calls, table->status.header->object,
	       sizeof(connection->system_calls));
	make_printable(connection->system_calls, sizeof(connection->system_calls));
}

static int append(struct snapshot *snapshot, const struct connection *connection)
{
	if (snapshot->count == snapshot->room) {
		size_t room = snapshot->room ? 2 * snapshot->room : 64;
		struct connection *grown = realloc(snapshot->connections, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		snapshot->connections = grown;
		snapshot->room = room;
	}
	snapshot->connections[snapshot->count++] = *connection;
	return 0;
}

static int read_table(struct snapshot *snapshot, const struct table *table,
		      const struct snapshot_filter *filter)
{
	uint32_t rows = atomic_load_explicit(&table->status.header->rows_touched,
					     memory_order_acquire);

	if (rows > table->status.row_count)
		rows = table->status.row_count;
	for (uint32_t i = 0; i < rows; i++) {
		struct connection connection;
		int error;

		if (!read_row(&connection, &table->status.rows[i]))
			continue;
		settle_process(&connection, table);
		settle_system_calls(&connection, table);
		if (filter->pid && connection.pid != filter->pid)
			continue;
		if (connection.stale && !filter->stale_too)
			continue;
		error = append(snapshot, &connection);
		if (error)
			return error;
	}
	return 0;
}

static int by_pid_and_fd(const void *left, const void *right)
{
	const struct connection *a = left;
	const struct connection *b = right;

	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	return (a->fd > b->fd) - (a->fd < b->fd);
}

int snapshot_take(struct snapshot *snapshot, const struct snapshot_filter *filter)
{
	struct tables tables;
	int error = tables_find(&tables);

	*snapshot = (struct snapshot){ 0 };
	for (size_t i = 0; !error && i < tables.count; i++)
		error = read_table(snapshot, &tables.list[i], filter);
	tables_free(&tables);
	if (snapshot->count > 1)
		qsort(snapshot->connections, snapshot->count, sizeof(*snapshot->connections),
		      by_pid_and_fd);
	return error;
}

void snapshot_free(struct snapshot *snapshot)
{
	free(snapshot->connections);
	*snapshot = (struct snapshot){ 0 };
}
