/* SPDX-License-Identifier: Apache-2.0 */
/* The child's side: read the job, connect, work, report. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/bench/rawring.h"
#include "tools/bench/workload.h"

enum { EXIT_FAILED = 3, EXIT_CORRUPT = 4 };

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_report(const char *name, double value)
{
	printf("%s=%.17g\n", name, value);
}

_Noreturn void bench_child_fail(const char *what)
{
	int error = errno;

	printf("error=%s: %s\n", what, strerror(error));
	fflush(stdout);
	_exit(EXIT_FAILED);
}

void bench_corrupt(const char *where, uint64_t position)
{
	printf("corrupt=%s %llu\n", where, (unsigned long long)position);
	fflush(stdout);
	_exit(EXIT_CORRUPT);
}

/* The library's own workloads are in library.c. */
void workload_serve(struct channel *channel, const struct bench_job *job)
{
	if (job->workload == BENCH_PINGPONG)
		pingpong_serve(channel, job);
	else if (job->workload == BENCH_IDLE)
		idle_serve(channel, job);
	else
		stream_serve(channel, job);
}

void workload_drive(struct channel *channel, const struct bench_job *job)
{
	if (job->workload == BENCH_PINGPONG)
		pingpong_drive(channel, job);
	else if (job->workload == BENCH_IDLE)
		idle_drive(channel, job);
	else
		stream_drive(channel, job);
}

static void parse_pair(struct bench_job *job, const char *key, const char *value)
{
	if (!strcmp(key, "role"))
		job->role = (enum bench_role)atoi(value);
	else if (!strcmp(key, "workload"))
		job->workload = (enum bench_workload)atoi(value);
	else if (!strcmp(key, "family"))
		job->family = (enum bench_family)atoi(value);
	else if (!strcmp(key, "wait"))
		job->wait = (enum bench_wait)atoi(value);
	else if (!strcmp(key, "call"))
		job->call = (enum bench_call)atoi(value);
	else if (!strcmp(key, "size"))
		job->size_bytes = strtoul(value, NULL, 10);
	else if (!strcmp(key, "duration_ns"))
		job->duration_ns = strtoull(value, NULL, 10);
	else if (!strcmp(key, "library"))
		job->library = atoi(value) != 0;
	else if (!strcmp(key, "spin_us"))
		job->spin_us = (unsigned int)atoi(value);
	else if (!strcmp(key, "cpu_server"))
		job->cpu_server = atoi(value);
	else if (!strcmp(key, "cpu_client"))
		job->cpu_client = atoi(value);
	else if (!strcmp(key, "address"))
		snprintf(job->address, sizeof(job->address), "%s", value);
	else if (!strcmp(key, "congestion"))
		snprintf(job->congestion, sizeof(job->congestion), "%s", value);
}

static void parse_job(struct bench_job *job, int argc, char **argv)
{
	*job = (struct bench_job){ .cpu_server = -1, .cpu_client = -1 };
	for (int i = 0; i < argc; i++) {
		char *equals = strchr(argv[i], '=');

		if (!equals)
			continue;
		*equals = '\0';
		parse_pair(job, argv[i], equals + 1);
	}
}

void bench_child_ready(const char *address)
{
	printf("ready=%s\n", address);
	fflush(stdout);
}

static void serve(const struct bench_job *job)
{
	char address[BENCH_ADDRESS_BYTES];
	struct channel channel;
	int listener;

	if (job->library) {
		library_serve(job);
		return;
	}
	listener = channel_listen(job, address);
	bench_child_ready(address);
	if (job->workload == BENCH_CONNECT) {
		connect_serve(listener, job);
	} else if (job->workload == BENCH_STREAMS) {
		streams_serve(listener, job);
	} else {
		channel_open(&channel, channel_accept(listener), job);
		workload_serve(&channel, job);
		channel_close(&channel);
	}
	close(listener);
}

static void drive(const struct bench_job *job)
{
	struct channel channel;

	if (job->library) {
		library_drive(job);
		return;
	}
	if (job->workload == BENCH_CONNECT) {
		connect_drive(job);
		return;
	}
	if (job->workload == BENCH_STREAMS) {
		streams_drive(job);
		return;
	}
	channel_open(&channel, channel_connect(job), job);
	workload_drive(&channel, job);
	channel_close(&channel);
}

int bench_child_main(int argc, char **argv)
{
	struct bench_job job;

	parse_job(&job, argc, argv);
	switch (job.role) {
	case BENCH_SERVER:
		serve(&job);
		break;
	case BENCH_CLIENT:
		drive(&job);
		break;
	case BENCH_ALONE:
		percall_drive(&job);
		break;
	case BENCH_RAWRING:
		return rawring_run(&job);
	}
	return fflush(stdout) ? EXIT_FAILED : 0;
}
