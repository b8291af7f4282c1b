/* SPDX-License-Identifier: Apache-2.0 */
/* The case program: lists the cases, or is one end of one of them. */
#include "tests/conformance/lib/conf.h"
#include "tests/conformance/lib/main.h"

#include <getopt.h>

extern const struct conf_case *const __start_conf_cases[];
extern const struct conf_case *const __stop_conf_cases[];

struct conf_run conf;

struct options {
	const char *name;
	const char *mode;
	int sync_in;
	int sync_out;
	bool list;
};

static int by_name(const void *a, const void *b)
{
	const struct conf_case *const *x = a;
	const struct conf_case *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static void list_cases(void)
{
	size_t n = (size_t)(__stop_conf_cases - __start_conf_cases);
	const struct conf_case **sorted = calloc(n, sizeof(*sorted));

	if (!sorted)
		exit(3);
	memcpy(sorted, __start_conf_cases, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_name);
	for (size_t i = 0; i < n; i++)
		printf("%s %u\n", sorted[i]->name, sorted[i]->flags);
	free(sorted);
}

static const struct conf_case *find_case(const char *name)
{
	for (const struct conf_case *const *c = __start_conf_cases; c < __stop_conf_cases; c++) {
		if (strcmp((*c)->name, name) == 0)
			return *c;
	}
	fprintf(stderr, "cases: no case named %s\n", name);
	exit(2);
}

static void usage(void)
{
	fprintf(stderr, "usage: cases --list\n"
			"       cases --case NAME --role server|client --family tcp|unix "
			"--address A [--mode warm|cold|mid|swap] [--sync IN,OUT]\n");
	exit(2);
}

static void parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "list", no_argument, NULL, 'l' },
		{ "case", required_argument, NULL, 'c' },
		{ "role", required_argument, NULL, 'r' },
		{ "family", required_argument, NULL, 'f' },
		{ "address", required_argument, NULL, 'a' },
		{ "mode", required_argument, NULL, 'm' },
		{ "sync", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (opt) {
		case 'l':
			o->list = true;
			break;
		case 'c':
			o->name = optarg;
			break;
		case 'r':
			conf.is_server = strcmp(optarg, "server") == 0;
			break;
		case 'f':
			conf.is_tcp = strcmp(optarg, "tcp") == 0;
			break;
		case 'a':
			conf.address = optarg;
			break;
		case 'm':
			o->mode = optarg;
			break;
		case 's':
			if (sscanf(optarg, "%d,%d", &o->sync_in, &o->sync_out) != 2)
				usage();
			break;
		default:
			usage();
		}
	}
	if (!o->list && (!o->name || !conf.address))
		usage();
}

/* Returns the connection, or for a raw case the listener or -1. */
static int get_socket(const struct conf_case *c)
{
	int listener, fd;

	if (!conf.is_server) {
		conf_learn_name();
		return c->flags & CONF_RAW ? -1 : conf_connect();
	}
	listener = conf_listen();
	if (c->flags & CONF_RAW)
		return listener;
	fd = conf_accept(listener);
	close(listener);
	return fd;
}

static void run_case(const struct conf_case *c, const char *mode, int fd)
{
	bool as_server = conf.is_server != (strcmp(mode, "swap") == 0);
	void (*body)(int) = as_server ? c->server : c->client;

	if (c->flags & CONF_RAW || strcmp(mode, "cold") == 0) {
		body(fd);
	} else if (strcmp(mode, "mid") == 0) {
		for (int i = 0; i < CONF_MID_REPEATS; i++) {
			body(fd);
			both();
			warm_up(fd, CONF_MID_ROUNDS);
		}
	} else {
		warm_up(fd, CONF_WARM_ROUNDS);
		obs_text("flags %#x %#x", (unsigned int)fcntl(fd, F_GETFL),
			 (unsigned int)fcntl(fd, F_GETFD));
		body(fd);
	}
}

int main(int argc, char **argv)
{
	struct options o = { .mode = "warm", .sync_in = 3, .sync_out = 4 };
	const struct conf_case *c;
	int fd;

	parse(argc, argv, &o);
	if (o.list) {
		list_cases();
		return 0;
	}
	c = find_case(o.name);
	sync_setup(o.sync_in, o.sync_out);
	tell((uint64_t)getpid());
	conf.peer_pid = (pid_t)await();
	fd = get_socket(c);
	run_case(c, o.mode, fd);
	both(); /* neither end disappears while the other still looks */
	if (fd >= 0)
		close(fd);
	return 0;
}
