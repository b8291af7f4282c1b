/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: what is made, what is refused, and that a mapped one no longer believes its header. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/memfd.h"
#include "core/segment.h"

enum { ALL_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

static void created_segment_is_complete(void **state)
{
	const uint64_t ring_bytes = 16384;
	struct shmipc_segment made, mapped;
	int fd;

	(void)state;
	assert_int_equal(shmipc_segment_create(&made, 3, ring_bytes, &fd), 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(made.segment_bytes, 4096 + 3 * (4096 + 2 * ring_bytes));

	assert_int_equal(shmipc_segment_map(&mapped, fd, UINT64_MAX), 0);
	close(fd); /* the mapping outlives the descriptor */
	assert_ptr_not_equal(made.header, mapped.header);
	assert_int_equal(mapped.stream_count, 3);
	assert_int_equal(mapped.ring_bytes, ring_bytes);
	assert_int_equal(mapped.segment_bytes, made.segment_bytes);
	shmipc_segment_stream(&made, 2)->client_cookie = 0x1234;
	assert_int_equal(shmipc_segment_stream(&mapped, 2)->client_cookie, 0x1234);
	shmipc_segment_unmap(&made);
	shmipc_segment_unmap(&made); /* twice is harmless */
	assert_null(made.header);
	shmipc_segment_unmap(&mapped);
}

static void is_mapped_so_far(const struct shmipc_segment *made, int fd, uint64_t bytes_max,
			     uint32_t streams)
{
	struct shmipc_segment mapped;
	unsigned char *last;

	assert_int_equal(shmipc_segment_map(&mapped, fd, bytes_max), 0);
	assert_int_equal(mapped.stream_count, streams);
	assert_int_equal(mapped.loops_at, made->loops_at);
	assert_int_equal(mapped.segment_bytes, made->loops_at + streams * 2 * made->ring_bytes);
	last = shmipc_segment_ring(&mapped, streams - 1, 1).loop + made->ring_bytes - 1;
	assert_ptr_equal(last + 1, (unsigned char *)mapped.header + mapped.segment_bytes);
	*last = (unsigned char)(*last + 1);
	assert_int_equal(shmipc_segment_ring(made, streams - 1, 1).loop[made->ring_bytes - 1],
			 *last);
	shmipc_segment_unmap(&mapped);
}

static void as_much_is_mapped_as_may_be(void **state)
{
	const uint64_t ring_bytes = 16384;
	struct shmipc_segment made;
	int fd;

	(void)state;
	assert_int_equal(shmipc_segment_create(&made, 4, ring_bytes, &fd), 0);
	is_mapped_so_far(&made, fd, made.segment_bytes, 4);
	is_mapped_so_far(&made, fd, made.segment_bytes - 1, 3);
	is_mapped_so_far(&made, fd, made.loops_at + 4 * ring_bytes, 2);
	is_mapped_so_far(&made, fd, made.loops_at + 4 * ring_bytes - 1, 1);
	is_mapped_so_far(&made, fd, 1, 1);
	shmipc_segment_unmap(&made);
	close(fd);
}

/* What the process has mapped; a sanitizer maps terabytes. */
static rlim_t space_used(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%lu", &pages) != 1)
		pages = 0;
	fclose(file);
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* 0: of 32 streams of 8 MiB each fewer are mapped where there is no room for more. */
static int map_in_little_space(int fd)
{
	const rlim_t space = space_used() + (60 << 20);
	const struct rlimit limit = { space, space };
	struct shmipc_segment mapped;

	if (setrlimit(RLIMIT_AS, &limit) || shmipc_segment_map(&mapped, fd, UINT64_MAX))
		return 1;
	return mapped.stream_count == 4 ? 0 : 2;
}

static void less_is_mapped_where_there_is_no_room(void **state)
{
	struct shmipc_segment made;
	int fd, status;
	pid_t pid;

	(void)state;
	assert_int_equal(shmipc_segment_create(&made, 32, 4 << 20, &fd), 0);
	shmipc_segment_unmap(&made);
	pid = fork();
	if (pid == 0)
		_exit(map_in_little_space(fd));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
}

static void parts_do_not_overlap(void **state)
{
	struct shmipc_segment segment;
	unsigned char *expected;
	int fd;

	(void)state;
	assert_int_equal(shmipc_segment_create(&segment, 5, 8192, &fd), 0);
	close(fd);
	expected = (unsigned char *)segment.header + SHMIPC_PAGE_BYTES;
	for (uint32_t i = 0; i < 5; i++, expected += SHMIPC_PAGE_BYTES)
		assert_ptr_equal(shmipc_segment_stream(&segment, i), expected);
	for (uint32_t i = 0; i < 5; i++) {
		for (unsigned int direction = 0; direction < 2; direction++) {
			struct shmipc_ring ring = shmipc_segment_ring(&segment, i, direction);

			assert_ptr_equal(ring.loop, expected);
			assert_int_equal(ring.ring_bytes, 8192);
			assert_int_equal(ring.lead_bytes, SHMIPC_LEAD_BYTES);
			memset(ring.loop, (int)(2 * i + direction + 1), 8192);
			memset(ring.lead, (int)(2 * i + direction + 1), ring.lead_bytes);
			expected += 8192;
		}
	}
	assert_ptr_equal(expected, (unsigned char *)segment.header + segment.segment_bytes);
	for (uint32_t i = 0; i < 5; i++) {
		struct shmipc_ring ring = shmipc_segment_ring(&segment, i, 1);
		struct shmipc_direction idle = { 0 };

		assert_int_equal(shmipc_segment_stream(&segment, i)->client_cookie, 0);
		assert_memory_equal(&shmipc_segment_stream(&segment, i)->direction[1], &idle,
				    sizeof(idle));
		assert_int_equal(ring.loop[8191], 2 * i + 2);
		assert_int_equal(ring.lead[0], 2 * i + 2);
		assert_int_equal(ring.lead[SHMIPC_LEAD_BYTES - 1], 2 * i + 2);
	}
	shmipc_segment_unmap(&segment);
}

static void untouched_streams_cost_nothing(void **state)
{
	struct shmipc_segment segment;
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(shmipc_segment_create(&segment, SHMIPC_STREAM_COUNT_MAX, 1 << 20, &fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 <= 4 * SHMIPC_PAGE_BYTES ||
		    st.st_blksize > SHMIPC_PAGE_BYTES);
	close(fd);
	shmipc_segment_unmap(&segment);
}

/* A program that crashes does not fill the memory that it shares with one that does not. */
static void core_dumps_touch_no_loop(void **state)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char directory[] = "/tmp/test_segment.XXXXXX", command[64];
	struct shmipc_segment segment;
	struct stat st;
	int fd, status;
	pid_t pid;

	(void)state;
	assert_int_equal(shmipc_segment_create(&segment, 8, 1 << 20, &fd), 0);
	assert_non_null(mkdtemp(directory));
	for (int mapped = 0; mapped < 2; mapped++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			if (mapped)
				shmipc_segment_unmap(&segment);
			if ((mapped && shmipc_segment_map(&segment, fd, UINT64_MAX)) ||
			    chdir(directory) || setrlimit(RLIMIT_CORE, &unlimited))
				_exit(1);
			signal(SIGABRT, SIG_DFL);
			abort();
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
	}
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	assert_int_equal(system(command), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 <= 32 * SHMIPC_PAGE_BYTES ||
		    st.st_blksize > SHMIPC_PAGE_BYTES);
	close(fd);
	shmipc_segment_unmap(&segment);
}

static void geometry_is_refused(void **state)
{
	static const struct {
		uint32_t streams;
		uint64_t ring_bytes;
	} bad[] = {
		{ 0, 4096 },
		{ SHMIPC_STREAM_COUNT_MAX + 1, 4096 },
		{ UINT32_MAX, 4096 },
		{ 1, 0 },
		{ 1, 2048 },
		{ 1, 4097 },
		{ 1, 12288 },
		{ 1, UINT64_C(128) << 20 },
		{ 1, UINT64_C(1) << 63 },
		{ 2, UINT64_MAX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct shmipc_segment segment;
		int fd = -7;

		assert_int_equal(
			shmipc_segment_create(&segment, bad[i].streams, bad[i].ring_bytes, &fd),
			-EINVAL);
		assert_int_equal(fd, -7);
	}
}

/* ---- what a peer might pass
 * ---------------------------------------------------------------------- */

static struct shmipc_segment_header good_header(void)
{
	return (struct shmipc_segment_header){
		.magic = SHMIPC_SEGMENT_MAGIC,
		.layout_version = SHMIPC_LAYOUT_VERSION,
		.stream_count = 2,
		.ring_bytes = 4096,
		.loops_at = 3 * 4096,
		.segment_bytes = 7 * 4096,
	};
}

static int file_with(const struct shmipc_segment_header *header, off_t bytes, int seals)
{
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	if (header && bytes >= (off_t)sizeof(*header))
		assert_int_equal(pwrite(fd, header, sizeof(*header), 0), sizeof(*header));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int map_result(int fd)
{
	struct shmipc_segment segment;
	int error = shmipc_segment_map(&segment, fd, UINT64_MAX);

	if (!error)
		shmipc_segment_unmap(&segment);
	close(fd);
	return error;
}

static void forged_but_right_is_accepted(void **state)
{
	struct shmipc_segment_header header = good_header();

	(void)state;
	assert_int_equal(map_result(file_with(&header, 7 * 4096, ALL_SEALS)), 0);
}

static void missing_seals_are_refused(void **state)
{
	static const int seals[] = { 0,
				     F_SEAL_SHRINK,
				     F_SEAL_GROW,
				     F_SEAL_SEAL,
				     F_SEAL_SHRINK | F_SEAL_GROW,
				     F_SEAL_SHRINK | F_SEAL_SEAL,
				     F_SEAL_GROW | F_SEAL_SEAL };
	struct shmipc_segment_header header = good_header();

	(void)state;
	for (size_t i = 0; i < sizeof(seals) / sizeof(seals[0]); i++)
		assert_int_equal(map_result(file_with(&header, 7 * 4096, seals[i])), -EPROTO);
}

static void unwritable_is_refused(void **state)
{
	struct shmipc_segment_header header = good_header();

	(void)state;
	assert_true(map_result(file_with(&header, 7 * 4096, ALL_SEALS | F_SEAL_WRITE)) < 0);
	assert_true(map_result(file_with(&header, 7 * 4096, ALL_SEALS | F_SEAL_FUTURE_WRITE)) < 0);
}

static void wrong_sizes_are_refused(void **state)
{
	static const off_t sizes[] = { 0,
				       1,
				       sizeof(struct shmipc_segment_header),
				       4095,
				       4096,
				       6 * 4096,
				       7 * 4096 - 1,
				       7 * 4096 + 1,
				       8 * 4096,
				       INT64_C(1) << 40 };
	struct shmipc_segment_header header = good_header();

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int result = map_result(file_with(&header, sizes[i], ALL_SEALS));

		/* a file beyond the address space may also be refused by the kernel */
		assert_true(result == -EPROTO || (sizes[i] > 1 << 30 && result < 0));
	}
}

static void wrong_headers_are_refused(void **state)
{
	struct shmipc_segment_header bad[12];

	(void)state;
	for (size_t i = 0; i < 12; i++)
		bad[i] = good_header();
	bad[0].magic++;
	bad[1].magic = 0;
	bad[2].layout_version++;
	bad[3].stream_count = 0;
	bad[4].stream_count = 3;
	bad[5].stream_count = UINT32_MAX;
	bad[6].ring_bytes = 8192;
	bad[7].ring_bytes = 0;
	bad[8].loops_at = 0;
	bad[9].loops_at = UINT64_MAX - 4095;
	bad[10].segment_bytes = 0;
	bad[11].segment_bytes = 8 * 4096;
	for (size_t i = 0; i < 12; i++)
		assert_int_equal(map_result(file_with(&bad[i], 7 * 4096, ALL_SEALS)), -EPROTO);
}

static void other_descriptors_are_refused(void **state)
{
	char path[] = "/tmp/test_segment.XXXXXX";
	int pair[2];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, 7 * 4096), 0);
	assert_int_equal(map_result(fd), -EPROTO);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(map_result(pair[0]), -EPROTO);
	close(pair[1]);
	assert_int_equal(pipe(pair), 0);
	assert_int_equal(map_result(pair[0]), -EPROTO);
	close(pair[1]);
	assert_int_equal(map_result(open("/dev/zero", O_RDWR)), -EPROTO);
	assert_int_equal(map_result(open("/", O_RDONLY | O_DIRECTORY)), -EPROTO);
	assert_true(map_result(-1) < 0);
}

/* With no huge page in the pool, the first access to such a file would be SIGBUS. */
static void huge_pages_are_refused(void **state)
{
	struct shmipc_segment segment;
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

	(void)state;
	if (fd < 0 || ftruncate(fd, 2 << 20) || fcntl(fd, F_ADD_SEALS, ALL_SEALS)) {
		if (fd >= 0)
			close(fd);
		skip();
	}
	assert_int_equal(shmipc_segment_map(&segment, fd, UINT64_MAX), -EPROTO);
	close(fd);
}

/* The peer can write the header at any time: nothing that was validated may be read from it again.
 */
static void header_changes_later_have_no_effect(void **state)
{
	struct shmipc_segment mine, hostile;
	struct shmipc_ring before;
	void *stream;
	int fd;

	(void)state;
	assert_int_equal(shmipc_segment_create(&hostile, 2, 4096, &fd), 0);
	assert_int_equal(shmipc_segment_map(&mine, fd, UINT64_MAX), 0);
	close(fd);
	before = shmipc_segment_ring(&mine, 1, 1);
	stream = shmipc_segment_stream(&mine, 1);
	memset(hostile.header, 0xff, sizeof(*hostile.header));
	assert_ptr_equal(shmipc_segment_ring(&mine, 1, 1).loop, before.loop);
	assert_int_equal(shmipc_segment_ring(&mine, 1, 1).ring_bytes, 4096);
	assert_ptr_equal(shmipc_segment_stream(&mine, 1), stream);
	assert_int_equal(mine.stream_count, 2);
	assert_int_equal(mine.segment_bytes, 7 * 4096);
	shmipc_segment_unmap(&mine);
	shmipc_segment_unmap(&hostile);
}

static void memfd_check_reports_the_size(void **state)
{
	uint64_t bytes = 0;
	int fd = shmipc_memfd_create("sized", 12345);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(shmipc_memfd_check(fd, &bytes), 0);
	assert_int_equal(bytes, 12345);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(created_segment_is_complete),
		cmocka_unit_test(as_much_is_mapped_as_may_be),
		cmocka_unit_test(less_is_mapped_where_there_is_no_room),
		cmocka_unit_test(parts_do_not_overlap),
		cmocka_unit_test(untouched_streams_cost_nothing),
		cmocka_unit_test(core_dumps_touch_no_loop),
		cmocka_unit_test(geometry_is_refused),
		cmocka_unit_test(forged_but_right_is_accepted),
		cmocka_unit_test(missing_seals_are_refused),
		cmocka_unit_test(unwritable_is_refused),
		cmocka_unit_test(wrong_sizes_are_refused),
		cmocka_unit_test(wrong_headers_are_refused),
		cmocka_unit_test(other_descriptors_are_refused),
		cmocka_unit_test(huge_pages_are_refused),
		cmocka_unit_test(header_changes_later_have_no_effect),
		cmocka_unit_test(memfd_check_reports_the_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
