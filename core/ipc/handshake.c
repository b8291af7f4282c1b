/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/handshake.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fdpass.h"
#include "core/ipc/queue.h"
#include "core/message.h"
#include "core/sys.h"

enum {
	/* steps beyond "a message of this type is awaited" */
	AWAIT_FIRST = 100,	 /* server: what the client begins with */
	AWAIT_SHARE = 101,	 /* server, after the exchange: files or memfds */
	AWAIT_DESCRIPTORS = 102, /* server */
	SEND_DESCRIPTORS = 103,	 /* client */
	NOTHING = 104,		 /* complete once everything is sent */
	DESCRIPTORS = 2
};

static void queue_plain(struct shmipc_handshake *h, uint8_t type)
{
	h->out_bytes += (size_t)shmipc_message_encode_plain(
		h->out + h->out_bytes, sizeof(h->out) - h->out_bytes, h->version, type);
}

static int queue_share(struct shmipc_handshake *h, uint8_t type)
{
	struct shmipc_share_memory share = {
		.queue_name = h->names[0],
		.buffer_name = h->names[1],
		.queue_name_bytes = (uint16_t)strlen(h->names[0]),
		.buffer_name_bytes = (uint16_t)strlen(h->names[1]),
	};
	int bytes = shmipc_message_encode_share(
		h->out + h->out_bytes, sizeof(h->out) - h->out_bytes, h->version, type, &share);

	if (bytes < 0)
		return bytes;
	h->out_bytes += (size_t)bytes;
	return 0;
}

static bool is_unix(int fd)
{
	struct sockaddr_storage name = { 0 };
	socklen_t bytes = sizeof(name);

	return sys_getsockname(fd, &name, &bytes) == 0 && name.ss_family == AF_UNIX;
}

static int start_client(struct shmipc_handshake *h, const char *queue_path, const char *buffer_path)
{
	uint64_t bytes = shmipc_queue_mapping_bytes(h->config->queue_capacity);
	bool memfd = h->config->memory == SHMIPC_MEMORY_MEMFD;
	int error;

	if (memfd && !is_unix(h->fd))
		return -EPROTONOSUPPORT;
	if (strlen(queue_path) >= sizeof(h->names[0]) || strlen(buffer_path) >= sizeof(h->names[1]))
		return -ENAMETOOLONG;
	strcpy(h->names[0], queue_path);
	strcpy(h->names[1], buffer_path);
	error = memfd ? shmipc_area_create_memfd(&h->queues, queue_path, bytes)
		      : shmipc_area_create_file(&h->queues, queue_path, bytes,
						(mode_t)h->config->file_mode);
	if (error)
		return error;
	shmipc_queue_format(h->queues.base, h->config->queue_capacity);
	h->version = memfd ? SHMIPC_MESSAGE_VERSION_3 : SHMIPC_MESSAGE_VERSION_2;
	if (!memfd) {
		h->awaited = NOTHING;
		return queue_share(h, SHMIPC_MESSAGE_SHARE_FILE);
	}
	h->awaited = SHMIPC_MESSAGE_EXCHANGE_VERSION;
	queue_plain(h, SHMIPC_MESSAGE_EXCHANGE_VERSION);
	return 0;
}

int shmipc_handshake_start(struct shmipc_handshake *h, enum shmipc_role role, int fd,
			   const struct shmipc_config *config, struct shmipc_mapping *buffer,
			   const char *queue_path, const char *buffer_path)
{
	int error;

	memset(h, 0, offsetof(struct shmipc_handshake, in));
	h->role = role;
	h->fd = fd;
	h->config = config;
	h->buffer = buffer;
	h->queues.fd = -1;
	h->awaited = AWAIT_FIRST;
	if (role == SHMIPC_ROLE_SERVER)
		return 0;
	error = start_client(h, queue_path, buffer_path);
	if (error)
		shmipc_handshake_end(h);
	return error;
}

void shmipc_handshake_end(struct shmipc_handshake *h)
{
	shmipc_area_unlink(&h->queues);
	shmipc_area_drop(&h->queues);
	if (h->buffer)
		shmipc_mapping_put(h->buffer);
	h->buffer = NULL;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static int send_out(struct shmipc_handshake *h)
{
	ssize_t n;

	while (h->out_sent < h->out_bytes) {
		n = shmipc_fdpass_send(h->fd, h->out + h->out_sent, h->out_bytes - h->out_sent,
				       NULL, 0);
		if (n < 0) {
			h->events = POLLOUT;
			return (int)n;
		}
		h->out_sent += (size_t)n;
	}
	h->out_sent = h->out_bytes = 0;
	return 0;
}

/* Until so many bytes of the message are there. */
static int fill(struct shmipc_handshake *h, size_t bytes)
{
	ssize_t n;

	while (h->in_filled < bytes) {
		do
			n = sys_recvfrom(h->fd, h->in + h->in_filled, bytes - h->in_filled,
					 MSG_DONTWAIT, NULL, NULL);
		while (n == -EINTR);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0) {
			h->events = POLLIN;
			return (int)n;
		}
		h->in_filled += (size_t)n;
	}
	return 0;
}

/* A whole message; it stays in `in` until the next one. */
static int receive(struct shmipc_handshake *h, struct shmipc_message_header *header)
{
	int error = fill(h, SHMIPC_MESSAGE_HEADER_BYTES);

	if (!error)
		error = shmipc_message_decode_header(h->in, h->in_filled, header);
	if (!error && header->length > sizeof(h->in))
		error = -EPROTO;
	if (!error)
		error = fill(h, header->length);
	if (!error)
		h->in_filled = 0;
	return error;
}

/* ---- server --------------------------------------------------------------------------------- */

/* Whose the files of this peer must be: the peer's where the kernel knows it, else our own. */
static uid_t owner_of_files(int fd)
{
	struct ucred peer;
	socklen_t bytes = sizeof(peer);

	if (is_unix(fd) && sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0)
		return peer.uid;
	return sys_geteuid();
}

static int map_files(struct shmipc_handshake *h, const struct shmipc_share_memory *share)
{
	uid_t owner = owner_of_files(h->fd);
	struct shmipc_area buffer;
	char path[SHMIPC_MESSAGE_NAME_MAX_BYTES + 1];
	int error;

	memcpy(path, share->queue_name, share->queue_name_bytes);
	path[share->queue_name_bytes] = 0;
	error = shmipc_area_open(&h->queues, path, owner,
				 shmipc_queue_mapping_bytes(SHMIPC_QUEUE_CAPACITY_MAX));
	if (error)
		return error;
	if (h->peer_is_ours) /* it needs the name no more, and so nothing can be left of it */
		shmipc_area_unlink(&h->queues);
	memcpy(path, share->buffer_name, share->buffer_name_bytes);
	path[share->buffer_name_bytes] = 0;
	error = shmipc_area_open(&buffer, path, owner, h->config->foreign_buffer_max_bytes);
	return error ? error : shmipc_mapping_receive(&buffer, &h->buffer);
}

static int take_share(struct shmipc_handshake *h, const struct shmipc_message_header *header)
{
	struct shmipc_share_memory share;
	int error = shmipc_message_decode_share(h->in, header->length, &share);

	if (error)
		return error;
	h->peer_is_ours = shmipc_area_name_is_ours(share.buffer_name, share.buffer_name_bytes) &&
			  shmipc_area_name_is_ours(share.queue_name, share.queue_name_bytes);
	snprintf(h->names[0], sizeof(h->names[0]), "%.*s", share.queue_name_bytes,
		 share.queue_name);
	if (header->type == SHMIPC_MESSAGE_SHARE_MEMFD) {
		if (!h->exchanged || !is_unix(h->fd))
			return -EPROTO;
		queue_plain(h, SHMIPC_MESSAGE_ACK_READY_FD);
		h->awaited = AWAIT_DESCRIPTORS;
		return 0;
	}
	error = map_files(h, &share);
	if (error)
		return error;
	h->awaited = NOTHING;
	if (h->exchanged)
		queue_plain(h, SHMIPC_MESSAGE_ACK_SHARE);
	return 0;
}

static int take_first(struct shmipc_handshake *h, const struct shmipc_message_header *header)
{
	if (header->version != SHMIPC_MESSAGE_VERSION_2 &&
	    header->version != SHMIPC_MESSAGE_VERSION_3)
		return -EPROTONOSUPPORT;
	h->version = header->version;
	if (header->type == SHMIPC_MESSAGE_SHARE_FILE &&
	    header->version == SHMIPC_MESSAGE_VERSION_2)
		return take_share(h, header);
	if (header->type != SHMIPC_MESSAGE_EXCHANGE_VERSION)
		return -EPROTO;
	h->exchanged = true;
	h->version = SHMIPC_MESSAGE_VERSION_3;
	queue_plain(h, SHMIPC_MESSAGE_EXCHANGE_VERSION);
	h->version = header->version;
	h->awaited = AWAIT_SHARE;
	return 0;
}

static int take_descriptors(struct shmipc_handshake *h)
{
	unsigned int count = DESCRIPTORS;
	int fds[DESCRIPTORS], error;
	struct shmipc_area buffer;
	ssize_t n = shmipc_fdpass_receive(h->fd, h->in, 1, fds, &count);

	if (n < 0) {
		h->events = POLLIN;
		return (int)n;
	}
	if (n == 0)
		return -ECONNRESET;
	error = count == DESCRIPTORS ? 0 : -EPROTO;
	if (!error)
		error = shmipc_area_map(&h->queues, fds[1],
					shmipc_queue_mapping_bytes(SHMIPC_QUEUE_CAPACITY_MAX));
	if (!error)
		fds[1] = -1;
	if (!error)
		error = shmipc_area_map(&buffer, fds[0], h->config->foreign_buffer_max_bytes);
	if (!error) {
		fds[0] = -1;
		error = shmipc_mapping_receive(&buffer, &h->buffer);
	}
	while (count > 0)
		if (fds[--count] >= 0)
			sys_close(fds[count]);
	if (error)
		return error;
	queue_plain(h, SHMIPC_MESSAGE_ACK_SHARE);
	h->awaited = NOTHING;
	return 0;
}

/* ---- client --------------------------------------------------------------------------------- */

static int send_descriptors(struct shmipc_handshake *h)
{
	int fds[DESCRIPTORS] = { h->buffer->area.fd, h->queues.fd };
	ssize_t n = shmipc_fdpass_send(h->fd, "", 1, fds, DESCRIPTORS);

	if (n < 0) {
		h->events = POLLOUT;
		return (int)n;
	}
	h->awaited = SHMIPC_MESSAGE_ACK_SHARE;
	return 0;
}

static int take_answer(struct shmipc_handshake *h, const struct shmipc_message_header *header)
{
	if (header->type != h->awaited)
		return -EPROTO;
	switch (header->type) {
	case SHMIPC_MESSAGE_EXCHANGE_VERSION:
		if (header->version < SHMIPC_MESSAGE_VERSION_3) /* it knows no memfds */
			return -EPROTONOSUPPORT;
		h->awaited = SHMIPC_MESSAGE_ACK_READY_FD;
		return queue_share(h, SHMIPC_MESSAGE_SHARE_MEMFD);
	case SHMIPC_MESSAGE_ACK_READY_FD:
		h->awaited = SEND_DESCRIPTORS;
		return 0;
	default:
		h->awaited = NOTHING;
		return 0;
	}
}

static int take_message(struct shmipc_handshake *h, const struct shmipc_message_header *header)
{
	if (h->role == SHMIPC_ROLE_CLIENT)
		return take_answer(h, header);
	if (h->awaited == AWAIT_FIRST)
		return take_first(h, header);
	if (header->version != h->version || (header->type != SHMIPC_MESSAGE_SHARE_FILE &&
					      header->type != SHMIPC_MESSAGE_SHARE_MEMFD))
		return -EPROTO;
	return take_share(h, header);
}

int shmipc_handshake_step(struct shmipc_handshake *h)
{
	struct shmipc_message_header header;
	int error;

	for (;;) {
		error = send_out(h);
		if (error)
			return error;
		if (h->awaited == NOTHING)
			return 0;
		if (h->awaited == SEND_DESCRIPTORS)
			error = send_descriptors(h);
		else if (h->awaited == AWAIT_DESCRIPTORS)
			error = take_descriptors(h);
		else if ((error = receive(h, &header)) == 0)
			error = take_message(h, &header);
		if (error)
			return error;
	}
}
