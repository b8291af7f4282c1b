/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes: started with a pipe for their results and a deadline, and never left behind.
 * Every child dies with its parent (PR_SET_PDEATHSIG).
 */
#ifndef SHMIPC_TOOLS_BENCH_PROCESS_H
#define SHMIPC_TOOLS_BENCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROCESS_OUTPUT_BYTES = 4096 };

struct process {
	pid_t pid; /* 0: none */
	int out_fd;
	size_t output_bytes;
	char output[PROCESS_OUTPUT_BYTES]; /* always terminated */
};

/* SIGINT, SIGTERM and SIGHUP end the waits below. */
void process_catch_signals(void);
int process_signal_caught(void);

/* Bind the calling process to one CPU; -1: leave it alone. */
void process_pin(int cpu);
/* The nth CPU that this process may use (modulo their number). */
int process_nth_cpu(int n);
int process_cpu_count(void);

/* Run this same binary.  `environment` is the whole one. */
int process_start(struct process *process, char *const argv[], char *const environment[], int cpu);
/* Read output until it holds `until` (or ends, with NULL).  False: time is over, or it ended too
 * early. */
bool process_read(struct process *process, const char *until, uint64_t deadline_ns);
/* Wait for the end, by force after the deadline.  The exit status; 128 + signal; -1: killed by us.
 */
int process_end(struct process *process, uint64_t deadline_ns);
void process_kill(struct process *process);

/* One SCHED_IDLE process on each CPU that keeps it from sleeping. */
int process_start_spinners(void);
void process_stop_spinners(void);

#endif
