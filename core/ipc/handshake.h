/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How two sides of a fresh connection come to share memory.  Nothing here blocks.
 *
 *	version 2, files:   client -> ShareMemoryByFilePath; it may go on at once
 *	version 3, memfds:  client -> ExchangeProtoVersion    server -> ExchangeProtoVersion
 *			    client -> ShareMemoryByMemfd       server -> AckReadyRecvFD
 *			    client -> one byte, [buffer, queue] server -> AckShareMemory
 *
 * A server takes what the client does first; after exchanging versions it takes files too and then
 * acknowledges them.  No byte beyond the handshake is read.
 */
#ifndef SHMIPC_CORE_IPC_HANDSHAKE_H
#define SHMIPC_CORE_IPC_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ipc/mapping.h"

enum { SHMIPC_HANDSHAKE_IN_ROOM = 8448, SHMIPC_HANDSHAKE_OUT_ROOM = 1024 };

struct shmipc_handshake {
	enum shmipc_role role;
	int fd; /* the caller's */
	const struct shmipc_config *config;
	uint8_t version;   /* of the session, when complete */
	bool peer_is_ours; /* known to a server, by the names */
	bool exchanged;	   /* versions */
	uint8_t awaited;   /* a message type, or one of the private steps of handshake.c */
	short events;	   /* what to poll for after -EAGAIN */
	size_t in_filled;
	size_t out_bytes, out_sent;
	struct shmipc_mapping *buffer; /* a reference; client: from the start */
	struct shmipc_area queues;
	char names[2][512]; /* of queue and (client) buffer, as they go over the wire */
	uint8_t in[SHMIPC_HANDSHAKE_IN_ROOM];
	uint8_t out[SHMIPC_HANDSHAKE_OUT_ROOM];
};

/* buffer: client: a reference, which the handshake takes over; queue_path: likewise the client's
 * new queue mapping is created under that name.  Server: NULL, NULL. */
int shmipc_handshake_start(struct shmipc_handshake *handshake, enum shmipc_role role, int fd,
			   const struct shmipc_config *config, struct shmipc_mapping *buffer,
			   const char *queue_path, const char *buffer_path);

/* 0: complete, version, buffer and queues are the caller's to take.  -EAGAIN: poll for `events` and
 * call again.  Others are final. */
int shmipc_handshake_step(struct shmipc_handshake *handshake);

/* Frees what nobody took. */
void shmipc_handshake_end(struct shmipc_handshake *handshake);

#endif
