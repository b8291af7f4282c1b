/* SPDX-License-Identifier: Apache-2.0 */
/* loading PATH COUNT: so many times a library whose calls are bound around the shim is loaded, and
 * closed again, while another thread opens files: the shim looks at it then in any state.  Each
 * time its table leads to the shim in the end. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TRIES = 3000 };

static _Atomic bool is_over;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "loading: %s\n", what);
	_exit(1);
}

static void open_something(void)
{
	int fd = open("/dev/null", O_RDONLY);

	if (fd < 0)
		fail("open");
	close(fd);
}

static void *opener(void *none)
{
	while (!is_over)
		open_something();
	return none;
}

static void load(const char *path, const void *libcs)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND), *(*last)(void);
	int tries = 0;

	if (!library)
		fail(dlerror());
	*(void **)&last = dlsym(library, "last_of_table");
	if (!last)
		fail("dlsym");
	while (last() == libcs && tries++ < TRIES) {
		open_something();
		usleep(1000);
	}
	if (tries >= TRIES)
		fail("the library passes the shim by");
	dlclose(library);
}

int main(int argc, char **arguments)
{
	const void *libcs;
	pthread_t thread;

	if (argc != 3)
		return 2;
	libcs = dlsym(dlopen("libc.so.6", RTLD_NOW), "recv");
	if (pthread_create(&thread, NULL, opener, NULL) != 0)
		fail("pthread_create");
	for (int i = atoi(arguments[2]); i > 0; i--)
		load(arguments[1], libcs);
	is_over = true;
	pthread_join(thread, NULL);
	return 0;
}
