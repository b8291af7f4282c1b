/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a transcript; script_play.c plays it. */
#include "tests/unit/ipc/script.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/ipc/golden.h"

enum { CONNECTIONS_MAX = 2, LINE_ROOM = 4096, NAME_ROOM = 256, POLLING = 1, FALLBACK_DATA = 3 };

void script_fail(const char *what, const char *scenario)
{
	fprintf(stderr, "script: %s: %s\n", scenario, what);
	abort();
}

static void take_message(struct script *script, const char *text)
{
	struct script_line *line = &script->lines[script->line_count];
	char direction[8], type[8];
	unsigned int byte;
	int at = 0;

	if (script->line_count == SCRIPT_LINES_MAX ||
	    sscanf(text, "M %*u %u %7s %7s %*s %*u %zu %n", &line->connection, direction, type,
		   &line->bytes, &at) != 4 ||
	    line->bytes > SCRIPT_MESSAGE_MAX || line->connection >= CONNECTIONS_MAX)
		script_fail("unknown line", script->scenario);
	line->from_client = strcmp(direction, "C2S") == 0;
	line->type = type[0] == '-' ? -1 : atoi(type);
	for (size_t i = 0; i < line->bytes; i++) {
		if (sscanf(text + at + 2 * i, "%2x", &byte) != 1)
			script_fail("bytes are missing", script->scenario);
		line->message[i] = (unsigned char)byte;
	}
	if (line->connection >= script->connections)
		script->connections = line->connection + 1;
	script->line_count++;
}

static bool has_image(const char *scenario)
{
	char path[256];

	snprintf(path, sizeof(path), GOLDEN_ROOT "%s/01_c2s_64_queued.expect.txt", scenario);
	return access(path, R_OK) == 0;
}

static bool is_native(const char *scenario)
{
#if defined(__x86_64__)
	return strncmp(scenario, "arm64", 5) != 0;
#else
	return strncmp(scenario, "arm64", 5) == 0;
#endif
}

/* Scenarios without images of their own were made with the small configuration. */
static void choose_images(struct script *script)
{
	const char *scenario = script->scenario;
	bool small = strstr(scenario, "hotrestart") || strstr(scenario, "two_sessions");

	script->images = !small			     ? scenario
			 : strstr(scenario, "memfd") ? "v3_unix_memfd"
						     : "v2_unix_file";
	script->restarts = strstr(scenario, "hotrestart");
	script->has_first_message = !strstr(scenario, "two_sessions") && is_native(scenario) &&
				    has_image(script->images);
}

/* Up to the first message that is data, or of a hot restart all of it. */
static bool is_wanted(const struct script *script, unsigned int data)
{
	return script->restarts || data == 0 || (data == 1 && script->has_first_message);
}

static void name_places(struct script *script)
{
	static unsigned int number;
	bool tcp = strstr(script->scenario, "tcp");

	number++;
	snprintf(script->prefix, sizeof(script->prefix), "/dev/shm/shmipc_script_%d_%u", getpid(),
		 number);
	if (tcp)
		snprintf(script->address, sizeof(script->address), "tcp:127.0.0.1:0");
	else
		snprintf(script->address, sizeof(script->address),
			 "unix:/tmp/shmipc_script_%d_%u.sock", getpid(), number);
}

void script_load(struct script *script, const char *scenario)
{
	char path[256], text[LINE_ROOM];
	unsigned int data = 0;
	FILE *file;

	memset(script, 0, sizeof(*script));
	script->scenario = scenario;
	script->listening = script->release = -1;
	choose_images(script);
	name_places(script);
	snprintf(path, sizeof(path), GOLDEN_ROOT "%s/transcript.txt", scenario);
	file = fopen(path, "r");
	if (!file)
		script_fail("no transcript", scenario);
	while (fgets(text, sizeof(text), file)) {
		int type;

		if (text[0] != 'M')
			continue;
		if (sscanf(text, "M %*u %*u %*s %d", &type) == 1 && type >= POLLING &&
		    type <= FALLBACK_DATA)
			data++;
		if (!is_wanted(script, data))
			break;
		take_message(script, text);
	}
	fclose(file);
}

void script_free(struct script *script)
{
	if (script->listening >= 0)
		close(script->listening);
	if (strncmp(script->address, "unix:", 5) == 0)
		unlink(script->address + 5);
}

void script_release(struct script *script)
{
	close(script->release);
	script->release = -1;
}

static bool is_left(const struct script *script, const char *name)
{
	char stem[NAME_ROOM];

	snprintf(stem, sizeof(stem), "shmipc_vec_%04d_", (int)(getpid() % 10000));
	if (strncmp(name, stem, strlen(stem)) == 0)
		return true;
	snprintf(stem, sizeof(stem), "%s_", script->prefix + strlen("/dev/shm/"));
	return strncmp(name, stem, strlen(stem)) == 0;
}

unsigned int script_files(const struct script *script)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	unsigned int count = 0;

	while (dir && (entry = readdir(dir)) != NULL)
		count += is_left(script, entry->d_name);
	closedir(dir);
	return count;
}
