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

static void client_offer_name(struct shim_upgrade *u)
{
	struct sockaddr_un name;
	socklen_t bytes;

	u->listener = shim_channel_socket();
	if (u->listener < 0)
		return;
	if (shim_rendezvous_name(u->keys.first, SHIM_DIGEST_BYTES, &name, &bytes) < 0 ||
	    sys_bind(u->listener, &name, bytes) < 0 || sys_listen(u->listener, 4) < 0)
		shim_channel_close(&u->listener);
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

/* A whole hello has come. */
static enum shmipc_reason client_accept_hello(struct shim_conn *conn, int fd,
					      const struct shmipc_hello *hello, int segment_fd)
{
	struct shim_upgrade *u = conn->upgrade;
	const struct shim_session_claim claim = shim_rendezvous_claim(u, u->keys.first);
	struct shmipc_segment segment;
	enum shmipc_reason reason = shim_eligible_still(conn, fd);
	int error, session;

	if (!reason)
		reason = judge_hello(u, hello);
	error = reason ? -EPERM : shmipc_segment_map(&segment, segment_fd);
	sys_close(segment_fd);
	if (error) {
		shmipc_negotiate_send_answer(u->channel, error);
		return reason		  ? reason
		       : error == -EPROTO ? SHMIPC_REASON_PROTOCOL
					  : SHMIPC_REASON_MEMORY;
	}
	session = shim_session_add(&segment, true, u->keys.endpoint, &claim);
	if (session < 0) {
		shmipc_segment_unmap(&segment);
		shmipc_negotiate_send_answer(u->channel, session);
		return SHMIPC_REASON_LIMIT;
	}
	if (u->session != SHIM_SESSION_NONE)
		shim_session_withdraw(u->session, u->stream);
	u->session = SHIM_SESSION_NONE;
	shmipc_negotiate_send_answer(u->channel, 0);
	shim_rendezvous_drop(conn);
	shim_upgrade_attach(conn, fd, session, 0);
	return SHMIPC_REASON_NONE;
}

/* A name costs descriptors and a segment of its own: first the memory that the two processes share,
 * or are about to. */
static bool is_time_for_name(const struct shim_upgrade *u)
{
	if (u->session != SHIM_SESSION_NONE)
		return u->steps >= u->announced + ANNOUNCED_STEPS;
	return u->steps >= PIONEER_STEPS || !shim_rendezvous_is_offered(u);
}

static void client_announce(struct shim_upgrade *u)
{
	const struct shim_session_claim claim = shim_rendezvous_claim(u, u->keys.first);

	u->announced = u->steps;
	if (shim_session_offer(u->keys.endpoint, &claim, &u->session, &u->stream) < 0)
		u->session = SHIM_SESSION_NONE;
}

/* 0 when somebody whom we trust has come; else as shim_upgrade_client_step(). */
static int client_take_channel(struct shim_upgrade *u)
{
	int channel = sys_accept4(u->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (channel < 0)
		return -1;
	u->channel = shim_channel_hide(channel);
	if (u->channel < 0)
		return SHMIPC_REASON_DESCRIPTORS;
	if (shim_channel_is_trusted(u->channel))
		return 0;
	shim_channel_close(&u->channel); /* a squatter; the right one may still come */
	return -1;
}

/* -1: nothing decided, look again later. */
int shim_upgrade_client_step(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;
	struct shmipc_hello hello;
	int segment_fd, result = 0;

	if (u->session == SHIM_SESSION_NONE && u->listener < 0)
		client_announce(u);
	if (u->session != SHIM_SESSION_NONE &&
	    shim_session_answered(u->session, u->stream, u->keys.peer_cookie))
		return shim_upgrade_take_stream(conn, fd);
	if (u->listener < 0 && is_time_for_name(u)) {
		client_offer_name(u);
		if (u->listener < 0)
			return SHMIPC_REASON_DESCRIPTORS;
	}
	if (u->listener < 0)
		return -1;
	if (u->channel < 0)
		result = client_take_channel(u);
	if (result)
		return result;
	result = shmipc_negotiator_receive_hello(&u->negotiator, u->channel, &hello, &segment_fd);
	if (result == -EAGAIN)
		return -1;
	if (result < 0) {
		shmipc_negotiate_send_answer(u->channel, result);
		return result == -ECONNRESET ? SHMIPC_REASON_CLOSED /* it has given up, or ended */
					     : SHMIPC_REASON_PROTOCOL;
	}
	return (int)client_accept_hello(conn, fd, &hello, segment_fd);
}
