/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance runner: options, the list of jobs, a few of them at a time, the sum. */
#include "tests/conformance/runner/run.h"
#include "tests/conformance/lib/conf.h"

#include <dirent.h>
#include <getopt.h>
#include <sys/prctl.h>

enum { JOBS_MAX = 8192, WORKERS_MAX = 64 };

static struct job jobs[JOBS_MAX];
static size_t job_count;

struct worker {
	pid_t pid; /* 0 when free */
	FILE *report;
};

static struct worker workers[WORKERS_MAX];
static long passed, failed;

static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: run [--filter TEXT] [--pairing plain/plain|shim/shim|shim/plain|plain/shim]\n"
		"           [--family tcp|unix] [--mode warm|cold|mid|swap] [--jobs N] [--repeat N]\n"
		"           [--deadline SECONDS] [--preload PATH] [--verbose] [--list] [--self-test]\n");
	exit(status);
}

static int number(const char *text, int max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*end || end == text || n < 1 || n > max) {
		fprintf(stderr, "run: not a number from 1 to %d: %s\n", max, text);
		exit(2);
	}
	return (int)n;
}

static const char *one_of(const char *text, const char *const *choices)
{
	for (; *choices; choices++) {
		if (strcmp(text, *choices) == 0)
			return *choices;
	}
	fprintf(stderr, "run: unknown value: %s\n", text);
	exit(2);
}

static const char *const families[] = { "tcp", "unix", NULL };
static const char *const modes[] = { "warm", "cold", "mid", "swap", NULL };

static const char *const pairings[] = { "plain/plain", "shim/shim", "shim/plain", "plain/shim",
					NULL };
static const struct option longs[] = {
	{ "filter", required_argument, NULL, 'f' },
	{ "pairing", required_argument, NULL, 'p' },
	{ "family", required_argument, NULL, 'a' },
	{ "mode", required_argument, NULL, 'm' },
	{ "jobs", required_argument, NULL, 'j' },
	{ "repeat", required_argument, NULL, 'r' },
	{ "deadline", required_argument, NULL, 'd' },
	{ "preload", required_argument, NULL, 'l' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "self-test", no_argument, NULL, 's' },
	{ "list", no_argument, NULL, 'i' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static void parse(int argc, char **argv, struct run_options *o)
{
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (opt) {
		case 'f':
			o->filter = optarg;
			break;
		case 'p':
			o->pairing = one_of(optarg, pairings);
			break;
		case 'a':
			o->family = one_of(optarg, families);
			break;
		case 'm':
			o->mode = one_of(optarg, modes);
			break;
		case 'j':
			o->jobs = number(optarg, WORKERS_MAX);
			break;
		case 'r':
			o->repeat = number(optarg, 1000000);
			break;
		case 'd':
			o->deadline_s = number(optarg, 3600);
			break;
		case 'l':
			snprintf(o->preload, sizeof(o->preload), "%s", optarg);
			break;
		case 'v':
			o->verbose = true;
			break;
		case 's':
			o->self_test = true;
			break;
		case 'i':
			o->list = true;
			break;
		default:
			usage(opt == 'h' ? 0 : 2);
		}
	}
	if (optind < argc)
		usage(2);
}

static void add_jobs(const struct run_options *o, const char *name, unsigned int flags)
{
	for (int f = 0; families[f]; f++) {
		if (flags & (f == 0 ? CONF_UNIX_ONLY : CONF_TCP_ONLY))
			continue;
		if (o->family && strcmp(o->family, families[f]) != 0)
			continue;
		for (int m = 0; modes[m]; m++) {
			static const unsigned int needed[] = { 0, CONF_COLD, CONF_MID, CONF_SWAP };
			char full[128];

			if ((flags & needed[m]) != needed[m] || job_count == JOBS_MAX)
				continue;
			if (o->mode && strcmp(o->mode, modes[m]) != 0)
				continue;
			snprintf(full, sizeof(full), "%s:%s", name, modes[m]);
			if (o->filter && !strstr(full, o->filter))
				continue;
			snprintf(jobs[job_count].name, sizeof(jobs[0].name), "%s", name);
			jobs[job_count].flags = flags;
			jobs[job_count].mode = modes[m];
			jobs[job_count++].family = families[f];
		}
	}
}

static void load_jobs(const struct run_options *o)
{
	char command[RUN_PATH_MAX + 16], name[96];
	unsigned int flags;
	FILE *list;

	snprintf(command, sizeof(command), "%s --list", o->cases_path);
	list = popen(command, "re");
	if (!list)
		exit(3);
	while (fscanf(list, "%95s %u", name, &flags) == 2) {
		if (!!(flags & CONF_SELF) == o->self_test)
			add_jobs(o, name, flags);
	}
	if (pclose(list) != 0) {
		fprintf(stderr, "run: cannot list the cases of %s\n", o->cases_path);
		exit(3);
	}
}

/* Prints a finished job's lines, numbered. */
static void collect(struct worker *w, int status)
{
	char *line = NULL;
	size_t size = 0;

	rewind(w->report);
	while (getline(&line, &size, w->report) > 0) {
		if (strncmp(line, "ok", 2) == 0)
			printf("ok %ld%s", ++passed + failed, line + 2);
		else if (strncmp(line, "not ok", 6) == 0)
			printf("not ok %ld%s", ++failed + passed, line + 6);
		else
			fputs(line, stdout);
	}
	if (status != 0)
		printf("not ok %ld - the runner's own worker failed\n", ++failed + passed);
	fflush(stdout);
	free(line);
	fclose(w->report);
	w->pid = 0;
}

static void wait_one(void)
{
	int status;
	pid_t pid = wait(&status);

	for (int i = 0; i < WORKERS_MAX; i++) {
		if (workers[i].pid == pid && pid > 0)
			collect(&workers[i], status);
	}
}

static void adopt_orphans(void)
{
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static void start_job(const struct run_options *o, const struct job *job, struct worker *w)
{
	w->report = tmpfile();
	if (!w->report) {
		perror("run: tmpfile");
		exit(3);
	}
	fflush(stdout);
	w->pid = fork();
	if (w->pid < 0) {
		perror("run: fork");
		exit(3);
	}
	if (w->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		adopt_orphans();
		judge_job(o, job, w->report);
		fflush(w->report);
		_exit(0);
	}
}

static void run_jobs(const struct run_options *o)
{
	for (size_t i = 0; i < job_count; i++) {
		int slot = -1;

		while (slot < 0) {
			for (int j = 0; j < o->jobs && slot < 0; j++) {
				if (!workers[j].pid)
					slot = j;
			}
			if (slot < 0)
				wait_one();
		}
		start_job(o, &jobs[i], &workers[slot]);
	}
	for (int j = 0; j < o->jobs; j++) {
		while (workers[j].pid)
			wait_one();
	}
}

/* Names in /dev/shm that say whose they are; nothing may stay behind. */
static int count_shared_files(void)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	int count = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		count += strstr(entry->d_name, "shmipc") != NULL;
	closedir(dir);
	return count;
}

/* Beside this program: the cases; one folder up: the shim. */
static void find_programs(struct run_options *o)
{
	static char cases_path[RUN_PATH_MAX];
	char here[RUN_PATH_MAX];
	char *slash;

	ssize_t n = readlink("/proc/self/exe", here, sizeof(here) - 1);
	here[n > 0 ? n : 0] = '\0';
	slash = strrchr(here, '/');
	if (slash)
		*slash = '\0';
	if (snprintf(cases_path, sizeof(cases_path), "%.500s/cases", here) < 0)
		exit(3);
	o->cases_path = cases_path;
	if (!o->preload[0]) {
		if (snprintf(o->preload, sizeof(o->preload), "%.480s/../libshmipc_shim.so", here) <
		    0)
			exit(3);
	}
	char *real = realpath(o->preload, NULL);
	snprintf(o->preload, sizeof(o->preload), "%s", real ? real : "");
	free(real);
	if (!real && o->self_test)
		snprintf(o->preload, sizeof(o->preload), "libm.so.6");
	if (!o->preload[0])
		fprintf(stderr, "run: no libshmipc_shim.so: only plain/plain is run\n");
}

/* What the report must say of each of the harness's own cases. */
static const struct {
	const char *name;
	const char *text;
} verdicts[] = {
	{ "self.differs", "differs from" },
	{ "self.hangs", "timed out" },
	{ "self.leaks_child", "leaked children: 1" },
	{ "self.leaks_file", "leaked files: 1" },
	{ "self.not_accelerated", "#   not accelerated" },
	{ "self.wrongly_accelerated", "must not be" },
};

static bool verdict_right(const char *name, const char *report)
{
	for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
		if (strcmp(name, verdicts[i].name) == 0)
			return strncmp(report, "not ok", 6) == 0 &&
			       strstr(report, verdicts[i].text);
	}
	return strncmp(report, "ok", 2) == 0;
}

/* The harness itself: each of its cases must be judged exactly as its name says. */
static int run_self_test(const struct run_options *o)
{
	size_t wrong = 0;

	for (size_t i = 0; i < job_count; i++) {
		const struct job *job = &jobs[i];
		struct run_options mine = *o;
		char *text = NULL;
		size_t size = 0;
		FILE *to = open_memstream(&text, &size);
		bool good;

		if (strcmp(job->name, "self.hangs") == 0)
			mine.deadline_s = 1;
		mine.pairing = strcmp(job->name, "self.not_accelerated") == 0 ? "shim/shim"
									      : "shim/plain";
		judge_job(&mine, job, to);
		fclose(to);
		good = verdict_right(job->name, text);
		printf("%s %zu - harness: %s %s\n", good ? "ok" : "not ok", i + 1, job->name,
		       job->family);
		if (!good || o->verbose)
			fputs(text, stdout);
		wrong += !good;
		free(text);
	}
	printf("1..%zu\n%zu passed, %zu failed\n", job_count, job_count - wrong, wrong);
	return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct run_options o = { .jobs = 2, .repeat = 1, .deadline_s = 20 };
	int shared_files;

	parse(argc, argv, &o);
	find_programs(&o);
	load_jobs(&o);
	if (o.list) {
		for (size_t i = 0; i < job_count; i++)
			printf("%s:%s %s\n", jobs[i].name, jobs[i].mode, jobs[i].family);
		return 0;
	}
	if (job_count == 0) {
		fprintf(stderr, "run: no case matches\n");
		return 2;
	}
	shared_files = count_shared_files();
	if (o.self_test) {
		adopt_orphans();
		return run_self_test(&o);
	}
	printf("TAP version 13\n");
	run_jobs(&o);
	if (count_shared_files() > shared_files)
		printf("not ok %ld - files stay in /dev/shm\n", ++failed + passed);
	printf("1..%ld\n%ld passed, %ld failed\n", passed + failed, passed, failed);
	return failed ? 1 : 0;
}
