/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Look-ups in the kernel's socket tables through sock_diag netlink: one socket by its exact name,
 * never a dump, whose cost would grow with the machine.
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <string.h>

#include "core/sys.h"
#include "preload/address.h"
#include "preload/identity.h"

enum {
	EVERY_STATE = 0xfff,
	REQUEST_SEQUENCE = 1,
	REPLY_MAX = 2048 /* an exact answer with all that is shown unasked takes about 200 bytes */
};

union reply {
	struct nlmsghdr header; /* aligns the rest */
	char bytes[REPLY_MAX];
};

/* Check the one message of the answer; its payload is then `min_bytes` or more. */
static int check_reply(const union reply *reply, size_t got, size_t min_bytes)
{
	const struct nlmsghdr *header = &reply->header;
	struct nlmsgerr failure;

	if (got < sizeof(*header) || header->nlmsg_len < sizeof(*header) ||
	    header->nlmsg_len > got || header->nlmsg_seq != REQUEST_SEQUENCE)
		return -EBADMSG;
	if (header->nlmsg_type == NLMSG_ERROR) {
		if (header->nlmsg_len < NLMSG_LENGTH(sizeof(failure.error)))
			return -EBADMSG;
		memcpy(&failure.error, NLMSG_DATA(header), sizeof(failure.error));
		return failure.error < 0 ? failure.error : -EBADMSG;
	}
	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    header->nlmsg_len < NLMSG_LENGTH(min_bytes))
		return -EBADMSG;
	return 0;
}

/* The kernel answers within sendto(): nothing to wait for. */
static int exchange(int fd, const void *request, size_t request_bytes, size_t min_bytes,
		    union reply *reply)
{
	struct sockaddr_nl from = { 0 };
	socklen_t from_bytes = sizeof(from);
	ssize_t got = sys_sendto(fd, request, request_bytes, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);

	if (got < 0)
		return (int)got;
	got = sys_recvfrom(fd, reply, sizeof(*reply), MSG_DONTWAIT | MSG_TRUNC, &from, &from_bytes);
	if (got < 0)
		return (int)got;
	if ((size_t)got > sizeof(*reply) || from.nl_family != AF_NETLINK || from.nl_pid != 0)
		return -EBADMSG; /* only the kernel's own port has number 0 */
	return check_reply(reply, (size_t)got, min_bytes);
}

static int ask(const void *request, size_t request_bytes, size_t min_bytes, union reply *reply)
{
	int fd = sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	int error;

	if (fd < 0)
		return fd;
	memset(&reply->header, 0, sizeof(reply->header));
	error = exchange(fd, request, request_bytes, min_bytes, reply);
	sys_close(fd);
	return error;
}

static struct nlmsghdr request_header(size_t bytes)
{
	struct nlmsghdr header = {
		.nlmsg_len = (uint32_t)bytes,
		.nlmsg_type = SOCK_DIAG_BY_FAMILY,
		.nlmsg_flags = NLM_F_REQUEST,
		.nlmsg_seq = REQUEST_SEQUENCE,
	};

	return header;
}

static uint64_t join_cookie(const uint32_t halves[2])
{
	return (uint64_t)halves[1] << 32 | halves[0];
}

static void clear(struct shim_socket_identity *out)
{
	memset(out, 0, sizeof(*out));
	out->uid = out->peer_uid = SHIM_UID_UNKNOWN;
}

/* ---- TCP ------------------------------------------------------------------------------------- */

struct inet_request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 body;
};

/* Is the answer about that very connection?  An absent one is answered with its listener. */
static bool same_connection(const struct inet_diag_msg *message, const struct shim_tcp_end *local,
			    const struct shim_tcp_end *peer)
{
	struct sockaddr_storage own = { 0 }, other = { 0 };
	struct sockaddr_in6 *own6 = (struct sockaddr_in6 *)&own;
	struct sockaddr_in6 *other6 = (struct sockaddr_in6 *)&other;
	struct shim_tcp_end own_end, other_end;

	if (message->idiag_family == AF_INET6) {
		own.ss_family = other.ss_family = AF_INET6;
		memcpy(&own6->sin6_addr, message->id.idiag_src, 16);
		memcpy(&other6->sin6_addr, message->id.idiag_dst, 16);
	} else if (message->idiag_family == AF_INET) {
		own.ss_family = other.ss_family = AF_INET;
		memcpy(&((struct sockaddr_in *)&own)->sin_addr, message->id.idiag_src, 4);
		memcpy(&((struct sockaddr_in *)&other)->sin_addr, message->id.idiag_dst, 4);
	}
	return shim_tcp_end_of(&own, &own_end) && shim_tcp_end_of(&other, &other_end) &&
	       own_end.family == local->family && other_end.family == peer->family &&
	       memcmp(own_end.ip, local->ip, 16) == 0 && memcmp(other_end.ip, peer->ip, 16) == 0 &&
	       ntohs(message->id.idiag_sport) == local->port &&
	       ntohs(message->id.idiag_dport) == peer->port;
}

int shim_identity_inet_lookup(const struct sockaddr_storage *local,
			      const struct sockaddr_storage *peer, struct shim_socket_identity *out)
{
	struct inet_request request = { .header = request_header(sizeof(request)) };
	struct shim_tcp_end here, there;
	struct inet_diag_msg message;
	union reply reply;
	int error;

	clear(out);
	if (!shim_tcp_end_of(local, &here) || !shim_tcp_end_of(peer, &there) ||
	    here.family != there.family)
		return -EAFNOSUPPORT;
	/*
	 * By the addresses on the wire: a dual-stack socket with mapped addresses lies in the IPv4
	 * table, and both kinds of request with IPv4 addresses look there and find both kinds.
	 */
	request.body.sdiag_family = here.family == 4 ? AF_INET : AF_INET6;
	request.body.sdiag_protocol = IPPROTO_TCP;
	request.body.idiag_states = EVERY_STATE;
	request.body.id.idiag_sport = htons(here.port);
	request.body.id.idiag_dport = htons(there.port);
	memcpy(request.body.id.idiag_src, here.ip, sizeof(here.ip));
	memcpy(request.body.id.idiag_dst, there.ip, sizeof(there.ip));
	/* A link-local connection is bound to its interface and not found without it. */
	request.body.id.idiag_if = here.scope ? here.scope : there.scope;
	request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	error = ask(&request, sizeof(request), sizeof(message), &reply);
	if (error)
		return error;
	memcpy(&message, NLMSG_DATA(&reply.header), sizeof(message));
	if (message.idiag_state == SHIM_TCP_LISTEN || !same_connection(&message, &here, &there))
		return -ENOENT;
	out->state = message.idiag_state;
	out->uid = message.idiag_uid;
	out->inode = message.idiag_inode;
	out->cookie = join_cookie(message.id.idiag_cookie);
	return 0;
}

/* ---- Unix ------------------------------------------------------------------------------------ */

struct unix_request {
	struct nlmsghdr header;
	struct unix_diag_req body;
};

/* The 32-bit attribute `type` that follows `fixed_bytes` of payload, or `absent`. */
static uint32_t find_attribute(const struct nlmsghdr *header, size_t fixed_bytes, uint16_t type,
			       uint32_t absent)
{
	const char *message = (const char *)header;
	size_t at = NLMSG_SPACE(fixed_bytes);
	struct rtattr attribute;
	uint32_t value;

	while (at + sizeof(attribute) <= header->nlmsg_len) {
		memcpy(&attribute, message + at, sizeof(attribute));
		if (attribute.rta_len < sizeof(attribute) ||
		    attribute.rta_len > header->nlmsg_len - at)
			break;
		if (attribute.rta_type == type && attribute.rta_len >= RTA_LENGTH(sizeof(value))) {
			memcpy(&value, message + at + RTA_LENGTH(0), sizeof(value));
			return value;
		}
		at += RTA_ALIGN(attribute.rta_len);
	}
	return absent;
}

int shim_identity_unix_lookup(uint64_t inode, uint64_t cookie, struct shim_socket_identity *out)
{
	struct unix_request request = { .header = request_header(sizeof(request)) };
	struct unix_diag_msg message;
	union reply reply;
	int error;

	clear(out);
	if (inode == 0 || inode > UINT32_MAX) /* inode 0 would ask for a dump */
		return -ENOENT;
	request.body.sdiag_family = AF_UNIX;
	request.body.udiag_states = EVERY_STATE;
	request.body.udiag_ino = (uint32_t)inode;
	request.body.udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_UID;
	request.body.udiag_cookie[0] = cookie ? (uint32_t)cookie : INET_DIAG_NOCOOKIE;
	request.body.udiag_cookie[1] = cookie ? (uint32_t)(cookie >> 32) : INET_DIAG_NOCOOKIE;
	error = ask(&request, sizeof(request), sizeof(message), &reply);
	if (error)
		return error;
	memcpy(&message, NLMSG_DATA(&reply.header), sizeof(message));
	if (message.udiag_family != AF_UNIX || message.udiag_ino != inode)
		return -ENOENT;
	out->state = message.udiag_state;
	out->inode = message.udiag_ino;
	out->cookie = join_cookie(message.udiag_cookie);
	out->uid = find_attribute(&reply.header, sizeof(message), UNIX_DIAG_UID, SHIM_UID_UNKNOWN);
	out->peer_inode = find_attribute(&reply.header, sizeof(message), UNIX_DIAG_PEER, 0);
	return 0;
}
