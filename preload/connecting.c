/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/connecting.h"

#include <errno.h>
#include <string.h>

#include "preload/config.h"
#include "preload/conn.h"
#include "preload/pointers.h"
#include "preload/sets.h"
#include "preload/upgrade.h"

/* A refused one that begins anew, or one that is only told of again.  False: another record. */
static bool is_same(const struct shim_conn *conn, const struct shim_verdict *verdict, bool anew)
{
	const char *endpoint = conn->row ? conn->row->endpoint : "";

	if (conn->is_server || conn->family != verdict->family)
		return false;
	/* connect() says 0 once more of a connection that it has begun */
	if (!anew && !conn->row)
		return true;
	return verdict->wanted && strcmp(endpoint, verdict->text) == 0 &&
	       (!anew || atomic_load(&conn->state) == SHMIPC_STATE_CANDIDATE);
}

/* Sets that know the number go on waiting for it: whoever it becomes has waits that we do not know.
 */
static void forget(int fd)
{
	shim_conn_flush(fd);
	shim_set_number_is_known(fd);
}

/* Established, or on the way (`anew`: it has just been begun). */
static __attribute__((hot)) void begun(int fd, const struct sockaddr *address, socklen_t bytes,
				       bool anew)
{
	uint32_t word = shim_fd_word(fd);
	struct shim_verdict verdict;

	shim_verdict_of_address(&verdict, address, bytes);
	if (shim_fd_kind(word) == SHIM_FD_SET)
		return;
	if (word != 0 && is_same(shim_conn_at(shim_fd_index(word)), &verdict, anew))
		return;
	if (word != 0)
		forget(fd);
	shim_conn_track(fd, &verdict, false);
}

/* The kernel has reset the connection, whatever was read. */
static void dissolved(int fd)
{
	struct shim_conn *conn = shim_conn_of(fd);

	if (conn)
		shmipc_sender_finish(&conn->tx, SHMIPC_TX_RESET);
	if (shim_fd_word(fd) != 0)
		forget(fd);
}

static __attribute__((hot)) bool is_known(const struct sockaddr *address, socklen_t bytes)
{
	return shim_config.enabled && address && bytes >= sizeof(sa_family_t) &&
	       !shim_pointer_is_bad(address, bytes);
}

__attribute__((hot)) int shim_connecting(int result, int fd, const struct sockaddr *address,
					 socklen_t bytes)
{
	int saved = errno;

	if ((result != 0 && saved != EINPROGRESS) || !is_known(address, bytes))
		return result;
	if (result == 0 && address->sa_family == AF_UNSPEC)
		dissolved(fd);
	else
		begun(fd, address, bytes, result != 0);
	errno = saved;
	return result;
}

ssize_t shim_connecting_by_send(ssize_t result, int fd, const struct sockaddr *address,
				socklen_t bytes)
{
	int saved = errno;
	struct shim_conn *conn;

	if ((result < 0 && saved != EINPROGRESS) || !is_known(address, bytes))
		return result;
	begun(fd, address, bytes, true);
	conn = shim_conn_of(fd);
	if (conn && result > 0)
		shim_upgrade_sent(conn, fd, (size_t)result);
	errno = saved;
	return result;
}
