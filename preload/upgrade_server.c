/* SPDX-License-Identifier: Apache-2.0 */
/* The accepting end: looks for the offer, and brings the memory. */
#include <errno.h>
#include <string.h>

#include "core/sys.h"
#include "preload/upgrade_parts.h"

enum { RESETS_MAX = 8 }; /* then the client has ended, or will not have us */

/* As large as the pair deserves, but where there is no address space for it a small one: a limit
 * may be one that we could not ask for. */
static int make_segment(struct shmipc_segment *segment, int pid, int *fd)
{
	const struct shim_session_size sizes[] = {
		shim_session_size(pid),
		{ SHIM_SESSION_STREAMS, SHIM_SESSION_RING_BYTES },
		{ SHIM_SESSION_STREAMS_MIN, SHIM_SESSION_RING_BYTES_MIN },
	};
	int error = -ENOMEM;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && error; i++)
		error = shmipc_segment_create(segment, sizes[i].streams, sizes[i].ring_bytes, fd);
	return error;
}

static int server_send_hello(struct shim_upgrade *u, const uint8_t *key, int pid)
{
	struct shmipc_hello hello = {
		.layout = SHMIPC_LAYOUT_VERSION,
		.stream = 0,
		.cookie = u->keys.self.cookie,
		.peer_cookie = u->keys.peer_cookie,
		.netns_cookie = u->keys.self.netns_cookie,
		.uid = sys_geteuid(),
		.segment_name = "shmipc-segment",
	};
	const struct shim_session_claim claim = shim_rendezvous_claim(u, key);
	const struct shim_session_peer peer = { .pid = pid, .endpoint = u->keys.endpoint };
	struct shmipc_segment segment;
	int fd, error = make_segment(&segment, pid, &fd);

	if (error)
		return SHMIPC_REASON_MEMORY;
	memcpy(hello.key, key, SHIM_DIGEST_BYTES);
	u->session = shim_session_add(&segment, &peer, &claim);
	if (u->session < 0) {
		u->session = SHIM_SESSION_NONE;
		shmipc_segment_unmap(&segment);
		sys_close(fd);
		return SHMIPC_REASON_LIMIT;
	}
	u->stream = 0;
	error = shmipc_negotiate_send_hello(u->meeting->channel, &hello, fd);
	sys_close(fd);
	if (error == -EPIPE || error == -ECONNRESET)
		return -1; /* it has broken off: the next step finds that out */
	return error ? SHMIPC_REASON_PROTOCOL : -1;
}

/* The channel, connected to the name; or -errno. */
static int connect_to(const uint8_t *key)
{
	struct sockaddr_un name;
	socklen_t bytes;
	int error, channel;

	if (shim_rendezvous_name(key, SHIM_DIGEST_BYTES, &name, &bytes) < 0)
		return -EINVAL;
	channel = sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (channel < 0)
		return channel;
	error = sys_connect(channel, &name, bytes);
	if (!error)
		return shim_channel_hide(channel);
	sys_close(channel);
	return -ECONNREFUSED;
}

static int server_dial(struct shim_conn *conn)
{
	struct shim_upgrade *u = conn->upgrade;
	const uint8_t *key = u->second_name ? u->keys.second : u->keys.first;
	int pid, result = -1;

	if (!shim_meeting_take(conn))
		return -1; /* too many: later */
	if (u->keys.has_second)
		u->second_name = !u->second_name;
	u->meeting->channel = connect_to(key);
	if (u->meeting->channel >= 0 && shim_channel_is_trusted(u->meeting->channel, &pid))
		return server_send_hello(u, key, pid);
	/* not offered yet, or not by somebody whom we trust; or it cannot be asked */
	if (u->meeting->channel == -EMFILE || u->meeting->channel == -ENFILE)
		result = SHMIPC_REASON_DESCRIPTORS;
	else if (u->meeting->channel < 0 && u->meeting->channel != -ECONNREFUSED)
		result = SHMIPC_REASON_SYSTEM;
	shim_meeting_end(u);
	return result;
}

static bool server_answer(struct shim_upgrade *u)
{
	const struct shim_session_claim first = shim_rendezvous_claim(u, u->keys.first),
					second = shim_rendezvous_claim(u, u->keys.second);
	int session;

	if (shim_session_answer(&first, &session, &u->stream) < 0 &&
	    (!u->keys.has_second || shim_session_answer(&second, &session, &u->stream) < 0))
		return false;
	u->session = session;
	return true;
}

/* The other end did without us: our segment is for others, if for anybody. */
static void withdraw(struct shim_upgrade *u)
{
	if (u->session != SHIM_SESSION_NONE)
		shim_session_withdraw(u->session, u->stream);
	u->session = SHIM_SESSION_NONE;
	shim_meeting_end(u);
}

/* After the shutdown no answer can come any more; one that came before counts: the client has
 * attached. */
void shim_upgrade_server_break_off(struct shim_upgrade *u)
{
	sys_shutdown(u->meeting->channel, SHUT_RD);
	u->agreed = shmipc_negotiator_receive_answer(&u->meeting->negotiator,
						     u->meeting->channel) == 0;
	if (u->agreed)
		shim_meeting_end(u);
	else
		withdraw(u);
}

/* A dial that nobody expects costs four system calls: who has a session with a client of this
 * endpoint gives it one call more for its announcement. */
static int server_look(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;

	if (server_answer(u))
		return shim_upgrade_take_stream(conn, fd);
	if (u->steps == 0 && shim_session_serves(u->keys.endpoint))
		return -1;
	return server_dial(conn);
}

int shim_upgrade_server_step(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;
	int result;

	if (u->agreed)
		return shim_upgrade_take_stream(conn, fd);
	if (!u->meeting)
		return server_look(conn, fd);
	result = shmipc_negotiator_receive_answer(&u->meeting->negotiator, u->meeting->channel);
	if (result == -EAGAIN)
		return -1;
	if (result == -ECONNRESET && u->resets++ < RESETS_MAX) {
		withdraw(u); /* it had no time, and will try again */
		return -1;
	}
	if (result < 0)
		return result == -ECONNREFUSED ? SHMIPC_REASON_IDENTITY
		       : result == -ECONNRESET
			       ? SHMIPC_REASON_CLOSED /* it has given up, or ended */
			       : SHMIPC_REASON_PROTOCOL;
	return shim_upgrade_take_stream(conn, fd);
}
