/* SPDX-License-Identifier: Apache-2.0 */
#include "summary.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
	ENDPOINT_BYTES = 128,
	REASON_BYTES = 24,
	REASONS_MAX = 8,
	GROUPS_MAX = 256, /* what comes after is one more group, "(others)" */
};

struct reason {
	char name[REASON_BYTES];
	uint64_t count;
};

/* The connections of one endpoint in one role. */
struct group {
	char endpoint[ENDPOINT_BYTES];
	char role[8];
	uint64_t connections, accelerated;
	uint64_t ring_tx, ring_rx, kernel_tx, kernel_rx;
	uint64_t tokens, sleeps, spins_won, spins_lost;
	struct reason reasons[REASONS_MAX];
};

struct summary {
	struct group groups[GROUPS_MAX + 1];
	size_t count;
};

/* The value of ` key=` in the line, cut to fit; "" if it is not there. */
static const char *field(const char *line, const char *key, char *value, size_t value_bytes)
{
	size_t key_bytes = strlen(key), n = 0;
	const char *at = line;

	while ((at = strstr(at, key))) {
		if (at > line && at[-1] == ' ' && at[key_bytes] == '=')
			break;
		at += key_bytes;
	}
	if (at) {
		at += key_bytes + 1;
		n = strcspn(at, " \n");
		if (n >= value_bytes)
			n = value_bytes - 1;
		memcpy(value, at, n);
	}
	value[n] = '\0';
	return value;
}

static uint64_t number(const char *line, const char *key)
{
	char text[32];

	return strtoull(field(line, key, text, sizeof(text)), NULL, 10);
}

static struct group *find_group(struct summary *summary, const char *line)
{
	char endpoint[ENDPOINT_BYTES], role[8];
	struct group *group;

	field(line, "endpoint", endpoint, sizeof(endpoint));
	field(line, "role", role, sizeof(role));
	for (size_t i = 0; i < summary->count; i++) {
		group = &summary->groups[i];
		if (strcmp(group->endpoint, endpoint) == 0 && strcmp(group->role, role) == 0)
			return group;
	}
	if (summary->count == GROUPS_MAX) {
		group = &summary->groups[GROUPS_MAX];
		strcpy(group->endpoint, "(others)");
		strcpy(group->role, "-");
		return group;
	}
	group = &summary->groups[summary->count++];
	strcpy(group->endpoint, endpoint);
	strcpy(group->role, role);
	return group;
}

static void count_reason(struct group *group, const char *line)
{
	char name[REASON_BYTES];

	field(line, "reason", name, sizeof(name));
	for (size_t i = 0; name[0] && i < REASONS_MAX; i++) {
		struct reason *reason = &group->reasons[i];

		if (reason->count == 0)
			strcpy(reason->name, name);
		if (strcmp(reason->name, name) == 0) {
			reason->count++;
			return;
		}
	}
}

static void count_closed(struct group *group, const char *line)
{
	uint64_t ring_tx = number(line, "ring_tx"), ring_rx = number(line, "ring_rx");

	group->connections++;
	group->accelerated += ring_tx + ring_rx > 0;
	group->ring_tx += ring_tx;
	group->ring_rx += ring_rx;
	group->kernel_tx += number(line, "kernel_tx");
	group->kernel_rx += number(line, "kernel_rx");
	group->tokens += number(line, "tokens");
	group->sleeps += number(line, "sleeps");
	group->spins_won += number(line, "spins_won");
	group->spins_lost += number(line, "spins_lost");
}

static void read_log(struct summary *summary, FILE *log)
{
	char line[4096], event[32];

	while (fgets(line, sizeof(line), log)) {
		if (strncmp(line, "shmipc: ", 8) != 0)
			continue;
		field(line, "event", event, sizeof(event));
		if (strcmp(event, "closed") == 0)
			count_closed(find_group(summary, line), line);
		else if (strcmp(event, "plain") == 0)
			count_reason(find_group(summary, line), line);
	}
}

static void print_group(const struct group *group, FILE *to)
{
	fprintf(to,
		"shmipc-run: endpoint=%s role=%s connections=%" PRIu64 " accelerated=%" PRIu64
		" ring_tx=%" PRIu64 " ring_rx=%" PRIu64 " kernel_tx=%" PRIu64 " kernel_rx=%" PRIu64
		" tokens=%" PRIu64 " sleeps=%" PRIu64 " spins_won=%" PRIu64 " spins_lost=%" PRIu64,
		group->endpoint, group->role, group->connections, group->accelerated,
		group->ring_tx, group->ring_rx, group->kernel_tx, group->kernel_rx, group->tokens,
		group->sleeps, group->spins_won, group->spins_lost);
	for (size_t i = 0; i < REASONS_MAX && group->reasons[i].count; i++)
		fprintf(to, "%s%s:%" PRIu64, i ? "," : " plain=", group->reasons[i].name,
			group->reasons[i].count);
	fputc('\n', to);
}

void summary_print(FILE *log, FILE *to)
{
	struct summary *summary = calloc(1, sizeof(*summary));

	if (!summary) {
		fputs("shmipc-run: no memory for the summary\n", to);
		return;
	}
	read_log(summary, log);
	for (size_t i = 0; i <= GROUPS_MAX; i++) {
		if (i < summary->count || summary->groups[i].endpoint[0])
			print_group(&summary->groups[i], to);
	}
	if (summary->count == 0)
		fputs("shmipc-run: no connections\n", to);
	free(summary);
}
