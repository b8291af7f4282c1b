/* SPDX-License-Identifier: Apache-2.0 */
/* shmipc-bench: the plan.  Rows one after the other, their variants alternating over the rounds. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bench/options.h"
#include "tools/bench/process.h"
#include "tools/bench/stats.h"

enum { EXIT_WRONG = 1 };

/* Results of one line: [variant][round]. */
static struct bench_result results[BENCH_VARIANTS][BENCH_ROUNDS_MAX];
static bool something_wrong;

static struct bench_sink sinks[2];
static int sink_count;

static bool has_variant(const struct bench_row *row, enum bench_variant variant,
			const struct bench_options *options)
{
	switch (variant) {
	case BENCH_SHIM:
		return !row->library && options->shim[0] != '\0';
	case BENCH_LIBRARY:
		return row->library;
	case BENCH_RAW: /* two ends that never sleep have no business on one core */
		return row->raw && options->pin != BENCH_PIN_SAME && process_cpu_count() > 1;
	case BENCH_KERNEL_ALT: /* the same holds for a pair that spins */
		return row->alt && (row->workload == BENCH_STREAM ||
				    (options->pin != BENCH_PIN_SAME && process_cpu_count() > 1));
	default:
		return true;
	}
}

static void complain(const struct bench_line *line, enum bench_variant variant,
		     const struct bench_result *result)
{
	static const char *const names[] = { "kernel", "alt", "shim", "raw", "library" };
	char size[16] = "";

	if (line->size_bytes)
		bench_size_name(line->size_bytes, size);
	fprintf(stderr, BENCH_NAME ": %s %s %s: %s\n", line->row->name, size, names[variant],
		result->why);
	/* A congestion control that this machine does not offer is not our failure. */
	if (variant != BENCH_KERNEL_ALT)
		something_wrong = true;
}

static double middle(const struct bench_row *row, double *values, size_t count)
{
	return row->workload == BENCH_PERCALL ? stats_min(values, count)
					      : stats_median(values, count);
}

#define MEDIAN_OF(field)                                          \
	do {                                                      \
		count = 0;                                        \
		for (unsigned int r_ = 0; r_ < rounds; r_++)      \
			if (from[r_].outcome == BENCH_OK)         \
				values[count++] = from[r_].field; \
		cell->median.field = middle(row, values, count);  \
	} while (0)

/* Each quantity for itself; the bytes are summed. */
static void fold(const struct bench_row *row, const struct bench_result *from, unsigned int rounds,
		 struct bench_cell *cell)
{
	double values[BENCH_ROUNDS_MAX];
	size_t count = 0;

	cell->median.outcome = from[0].outcome;
	MEDIAN_OF(value);
	MEDIAN_OF(p50_us);
	MEDIAN_OF(p99_us);
	MEDIAN_OF(p999_us);
	MEDIAN_OF(wakeups_per_message);
	MEDIAN_OF(count);
	cell->rounds_ok = (unsigned int)count;
	for (unsigned int r = 0; r < rounds; r++) {
		cell->median.ring_bytes += from[r].ring_bytes;
		cell->median.kernel_bytes += from[r].kernel_bytes;
	}
}

static unsigned int rounds_of(const struct bench_row *row, const struct bench_options *options)
{
	return row->workload == BENCH_IDLE ? 1 : options->rounds; /* each takes seconds */
}

static void measure_line(struct bench_line *line, const struct bench_options *options)
{
	unsigned int rounds = rounds_of(line->row, options);

	for (unsigned int round = 0; round < rounds; round++)
		for (int i = 0; i < BENCH_VARIANTS; i++) {
			/* another one begins in every round */
			enum bench_variant v = (enum bench_variant)(((unsigned int)i + round) %
								    BENCH_VARIANTS);
			struct bench_result *result = &results[v][round];

			line->cells[v].present = has_variant(line->row, v, options);
			if (!line->cells[v].present)
				continue;
			if (v == BENCH_KERNEL_ALT && round > 0 &&
			    results[v][0].outcome != BENCH_OK) {
				*result = results[v][0];
				continue;
			}
			bench_measure(line->row, line->size_bytes, v, options, result);
			if (process_signal_caught())
				return;
			if (result->outcome != BENCH_OK)
				complain(line, v, result);
		}
	for (int v = 0; v < BENCH_VARIANTS; v++)
		if (line->cells[v].present)
			fold(line->row, results[v], rounds, &line->cells[v]);
}

static void run_row(const struct bench_row *row, const struct bench_options *options)
{
	static const size_t no_size[] = { 0 };
	const size_t *sizes = row->sizes ? row->sizes : no_size;

	if (row->sizes && options->sizes_given && row->workload != BENCH_RATE)
		sizes = options->sizes;
	do {
		struct bench_line line = { .row = row, .size_bytes = *sizes };

		measure_line(&line, options);
		if (process_signal_caught())
			return;
		for (int i = 0; i < sink_count; i++)
			output_line(&sinks[i], options, &line);
	} while (*sizes && *++sizes);
}

static void list_rows(void)
{
	for (size_t i = 0; i < bench_row_count; i++)
		printf("%-22s %s\n", bench_rows[i].name, bench_rows[i].about);
}

static void make_scratch(struct bench_options *options)
{
	const char *parent = getenv("TMPDIR");

	if (!parent || strlen(parent) > 40)
		parent = "/tmp";
	snprintf(options->scratch, sizeof(options->scratch), "%s/shmipc-bench.XXXXXX", parent);
	if (!mkdtemp(options->scratch)) {
		fprintf(stderr, BENCH_NAME ": %s: %s\n", options->scratch, strerror(errno));
		exit(EXIT_WRONG);
	}
}

static void open_sinks(const struct bench_command *command)
{
	FILE *file = command->output ? fopen(command->output, "we") : stdout;

	if (!file) {
		fprintf(stderr, BENCH_NAME ": %s: %s\n", command->output, strerror(errno));
		exit(EXIT_WRONG);
	}
	sinks[sink_count++] = (struct bench_sink){ .file = file, .format = command->format };
	if (command->output && !command->quiet)
		sinks[sink_count++] = (struct bench_sink){ .file = stdout, .format = BENCH_TEXT };
}

/* By name; without one, the rows of the kind that was asked for. */
static bool is_wanted(const struct bench_row *row, const struct bench_options *options)
{
	if (options->only)
		return bench_row_matches(row->name, options->only) &&
		       (row->library || !options->library);
	return row->library == options->library;
}

static void run_all(const struct bench_options *options)
{
	for (int i = 0; i < sink_count; i++)
		output_begin(&sinks[i], options);
	for (size_t i = 0; i < bench_row_count && !process_signal_caught(); i++)
		if (is_wanted(&bench_rows[i], options))
			run_row(&bench_rows[i], options);
	for (int i = 0; i < sink_count; i++)
		output_end(&sinks[i]);
}

static int close_sinks(void)
{
	int error = 0;

	for (int i = 0; i < sink_count; i++)
		if (ferror(sinks[i].file) | fclose(sinks[i].file))
			error = EXIT_WRONG;
	if (error)
		perror(BENCH_NAME);
	return error;
}

int main(int argc, char **argv)
{
	static struct bench_command command;
	struct bench_options *options = &command.options;
	int error;

	if (argc > 1 && !strcmp(argv[1], "--child"))
		return bench_child_main(argc - 2, argv + 2);
	options_parse(&command, argc, argv);
	if (command.list) {
		list_rows();
		return 0;
	}
	open_sinks(&command);
	if (!options->shim[0] && !options->library)
		fputs(BENCH_NAME ": no libshmipc_shim.so found: kernel and raw ring only\n",
		      stderr);
	make_scratch(options);
	process_catch_signals();
	if (options->awake && process_start_spinners() < 0)
		fputs(BENCH_NAME ": cannot keep the cores awake\n", stderr);
	run_all(options);
	process_stop_spinners();
	rmdir(options->scratch);
	error = close_sinks();
	if (process_signal_caught())
		return 128 + process_signal_caught();
	return something_wrong ? EXIT_WRONG : error;
}
