/* SPDX-License-Identifier: Apache-2.0 */
/* The accepting end: looks for the offer, and brings the memory. */
#include <errno.h>
#include <string.h>

#include "core/sys.h"
#include "preload/upgrade_parts.h"

static int server_send_hello(struct shim_upgrade *u, const uint8_t *key)
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
	const struct shim_session_size size = shim_session_size();
	struct shmipc_segment segment;
	int fd, error = shmipc_segment_create(&segment, size.streams, size.ring_bytes, &fd);

	if (error)
		return SHMIPC_REASON_MEMORY;
	memcpy(hello.key, key, SHIM_DIGEST_BYTES);
	u->session = shim_session_add(&segment, false, u->keys.endpoint, &claim);
	if (u->session < 0) {
		u->session = SHIM_SESSION_NONE;
		shmipc_segment_unmap(&segment);
		sys_close(fd);
		return SHMIPC_REASON_LIMIT;
	}
	u->stream = 0;
	error = shmipc_negotiate_send_hello(u->channel, &hello, fd);
	sys_close(fd);
	if (error == -EPIPE || error == -ECONNRESET)
		return SHMIPC_REASON_CLOSED;
	return error ? SHMIPC_REASON_PROTOCOL : -1;
}

static int server_dial(struct shim_upgrade *u)
{
	const uint8_t *key = u->second_name ? u->keys.second : u->keys.first;
	struct sockaddr_un name;
	socklen_t bytes;
	int error;

	if (u->keys.has_second)
		u->second_name = !u->second_name;
	if (shim_rendezvous_name(key, SHIM_DIGEST_BYTES, &name, &bytes) < 0)
		return SHMIPC_REASON_SYSTEM;
	u->channel = shim_channel_socket();
	if (u->channel < 0)
		return u->channel == -EMFILE || u->channel == -ENFILE ? SHMIPC_REASON_DESCRIPTORS
								      : SHMIPC_REASON_SYSTEM;
	error = sys_connect(u->channel, &name, bytes);
	if (error || !shim_channel_is_trusted(u->channel)) {
		shim_channel_close(&u->channel);
		return -1; /* not offered yet, or not by somebody whom we trust */
	}
	return server_send_hello(u, key);
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

int shim_upgrade_server_step(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;
	int result;

	if (u->channel < 0)
		return server_answer(u) ? shim_upgrade_take_stream(conn, fd) : server_dial(u);
	result = shmipc_negotiator_receive_answer(&u->negotiator, u->channel);
	if (result == -EAGAIN)
		return -1;
	if (result < 0)
		return result == -ECONNREFUSED ? SHMIPC_REASON_IDENTITY
		       : result == -ECONNRESET
			       ? SHMIPC_REASON_CLOSED /* it has given up, or ended */
			       : SHMIPC_REASON_PROTOCOL;
	return shim_upgrade_take_stream(conn, fd);
}
