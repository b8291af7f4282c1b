/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bench/process.h"
#include "tools/bench/shimlog.h"

enum {
	ARGUMENTS_MAX = 20,
	ARGUMENT_BYTES = 160,
	ENVIRONMENT_MAX = 1024,
	SETTINGS_MAX = 5,
	SETTING_BYTES = PATH_MAX + 32,
	GRACE_NS_SHIFT = 33, /* 8.6 s beyond the measured time */
	WITNESS_NS = 5 * 1000 * 1000,
};

/* One measurement in the making. */
struct run {
	const struct bench_row *row;
	const struct bench_options *options;
	enum bench_variant variant;
	size_t size_bytes;
	uint64_t duration_ns, deadline_ns;
	int cpu_server, cpu_client;
	bool logged; /* the shim writes its counters where shimlog.h reads them */
	char address[BENCH_ADDRESS_BYTES];
	char log_path[96];
	struct process server, client;
};

extern char **environ;

static bool is_ours(const char *setting)
{
	return !strncmp(setting, "LD_PRELOAD=", 11) || !strncmp(setting, "SHMIPC_", 7);
}

/* The caller's environment without any shim, plus `settings`. */
static void build_environment(char *out[ENVIRONMENT_MAX], char settings[][SETTING_BYTES], int count)
{
	int n = 0;

	for (char **at = environ; *at && n < ENVIRONMENT_MAX - SETTINGS_MAX - 1; at++)
		if (!is_ours(*at))
			out[n++] = *at;
	for (int i = 0; i < count; i++)
		out[n++] = settings[i];
	out[n] = NULL;
}

static int shim_settings(const struct run *run, char settings[][SETTING_BYTES])
{
	const struct bench_options *options = run->options;
	const char *endpoints = run->row->workload == BENCH_PERCALL ? "tcp:*" : "tcp:*,unix:*";
	int spin_us = run->row->spin_us;
	int count = 0;

	if (run->variant != BENCH_SHIM)
		return 0;
	if (spin_us == BENCH_SPIN_US_DEFAULT)
		spin_us = options->spin_us;
	snprintf(settings[count++], SETTING_BYTES, "LD_PRELOAD=%s", options->shim);
	snprintf(settings[count++], SETTING_BYTES, "SHMIPC_ENDPOINTS=%s", endpoints);
	if (run->logged)
		snprintf(settings[count++], SETTING_BYTES, "SHMIPC_LOG=info:%s", run->log_path);
	if (spin_us != BENCH_SPIN_US_DEFAULT)
		snprintf(settings[count++], SETTING_BYTES, "SHMIPC_SPIN_US=%d", spin_us);
	return count;
}

static unsigned int library_spin_us(const struct run *run)
{
	int spin_us = run->options->spin_us;

	/* the row without spin stays without */
	if (run->row->spin_us == 0 || spin_us == BENCH_SPIN_US_DEFAULT)
		spin_us = run->row->spin_us;
	return (unsigned int)(spin_us < 0 ? 0 : spin_us);
}

static enum bench_wait wait_of(const struct run *run)
{
	if (run->variant == BENCH_KERNEL_ALT && run->row->workload == BENCH_PINGPONG)
		return BENCH_SPIN;
	return run->row->wait;
}

static const char *congestion_of(const struct run *run)
{
	if (run->row->family != BENCH_TCP)
		return "";
	if (run->variant == BENCH_KERNEL_ALT && run->row->workload == BENCH_STREAM)
		return "cubic";
	return run->options->congestion ? run->options->congestion : "";
}

static int build_arguments(const struct run *run, enum bench_role role,
			   char text[ARGUMENTS_MAX][ARGUMENT_BYTES], char *out[ARGUMENTS_MAX + 1])
{
	int n = 0;

	snprintf(text[n++], ARGUMENT_BYTES, BENCH_NAME);
	snprintf(text[n++], ARGUMENT_BYTES, "--child");
	snprintf(text[n++], ARGUMENT_BYTES, "role=%d", (int)role);
	snprintf(text[n++], ARGUMENT_BYTES, "workload=%d", (int)run->row->workload);
	snprintf(text[n++], ARGUMENT_BYTES, "family=%d", (int)run->row->family);
	snprintf(text[n++], ARGUMENT_BYTES, "wait=%d", (int)wait_of(run));
	snprintf(text[n++], ARGUMENT_BYTES, "call=%d", (int)run->row->call);
	snprintf(text[n++], ARGUMENT_BYTES, "size=%zu", run->size_bytes);
	snprintf(text[n++], ARGUMENT_BYTES, "duration_ns=%llu",
		 (unsigned long long)run->duration_ns);
	snprintf(text[n++], ARGUMENT_BYTES, "address=%s", run->address);
	snprintf(text[n++], ARGUMENT_BYTES, "congestion=%s", congestion_of(run));
	snprintf(text[n++], ARGUMENT_BYTES, "library=%d", run->variant == BENCH_LIBRARY);
	snprintf(text[n++], ARGUMENT_BYTES, "spin_us=%u", library_spin_us(run));
	snprintf(text[n++], ARGUMENT_BYTES, "cpu_server=%d", run->cpu_server);
	snprintf(text[n++], ARGUMENT_BYTES, "cpu_client=%d", run->cpu_client);
	for (int i = 0; i < n; i++)
		out[i] = text[i];
	out[n] = NULL;
	return n;
}

static int start(struct run *run, struct process *process, enum bench_role role)
{
	static char settings[SETTINGS_MAX][SETTING_BYTES];
	static char *environment[ENVIRONMENT_MAX];
	char text[ARGUMENTS_MAX][ARGUMENT_BYTES];
	char *arguments[ARGUMENTS_MAX + 1];
	int cpu = role == BENCH_SERVER ? run->cpu_server : run->cpu_client;

	build_arguments(run, role, text, arguments);
	build_environment(environment, settings, shim_settings(run, settings));
	/* the raw ring forks: it must be free to pin its two halves differently */
	return process_start(process, arguments, environment, role == BENCH_RAWRING ? -1 : cpu);
}

/* The number behind `name=` at the start of a line. */
static double number_of(const struct run *run, const char *name)
{
	const char *const outputs[] = { run->client.output, run->server.output };
	size_t length = strlen(name);

	for (int i = 0; i < 2; i++)
		for (const char *line = outputs[i]; line; line = strchr(line, '\n')) {
			line += *line == '\n';
			if (!strncmp(line, name, length) && line[length] == '=')
				return strtod(line + length + 1, NULL);
		}
	return (double)NAN;
}

static void fail(struct bench_result *result, enum bench_outcome outcome, const char *why)
{
	result->outcome = outcome;
	snprintf(result->why, sizeof(result->why), "%s", why);
}

/* What a child wrote behind `key` about its own failure, up to the end of the line. */
static bool adopt_complaint(struct bench_result *result, const struct process *process,
			    const char *key, enum bench_outcome outcome)
{
	const char *text = strstr(process->output, key);
	char line[sizeof(result->why)];

	if (!text)
		return false;
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(text, "\n"), text);
	fail(result, outcome, line);
	return true;
}

/* Wrong payload at either end explains everything else that went wrong after it. */
static bool adopt_complaints(struct bench_result *result, const struct run *run)
{
	return adopt_complaint(result, &run->client, "corrupt=", BENCH_CORRUPT) ||
	       adopt_complaint(result, &run->server, "corrupt=", BENCH_CORRUPT) ||
	       adopt_complaint(result, &run->client, "error=", BENCH_FAILED) ||
	       adopt_complaint(result, &run->server, "error=", BENCH_FAILED);
}

static void judge_end(struct bench_result *result, const char *who, int status)
{
	char why[64];

	if (status == 0 || result->outcome != BENCH_OK)
		return;
	snprintf(why, sizeof(why), "%s: %s %d", who, status > 128 ? "signal" : "exit status",
		 status > 128 ? status - 128 : status);
	fail(result, status < 0 ? BENCH_TIMEOUT : BENCH_FAILED,
	     status < 0 ? "no end in time" : why);
}

static void run_alone(struct run *run, enum bench_role role, struct bench_result *result)
{
	int status;

	if (start(run, &run->client, role) < 0) {
		fail(result, BENCH_FAILED, "cannot start a process");
		return;
	}
	process_read(&run->client, NULL, run->deadline_ns);
	status = process_end(&run->client, run->deadline_ns);
	if (!adopt_complaints(result, run))
		judge_end(result, "process", status);
}

/* The server's first line says where it listens. */
static bool server_is_ready(struct run *run)
{
	const char *line;

	if (!process_read(&run->server, "\n", run->deadline_ns))
		return false;
	line = run->server.output;
	if (strncmp(line, "ready=", 6) != 0)
		return false;
	snprintf(run->address, sizeof(run->address), "%.*s", (int)strcspn(line + 6, "\n"),
		 line + 6);
	return true;
}

static void run_pair(struct run *run, struct bench_result *result)
{
	int server_status, client_status;

	if (start(run, &run->server, BENCH_SERVER) < 0) {
		fail(result, BENCH_FAILED, "cannot start a process");
		return;
	}
	if (!server_is_ready(run)) {
		process_kill(&run->server);
		if (!adopt_complaints(result, run))
			fail(result, BENCH_FAILED, "the server did not start");
		return;
	}
	if (start(run, &run->client, BENCH_CLIENT) < 0) {
		process_kill(&run->server);
		fail(result, BENCH_FAILED, "cannot start a process");
		return;
	}
	process_read(&run->client, NULL, run->deadline_ns);
	client_status = process_end(&run->client, run->deadline_ns);
	if (client_status != 0) /* then the server need not come to an end by itself */
		run->deadline_ns = bench_now_ns() + 200000000;
	process_read(&run->server, NULL, run->deadline_ns);
	server_status = process_end(&run->server, run->deadline_ns);
	if (adopt_complaints(result, run))
		return;
	judge_end(result, "client", client_status);
	judge_end(result, "server", server_status);
}

static void collect(const struct run *run, struct bench_result *result)
{
	double seconds = (double)run->duration_ns / 1e9;

	result->count = number_of(run, "count");
	result->value = number_of(run, "value");
	result->p50_us = number_of(run, "p50") / 1e3;
	result->p99_us = number_of(run, "p99") / 1e3;
	result->p999_us = number_of(run, "p999") / 1e3;
	result->wakeups_per_message = (number_of(run, "client_wakeups") +
				       number_of(run, "server_wakeups")) /
				      (number_of(run, "client_messages") +
				       number_of(run, "server_messages"));
	if (run->row->unit == BENCH_US)
		result->value /= 1e3;
	if (run->row->unit == BENCH_CPU_US_S)
		result->value = (number_of(run, "client_cpu_ns") +
				 number_of(run, "server_cpu_ns")) /
				1e3 / seconds;
	if (isnan(result->value))
		fail(result, BENCH_FAILED, "no result was reported");
	else if ((run->row->workload == BENCH_STREAM || run->row->workload == BENCH_RATE) &&
		 number_of(run, "sent") != number_of(run, "bytes"))
		fail(result, BENCH_CORRUPT, "bytes sent and received differ");
}

static void prepare(struct run *run)
{
	static unsigned int serial;
	const struct bench_options *options = run->options;
	enum bench_pin pin = run->row->fixed_pin ? run->row->pin : options->pin;

	run->deadline_ns = bench_now_ns() + 2 * run->duration_ns + (1ULL << GRACE_NS_SHIFT);
	run->cpu_server = run->cpu_client = -1;
	if (pin != BENCH_PIN_NONE) {
		run->cpu_client = process_nth_cpu(0);
		run->cpu_server = process_nth_cpu(pin == BENCH_PIN_APART ? 1 : 0);
	}
	serial++;
	snprintf(run->log_path, sizeof(run->log_path), "%s/log.%u", options->scratch, serial);
	if (run->row->family == BENCH_UNIX)
		snprintf(run->address, sizeof(run->address), "%s/s.%u", options->scratch, serial);
}

static void measure(struct run *run, struct bench_result *result)
{
	*result = (struct bench_result){ .outcome = BENCH_OK };
	prepare(run);
	if (run->variant == BENCH_RAW)
		run_alone(run, BENCH_RAWRING, result);
	else if (run->row->workload == BENCH_PERCALL)
		run_alone(run, BENCH_ALONE, result);
	else
		run_pair(run, result);
	if (result->outcome == BENCH_OK)
		collect(run, result);
	if (run->logged)
		shimlog_sum(run->log_path, &result->ring_bytes, &result->kernel_bytes);
	unlink(run->log_path);
	if (run->row->family == BENCH_UNIX)
		unlink(run->address);
}

/* A line of the log at each close (open, write, close of a file) costs more than a short connection
 * loses by the shim: what such connections did is asked in a run of its own. */
static void witness(const struct run *measured, struct bench_result *result)
{
	struct run run = { .row = measured->row,
			   .options = measured->options,
			   .variant = measured->variant,
			   .size_bytes = measured->size_bytes,
			   .duration_ns = WITNESS_NS,
			   .logged = true,
			   .server = { .out_fd = -1 },
			   .client = { .out_fd = -1 } };
	struct bench_result seen;

	measure(&run, &seen);
	result->ring_bytes = seen.ring_bytes;
	result->kernel_bytes = seen.kernel_bytes;
	if (result->outcome == BENCH_OK && seen.outcome != BENCH_OK)
		*result = seen;
}

void bench_measure(const struct bench_row *row, size_t size_bytes, enum bench_variant variant,
		   const struct bench_options *options, struct bench_result *result)
{
	struct run run = { .row = row,
			   .options = options,
			   .variant = variant,
			   .size_bytes = size_bytes,
			   .duration_ns = row->workload == BENCH_IDLE
						  ? BENCH_IDLE_NS
						  : (uint64_t)(options->seconds * 1e9),
			   .logged = variant == BENCH_SHIM && row->workload != BENCH_CONNECT,
			   .server = { .out_fd = -1 },
			   .client = { .out_fd = -1 } };

	measure(&run, result);
	if (variant == BENCH_SHIM && !run.logged)
		witness(&run, result);
}
