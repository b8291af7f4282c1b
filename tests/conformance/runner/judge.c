/* SPDX-License-Identifier: Apache-2.0 */
/* Compares every pairing of a case with what the kernel alone does. */
#include "tests/conformance/runner/run.h"
#include "tests/conformance/lib/conf.h"

const struct pairing run_pairings[RUN_PAIRINGS] = {
	{ "plain/plain", false, false },
	{ "shim/shim", true, true },
	{ "shim/plain", true, false },
	{ "plain/shim", false, true },
};

/* Payload bytes that event=closed lines say went through shared memory. */
static unsigned long long ring_bytes(const char *log, const char *key)
{
	unsigned long long sum = 0;

	for (const char *p = log; (p = strstr(p, key)); p++)
		sum += strtoull(p + strlen(key), NULL, 10);
	return sum;
}

static bool both_shimmed(const struct job *job, const struct pairing *pairing)
{
	return pairing->server_shim && (pairing->client_shim || job->flags & CONF_FAMILY);
}

static const char *judge_acceleration(const struct job *job, const struct pairing *pairing,
				      const struct outcome *out)
{
	bool event = strstr(out->log, "event=accelerated");
	bool moved = ring_bytes(out->log, " ring_tx=") + ring_bytes(out->log, " ring_rx=") > 0;

	if (!pairing->server_shim && !pairing->client_shim)
		return NULL;
	if (!both_shimmed(job, pairing) || job->flags & CONF_NEVER)
		return event || moved ? "accelerated, but must not be" : NULL;
	if (!(job->flags & CONF_MUST) &&
	    (job->flags & (CONF_EITHER | CONF_RAW) || strcmp(job->mode, "cold") == 0))
		return NULL;
	if (moved || (event && job->flags & CONF_KILLED))
		return NULL;
	return "not accelerated";
}

static void print_indented(FILE *to, const char *title, const char *text)
{
	fprintf(to, "#   %s:\n", title);
	while (*text) {
		size_t n = strcspn(text, "\n");

		fprintf(to, "#     %.*s\n", (int)n, text);
		text += n + (text[n] == '\n');
	}
}

/* True when the outcome is what it should be; else prints why not. */
static bool judge_outcome(const struct run_options *o, const struct job *job,
			  const struct pairing *pairing, const struct outcome *base,
			  const struct outcome *out, FILE *to)
{
	bool same = strcmp(base->transcript, out->transcript) == 0;
	const char *why = judge_acceleration(job, pairing, out);

	if (same && !why && !out->timed_out && !out->leaked_children && !out->leaked_files)
		return true;
	if (out->timed_out)
		fprintf(to, "#   timed out after %d s\n", o->deadline_s);
	if (out->leaked_children)
		fprintf(to, "#   leaked children: %d\n", out->leaked_children);
	if (out->leaked_files)
		fprintf(to, "#   leaked files: %d\n", out->leaked_files);
	if (why)
		fprintf(to, "#   %s\n", why);
	if (!same) {
		fprintf(to, "#   differs from plain/plain (- expected, + got):\n");
		print_diff(to, base->transcript, out->transcript);
	}
	if (*out->log && (o->verbose || why))
		print_indented(to, "log", out->log);
	return false;
}

static bool pairing_wanted(const struct run_options *o, const struct pairing *pairing)
{
	if (o->pairing)
		return strcmp(o->pairing, pairing->name) == 0;
	return o->preload[0] || !(pairing->server_shim || pairing->client_shim);
}

static void judge_pairing(const struct run_options *o, const struct job *job,
			  const struct pairing *pairing, const struct outcome *base,
			  const char *folder, FILE *to)
{
	bool good = true;
	char *text = NULL;
	size_t size = 0;
	FILE *notes = open_memstream(&text, &size);

	for (int i = 0; i < o->repeat && good; i++) {
		struct outcome out;

		pair_run(o, job, pairing, folder, &out);
		good = judge_outcome(o, job, pairing, base, &out, notes);
		outcome_free(&out);
	}
	if (!good) {
		struct outcome again;

		pair_run(o, job, &run_pairings[0], folder, &again);
		if (strcmp(again.transcript, base->transcript) != 0)
			fprintf(notes, "#   plain/plain itself is not stable here\n");
		outcome_free(&again);
	}
	fclose(notes);
	fprintf(to, "%s - %s:%s %s %s\n%s", good ? "ok" : "not ok", job->name, job->mode,
		job->family, pairing->name, text);
	free(text);
}

void judge_job(const struct run_options *o, const struct job *job, FILE *to)
{
	char folder[] = "/tmp/conformance.XXXXXX";
	struct outcome base;

	if (!mkdtemp(folder)) {
		perror("conformance: mkdtemp");
		exit(3);
	}
	pair_run(o, job, &run_pairings[0], folder, &base);
	if (o->verbose)
		print_indented(to, "plain/plain", base.transcript);
	if (base.timed_out) {
		fprintf(to, "not ok - %s:%s %s plain/plain\n#   timed out after %d s\n", job->name,
			job->mode, job->family, o->deadline_s);
	} else {
		for (int i = 0; i < RUN_PAIRINGS; i++) {
			if (pairing_wanted(o, &run_pairings[i]))
				judge_pairing(o, job, &run_pairings[i], &base, folder, to);
		}
	}
	outcome_free(&base);
	rmdir(folder);
}
