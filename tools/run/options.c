/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shmipc.h"

enum { SPIN_US_MAX = 100000 };

static const char usage[] =
	"Usage: shmipc-run [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"Run COMMAND with its local stream sockets on shared memory, where the peer runs so too.\n"
	"\n"
	"  -e, --endpoints LIST  what to accelerate (default: $SHMIPC_ENDPOINTS or tcp:*,unix:*)\n"
	"                        e.g. tcp:127.0.0.1:6379,tcp:*:80,unix:/run/app.sock,!tcp:*:22\n"
	"  -l, --log LEVEL[:PATH]  off, error, info or debug; to a file, or to standard error\n"
	"  -s, --spin-us N       wait at most N microseconds awake before sleeping; 0 = never\n"
	"      --stats           at the end say on standard error which connections were accelerated\n"
	"  -h, --help            this text\n"
	"  -V, --version         the version\n";

static void refuse(const char *what, const char *value)
{
	fprintf(stderr, "shmipc-run: %s '%s'\n", what, value);
	exit(EXIT_USAGE);
}

/* Only the form: the shim itself complains of, and ignores, an entry whose host or port it cannot
 * read. */
static const char *checked_endpoints(const char *text)
{
	const char *entry = text;

	for (;;) {
		entry += strspn(entry, " \t!");
		if (strncmp(entry, "tcp:", 4) != 0 && strncmp(entry, "unix:", 5) != 0)
			refuse("--endpoints wants a list of tcp:HOST:PORT and unix:PATH, not",
			       text);
		entry = strchr(entry, ',');
		if (!entry)
			return text;
		entry++;
	}
}

static const char *checked_log(const char *text)
{
	static const char *const levels[] = { "off", "error", "info", "debug" };
	size_t bytes = strcspn(text, ":");

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strlen(levels[i]) == bytes && memcmp(text, levels[i], bytes) == 0 &&
		    strcmp(text + bytes, ":") != 0)
			return text;
	}
	refuse("--log wants off, error, info or debug, then perhaps :PATH, not", text);
	return NULL;
}

static const char *checked_spin(const char *text)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 0 || value > SPIN_US_MAX)
		refuse("--spin-us wants microseconds from 0 to 100000, not", text);
	return text;
}

void options_parse(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "endpoints", required_argument, NULL, 'e' },
		{ "log", required_argument, NULL, 'l' },
		{ "spin-us", required_argument, NULL, 's' },
		{ "stats", no_argument, NULL, 'S' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "+e:l:s:hV", longs, NULL)) != -1) {
		switch (option) {
		case 'e':
			options->endpoints = checked_endpoints(optarg);
			break;
		case 'l':
			options->log = checked_log(optarg);
			break;
		case 's':
			options->spin_us = checked_spin(optarg);
			break;
		case 'S':
			options->stats = true;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		case 'V':
			printf("shmipc-run %s\n", shmipc_version());
			exit(EXIT_SUCCESS);
		default: /* getopt_long has said what is wrong */
			exit(EXIT_USAGE);
		}
	}
	if (optind == argc) {
		fputs("shmipc-run: no command given; --help explains\n", stderr);
		exit(EXIT_USAGE);
	}
	options->command = argv + optind;
}
