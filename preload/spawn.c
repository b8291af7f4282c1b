/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/spawn.h"

#include <fcntl.h>
#include <stddef.h>

#include "core/sys.h"
#include "preload/config.h"
#include "preload/conn.h"
#include "preload/handover.h"
#include "preload/rest.h"
#include "preload/sets.h"

enum { RESTS_MAX = 32, CLOSINGS_MAX = 256 };

/* ---- what the child gets in another place ---- */

static struct rest {
	_Atomic(const void *) actions;
	int fd;
} rests[RESTS_MAX];

static bool keep_rest(const void *actions, int fd)
{
	for (int i = 0; i < RESTS_MAX; i++) {
		const void *none = NULL;

		if (atomic_load(&rests[i].actions) ||
		    !atomic_compare_exchange_strong(&rests[i].actions, &none, actions))
			continue;
		rests[i].fd = fd;
		return true;
	}
	return false;
}

int shim_spawn_duplicates(const void *actions, int from, int to)
{
	struct shim_conn *conn = shim_conn_of(from);
	enum shim_rest_use use = to == 1 || to == 2 ? SHIM_REST_WRITTEN : SHIM_REST_READ;
	int rest = conn ? shim_rest_of(conn, from, use) : -1;

	if (rest < 0)
		return from;
	rest = shim_fd_hide(rest);
	if ((use == SHIM_REST_READ || shim_rest_is_for_writing(conn, from)) &&
	    keep_rest(actions, rest))
		return rest;
	shim_fd_unhide(rest);
	sys_close(rest);
	return from;
}

/* ---- what the child closes ---- */

static struct closing {
	_Atomic(const void *) actions;
	int from, to; /* these numbers */
} closings[CLOSINGS_MAX];

/* One that finds no place is not known: then the connection is handed over in vain. */
void shim_spawn_closes(const void *actions, int from, int to)
{
	for (int i = 0; i < CLOSINGS_MAX; i++) {
		const void *none = NULL;

		if (atomic_load(&closings[i].actions) ||
		    !atomic_compare_exchange_strong(&closings[i].actions, &none, actions))
			continue;
		closings[i].from = from;
		closings[i].to = to;
		return;
	}
}

static bool is_closed(const void *actions, int fd)
{
	for (int i = 0; actions && i < CLOSINGS_MAX; i++)
		if (atomic_load(&closings[i].actions) == actions && closings[i].from <= fd &&
		    fd <= closings[i].to)
			return true;
	return false;
}

/* ---- spawning ---- */

void shim_spawn_before(const void *actions)
{
	if (!shim_config.enabled)
		return;
	shim_process_spawned();
	for (int fd = 0; fd < shim_fd_limit(); fd++) {
		struct shim_conn *conn = shim_conn_of(fd);

		if (shim_fd_kind(shim_fd_word(fd)) == SHIM_FD_SET &&
		    !(sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC))
			shim_set_is_given_away(fd); /* the child may wait on it */
		if (!conn || !shim_handover_is_inherited(fd, conn) || is_closed(actions, fd))
			continue;
		if (fd <= 2)
			shim_handover(conn, fd);
		else
			shim_handover_shared(conn, fd);
	}
}

void shim_spawn_done(const void *actions)
{
	for (int i = 0; i < CLOSINGS_MAX; i++)
		if (atomic_load(&closings[i].actions) == actions)
			atomic_store(&closings[i].actions, NULL);
	for (int i = 0; i < RESTS_MAX; i++) {
		int fd = rests[i].fd;

		if (atomic_load(&rests[i].actions) != actions)
			continue;
		shim_fd_unhide(fd);
		sys_close(fd);
		atomic_store(&rests[i].actions, NULL);
	}
}
