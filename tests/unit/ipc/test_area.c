/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a peer names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/ipc/area.h"

enum { BYTES = 4096, ROUNDS = 4000 };

struct place {
	char root[40];
	char mine[64], theirs[64]; /* directories */
	char path[96], victim[96]; /* "file" in each of them */
	_Atomic bool stop;
};

static void make_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	close(fd);
}

static int make_place(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	strcpy(place->root, "/dev/shm/shmipc_area.XXXXXX");
	assert_non_null(mkdtemp(place->root));
	snprintf(place->mine, sizeof(place->mine), "%s/mine", place->root);
	snprintf(place->theirs, sizeof(place->theirs), "%s/theirs", place->root);
	snprintf(place->path, sizeof(place->path), "%s/file", place->mine);
	snprintf(place->victim, sizeof(place->victim), "%s/file", place->theirs);
	assert_int_equal(mkdir(place->mine, 0700), 0);
	assert_int_equal(mkdir(place->theirs, 0700), 0);
	*state = place;
	return 0;
}

static int free_place(void **state)
{
	struct place *place = *state;

	unlink(place->path);
	unlink(place->victim);
	rmdir(place->mine);
	rmdir(place->theirs);
	rmdir(place->root);
	free(place);
	return 0;
}

static void what_stands_elsewhere_now_is_left(void **state)
{
	struct place *place = *state;
	struct shmipc_area area;
	char other[128];

	make_file(place->path);
	assert_int_equal(shmipc_area_open(&area, place->path, geteuid() + 1, BYTES), -EACCES);
	assert_int_equal(shmipc_area_open(&area, place->path, geteuid(), BYTES - 1), -EFBIG);
	assert_int_equal(shmipc_area_open(&area, place->path, geteuid(), BYTES), 0);
	snprintf(other, sizeof(other), "%s/other", place->root);
	assert_int_equal(rename(place->path, other), 0);
	make_file(place->path);
	shmipc_area_unlink(&area);
	assert_int_equal(access(place->path, F_OK), 0);
	assert_null(area.path);
	shmipc_area_drop(&area);
	assert_int_equal(shmipc_area_open(&area, other, geteuid(), BYTES), 0);
	shmipc_area_unlink(&area);
	assert_int_equal(access(other, F_OK), -1);
	shmipc_area_drop(&area);
	assert_int_equal(symlink(place->path, other), 0);
	assert_int_equal(shmipc_area_open(&area, other, geteuid(), BYTES), -ELOOP);
	unlink(other);
}

static void *exchange(void *argument)
{
	struct place *place = argument;

	while (!place->stop)
		syscall(SYS_renameat2, AT_FDCWD, place->mine, AT_FDCWD, place->theirs,
			2 /* RENAME_EXCHANGE */);
	return NULL;
}

static ino_t make_file_in(int directory)
{
	int fd = openat(directory, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	return st.st_ino;
}

/* A peer that may rename the directories on the way to its file must not have us remove another
 * file by it. */
static void directories_may_be_exchanged_meanwhile(void **state)
{
	struct place *place = *state;
	int mine = open(place->mine, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int theirs = open(place->theirs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat device;
	pthread_t thread;
	int removed = 0;

	assert_int_equal(fstat(mine, &device), 0);
	make_file_in(theirs);
	pthread_create(&thread, NULL, exchange, place);
	for (int i = 0; i < ROUNDS; i++) {
		struct shmipc_area area = { .fd = -1,
					    .is_file = true,
					    .path = strdup(place->path),
					    .device = device.st_dev,
					    .inode = make_file_in(mine) };

		shmipc_area_unlink(&area);
		removed += faccessat(mine, "file", F_OK, 0) != 0;
		assert_int_equal(faccessat(theirs, "file", F_OK, 0), 0);
	}
	place->stop = true;
	pthread_join(thread, NULL);
	assert_true(removed > 0);
	close(mine);
	close(theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_stands_elsewhere_now_is_left, make_place,
						free_place),
		cmocka_unit_test_setup_teardown(directories_may_be_exchanged_meanwhile, make_place,
						free_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
