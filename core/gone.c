/* SPDX-License-Identifier: Apache-2.0 */
#include "core/gone.h"

#include <errno.h>
#include <fcntl.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "core/thread.h"

enum { STATE_FIELD = 3, THREADS_FIELD = 20, TEXT_BYTES = 512 };

/* /proc/ID/stat from its third field on, or an empty text: "Z 1 ..." */
static const char *fields_of(uint32_t id, char text[TEXT_BYTES])
{
	char path[] = "/proc/0000000000/stat", *digit = path + sizeof("/proc/0000000000") - 2;
	ssize_t n;
	int fd;

	for (; id > 0; id /= 10)
		*digit-- = (char)('0' + id % 10);
	digit++;
	/* "/proc/" moves up to the first digit */
	for (int i = 5; i >= 0; i--)
		*--digit = "/proc/"[i];
	fd = sys_openat(AT_FDCWD, digit, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return "";
	n = sys_read(fd, text, TEXT_BYTES - 2);
	sys_close(fd);
	if (n <= 0)
		return "";
	text[n] = text[n + 1] = 0;
	/* "1234 (name) Z ...": the name may hold anything, so from the right */
	while (n > 2 && text[n - 1] != ')')
		n--;
	return text + n + 1;
}

static bool is_dead_state(const char *fields)
{
	return *fields == 'Z' || *fields == 'X';
}

/* A first thread that has ended before the others looks like a dead process. */
static bool has_other_threads(const char *fields)
{
	for (int field = STATE_FIELD; field < THREADS_FIELD && *fields; fields++)
		field += *fields == ' ';
	return *fields && !(fields[0] <= '1' && (fields[1] == ' ' || !fields[1]));
}

/* A dead process that nobody has waited for still takes signals; its parent may be the one who
 * asks.  /proc tells; without /proc it counts as alive until it is reaped. */
bool shmipc_thread_is_gone(uint32_t tid)
{
	char text[TEXT_BYTES];

	if (shmipc_process_numbers_differ())
		return false;
	return (int)sys_call3(SYS_tkill, (long)tid, 0, 0) == -ESRCH ||
	       is_dead_state(fields_of(tid, text));
}

bool shmipc_process_is_reaped(uint32_t pid)
{
	return !shmipc_process_numbers_differ() &&
	       (int)sys_call3(SYS_kill, (long)pid, 0, 0) == -ESRCH;
}

bool shmipc_process_is_gone(uint32_t pid)
{
	char text[TEXT_BYTES];
	const char *fields;

	if (shmipc_process_is_reaped(pid))
		return true;
	if (shmipc_process_numbers_differ())
		return false;
	fields = fields_of(pid, text);
	return is_dead_state(fields) && !has_other_threads(fields);
}

_Atomic uint64_t shmipc_end_heard_ticks;

void shmipc_heard_of_an_end(void)
{
	atomic_store_explicit(&shmipc_end_heard_ticks, shmipc_ticks(), memory_order_relaxed);
}
