/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/output.h"

#include <math.h>
#include <string.h>
#include <sys/utsname.h>

#include "tools/bench/process.h"

static const char *const variant_names[BENCH_VARIANTS] = { "kernel", "alt", "shim", "raw",
							   "library" };
static const char *const pin_names[] = { "none", "apart", "same" };

static bool usable(const struct bench_cell *cell)
{
	return cell->present && cell->rounds_ok > 0;
}

double bench_ratio(const struct bench_line *line, enum bench_variant variant,
		   enum bench_variant reference)
{
	const struct bench_cell *a = &line->cells[variant], *b = &line->cells[reference];

	if (!usable(a) || !usable(b))
		return (double)NAN;
	if (bench_less_is_better(line->row->unit))
		return b->median.value / a->median.value;
	return a->median.value / b->median.value;
}

static enum bench_pin pin_of(const struct bench_row *row, const struct bench_options *options)
{
	return row->fixed_pin ? row->pin : options->pin;
}

static int spin_us_of(const struct bench_row *row, const struct bench_options *options)
{
	return row->spin_us == BENCH_SPIN_US_DEFAULT ? options->spin_us : row->spin_us;
}

/* By the shim's own counters: nearly everything, something or nothing went through shared memory.
 */
static const char *accelerated(const struct bench_line *line)
{
	const struct bench_cell *cell = &line->cells[BENCH_SHIM];
	uint64_t ring = cell->median.ring_bytes, kernel = cell->median.kernel_bytes;

	if (!cell->present || line->row->workload == BENCH_PERCALL || line->row->library)
		return "-";
	if (ring == 0)
		return "no";
	return ring / 9 >= kernel ? "yes" : "partly";
}

static const char *failure_name(enum bench_outcome outcome)
{
	return outcome == BENCH_CORRUPT	  ? "CORRUPT"
	       : outcome == BENCH_TIMEOUT ? "timeout"
					  : "failed";
}

/* ---- text ---- */

static void text_number(FILE *to, double value, int width)
{
	int digits = value < 10 ? 3 : value < 100 ? 2 : value < 1000 ? 1 : 0;

	if (isnan(value))
		fprintf(to, " %*s", width, "-");
	else
		fprintf(to, " %*.*f", width, digits, value);
}

static void text_cell(FILE *to, const struct bench_line *line, enum bench_variant variant)
{
	const struct bench_cell *cell = &line->cells[variant];

	if (!cell->present)
		fprintf(to, " %10s", "-");
	else if (!cell->rounds_ok)
		fprintf(to, " %10s", failure_name(cell->median.outcome));
	else
		text_number(to, cell->median.value, 10);
}

static void text_tail(FILE *to, const struct bench_cell *cell)
{
	double none = (double)NAN;

	text_number(to, usable(cell) ? cell->median.p99_us : none, 8);
	text_number(to, usable(cell) ? cell->median.p999_us : none, 8);
}

static void text_about(FILE *to, const struct bench_options *options, const struct bench_row *row)
{
	int spin_us = spin_us_of(row, options);

	fprintf(to, "\n%s: %s (%s%s, pin %s%s", row->name, row->about, bench_unit_name(row->unit),
		row->unit == BENCH_US ? ", p50" : "", pin_names[pin_of(row, options)],
		options->awake ? ", cores kept awake" : "");
	if (spin_us != BENCH_SPIN_US_DEFAULT)
		fprintf(to, ", %s=%d", row->library ? "spin_us" : "SHMIPC_SPIN_US", spin_us);
	fprintf(to, ")\n");
}

static void text_heading_library(FILE *to, const struct bench_row *row)
{
	fprintf(to, "%5s %10s %10s %10s %8s %8s", "size", "unix", row->alt ? "unix spin" : "",
		"libshmipc", "lib/unix", row->alt ? "lib/spin" : "");
	if (row->unit == BENCH_US)
		fprintf(to, " %8s %8s %8s %8s", "u p99", "u p99.9", "l p99", "l p99.9");
	fprintf(to, "  wake-ups/message\n");
}

static void text_line_library(FILE *to, const struct bench_line *line)
{
	text_cell(to, line, BENCH_KERNEL);
	text_cell(to, line, BENCH_KERNEL_ALT);
	text_cell(to, line, BENCH_LIBRARY);
	text_number(to, bench_ratio(line, BENCH_LIBRARY, BENCH_KERNEL), 8);
	text_number(to, bench_ratio(line, BENCH_LIBRARY, BENCH_KERNEL_ALT), 8);
	if (line->row->unit == BENCH_US) {
		text_tail(to, &line->cells[BENCH_KERNEL]);
		text_tail(to, &line->cells[BENCH_LIBRARY]);
	}
	fputc(' ', to);
	text_number(to, line->cells[BENCH_LIBRARY].median.wakeups_per_message, 16);
	fputc('\n', to);
}

static void text_heading(FILE *to, const struct bench_row *row)
{
	bool alt = row->alt;

	fprintf(to, "%5s %10s %10s %10s %10s %8s %8s %8s", "size", "kernel",
		alt ? bench_alt_name(row) : "", "shim", "raw", "shim/k", alt ? "shim/alt" : "",
		"shim/raw");
	if (row->unit == BENCH_US)
		fprintf(to, " %8s %8s %8s %8s", "k p99", "k p99.9", "s p99", "s p99.9");
	fprintf(to, "  accelerated\n");
}

static void text_line(struct bench_sink *sink, const struct bench_options *options,
		      const struct bench_line *line)
{
	FILE *to = sink->file;
	char size[16] = "-";

	if (line->row != sink->heading) {
		text_about(to, options, line->row);
		if (line->row->library)
			text_heading_library(to, line->row);
		else
			text_heading(to, line->row);
	}
	sink->heading = line->row;
	if (line->size_bytes)
		bench_size_name(line->size_bytes, size);
	fprintf(to, "%5s", size);
	if (line->row->library) {
		text_line_library(to, line);
		return;
	}
	for (int i = 0; i < BENCH_LIBRARY; i++)
		text_cell(to, line, (enum bench_variant)i);
	text_number(to, bench_ratio(line, BENCH_SHIM, BENCH_KERNEL), 8);
	text_number(to, bench_ratio(line, BENCH_SHIM, BENCH_KERNEL_ALT), 8);
	text_number(to, bench_ratio(line, BENCH_SHIM, BENCH_RAW), 8);
	if (line->row->unit == BENCH_US) {
		text_tail(to, &line->cells[BENCH_KERNEL]);
		text_tail(to, &line->cells[BENCH_SHIM]);
	}
	fprintf(to, "  %s\n", accelerated(line));
}

/* ---- CSV and JSON ---- */

static void plain_number(FILE *to, double value, const char *none)
{
	if (isfinite(value))
		fprintf(to, "%.6g", value);
	else
		fputs(none, to);
}

static void csv_heading(FILE *to)
{
	fputs("row,size_bytes,unit,pin,awake,spin_us,alt_is", to);
	for (int i = 0; i < BENCH_VARIANTS; i++)
		fprintf(to, ",%s,%s_p50_us,%s_p99_us,%s_p999_us,%s_rounds", variant_names[i],
			variant_names[i], variant_names[i], variant_names[i], variant_names[i]);
	fputs(",shim_vs_kernel,shim_vs_alt,shim_vs_raw,accelerated,ring_bytes,kernel_bytes"
	      ",library_vs_kernel,library_vs_alt,wakeups_per_message\n",
	      to);
}

static double wakeups(const struct bench_line *line)
{
	const struct bench_cell *cell = &line->cells[BENCH_LIBRARY];

	return usable(cell) ? cell->median.wakeups_per_message : (double)NAN;
}

static void csv_line(FILE *to, const struct bench_options *options, const struct bench_line *line)
{
	const struct bench_row *row = line->row;
	const struct bench_result *shim = &line->cells[BENCH_SHIM].median;
	int spin_us = spin_us_of(row, options);

	fprintf(to, "%s,%zu,%s,%s,%d,", row->name, line->size_bytes, bench_unit_name(row->unit),
		pin_names[pin_of(row, options)], options->awake);
	if (spin_us != BENCH_SPIN_US_DEFAULT)
		fprintf(to, "%d", spin_us);
	fprintf(to, ",%s", bench_alt_name(row));
	for (int i = 0; i < BENCH_VARIANTS; i++) {
		const struct bench_cell *cell = &line->cells[i];
		const double values[] = { cell->median.value, cell->median.p50_us,
					  cell->median.p99_us, cell->median.p999_us };

		for (int k = 0; k < 4; k++) {
			fputc(',', to);
			plain_number(to, usable(cell) ? values[k] : (double)NAN, "");
		}
		fprintf(to, ",%u", cell->rounds_ok);
	}
	for (int i = 0; i < 3; i++) {
		static const enum bench_variant against[] = { BENCH_KERNEL, BENCH_KERNEL_ALT,
							      BENCH_RAW };

		fputc(',', to);
		plain_number(to, bench_ratio(line, BENCH_SHIM, against[i]), "");
	}
	fprintf(to, ",%s,%llu,%llu,", accelerated(line), (unsigned long long)shim->ring_bytes,
		(unsigned long long)shim->kernel_bytes);
	plain_number(to, bench_ratio(line, BENCH_LIBRARY, BENCH_KERNEL), "");
	fputc(',', to);
	plain_number(to, bench_ratio(line, BENCH_LIBRARY, BENCH_KERNEL_ALT), "");
	fputc(',', to);
	plain_number(to, wakeups(line), "");
	fputc('\n', to);
}

static void json_number(FILE *to, const char *key, double value)
{
	fprintf(to, ", \"%s\": ", key);
	plain_number(to, value, "null");
}

static void json_cell(FILE *to, const char *name, const struct bench_cell *cell)
{
	if (!cell->present)
		return;
	fprintf(to, ",\n    \"%s\": {\"rounds\": %u", name, cell->rounds_ok);
	if (usable(cell)) {
		json_number(to, "value", cell->median.value);
		json_number(to, "p50_us", cell->median.p50_us);
		json_number(to, "p99_us", cell->median.p99_us);
		json_number(to, "p999_us", cell->median.p999_us);
	} else {
		fprintf(to, ", \"failure\": \"%s\"", failure_name(cell->median.outcome));
	}
	fputc('}', to);
}

static void json_line(struct bench_sink *sink, const struct bench_options *options,
		      const struct bench_line *line)
{
	FILE *to = sink->file;
	const struct bench_row *row = line->row;
	const struct bench_result *shim = &line->cells[BENCH_SHIM].median;

	fprintf(to,
		"%s\n   {\"row\": \"%s\", \"size_bytes\": %zu, \"unit\": \"%s\", \"pin\": \"%s\"",
		sink->started ? "," : "", row->name, line->size_bytes, bench_unit_name(row->unit),
		pin_names[pin_of(row, options)]);
	sink->started = true;
	if (spin_us_of(row, options) != BENCH_SPIN_US_DEFAULT)
		fprintf(to, ", \"spin_us\": %d", spin_us_of(row, options));
	if (row->alt)
		fprintf(to, ", \"alt_is\": \"%s\"", bench_alt_name(row));
	for (int i = 0; i < BENCH_VARIANTS; i++)
		json_cell(to, variant_names[i], &line->cells[i]);
	if (row->library) {
		json_number(to, "library_vs_kernel",
			    bench_ratio(line, BENCH_LIBRARY, BENCH_KERNEL));
		json_number(to, "library_vs_alt",
			    bench_ratio(line, BENCH_LIBRARY, BENCH_KERNEL_ALT));
		json_number(to, "wakeups_per_message", wakeups(line));
		fputc('}', to);
		return;
	}
	fprintf(to, ",\n    \"accelerated\": \"%s\"", accelerated(line));
	fprintf(to, ", \"ring_bytes\": %llu, \"kernel_bytes\": %llu",
		(unsigned long long)shim->ring_bytes, (unsigned long long)shim->kernel_bytes);
	json_number(to, "shim_vs_kernel", bench_ratio(line, BENCH_SHIM, BENCH_KERNEL));
	json_number(to, "shim_vs_alt", bench_ratio(line, BENCH_SHIM, BENCH_KERNEL_ALT));
	json_number(to, "shim_vs_raw", bench_ratio(line, BENCH_SHIM, BENCH_RAW));
	fputc('}', to);
}

static void default_congestion(char *name, int bytes)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_congestion_control", "re");

	snprintf(name, (size_t)bytes, "unknown");
	if (!file)
		return;
	if (fgets(name, bytes, file))
		name[strcspn(name, "\n")] = '\0';
	fclose(file);
}

void output_begin(struct bench_sink *sink, const struct bench_options *options)
{
	struct utsname system = { 0 };
	char congestion[32];
	FILE *to = sink->file;

	uname(&system);
	default_congestion(congestion, sizeof(congestion));
	if (sink->format == BENCH_CSV) {
		csv_heading(to);
	} else if (sink->format == BENCH_TEXT) {
		fprintf(to, "%s %s: Linux %s %s, %d CPUs, TCP default %s; medians of %u rounds\n",
			BENCH_NAME, BENCH_VERSION, system.release, system.machine,
			process_cpu_count(), congestion, options->rounds);
		fprintf(to,
			options->library
				? "lib/unix, lib/spin: how many times better libshmipc is\n"
				: "shim/k, shim/alt, shim/raw: how many times better the shim is\n");
	} else {
		fprintf(to, "{\"version\": \"%s\", \"kernel\": \"%s\", \"machine\": \"%s\", ",
			BENCH_VERSION, system.release, system.machine);
		fprintf(to, "\"cpus\": %d, \"tcp_congestion\": \"%s\", \"rounds\": %u, ",
			process_cpu_count(), congestion, options->rounds);
		fprintf(to, "\"seconds\": %g, \"awake\": %s,\n \"rows\": [", options->seconds,
			options->awake ? "true" : "false");
	}
}

void output_line(struct bench_sink *sink, const struct bench_options *options,
		 const struct bench_line *line)
{
	if (sink->format == BENCH_TEXT)
		text_line(sink, options, line);
	else if (sink->format == BENCH_CSV)
		csv_line(sink->file, options, line);
	else
		json_line(sink, options, line);
	fflush(sink->file);
}

void output_end(struct bench_sink *sink)
{
	if (sink->format == BENCH_JSON)
		fputs("\n ]}\n", sink->file);
	fflush(sink->file);
}
