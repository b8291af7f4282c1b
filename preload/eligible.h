/* SPDX-License-Identifier: Apache-2.0 */
/* May this connection be accelerated at all? */
#ifndef SHMIPC_PRELOAD_ELIGIBLE_H
#define SHMIPC_PRELOAD_ELIGIBLE_H

#include "core/status.h"
#include "preload/address.h"
#include "preload/conn.h"
#include "preload/identity.h"

/* What a rendezvous is about: names for the connection that both ends can work out. */
struct shim_rendezvous_keys {
	uint8_t first[SHIM_DIGEST_BYTES];
	uint8_t second[SHIM_DIGEST_BYTES]; /* the name that a client without netlink uses; Unix only
					    */
	bool has_second;
	struct shim_socket_identity self;
	uint64_t peer_cookie; /* 0: could not be asked */
	uint64_t endpoint;    /* digest of the listener's address */
};

/* SHMIPC_REASON_NONE: eligible, keys filled.  SHMIPC_REASON_YOUNG: not decided, ask again on a
 * later call. */
enum shmipc_reason shim_eligible(struct shim_conn *conn, int fd, struct shim_rendezvous_keys *keys);

/* Asked again right before the end of the rendezvous: only what may have changed since. */
enum shmipc_reason shim_eligible_still(const struct shim_conn *conn, int fd);

/* Is this user one with whom we accelerate? */
bool shim_eligible_user(uint32_t uid);

/* Only the kernel can serve a connection with this option set to this value. */
bool shim_eligible_option(int level, int name, const void *value, socklen_t bytes);
/* Of those options, one that sockets of the other family refuse, and that says nothing of what is
 * sent or received before it is set: the kernel may be asked first. */
bool shim_eligible_option_is_of_one_family(int level, int name);
/* Nor one with these status flags (fcntl(F_GETFL)): signals for what arrives; and what sendfile()
 * refuses to write to. */
bool shim_eligible_flags(long flags);

#endif
