/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/bequest.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "core/sys.h"
#include "preload/config.h"
#include "preload/conn.h"

enum {
	ITEMS_MAX = 256,
	NUMBERS_TRIED = 32, /* from the first high one */
	CLOSE_TRIES = 40,   /* naps until others who hold it have closed it */
	CLOSE_NAP_NS = 500 * 1000,
	SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
};

#define MAGIC 0x7473657571656268ULL

struct item {
	uint64_t cookie; /* of the socket */
	uint64_t sent, received;
	int32_t fd;
	uint32_t is_server;
	uint32_t trips;
	uint32_t reserved;
};

struct bequest {
	uint64_t magic;
	int32_t pid;
	uint32_t count;
	struct item items[ITEMS_MAX];
};

static int left = -1;		     /* the descriptor, until the exec fails */
static char file_name[NAME_MAX + 1]; /* of this shim, without its directory */

/* ---- the program that leaves ---- */

static const char *value_of(char *const environment[], const char *name)
{
	size_t bytes = strlen(name);

	for (size_t i = 0; environment && environment[i]; i++)
		if (strncmp(environment[i], name, bytes) == 0 && environment[i][bytes] == '=')
			return environment[i] + bytes + 1;
	return NULL;
}

/* At start: later the loader's lock may be somebody's who did not come along over a fork. */
static void note_file_name(void)
{
	Dl_info own;
	const char *name = dladdr(&left, &own) ? own.dli_fname : NULL;
	const char *slash = name ? strrchr(name, '/') : NULL;

	name = slash ? slash + 1 : name;
	if (name && strlen(name) < sizeof(file_name))
		strcpy(file_name, name);
}

/* A guess is good enough: whoever does not load it loses nothing. */
static bool loads_shim(char *const environment[])
{
	const char *preload = value_of(environment, "LD_PRELOAD");
	const char *endpoints = value_of(environment, "SHMIPC_ENDPOINTS");

	return preload && *file_name && strstr(preload, file_name) && endpoints && *endpoints;
}

/* accept, fork, exec: the parent closes its copy meanwhile. */
static bool is_held_alone(struct shim_conn *conn)
{
	const struct timespec nap = { 0, CLOSE_NAP_NS };

	for (int i = 0; i < CLOSE_TRIES && atomic_load(&conn->holders) > 1; i++) {
		shim_conn_count_holders(conn);
		sys_nanosleep(&nap);
	}
	return atomic_load(&conn->holders) == 1;
}

static bool describe(int fd, struct item *item)
{
	uint32_t word = shim_fd_word(fd);
	struct shim_conn *conn;
	socklen_t bytes = sizeof(item->cookie);

	if (shim_fd_kind(word) != SHIM_FD_CONN && shim_fd_kind(word) != SHIM_FD_PLAIN)
		return false;
	conn = shim_conn_at(shim_fd_index(word));
	/* what was spawned meanwhile may have it too, and no count knows of that */
	if (!conn->handed_over || conn->spawns != shim_process_spawns() ||
	    (sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC))
		return false;
	conn->handed_over = is_held_alone(conn);
	if (!conn->handed_over ||
	    sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &item->cookie, &bytes) < 0)
		return false;
	item->fd = fd;
	item->is_server = conn->is_server;
	item->trips = atomic_load(&conn->trips);
	item->sent = atomic_load(&conn->tx.kernel_bytes);
	item->received = atomic_load(&conn->rx.kernel_read);
	shmipc_sender_finish(&conn->tx, SHMIPC_TX_AGAIN);
	return true;
}

/* Not close-on-exec, out of the way. */
static int put_into_memory(const struct bequest *bequest, size_t bytes)
{
	int low = sys_memfd_create("shmipc-bequest", MFD_ALLOW_SEALING);
	int high = low < 0 ? low : sys_fcntl(low, F_DUPFD, shim_fd_highest_start());

	if (low >= 0)
		sys_close(low);
	if (high < 0)
		return -1;
	if (sys_write(high, bequest, bytes) != (ssize_t)bytes ||
	    sys_fcntl(high, F_ADD_SEALS, SEALS) < 0) {
		sys_close(high);
		return -1;
	}
	return high;
}

void shim_bequest_leave(char *const environment[])
{
	struct bequest bequest;

	if (!shim_config.enabled || shim_process_is_borrowed() || !loads_shim(environment))
		return;
	memset(&bequest, 0, sizeof(bequest));
	bequest.magic = MAGIC;
	bequest.pid = sys_getpid();
	/* all numbers of a connection or none: bytes that went by one that the successor does not
	 * know would miss in its counts */
	for (int fd = 0; fd < shim_fd_limit(); fd++) {
		if (bequest.count == ITEMS_MAX)
			return;
		if (shim_fd_word(fd) && describe(fd, &bequest.items[bequest.count]))
			bequest.count++;
	}
	if (bequest.count > 0)
		left = put_into_memory(&bequest, offsetof(struct bequest, items) +
							 bequest.count * sizeof(struct item));
}

void shim_bequest_withdraw(void)
{
	if (shim_process_is_borrowed())
		return;
	if (left >= 0)
		sys_close(left);
	left = -1;
	for (int fd = 0; fd < shim_fd_limit(); fd++)
		if (shim_fd_kind(shim_fd_word(fd)) == SHIM_FD_PLAIN || shim_conn_of(fd))
			shim_conn_at(shim_fd_index(shim_fd_word(fd)))->handed_over = false;
}

/* ---- the program that takes ---- */

static bool is_socket_of(const struct item *item)
{
	uint64_t cookie = 0;
	socklen_t bytes = sizeof(cookie);

	return item->fd >= 0 && item->fd < SHIM_FD_MAX &&
	       sys_getsockopt(item->fd, SOL_SOCKET, SO_COOKIE, &cookie, &bytes) == 0 &&
	       cookie == item->cookie;
}

/* Another number of the same socket, that we know already, or -1. */
static int sibling_of(const struct bequest *bequest, uint32_t at)
{
	for (uint32_t i = 0; i < at; i++)
		if (bequest->items[i].cookie == bequest->items[at].cookie &&
		    shim_conn_of(bequest->items[i].fd))
			return bequest->items[i].fd;
	return -1;
}

static void take_item(const struct bequest *bequest, uint32_t at)
{
	const struct item *item = &bequest->items[at];
	int sibling = sibling_of(bequest, at);

	if (!is_socket_of(item))
		return;
	if (sibling >= 0)
		shim_conn_duplicate(NULL, sibling, item->fd);
	else
		shim_conn_inherit(item->fd, item->is_server != 0, item->sent, item->received,
				  item->trips);
}

static void take_from(int fd)
{
	struct bequest bequest;
	ssize_t bytes;

	memset(&bequest, 0, sizeof(bequest));
	bytes = sys_pread(fd, &bequest, sizeof(bequest), 0);
	if (bytes < (ssize_t)offsetof(struct bequest, items) || bequest.magic != MAGIC)
		return;
	if (bequest.pid == sys_getpid() && bequest.count <= ITEMS_MAX &&
	    (size_t)bytes == offsetof(struct bequest, items) + bequest.count * sizeof(struct item))
		for (uint32_t i = 0; i < bequest.count; i++)
			take_item(&bequest, i);
	sys_close(fd); /* also one that an ancestor was to take */
}

void shim_bequest_take(void)
{
	int start = shim_fd_highest_start();

	note_file_name();
	for (int fd = start; fd < start + NUMBERS_TRIED; fd++)
		if (sys_fcntl(fd, F_GET_SEALS, 0) == SEALS)
			take_from(fd);
}
