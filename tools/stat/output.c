/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
	CELL_BYTES = SHMIPC_STATUS_ENDPOINT_BYTES,
	COLUMNS_MAX = 18,
	TEXT_COLUMNS = 6, /* the first ones: process, connection, state */
};

static const char *const titles[COLUMNS_MAX] = {
	"PID",	   "PROGRAM", "FD",	   "ROLE",	 "STATE",   "ENDPOINT",
	"RING-TX", "RING-RX", "KERNEL-TX", "KERNEL-RX",	 "MSGS-TX", "MSGS-RX",
	"WAITS",   "WAKES",   "SPINS-WON", "SPINS-LOST", "CUTS",    "OVERFLOW",
};

/* "accelerated", or why not. */
static const char *verdict(const struct connection *connection)
{
	if (connection->state == SHMIPC_STATE_ATTACHED || connection->reason == SHMIPC_REASON_NONE)
		return shmipc_state_name(connection->state);
	return shmipc_reason_name(connection->reason);
}

/* 999, 1.23k, 45.6M: at most three digits. */
static void format_count(char *cell, uint64_t value)
{
	static const char units[] = "kMGTPE";
	double scaled = (double)value;
	size_t unit = 0;

	if (value < 1000) {
		snprintf(cell, CELL_BYTES, "%" PRIu64, value);
		return;
	}
	for (scaled /= 1000; scaled >= 999.5; scaled /= 1000)
		unit++;
	snprintf(cell, CELL_BYTES, "%.*f%c",
		 scaled < 9.995	  ? 2
		 : scaled < 99.95 ? 1
				  : 0,
		 scaled, units[unit]);
}

static void format_cell(char *cell, const struct connection *c, size_t column)
{
	const uint64_t counters[] = {
		c->ring_tx, c->ring_rx, c->kernel_tx, c->kernel_rx,  c->messages_tx, c->messages_rx,
		c->waits,   c->tokens,	c->spins_won, c->spins_lost, c->cuts,	     c->overflow,
	};

	switch (column) {
	case 0:
		snprintf(cell, CELL_BYTES, "%d", (int)c->pid);
		break;
	case 1:
		snprintf(cell, CELL_BYTES, "%s", c->program);
		break;
	case 2:
		snprintf(cell, CELL_BYTES, "%d", c->fd);
		break;
	case 3:
		snprintf(cell, CELL_BYTES, "%s", c->is_server ? "server" : "client");
		break;
	case 4:
		snprintf(cell, CELL_BYTES, "%s%s%s", c->stale ? "stale:" : "", verdict(c),
			 c->state == SHMIPC_STATE_ATTACHED && c->system_calls[0] ? ":strict" : "");
		break;
	case 5:
		snprintf(cell, CELL_BYTES, "%s", c->endpoint[0] ? c->endpoint : "-");
		break;
	default:
		format_count(cell, counters[column - TEXT_COLUMNS]);
	}
}

static void print_cell(const char *cell, size_t column, int width)
{
	int is_text = column == 1 || (column >= 3 && column < TEXT_COLUMNS);

	printf("%s%*s", column ? "  " : "", is_text ? -width : width, cell);
}

void output_table(const struct snapshot *snapshot)
{
	int widths[COLUMNS_MAX];
	char cell[CELL_BYTES];

	if (snapshot->count == 0) {
		puts("no connections");
		return;
	}
	for (size_t column = 0; column < COLUMNS_MAX; column++) {
		widths[column] = (int)strlen(titles[column]);
		for (size_t i = 0; i < snapshot->count; i++) {
			format_cell(cell, &snapshot->connections[i], column);
			if ((int)strlen(cell) > widths[column])
				widths[column] = (int)strlen(cell);
		}
	}
	for (size_t column = 0; column < COLUMNS_MAX; column++)
		print_cell(titles[column], column, widths[column]);
	putchar('\n');
	for (size_t i = 0; i < snapshot->count; i++) {
		for (size_t column = 0; column < COLUMNS_MAX; column++) {
			format_cell(cell, &snapshot->connections[i], column);
			print_cell(cell, column, widths[column]);
		}
		putchar('\n');
	}
}

/* `text` is printable ASCII already; what is left are the two characters with a meaning. */
static void print_string(const char *name, const char *text)
{
	printf("\"%s\": \"", name);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			printf("\\u%04x", (unsigned char)*text);
		else
			putchar(*text);
	}
	fputs("\", ", stdout);
}

static void print_number(const char *name, uint64_t value)
{
	printf("\"%s\": %" PRIu64 ", ", name, value);
}

static const char *family_name(uint32_t family)
{
	return family == AF_INET    ? "inet"
	       : family == AF_INET6 ? "inet6"
	       : family == AF_UNIX  ? "unix"
				    : "unknown";
}

static void print_object(const struct connection *c)
{
	printf("{\"pid\": %d, \"fd\": %d, ", (int)c->pid, c->fd);
	print_string("program", c->program);
	print_string("endpoint", c->endpoint);
	print_string("role", c->is_server ? "server" : "client");
	print_string("family", family_name(c->family));
	print_string("state", shmipc_state_name(c->state));
	print_string("reason", shmipc_reason_name(c->reason));
	print_string("system_calls", c->system_calls);
	print_number("socket_inode", c->socket_inode);
	print_number("ring_tx", c->ring_tx);
	print_number("ring_rx", c->ring_rx);
	print_number("kernel_tx", c->kernel_tx);
	print_number("kernel_rx", c->kernel_rx);
	print_number("messages_tx", c->messages_tx);
	print_number("messages_rx", c->messages_rx);
	print_number("sleeps", c->waits);
	print_number("tokens", c->tokens);
	print_number("spins_won", c->spins_won);
	print_number("spins_lost", c->spins_lost);
	print_number("cuts", c->cuts);
	print_number("overflow", c->overflow);
	printf("\"stale\": %s}", c->stale ? "true" : "false");
}

void output_json(const struct snapshot *snapshot)
{
	putchar('[');
	for (size_t i = 0; i < snapshot->count; i++) {
		fputs(i ? ",\n " : "\n ", stdout);
		print_object(&snapshot->connections[i]);
	}
	puts(snapshot->count ? "\n]" : "]");
}
