/* SPDX-License-Identifier: Apache-2.0 */
/* The connecting end: offers, and takes the memory that the other end brings. */
#include <errno.h>
#include <string.h>

#include "core/sys.h"
#include "preload/upgrade_parts.h"

enum {
	ANNOUNCED_STEPS = 6, /* an announcement in shared memory gets this long before the name is
				offered too */
	PIONEER_STEPS = 24,  /* so long a connection waits for the session that another one is about
				to make */
};

/* 0; or a reason, or -1: too many names, wait. */
static int client_offer_name(struct shim_conn *conn)
{
	struct shim_upgrade *u = conn->upgrade;
	struct shim_meeting *meeting = shim_meeting_take(conn);
	struct sockaddr_un name;
	socklen_t bytes;

	if (!meeting)
		return -1;
	meeting->listener = shim_channel_socket();
	if (meeting->listener >= 0 &&
	    shim_rendezvous_name(u->keys.first, SHIM_DIGEST_BYTES, &name, &bytes) == 0 &&
	    sys_bind(meeting->listener, &name, bytes) == 0 && sys_listen(meeting->listener, 4) == 0)
		return 0;
	shim_meeting_end(u);
	return SHMIPC_REASON_DESCRIPTORS;
}

static enum shmipc_reason judge_hello(const struct shim_upgrade *u,
				      const struct shmipc_hello *hello)
{
	if (hello->layout != SHMIPC_LAYOUT_VERSION || hello->stream != 0)
		return SHMIPC_REASON_PROTOCOL;
	if (memcmp(hello->key, u->keys.first, SHIM_DIGEST_BYTES) != 0)
		return SHMIPC_REASON_IDENTITY;
	if (hello->netns_cookie && u->keys.self.netns_cookie &&
	    hello->netns_cookie != u->keys.self.netns_cookie)
		return SHMIPC_REASON_NAMESPACE;
	if (u->keys.peer_cookie && hello->cookie != u->keys.peer_cookie)
		return SHMIPC_REASON_IDENTITY;
	if (hello->peer_cookie && hello->peer_cookie != u->keys.self.cookie)
		return SHMIPC_REASON_IDENTITY;
	return SHMIPC_REASON_NONE;
}

/* 0, or -errno: the session that the hello brings. */
static int client_add_session(const struct shim_upgrade *u, int segment_fd)
{
	const struct shim_session_claim claim = shim_rendezvous_claim(u, u->keys.first);
	const struct shim_session_peer peer = { .is_client = true, .endpoint = u->keys.endpoint };
	struct shmipc_segment segment;
	int session = shmipc_segment_map(&segment, segment_fd, shim_session_bytes_max());

	if (session < 0)
		return session;
	session = shim_session_add(&segment, &peer, &claim);
	if (session < 0)
		shmipc_segment_unmap(&segment);
	return session;
}

static enum shmipc_reason reason_of(int error)
{
	return error == -EPROTO			     ? SHMIPC_REASON_PROTOCOL
	       : error == -ENOSPC || error == -EBUSY ? SHMIPC_REASON_LIMIT
						     : SHMIPC_REASON_MEMORY;
}

/* A whole hello has come.  -1: the other end has broken off meanwhile. */
static int client_accept_hello(struct shim_conn *conn, int fd, const struct shmipc_hello *hello,
			       int segment_fd)
{
	struct shim_upgrade *u = conn->upgrade;
	int channel = u->meeting->channel, session = -EPERM;
	enum shmipc_reason reason = shim_eligible_still(conn, fd);

	if (!reason)
		reason = judge_hello(u, hello);
	if (!reason) {
		session = client_add_session(u, segment_fd);
		reason = session < 0 ? reason_of(session) : SHMIPC_REASON_NONE;
	}
	sys_close(segment_fd);
	if (reason) {
		shmipc_negotiate_send_answer(channel, session);
		return (int)reason;
	}
	if (shmipc_negotiate_send_answer(channel, 0) < 0) {
		shim_session_leave(session, 0);
		shim_meeting_end(u);
		return -1;
	}
	if (u->session != SHIM_SESSION_NONE)
		shim_session_withdraw(u->session, u->stream);
	u->session = SHIM_SESSION_NONE;
	shim_rendezvous_drop(conn);
	shim_upgrade_attach(conn, fd, session, 0);
	return SHMIPC_REASON_NONE;
}

/* A name costs descriptors and a segment of its own: first the memory that the two processes share,
 * or are about to. */
static bool is_time_for_name(const struct shim_conn *conn)
{
	const struct shim_upgrade *u = conn->upgrade;

	if (u->session != SHIM_SESSION_NONE)
		return u->steps >= u->announced + ANNOUNCED_STEPS;
	return u->steps >= PIONEER_STEPS || !shim_meeting_is_offered(conn, u->keys.endpoint);
}

static void client_announce(struct shim_upgrade *u)
{
	const struct shim_session_claim claim = shim_rendezvous_claim(u, u->keys.first);

	if (u->session != SHIM_SESSION_NONE)
		shim_session_withdraw(u->session, u->stream);
	u->announced = u->steps;
	if (shim_session_offer(u->keys.endpoint, &claim, &u->session, &u->stream) < 0)
		u->session = SHIM_SESSION_NONE;
}

/* 0 when somebody whom we trust has come; else as shim_upgrade_client_step(). */
static int client_take_channel(struct shim_meeting *meeting)
{
	int channel = sys_accept4(meeting->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), pid;

	if (channel < 0)
		return -1;
	meeting->channel = shim_channel_hide(channel);
	if (meeting->channel < 0)
		return SHMIPC_REASON_DESCRIPTORS;
	if (shim_channel_is_trusted(meeting->channel, &pid))
		return 0;
	shim_channel_close(&meeting->channel); /* a squatter; the right one may still come */
	return -1;
}

static int client_meet(struct shim_conn *conn, int fd)
{
	struct shim_meeting *meeting = conn->upgrade->meeting;
	struct shmipc_hello hello;
	int segment_fd, result = 0;

	if (meeting->channel < 0)
		result = client_take_channel(meeting);
	if (result)
		return result;
	result = shmipc_negotiator_receive_hello(&meeting->negotiator, meeting->channel, &hello,
						 &segment_fd);
	if (result == -EAGAIN)
		return -1;
	if (result == -ECONNRESET) { /* it had no time, or was nobody; the right one may come */
		shim_channel_close(&meeting->channel);
		shmipc_negotiator_init(&meeting->negotiator);
		return -1;
	}
	if (result < 0) {
		shmipc_negotiate_send_answer(meeting->channel, result);
		return SHMIPC_REASON_PROTOCOL;
	}
	return client_accept_hello(conn, fd, &hello, segment_fd);
}

/* -1: nothing decided, look again later.  With a name or without: room in a session is taken as
 * soon as there is some. */
int shim_upgrade_client_step(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;
	int result;

	if (u->session != SHIM_SESSION_NONE &&
	    shim_session_answered(u->session, u->stream, u->keys.peer_cookie))
		return shim_upgrade_take_stream(conn, fd);
	if (u->session == SHIM_SESSION_NONE || shim_session_is_over(u->session))
		client_announce(u);
	if (u->meeting)
		return client_meet(conn, fd);
	if (!is_time_for_name(conn))
		return -1;
	result = client_offer_name(conn);
	return result ? result : client_meet(conn, fd);
}
