/* SPDX-License-Identifier: Apache-2.0 */
/* Between the parts of the conformance runner. */
#ifndef CONFORMANCE_RUNNER_RUN_H
#define CONFORMANCE_RUNNER_RUN_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { RUN_PATH_MAX = 512, RUN_PAIRINGS = 4 };

struct run_options {
	const char *filter;
	const char *pairing;
	const char *family;
	const char *mode;
	const char *cases_path;
	char preload[RUN_PATH_MAX];
	int jobs;
	int repeat;
	int deadline_s;
	bool verbose;
	bool self_test;
	bool list;
};

struct pairing {
	const char *name; /* server/client */
	bool server_shim;
	bool client_shim;
};

extern const struct pairing run_pairings[RUN_PAIRINGS];

/* One thing to judge: a case in one mode over one family. */
struct job {
	char name[96];
	unsigned int flags;
	const char *mode;
	const char *family;
};

/* What one run of a pair of processes left behind. Texts are malloc'ed. */
struct outcome {
	char *transcript;
	char *log;
	bool timed_out;
	int leaked_children;
	int leaked_files;
};

/* pair.c: runs one pair of processes. */
void pair_run(const struct run_options *o, const struct job *job, const struct pairing *pairing,
	      const char *folder, struct outcome *out);
void outcome_free(struct outcome *out);

/* judge.c: all pairings of a job; prints "ok ..." and "not ok ..." lines to the stream. */
void judge_job(const struct run_options *o, const struct job *job, FILE *to);

/* diff.c */
void print_diff(FILE *to, const char *expected, const char *actual);

#endif
