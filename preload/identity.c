/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/sys.h"
#include "preload/address.h"
#include "preload/identity.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

enum {
	OPTION_ORIGINAL_DST = 80, /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST */
	COUNTER_ATTEMPTS = 4
};

/* ---- our own socket -------------------------------------------------------------------------- */

static void read_tcp_state(int fd, struct shim_socket_identity *out)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info.tcpi_state);

	if (sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0)
		out->state = info.tcpi_state;
}

static void read_peer_credentials(int fd, struct shim_socket_identity *out)
{
	struct ucred peer = { 0 };
	socklen_t bytes = sizeof(peer);

	if (sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0) {
		out->peer_uid = peer.uid;
		out->peer_pid = peer.pid;
	}
}

int shim_identity_self(int fd, struct shim_socket_identity *out)
{
	socklen_t bytes = sizeof(out->cookie);
	struct stat status;
	int domain = 0, error;

	memset(out, 0, sizeof(*out));
	out->uid = out->peer_uid = SHIM_UID_UNKNOWN;
	error = sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &out->cookie, &bytes);
	if (error)
		return error;
	error = sys_fstat(fd, &status);
	if (error)
		return error;
	out->inode = status.st_ino;
	out->uid = status.st_uid;
	bytes = sizeof(out->netns_cookie);
	if (sys_getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &out->netns_cookie, &bytes))
		out->netns_cookie = 0; /* before Linux 5.14 */
	bytes = sizeof(domain);
	error = sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes);
	if (error)
		return error;
	if (domain == AF_UNIX)
		read_peer_credentials(fd, out);
	else
		read_tcp_state(fd, out);
	return 0;
}

/* ---- translation ----------------------------------------------------------------------------- */

int shim_identity_is_translated(int fd, bool client_side)
{
	struct sockaddr_storage seen = { 0 }, original = { 0 };
	struct shim_tcp_end seen_end, original_end;
	socklen_t bytes = sizeof(seen);
	int error;

	error = client_side ? sys_getpeername(fd, &seen, &bytes)
			    : sys_getsockname(fd, &seen, &bytes);
	if (error)
		return error;
	if (!shim_tcp_end_of(&seen, &seen_end))
		return -EAFNOSUPPORT;
	/* The addresses on the wire decide, not the socket's family: IPv4 also for a mapped one. */
	bytes = seen_end.family == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	error = sys_getsockopt(fd, seen_end.family == 4 ? IPPROTO_IP : IPPROTO_IPV6,
			       OPTION_ORIGINAL_DST, &original, &bytes);
	if (error == -ENOENT || error == -ENOPROTOOPT)
		return 0; /* the connection is not tracked, or nothing here ever translates */
	if (error)
		return error;
	if (!shim_tcp_end_of(&original, &original_end))
		return -EAFNOSUPPORT;
	return original_end.family != seen_end.family || original_end.port != seen_end.port ||
	       memcmp(original_end.ip, seen_end.ip, sizeof(seen_end.ip)) != 0;
}

/* ---- bytes so far ---------------------------------------------------------------------------- */

struct counter_reading {
	uint64_t acked;
	uint64_t received;
	int unacked; /* SIOCOUTQ */
	int unread;  /* SIOCINQ */
	uint8_t state;
};

static int read_tcp_info(int fd, struct counter_reading *out)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);
	int error = sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes);

	if (error)
		return error;
	if (bytes <
	    offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received))
		return -EOPNOTSUPP;
	out->acked = info.tcpi_bytes_acked;
	out->received = info.tcpi_bytes_received;
	out->state = info.tcpi_state;
	return 0;
}

static bool has_counters(uint8_t state)
{
	return state != SHIM_TCP_CLOSE && state != SHIM_TCP_LISTEN && state != SHIM_TCP_SYN_SENT &&
	       state != SHIM_TCP_SYN_RECV;
}

/*
 * Three calls cannot see one moment.  An acknowledgement or an arrival between them moves the
 * counters of TCP_INFO, which never go back: read it on both sides of the queue lengths.
 */
static int read_counters(int fd, struct counter_reading *out)
{
	struct counter_reading after;
	int error = read_tcp_info(fd, out);

	if (error)
		return error;
	for (int attempt = 0; attempt < COUNTER_ATTEMPTS; attempt++) {
		if (!has_counters(out->state))
			return -ENOTCONN;
		error = sys_ioctl(fd, SIOCOUTQ, &out->unacked);
		if (!error)
			error = sys_ioctl(fd, SIOCINQ, &out->unread);
		if (!error)
			error = read_tcp_info(fd, &after);
		if (error)
			return error;
		if (after.acked == out->acked && after.received == out->received &&
		    after.state == out->state)
			return 0;
		out->acked = after.acked;
		out->received = after.received;
		out->state = after.state;
	}
	return -EAGAIN;
}

/* A FIN has a place in the sequence; write_seq, and so SIOCOUTQ or the acked count, includes it. */
static bool sent_fin(uint8_t state)
{
	return state == SHIM_TCP_FIN_WAIT1 || state == SHIM_TCP_FIN_WAIT2 ||
	       state == SHIM_TCP_CLOSING || state == SHIM_TCP_LAST_ACK ||
	       state == SHIM_TCP_TIME_WAIT;
}

/* Likewise in the received count; SIOCINQ takes it off by itself. */
static bool received_fin(uint8_t state)
{
	return state == SHIM_TCP_CLOSE_WAIT || state == SHIM_TCP_CLOSING ||
	       state == SHIM_TCP_LAST_ACK || state == SHIM_TCP_TIME_WAIT;
}

int shim_identity_tcp_counters(int fd, bool client_side, struct shim_tcp_counters *out)
{
	struct counter_reading reading = { 0 };
	uint64_t written, consumed, not_payload;
	int error = read_counters(fd, &reading);

	memset(out, 0, sizeof(*out));
	out->state = reading.state;
	if (error)
		return error;
	written = reading.acked + (uint64_t)reading.unacked;
	consumed = reading.received - (uint64_t)reading.unread;
	not_payload = (client_side ? 1U : 0U) + (sent_fin(reading.state) ? 1U : 0U); /* SYN, FIN */
	if (written < not_payload || reading.received < (uint64_t)reading.unread ||
	    consumed < received_fin(reading.state))
		return -EAGAIN;
	out->sent = written - not_payload;
	out->received = consumed - received_fin(reading.state);
	return 0;
}

/* ---- seccomp --------------------------------------------------------------------------------- */

enum { FILTER_UNKNOWN, FILTER_NO, FILTER_YES };

/* Any thread may write it; all who compute it compute the same, an installation is final. */
static _Atomic int filter_state;

/* The value of the line "Seccomp:\tN", or -1.  The Groups line before it may be long: stream. */
static int read_seccomp_mode(int fd)
{
	static const char wanted[] = "\nSeccomp:\t";
	char block[512];
	size_t matched = 0;
	ssize_t got;

	while ((got = sys_read(fd, block, sizeof(block))) > 0)
		for (ssize_t i = 0; i < got; i++) {
			if (matched == sizeof(wanted) - 1)
				return block[i] - '0';
			if (block[i] == wanted[matched])
				matched++;
			else /* '\n' stands only at the start of `wanted` */
				matched = block[i] == '\n';
		}
	return -1;
}

uint64_t shim_identity_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t bytes = sizeof(cookie);

	return sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &bytes) == 0 ? cookie : 0;
}

bool shim_identity_seccomp_filtered(void)
{
	int known = atomic_load_explicit(&filter_state, memory_order_relaxed);
	int fd, mode;

	if (known != FILTER_UNKNOWN)
		return known == FILTER_YES;
	fd = sys_openat(AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		mode = read_seccomp_mode(fd);
		sys_close(fd);
	} else {
		mode = -1; /* no /proc, or forbidden: assume the worse */
	}
	atomic_compare_exchange_strong(&filter_state, &known, mode == 0 ? FILTER_NO : FILTER_YES);
	return atomic_load_explicit(&filter_state, memory_order_relaxed) == FILTER_YES;
}

void shim_identity_seccomp_installed(void)
{
	atomic_store_explicit(&filter_state, FILTER_YES, memory_order_relaxed);
}
