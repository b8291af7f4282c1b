/* SPDX-License-Identifier: Apache-2.0 */
/* The status table: rows taken by threads and processes at once, and what an observer refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/status.h"
#include "shmipc.h"

enum { ALL_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

static void names_are_never_null(void **state)
{
	(void)state;
	for (uint32_t reason = 0; reason < SHMIPC_REASON_COUNT_OF; reason++) {
		assert_non_null(shmipc_reason_name(reason));
		for (uint32_t other = 0; other < reason; other++)
			assert_string_not_equal(shmipc_reason_name(reason),
						shmipc_reason_name(other));
	}
	assert_string_equal(shmipc_reason_name(SHMIPC_REASON_PEER_PLAIN), "peer-plain");
	assert_string_equal(shmipc_reason_name(SHMIPC_REASON_COUNT_OF), "unknown");
	assert_string_equal(shmipc_reason_name(UINT32_MAX), "unknown");
	assert_string_equal(shmipc_state_name(SHMIPC_STATE_ATTACHED), "accelerated");
	assert_string_equal(shmipc_state_name(3), "unknown");
	assert_string_equal(shmipc_version(), SHMIPC_VERSION);
}

static void observer_sees_rows(void **state)
{
	struct shmipc_status mine, observed;
	struct shmipc_status_row *row;
	int fd;

	(void)state;
	assert_int_equal(shmipc_status_create(&mine, &fd), 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(shmipc_status_open(&observed, fd), 0);
	close(fd);
	assert_int_equal(observed.header->pid, getpid());
	assert_int_equal(observed.header->rows_touched, 0);
	row = shmipc_status_take(&mine, 0);
	assert_ptr_equal(row, &mine.rows[0]);
	assert_int_equal(observed.rows[0].used & 1, 1);
	assert_int_equal(observed.header->rows_touched, 1);
	strcpy(row->endpoint, "tcp:127.0.0.1:80");
	shmipc_count(&row->tx.ring_bytes, 5);
	shmipc_count(&row->tx.ring_bytes, UINT64_C(1) << 40);
	assert_string_equal(observed.rows[0].endpoint, "tcp:127.0.0.1:80");
	assert_int_equal(observed.rows[0].tx.ring_bytes, 5 + (UINT64_C(1) << 40));
	shmipc_status_give_back(row);
	assert_int_equal(observed.rows[0].used & 1, 0);
	shmipc_status_close(&mine);
	shmipc_status_close(&observed);
	shmipc_status_close(&observed); /* twice is harmless */
}

static void rows_come_back_clean(void **state)
{
	static const struct shmipc_status_row blank;
	struct shmipc_status status;
	struct shmipc_status_row *row;
	uint32_t generation;
	int fd;

	(void)state;
	assert_int_equal(shmipc_status_create(&status, &fd), 0);
	row = shmipc_status_take(&status, 0);
	generation = row->used;
	memset(row, 0xff, sizeof(*row));
	row->used = generation;
	shmipc_status_give_back(row);
	assert_int_equal(row->used, generation + 1);
	assert_ptr_equal(shmipc_status_take(&status, 0), row);
	assert_int_equal(row->used, generation + 2);
	assert_int_equal(row->pid, 0);
	assert_int_equal(row->fd, 0);
	assert_int_equal(row->state, 0);
	assert_int_equal(row->reason, 0);
	assert_int_equal(row->family, 0);
	assert_int_equal(row->is_server, 0);
	assert_int_equal(row->socket_inode, 0);
	assert_string_equal(row->endpoint, "");
	assert_memory_equal(&row->tx, &blank.tx, sizeof(blank.tx));
	assert_memory_equal(&row->rx, &blank.rx, sizeof(blank.rx));
	close(fd);
	shmipc_status_close(&status);
}

static void table_can_be_full(void **state)
{
	struct shmipc_status status;
	int fd;

	(void)state;
	assert_int_equal(shmipc_status_create(&status, &fd), 0);
	for (uint32_t i = 1; i < SHMIPC_STATUS_ROWS; i++)
		status.rows[i].used = 1;
	assert_ptr_equal(shmipc_status_take(&status, 0), &status.rows[0]);
	assert_null(shmipc_status_take(&status, 0));
	shmipc_status_give_back(&status.rows[SHMIPC_STATUS_ROWS - 1]);
	assert_ptr_equal(shmipc_status_take(&status, 0), &status.rows[SHMIPC_STATUS_ROWS - 1]);
	assert_int_equal(status.header->rows_touched, SHMIPC_STATUS_ROWS);
	assert_null(shmipc_status_take(&status, 0));
	close(fd);
	shmipc_status_close(&status);
}

static void search_begins_where_told(void **state)
{
	struct shmipc_status status;
	int fd;

	(void)state;
	assert_int_equal(shmipc_status_create(&status, &fd), 0);
	assert_ptr_equal(shmipc_status_take(&status, 7), &status.rows[7]);
	assert_int_equal(status.header->rows_touched, 8);
	assert_ptr_equal(shmipc_status_take(&status, 7), &status.rows[8]);
	assert_ptr_equal(shmipc_status_take(&status, SHMIPC_STATUS_ROWS - 1),
			 &status.rows[SHMIPC_STATUS_ROWS - 1]);
	assert_ptr_equal(shmipc_status_take(&status, SHMIPC_STATUS_ROWS - 1), &status.rows[0]);
	close(fd);
	shmipc_status_close(&status);
}

/* ---- at once ------------------------------------------------------------------------------------
 */

enum { TAKERS = 4, ROUNDS = 2000, HELD = 8 };

/* Rows are exclusive: whoever holds one finds its own mark there as long as it likes. */
static int take_and_check(struct shmipc_status *status, uint32_t mark)
{
	struct shmipc_status_row *held[HELD] = { NULL };

	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct shmipc_status_row **slot = &held[round % HELD];

		if (*slot) {
			if (atomic_load(&(*slot)->pid) != mark ||
			    !(atomic_load(&(*slot)->used) & 1))
				return 1;
			shmipc_status_give_back(*slot);
		}
		*slot = shmipc_status_take(status, round % (TAKERS * HELD));
		if (!*slot || atomic_load(&(*slot)->pid) != 0)
			return 1;
		atomic_store(&(*slot)->pid, mark);
	}
	for (size_t i = 0; i < HELD; i++)
		shmipc_status_give_back(held[i]);
	return 0;
}

struct taker {
	struct shmipc_status *status;
	uint32_t mark;
	int failed;
};

static void *taker_thread(void *argument)
{
	struct taker *taker = argument;

	taker->failed = take_and_check(taker->status, taker->mark);
	return NULL;
}

static void assert_all_free(const struct shmipc_status *status)
{
	for (uint32_t i = 0; i < SHMIPC_STATUS_ROWS; i++)
		assert_int_equal(status->rows[i].used & 1, 0);
	assert_in_range(status->header->rows_touched, 1, 2 * TAKERS * HELD);
}

static void threads_take_rows(void **state)
{
	struct taker takers[TAKERS];
	pthread_t threads[TAKERS];
	struct shmipc_status status;
	int fd;

	(void)state;
	assert_int_equal(shmipc_status_create(&status, &fd), 0);
	for (uint32_t i = 0; i < TAKERS; i++) {
		takers[i] = (struct taker){ &status, i + 1, 1 };
		assert_int_equal(pthread_create(&threads[i], NULL, taker_thread, &takers[i]), 0);
	}
	for (uint32_t i = 0; i < TAKERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(takers[i].failed, 0);
	}
	assert_all_free(&status);
	close(fd);
	shmipc_status_close(&status);
}

static void processes_take_rows(void **state)
{
	struct shmipc_status status;
	pid_t children[TAKERS];
	int fd, result;

	(void)state;
	assert_int_equal(shmipc_status_create(&status, &fd), 0);
	for (uint32_t i = 0; i < TAKERS; i++) {
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (children[i] == 0)
			_exit(take_and_check(&status, i + 1));
	}
	for (uint32_t i = 0; i < TAKERS; i++) {
		assert_int_equal(waitpid(children[i], &result, 0), children[i]);
		assert_int_equal(result, 0);
	}
	assert_all_free(&status);
	close(fd);
	shmipc_status_close(&status);
}

/* ---- refusals -----------------------------------------------------------------------------------
 */

static size_t whole_table(void)
{
	return SHMIPC_PAGE_BYTES + SHMIPC_STATUS_ROWS * sizeof(struct shmipc_status_row);
}

static struct shmipc_status_header good_header(void)
{
	struct shmipc_status_header header;

	memset(&header, 0, sizeof(header));
	header.magic = SHMIPC_STATUS_MAGIC;
	header.version = SHMIPC_STATUS_VERSION;
	header.row_count = SHMIPC_STATUS_ROWS;
	header.row_bytes = sizeof(struct shmipc_status_row);
	return header;
}

static int open_result(const struct shmipc_status_header *header, size_t bytes, int seals)
{
	int fd = memfd_create(SHMIPC_STATUS_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct shmipc_status status;
	int error;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	if (bytes >= sizeof(*header))
		assert_int_equal(pwrite(fd, header, sizeof(*header), 0), sizeof(*header));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	error = shmipc_status_open(&status, fd);
	if (!error)
		shmipc_status_close(&status);
	close(fd);
	return error;
}

static void open_refuses_what_is_no_table(void **state)
{
	struct shmipc_status_header header = good_header(), bad;
	struct shmipc_status status;
	int fd;

	(void)state;
	assert_int_equal(open_result(&header, whole_table(), ALL_SEALS), 0);
	assert_int_equal(open_result(&header, whole_table(), 0), -EPROTO);
	assert_int_equal(open_result(&header, whole_table(), F_SEAL_SHRINK), -EPROTO);
	assert_int_equal(open_result(&header, whole_table() - 1, ALL_SEALS), -EPROTO);
	assert_int_equal(open_result(&header, whole_table() + 1, ALL_SEALS), -EPROTO);
	assert_int_equal(open_result(&header, SHMIPC_PAGE_BYTES, ALL_SEALS), -EPROTO);
	assert_int_equal(open_result(&header, 0, ALL_SEALS), -EPROTO);
	bad = header;
	bad.magic ^= 1;
	assert_int_equal(open_result(&bad, whole_table(), ALL_SEALS), -EPROTO);
	bad = header;
	bad.version++;
	assert_int_equal(open_result(&bad, whole_table(), ALL_SEALS), -EPROTO);
	bad = header;
	bad.row_bytes += 128;
	assert_int_equal(open_result(&bad, whole_table(), ALL_SEALS), -EPROTO);
	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(shmipc_status_open(&status, fd), -EPROTO);
	close(fd);
	assert_true(shmipc_status_open(&status, -1) < 0);
}

static void observer_cannot_write(void **state)
{
	struct shmipc_status mine, observed;
	int fd, result;
	pid_t child;

	(void)state;
	assert_int_equal(shmipc_status_create(&mine, &fd), 0);
	assert_int_equal(shmipc_status_open(&observed, fd), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would report it */
		*(volatile uint32_t *)&observed.header->version = 9;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &result, 0), child);
	assert_true(WIFSIGNALED(result) && WTERMSIG(result) == SIGSEGV);
	close(fd);
	shmipc_status_close(&mine);
	shmipc_status_close(&observed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_never_null),
		cmocka_unit_test(observer_sees_rows),
		cmocka_unit_test(rows_come_back_clean),
		cmocka_unit_test(table_can_be_full),
		cmocka_unit_test(search_begins_where_told),
		cmocka_unit_test(threads_take_rows),
		cmocka_unit_test(processes_take_rows),
		cmocka_unit_test(open_refuses_what_is_no_table),
		cmocka_unit_test(observer_cannot_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
