/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "tools/load/load.h"

enum { BYTES_MIN = 16, BYTES_MAX = READ_BYTES };

static const char usage[] =
	"usage: load serve ADDRESS [--block]\n"
	"       load ping ADDRESS [--connections N] [--active N] [--warm ROUND-TRIPS] [--seconds S]\n"
	"            [--bytes N | --send TEXT --expect TEXT] [--block] [--hold]\n"
	"       load short ADDRESS [--processes N] [--seconds S]\n"
	"ADDRESS is tcp:HOST:PORT or unix:PATH.\n";

void load_fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

void load_wrong(const char *what)
{
	fprintf(stderr, "load: wrong: %s\n", what);
	exit(EXIT_WRONG);
}

uint64_t load_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

double load_cpu_seconds(void)
{
	double seconds = 0;

	for (int i = 0; i < 2; i++) {
		struct rusage used;

		getrusage(i == 0 ? RUSAGE_SELF : RUSAGE_CHILDREN, &used);
		seconds += (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
			   (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
	}
	return seconds;
}

static _Noreturn void refuse(void)
{
	fputs(usage, stderr);
	exit(2);
}

static int whole(const char *text, long least, long most)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (end == text || *end != '\0' || value < least || value > most)
		refuse();
	return (int)value;
}

static double positive(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value > 0) || value > 3600)
		refuse();
	return value;
}

static void take(struct load_options *options, int letter, const char *value)
{
	switch (letter) {
	case 'c':
		options->connections = whole(value, 1, 1000000);
		break;
	case 'a':
		options->active = whole(value, 1, 1000000);
		break;
	case 'w':
		options->warm = whole(value, 0, 1000000);
		break;
	case 'p':
		options->processes = whole(value, 1, 1000);
		break;
	case 'b':
		options->bytes = (size_t)whole(value, BYTES_MIN, BYTES_MAX);
		break;
	case 't':
		options->seconds = positive(value);
		break;
	case 's':
		options->send = value;
		break;
	case 'e':
		options->expect = value;
		break;
	case 'k':
		options->block = true;
		break;
	case 'h':
		options->hold = true;
		break;
	default:
		refuse();
	}
}

static void parse(struct load_options *options, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "connections", required_argument, NULL, 'c' },
		{ "active", required_argument, NULL, 'a' },
		{ "warm", required_argument, NULL, 'w' },
		{ "processes", required_argument, NULL, 'p' },
		{ "bytes", required_argument, NULL, 'b' },
		{ "seconds", required_argument, NULL, 't' },
		{ "send", required_argument, NULL, 's' },
		{ "expect", required_argument, NULL, 'e' },
		{ "block", no_argument, NULL, 'k' },
		{ "hold", no_argument, NULL, 'h' },
		{ 0 },
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take(options, letter, optarg);
	if (optind != argc || (options->send == NULL) != (options->expect == NULL) ||
	    (options->block && options->connections != 1))
		refuse();
	if (options->active == 0 || options->active > options->connections)
		options->active = options->connections;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const struct load_options *options);
	} commands[] = { { "serve", load_serve }, { "ping", load_ping }, { "short", load_short } };
	struct load_options options = {
		.bytes = 64, .connections = 1, .processes = 1, .seconds = 1
	};

	if (argc < 3)
		refuse();
	options.address = argv[2];
	parse(&options, argc - 2, argv + 2);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(&options);
	refuse();
}
