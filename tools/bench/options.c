/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, SPIN_US_MAX = 1000000, SECONDS_MAX = 60 };

enum option_code {
	OPTION_LIST = 256,
	OPTION_ONLY,
	OPTION_LIBRARY,
	OPTION_SIZES,
	OPTION_ROUNDS,
	OPTION_SECONDS,
	OPTION_FORMAT,
	OPTION_OUTPUT,
	OPTION_QUIET,
	OPTION_SHIM,
	OPTION_SPIN_US,
	OPTION_PIN,
	OPTION_AWAKE,
	OPTION_CONGESTION,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{ "list", no_argument, NULL, OPTION_LIST },
	{ "library", no_argument, NULL, OPTION_LIBRARY },
	{ "only", required_argument, NULL, OPTION_ONLY },
	{ "sizes", required_argument, NULL, OPTION_SIZES },
	{ "rounds", required_argument, NULL, OPTION_ROUNDS },
	{ "seconds", required_argument, NULL, OPTION_SECONDS },
	{ "format", required_argument, NULL, OPTION_FORMAT },
	{ "output", required_argument, NULL, OPTION_OUTPUT },
	{ "quiet", no_argument, NULL, OPTION_QUIET },
	{ "shim", required_argument, NULL, OPTION_SHIM },
	{ "spin-us", required_argument, NULL, OPTION_SPIN_US },
	{ "pin", required_argument, NULL, OPTION_PIN },
	{ "awake", no_argument, NULL, OPTION_AWAKE },
	{ "congestion", required_argument, NULL, OPTION_CONGESTION },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ NULL, 0, NULL, 0 },
};

static const char help[] =
	"Usage: shmipc-bench [OPTION]...\n"
	"Measure the kernel's sockets, the same sockets with the shim preloaded, and the raw ring,\n"
	"alternating, with payload written and checked.\n"
	"\n"
	"  --list             print the rows and end\n"
	"  --library          libshmipc against a Unix socket instead of the shim's rows\n"
	"  --only ROWS        comma list of row names; may hold the shell's * and ?\n"
	"  --sizes LIST       message sizes instead of the row's own (64,4K,1M; multiples of 8)\n"
	"  --rounds N         alternations; the medians are printed (default 5)\n"
	"  --seconds S        length of one measurement (default 0.1)\n"
	"  --format FORMAT    text, csv or json (default text)\n"
	"  --output FILE      write FORMAT there, and the text table to standard output\n"
	"  --quiet            ... but nothing to standard output\n"
	"  --shim PATH        libshmipc_shim.so (default: beside this program, or in ../lib)\n"
	"  --spin-us N        set SHMIPC_SPIN_US for the shim\n"
	"  --pin HOW          none, apart (one core for each end) or same (default none)\n"
	"  --awake            keep every core awake by a SCHED_IDLE process\n"
	"  --congestion NAME  TCP congestion control (default: the machine's)\n"
	"  --help, --version\n"
	"\n"
	"A bad argument ends with status 2, wrong or missing payload with 1; slowness is no error.\n";

static _Noreturn __attribute__((format(printf, 1, 2))) void bad_usage(const char *format, ...)
{
	va_list arguments;

	fputs(BENCH_NAME ": ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputs(" (see --help)\n", stderr);
	exit(EXIT_USAGE);
}

static unsigned long parse_number(const char *option, const char *text, unsigned long least,
				  unsigned long most)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < least || value > most)
		bad_usage("%s: '%s' is not a number from %lu to %lu", option, text, least, most);
	return value;
}

static double parse_seconds(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= 0.001 && value <= SECONDS_MAX))
		bad_usage("--seconds: '%s' is not a number from 0.001 to %d", text, SECONDS_MAX);
	return value;
}

static void parse_sizes(struct bench_options *options, const char *list)
{
	char *copy = strdup(list), *state = NULL;
	int count = 0;

	for (char *one = strtok_r(copy, ",", &state); one; one = strtok_r(NULL, ",", &state)) {
		size_t bytes = bench_parse_size(one);

		if (!bytes)
			bad_usage("--sizes: '%s' is not a multiple of 8 up to 64M", one);
		if (count == BENCH_SIZES_MAX)
			bad_usage("--sizes: more than %d sizes", BENCH_SIZES_MAX);
		options->sizes[count++] = bytes;
	}
	free(copy);
	if (!count)
		bad_usage("--sizes: the list is empty");
	options->sizes[count] = 0;
	options->sizes_given = true;
}

static void check_rows(const char *patterns)
{
	char one[BENCH_NAME_BYTES];

	if (!*patterns)
		bad_usage("--only: the list is empty");
	while (*patterns) {
		size_t length = strcspn(patterns, ",");
		bool found = false;

		snprintf(one, sizeof(one), "%.*s", (int)length, patterns);
		for (size_t i = 0; i < bench_row_count; i++)
			found |= bench_row_matches(bench_rows[i].name, one);
		if (!found)
			bad_usage("--only: no row is named '%s'", one);
		patterns += length;
		patterns += *patterns == ',';
	}
}

static int one_of(const char *option, const char *text, const char *const names[], int count)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(text, names[i]))
			return i;
	bad_usage("%s: '%s' is none of %s, %s, %s", option, text, names[0], names[1], names[2]);
}

static void set_shim(struct bench_options *options, const char *path)
{
	if (access(path, R_OK) < 0)
		bad_usage("--shim: %s: %s", path, strerror(errno));
	if (!realpath(path, options->shim))
		bad_usage("--shim: %s: %s", path, strerror(errno));
}

/* Beside the program, as in a build tree, or in ../lib, as installed. */
static void find_shim(struct bench_options *options)
{
	static const char *const places[] = { "", "../lib/" };
	char self[PATH_MAX], path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n <= 0)
		return;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return;
	slash[1] = '\0';
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s%slibshmipc_shim.so", self, places[i]);
		if (access(path, R_OK) == 0 && realpath(path, options->shim))
			return;
	}
	options->shim[0] = '\0';
}

/* What is measured.  False: the option is about something else. */
static bool apply_to_subject(struct bench_options *options, int code, const char *value)
{
	switch (code) {
	case OPTION_LIBRARY:
		options->library = true;
		return true;
	case OPTION_ONLY:
		check_rows(value);
		options->only = value;
		return true;
	case OPTION_SIZES:
		parse_sizes(options, value);
		return true;
	case OPTION_SHIM:
		set_shim(options, value);
		return true;
	case OPTION_CONGESTION:
		if (!*value || strlen(value) > 15)
			bad_usage("--congestion: '%s' is not a name", value);
		options->congestion = value;
		return true;
	default:
		return false;
	}
}

/* How it is measured. */
static bool apply_to_method(struct bench_options *options, int code, const char *value)
{
	static const char *const pins[] = { "none", "apart", "same" };

	switch (code) {
	case OPTION_ROUNDS:
		options->rounds = (unsigned int)parse_number("--rounds", value, 1,
							     BENCH_ROUNDS_MAX);
		return true;
	case OPTION_SECONDS:
		options->seconds = parse_seconds(value);
		return true;
	case OPTION_SPIN_US:
		options->spin_us = (int)parse_number("--spin-us", value, 0, SPIN_US_MAX);
		return true;
	case OPTION_PIN:
		options->pin = (enum bench_pin)one_of("--pin", value, pins, 3);
		return true;
	case OPTION_AWAKE:
		options->awake = true;
		return true;
	default:
		return false;
	}
}

static void apply(struct bench_command *command, int code, const char *value)
{
	static const char *const formats[] = { "text", "csv", "json" };

	if (apply_to_subject(&command->options, code, value) ||
	    apply_to_method(&command->options, code, value))
		return;
	switch (code) {
	case OPTION_LIST:
		command->list = true;
		break;
	case OPTION_FORMAT:
		command->format = (enum bench_format)one_of("--format", value, formats, 3);
		break;
	case OPTION_OUTPUT:
		command->output = value;
		break;
	case OPTION_QUIET:
		command->quiet = true;
		break;
	case OPTION_HELP:
		fputs(help, stdout);
		exit(0);
	case OPTION_VERSION:
		puts(BENCH_NAME " " BENCH_VERSION);
		exit(0);
	default:
		exit(EXIT_USAGE);
	}
}

/* getopt's own complaints are two words short of clear: say it in one line of ours. */
static _Noreturn void refuse(char **argv, int code)
{
	const char *argument = argv[optind - 1];

	if (code == ':')
		bad_usage("option '%s' needs a value", argument);
	bad_usage("unknown option '%s'", argument);
}

void options_parse(struct bench_command *command, int argc, char **argv)
{
	int code;

	*command = (struct bench_command){
		.options = { .rounds = 5, .seconds = 0.1, .spin_us = BENCH_SPIN_US_DEFAULT },
	};
	while ((code = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		if (code == ':' || code == '?')
			refuse(argv, code);
		apply(command, code, optarg);
	}
	if (optind < argc)
		bad_usage("unexpected argument '%s'", argv[optind]);
	if (!command->options.shim[0])
		find_shim(&command->options);
}
