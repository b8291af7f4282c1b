/* SPDX-License-Identifier: Apache-2.0 */
/* connect, one request, its reply, close: again and again, by so many processes. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/load/address.h"
#include "tools/load/load.h"

enum { REQUEST_BYTES = 64 };

static void one(const struct load_options *options, uint64_t number)
{
	char request[REQUEST_BYTES] = { 0 };
	char reply[REQUEST_BYTES + 1];
	size_t received = 0;
	int fd = address_connect(options->address);

	memcpy(request, &number, sizeof(number));
	if (send(fd, request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
		load_fail("send");
	while (received < sizeof(request)) {
		ssize_t n = recv(fd, reply + received, sizeof(reply) - received, 0);

		if (n <= 0)
			load_wrong("no whole reply");
		received += (size_t)n;
	}
	if (received != sizeof(request) || memcmp(request, reply, sizeof(request)) != 0)
		load_wrong("a reply is not what was asked for");
	close(fd);
}

static _Noreturn void loop(const struct load_options *options, int process, uint64_t *count)
{
	uint64_t end_ns = load_now_ns() + (uint64_t)(options->seconds * 1e9);

	while (load_now_ns() < end_ns)
		one(options, ((uint64_t)process << 48) + ++*count);
	_exit(0);
}

static void wait_for_all(int processes)
{
	for (int i = 0; i < processes; i++) {
		int status;

		if (wait(&status) < 0)
			load_fail("wait");
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			load_wrong("a client process failed");
	}
}

int load_short(const struct load_options *options)
{
	size_t line = 128; /* a counter each, on cache lines of their own */
	size_t bytes = line * (size_t)options->processes;
	char *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t start_ns = load_now_ns();
	uint64_t done = 0;

	if (shared == MAP_FAILED)
		load_fail("mmap");
	puts("measuring");
	fflush(stdout);
	for (int i = 0; i < options->processes; i++) {
		pid_t pid = fork();

		if (pid < 0)
			load_fail("fork");
		if (pid == 0)
			loop(options, i, (uint64_t *)(void *)(shared + line * (size_t)i));
	}
	wait_for_all(options->processes);
	for (int i = 0; i < options->processes; i++)
		done += *(uint64_t *)(void *)(shared + line * (size_t)i);
	printf("{\"units\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
	       (unsigned long long)done, (double)(load_now_ns() - start_ns) / 1e9,
	       load_cpu_seconds());
	fflush(stdout);
	munmap(shared, bytes);
	return 0;
}
