/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/options.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "core/sys.h"
#include "preload/conn.h"
#include "preload/pointers.h"

#ifndef TCP_NOTSENT_LOWAT
#define TCP_NOTSENT_LOWAT 25
#endif

enum {
	OVERFLOW_UNSENT_BYTES = 64 * 1024,
	OVERFLOW_WINDOW_BYTES = 128 * 1024,
};

struct rule {
	int name;
	int ours;
	bool is_flag; /* any value but 0 reads back as 1 */
};

static const struct rule rules[SHIM_OPTION_COUNT] = {
	{ TCP_NODELAY, 1, true },
	{ TCP_CORK, 0, true },
	{ TCP_NOTSENT_LOWAT, OVERFLOW_UNSENT_BYTES, false },
	{ TCP_WINDOW_CLAMP, OVERFLOW_WINDOW_BYTES, false },
};

void shim_options_take_over(struct shim_conn *conn, int fd)
{
	struct shim_options *options = &conn->options;

	for (int i = 0; i < SHIM_OPTION_COUNT && !conn->is_unix; i++) {
		int value = 0;
		socklen_t bytes = sizeof(value);

		if (sys_getsockopt(fd, IPPROTO_TCP, rules[i].name, &value, &bytes) < 0)
			continue;
		atomic_store(&options->value[i], value);
		if (value != rules[i].ours &&
		    sys_setsockopt(fd, IPPROTO_TCP, rules[i].name, &rules[i].ours, sizeof(int)) < 0)
			continue;
		atomic_fetch_or(&options->taken_over, 1u << (unsigned int)i);
	}
}

void shim_options_restore(struct shim_conn *conn, int fd)
{
	struct shim_options *options = &conn->options;
	uint32_t taken = atomic_exchange(&options->taken_over, 0);

	for (int i = 0; i < SHIM_OPTION_COUNT; i++) {
		int value = atomic_load(&options->value[i]);

		if ((taken >> i & 1) && value != rules[i].ours)
			sys_setsockopt(fd, IPPROTO_TCP, rules[i].name, &value, sizeof(value));
	}
}

static int index_of(const struct shim_conn *conn, int level, int name)
{
	uint32_t taken = atomic_load_explicit(&conn->options.taken_over, memory_order_relaxed);

	for (int i = 0; taken && level == IPPROTO_TCP && i < SHIM_OPTION_COUNT; i++)
		if (rules[i].name == name && (taken >> i & 1))
			return i;
	return -1;
}

bool shim_options_set(struct shim_conn *conn, int level, int name, const void *value, socklen_t bytes,
		      int *result)
{
	int i = index_of(conn, level, name);
	int number;

	if (i < 0 || !value || bytes < sizeof(number))
		return false;
	memcpy(&number, value, sizeof(number));
	atomic_store(&conn->options.value[i], rules[i].is_flag ? number != 0 : number);
	*result = 0;
	return true;
}

bool shim_options_get(struct shim_conn *conn, int level, int name, void *value, socklen_t *bytes, int *result)
{
	int i = index_of(conn, level, name);
	int number;

	if (i < 0 || shim_pointer_is_bad(bytes, sizeof(*bytes)) || shim_pointer_is_bad(value, *bytes))
		return false;
	number = atomic_load(&conn->options.value[i]);
	if (*bytes > sizeof(number))
		*bytes = sizeof(number);
	memcpy(value, &number, *bytes);
	*result = 0;
	return true;
}
