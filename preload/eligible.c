/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/eligible.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"
#include "preload/worth.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SO_INQ
#define SO_INQ 84 /* Linux 6.17, Unix sockets */
#endif
#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

bool shim_eligible_user(uint32_t uid)
{
	if (uid == sys_geteuid())
		return true;
	for (unsigned int i = 0; i < shim_config.peer_count; i++)
		if (shim_config.peers[i] == uid)
			return true;
	return false;
}

/* ---- options ---- */

enum { /* the same with 64 bits of time; here glibc's names mean the others */
       OPTION_TIMESTAMP_NEW = 63,
       OPTION_TIMESTAMPNS_NEW = 64,
       OPTION_TIMESTAMPING_NEW = 65,
};

/* Options that the ring cannot honour when they are not 0 (or not from 0 to `harmless`; -1: not
 * negative). */
struct option_rule {
	int level, name;
	int harmless;
	bool only_unix; /* a TCP socket refuses it, or does nothing about it */
};

static const struct option_rule rules[] = {
	{ SOL_SOCKET, SO_PASSCRED, 0, true },
	{ SOL_SOCKET, SO_PASSSEC, 0, true },
	{ SOL_SOCKET, SO_PASSPIDFD, 0, true },
	{ SOL_SOCKET, SO_INQ, 0, true },
	{ SOL_SOCKET, SO_TIMESTAMP, 0, false },
	{ SOL_SOCKET, SO_TIMESTAMPNS, 0, false },
	{ SOL_SOCKET, SO_TIMESTAMPING, 0, false },
	{ SOL_SOCKET, SO_RCVLOWAT, 1, false },
	{ SOL_SOCKET, OPTION_TIMESTAMP_NEW, 0, false },
	{ SOL_SOCKET, OPTION_TIMESTAMPNS_NEW, 0, false },
	{ SOL_SOCKET, OPTION_TIMESTAMPING_NEW, 0, false },
	{ SOL_SOCKET, SO_PEEK_OFF, -1, false },
	{ SOL_SOCKET, SO_OOBINLINE, 0, false },
};

bool shim_eligible_option(int level, int name, const void *value, socklen_t bytes)
{
	int number = 0;

	if (level == IPPROTO_TCP && name == TCP_ULP)
		return false;
	if (bytes >= sizeof(number))
		memcpy(&number, value, sizeof(number));
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].level == level && rules[i].name == name)
			return rules[i].harmless < 0 ? number < 0
						     : number >= 0 && number <= rules[i].harmless;
	return true;
}

bool shim_eligible_flags(long flags)
{
	return !(flags & (O_ASYNC | O_APPEND));
}

bool shim_eligible_option_is_of_one_family(int level, int name)
{
	return level == SOL_SOCKET && name == SO_INQ;
}

static bool options_allow(const struct shim_conn *conn, int fd)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		int value = 0;
		socklen_t bytes = sizeof(value);

		if (rules[i].only_unix && !conn->is_unix)
			continue;
		if (sys_getsockopt(fd, rules[i].level, rules[i].name, &value, &bytes) < 0)
			continue;
		if (!shim_eligible_option(rules[i].level, rules[i].name, &value, sizeof(value)))
			return false;
	}
	return shim_eligible_flags(sys_fcntl(fd, F_GETFL, 0));
}

/* TCP or a Unix stream: neither SCTP, MPTCP nor SOCK_SEQPACKET. */
static bool is_stream(const struct shim_conn *conn, int fd)
{
	int value = 0;
	socklen_t bytes = sizeof(value);

	if (sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &bytes) < 0 || value != SOCK_STREAM)
		return false;
	bytes = sizeof(value);
	return conn->is_unix || (sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &bytes) == 0 &&
				 value == IPPROTO_TCP);
}

/* ---- holders ---- */

static bool held_by_us_alone(const struct shim_conn *conn, int fd)
{
	if (atomic_load(&conn->holders) != 1)
		return false;
	if (conn->spawns != shim_process_spawns() && !(sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC))
		return false; /* a child that no hook saw may have inherited it */
	return true;
}

/* ---- who is there ---- */

static enum shmipc_reason tcp_keys(struct shim_conn *conn, int fd,
				   struct shim_rendezvous_keys *keys)
{
	struct sockaddr_storage local = { 0 }, peer = { 0 };
	socklen_t local_bytes = sizeof(local), peer_bytes = sizeof(peer);
	struct shim_socket_identity other;
	struct shim_tcp_key key;
	int found;

	if (sys_getsockname(fd, &local, &local_bytes) < 0 ||
	    sys_getpeername(fd, &peer, &peer_bytes) < 0)
		return SHMIPC_REASON_CLOSED;
	if (keys->self.state != SHIM_TCP_ESTABLISHED)
		return SHMIPC_REASON_CLOSED;
	found = shim_identity_is_translated(fd, !conn->is_server);
	if (found == 1)
		return SHMIPC_REASON_TRANSLATED;
	if (!shim_identity_seccomp_filtered()) {
		found = shim_identity_inet_lookup(&peer, &local, &other);
		if (found == -ENOENT)
			return SHMIPC_REASON_REMOTE;
		if (found == 0 && other.inode == 0)
			return SHMIPC_REASON_YOUNG; /* nobody has accepted it yet */
		if (found == 0 && !shim_eligible_user(other.uid))
			return SHMIPC_REASON_FOREIGN_USER;
		keys->peer_cookie = found == 0 ? other.cookie : 0;
	}
	if (!keys->peer_cookie && !shim_address_is_loopback(&local, &peer))
		return SHMIPC_REASON_REMOTE;
	if (shim_tcp_key_make(&key, &local, &peer, !conn->is_server) < 0)
		return SHMIPC_REASON_REMOTE;
	shim_address_digest(&key, sizeof(key), keys->first);
	return SHMIPC_REASON_NONE;
}

static void unix_digest(uint64_t inode, uint64_t cookie, uint8_t out[SHIM_DIGEST_BYTES])
{
	const struct shim_unix_key key = { inode, cookie };

	shim_address_digest(&key, sizeof(key), out);
}

/* Named by the server's socket where the client can find it out, else by the client's. */
static enum shmipc_reason keys_of_unix(struct shim_conn *conn, struct shim_rendezvous_keys *keys)
{
	struct shim_socket_identity self, other;
	int error = -EAFNOSUPPORT;

	if (!shim_identity_seccomp_filtered())
		error = shim_identity_unix_lookup(keys->self.inode, keys->self.cookie, &self);
	if (error == -ENOENT)
		return SHMIPC_REASON_NAMESPACE; /* our socket lives in the client's network
						   namespace */
	if (error == 0) {
		if (self.peer_inode == 0)
			return SHMIPC_REASON_YOUNG;
		error = shim_identity_unix_lookup(self.peer_inode, SHIM_COOKIE_ANY, &other);
		if (error == -ENOENT)
			return SHMIPC_REASON_CLOSED;
	}
	if (error == 0) {
		if (!shim_eligible_user(other.uid))
			return SHMIPC_REASON_FOREIGN_USER;
		keys->peer_cookie = other.cookie;
		if (conn->is_server) {
			unix_digest(keys->self.inode, keys->self.cookie, keys->first);
			unix_digest(other.inode, other.cookie, keys->second);
			keys->has_second = true;
		} else {
			unix_digest(other.inode, other.cookie, keys->first);
		}
		return SHMIPC_REASON_NONE;
	}
	unix_digest(keys->self.inode, keys->self.cookie, keys->first);
	return SHMIPC_REASON_NONE;
}

static enum shmipc_reason unix_keys(struct shim_conn *conn, struct shim_rendezvous_keys *keys)
{
	const uint64_t begun = shmipc_ticks();
	enum shmipc_reason reason = keys_of_unix(conn, keys);

	shim_worth_asking_took(shmipc_ticks() - begun);
	return reason;
}

static uint64_t endpoint_digest(const struct shim_conn *conn)
{
	uint8_t out[SHIM_DIGEST_BYTES];
	const char *text = conn->row ? conn->row->endpoint : "";
	uint64_t digest;

	shim_address_digest(text, strlen(text), out);
	memcpy(&digest, out, sizeof(digest));
	return digest;
}

enum shmipc_reason shim_eligible(struct shim_conn *conn, int fd, struct shim_rendezvous_keys *keys)
{
	memset(keys, 0, sizeof(*keys));
	if (fd <= STDERR_FILENO)
		return SHMIPC_REASON_STDIO; /* the standard streams may use it, which no hook sees
					     */
	if (!held_by_us_alone(conn, fd))
		return SHMIPC_REASON_SHARED;
	if (!is_stream(conn, fd) || !options_allow(conn, fd))
		return SHMIPC_REASON_OPTION;
	if (shim_identity_self(fd, &keys->self) < 0)
		return SHMIPC_REASON_SYSTEM;
	keys->endpoint = endpoint_digest(conn);
	return conn->is_unix ? unix_keys(conn, keys) : tcp_keys(conn, fd, keys);
}

/* What our end has ended before it shares memory it will not end there: the peer would take its
 * silence for a death. */
static bool has_shut_down(const struct shim_conn *conn, int fd)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);

	if (conn->is_unix) /* of nothing: sends nothing, but fails */
		return sys_sendto(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) == -EPIPE;
	return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 &&
	       info.tcpi_state != TCP_ESTABLISHED && info.tcpi_state != TCP_CLOSE_WAIT;
}

enum shmipc_reason shim_eligible_still(const struct shim_conn *conn, int fd)
{
	if (!held_by_us_alone(conn, fd))
		return SHMIPC_REASON_SHARED;
	if (has_shut_down(conn, fd))
		return SHMIPC_REASON_CLOSED;
	return SHMIPC_REASON_NONE;
}
