/* SPDX-License-Identifier: Apache-2.0 */
/* shmipc-stat: every connection of the shim that this user may see, accelerated or why not. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "output.h"
#include "shmipc.h"
#include "snapshot.h"

enum { EXIT_USAGE = 2 };

struct options {
	struct snapshot_filter filter;
	bool json;
	double watch_seconds; /* 0 = once */
};

static const char usage[] =
	"Usage: shmipc-stat [--json] [--pid PID] [--all] [--watch SECONDS]\n"
	"Show the socket connections of programs that run under the shmipc shim.\n"
	"\n"
	"  -j, --json           an array of objects with exact counters\n"
	"  -p, --pid PID        only the connections of this process\n"
	"  -a, --all            also connections whose process is gone\n"
	"  -w, --watch SECONDS  again and again, with this much time between\n"
	"  -h, --help           this text\n"
	"  -V, --version        the version\n"
	"\n"
	"STATE is `accelerated', or the reason why the kernel carries the bytes: see libshmipc_shim(7).\n";

static void refuse(const char *what, const char *value)
{
	fprintf(stderr, "shmipc-stat: %s '%s'\n", what, value);
	exit(EXIT_USAGE);
}

static pid_t parse_pid(const char *text)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 1 || value > 0x7fffffff)
		refuse("--pid wants a process number, not", text);
	return (pid_t)value;
}

static double parse_seconds(const char *text)
{
	char *end;
	double value;

	errno = 0;
	value = strtod(text, &end);
	if (errno || end == text || *end || !(value >= 0.1 && value <= 86400))
		refuse("--watch wants seconds from 0.1 to 86400, not", text);
	return value;
}

static void parse_arguments(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "pid", required_argument, NULL, 'p' },
		{ "all", no_argument, NULL, 'a' },
		{ "watch", required_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "jp:aw:hV", longs, NULL)) != -1) {
		switch (option) {
		case 'j':
			options->json = true;
			break;
		case 'p':
			options->filter.pid = parse_pid(optarg);
			break;
		case 'a':
			options->filter.stale_too = true;
			break;
		case 'w':
			options->watch_seconds = parse_seconds(optarg);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		case 'V':
			printf("shmipc-stat %s\n", shmipc_version());
			exit(EXIT_SUCCESS);
		default: /* getopt_long has said what is wrong */
			exit(EXIT_USAGE);
		}
	}
	if (optind < argc)
		refuse("unexpected argument", argv[optind]);
}

static int show(const struct options *options)
{
	struct snapshot snapshot;
	int error = snapshot_take(&snapshot, &options->filter);

	if (error)
		fprintf(stderr, "shmipc-stat: cannot read /proc: %s\n", strerror(-error));
	else if (options->json)
		output_json(&snapshot);
	else
		output_table(&snapshot);
	snapshot_free(&snapshot);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "shmipc-stat: cannot write: %s\n", strerror(errno));
		return -EIO;
	}
	return error;
}

static void pause_for(double seconds)
{
	struct timespec time = { .tv_sec = (time_t)seconds };

	time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
	nanosleep(&time, NULL);
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	bool clear;

	parse_arguments(&options, argc, argv);
	clear = options.watch_seconds > 0 && !options.json && isatty(STDOUT_FILENO);
	for (;;) {
		if (clear)
			fputs("\033[H\033[2J", stdout);
		if (show(&options))
			return EXIT_FAILURE;
		if (options.watch_seconds <= 0)
			return EXIT_SUCCESS;
		pause_for(options.watch_seconds);
	}
}
