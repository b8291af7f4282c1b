/* SPDX-License-Identifier: Apache-2.0 */
/* The child that plays a transcript. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <signal.h>
#include <unistd.h>

#include "tests/unit/ipc/golden.h"
#include "tests/unit/ipc/script.h"

enum {
	CONNECTIONS = 2,
	NAME_ROOM = 256,
	HEADER_BYTES = 8,
	PATIENCE_MS = 20000,
	PATIENCE_SECONDS = 60,
	SHARE_FILE = 0,
	POLLING = 1,
	SHARE_MEMFD = 5,
	FIRST_BYTES = 64,
	SLICE_HEADER = 20
};

#define RECORDED "/dev/shm/shmipc_vec_4242"

struct mapping {
	uint8_t *at;
	size_t bytes;
	int fd;
	char name[NAME_ROOM];
};

struct connection {
	int fd;
	struct mapping queue, buffer;
};

/* The child that plays. */
struct player {
	const struct script *script;
	struct connection connections[CONNECTIONS];
	char stem[NAME_ROOM]; /* what stands for RECORDED */
	const char *why;
	unsigned int line;
};

static _Noreturn void die(const struct player *player, const char *what)
{
	fprintf(stderr, "script: %s, message %u: %s\n", player->script->scenario, player->line + 1,
		what);
	_exit(1);
}

static void require(bool truth, const struct player *player, const char *what)
{
	if (!truth)
		die(player, what);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void send_bytes(const struct player *player, int fd, const void *bytes, size_t count)
{
	require(send(fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count, player, "cannot send");
}

static void receive_bytes(const struct player *player, int fd, uint8_t *to, size_t count)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	for (size_t done = 0; done < count;) {
		ssize_t n;

		require(poll(&wait, 1, PATIENCE_MS) == 1, player, "nothing came");
		n = recv(fd, to + done, count - done, 0);
		require(n > 0, player, "the connection ended");
		done += (size_t)n;
	}
}

static size_t receive_message(const struct player *player, int fd, uint8_t to[SCRIPT_MESSAGE_MAX])
{
	uint32_t bytes;

	receive_bytes(player, fd, to, HEADER_BYTES);
	memcpy(&bytes, to, sizeof(bytes));
	bytes = ntohl(bytes);
	require(bytes >= HEADER_BYTES && bytes <= SCRIPT_MESSAGE_MAX, player, "a wrong length");
	receive_bytes(player, fd, to + HEADER_BYTES, bytes - HEADER_BYTES);
	return bytes;
}

/* ---- names ---------------------------------------------------------------------------------- */

static size_t take_name(const struct player *player, const unsigned char *message, size_t bytes,
			size_t at, char out[NAME_ROOM])
{
	size_t length;

	require(at + 2 <= bytes, player, "no name");
	length = (size_t)message[at] << 8 | message[at + 1];
	require(length > 0 && length < NAME_ROOM && at + 2 + length <= bytes, player,
		"a name of a wrong length");
	memcpy(out, message + at + 2, length);
	out[length] = 0;
	return at + 2 + length;
}

/* Queue first, then buffer. */
static void take_names(const struct player *player, const unsigned char *message, size_t bytes,
		       char queue[NAME_ROOM], char buffer[NAME_ROOM])
{
	size_t at = take_name(player, message, bytes, HEADER_BYTES, queue);

	require(take_name(player, message, bytes, at, buffer) == bytes, player,
		"something behind the names");
}

static const char *skip_digits(const char *at)
{
	while (isdigit((unsigned char)*at))
		at++;
	return at;
}

/* What both name the same way: the epoch if there is one, and the kind with its number. */
static void reduce(const struct player *player, const char *name, const char *stem, bool ours,
		   char out[NAME_ROOM])
{
	const char *at = name + strlen(stem), *end;
	size_t epoch = 0;

	require(strncmp(name, stem, strlen(stem)) == 0, player, "a name begins otherwise");
	if (strncmp(at, "_epoch_", 7) == 0) {
		end = skip_digits(at + 7);
		epoch = (size_t)(end - at);
		if (!ours) { /* a random number */
			require(*end == '_', player, "no number behind the epoch");
			end = skip_digits(end + 1);
		}
	} else {
		end = at;
	}
	if (ours) {
		require(strncmp(end, "_c", 2) == 0, player, "no tag");
		require(strspn(end + 2, "0123456789abcdef") == 16, player, "another tag");
		end += 18;
	}
	snprintf(out, NAME_ROOM, "%.*s%s", (int)epoch, at, end);
}

/* A message with names of our client's against the recorded one. */
static void compare_share(const struct player *player, const struct script_line *line,
			  const uint8_t *message, size_t bytes)
{
	char ours[2][NAME_ROOM], recorded[2][NAME_ROOM], left[NAME_ROOM], right[NAME_ROOM];

	require(memcmp(message + 4, line->message + 4, 4) == 0, player, "another header");
	take_names(player, message, bytes, ours[0], ours[1]);
	take_names(player, line->message, line->bytes, recorded[0], recorded[1]);
	for (int i = 0; i < 2; i++) {
		reduce(player, ours[i], player->stem, true, left);
		reduce(player, recorded[i], RECORDED, false, right);
		require(strcmp(left, right) == 0, player, "a name of another kind");
	}
	for (unsigned int i = 0; i < line->connection; i++)
		require(player->script->restarts ==
				(strcmp(ours[1], player->connections[i].buffer.name) != 0),
			player, "the sessions of a client share their buffer, and only they");
}

/* ---- memory --------------------------------------------------------------------------------- */

static void map(const struct player *player, struct mapping *mapping, int fd)
{
	struct stat st;

	require(fd >= 0 && fstat(fd, &st) == 0, player, "no such memory");
	mapping->fd = fd;
	mapping->bytes = (size_t)st.st_size;
	mapping->at = mmap(NULL, mapping->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	require(mapping->at != MAP_FAILED, player, "cannot map");
}

static void load(const struct player *player, const struct mapping *mapping, const char *snapshot,
		 const char *kind)
{
	struct golden_image image = golden_image(player->script->images, snapshot, kind);

	require(image.size == mapping->bytes, player, "memory of another size");
	memcpy(mapping->at, image.bytes, image.size);
	free(image.bytes);
}

static void compare(const struct player *player, const struct mapping *mapping, const char *kind)
{
	struct golden_image image = golden_image(player->script->images, "00_init", kind);

	require(image.size == mapping->bytes && memcmp(mapping->at, image.bytes, image.size) == 0,
		player, "fresh memory is not as recorded");
	free(image.bytes);
}

/* The recorded client makes its memory. */
static void make(const struct player *player, struct mapping *mapping, const char *kind)
{
	struct golden_image image = golden_image(player->script->images, "00_init", kind);
	bool is_file = !strstr(player->script->scenario, "memfd");
	int fd = is_file ? open(mapping->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0755)
			 : memfd_create(mapping->name, 0);

	require(fd >= 0, player, strerror(errno));
	require(ftruncate(fd, (off_t)image.size) == 0, player, "no room");
	map(player, mapping, fd);
	memcpy(mapping->at, image.bytes, image.size);
	free(image.bytes);
}

static uint32_t word(const struct mapping *mapping, size_t at)
{
	uint32_t value;

	memcpy(&value, mapping->at + at, sizeof(value));
	return value;
}

/* The one element of the first ring names the recorded message.  Then it is taken. */
static void take_first_message(const struct player *player, struct connection *connection)
{
	uint32_t slice = word(&connection->queue, 28), one = 1;
	bool aligned = !strncmp(player->script->images, "arm64", 5);

	require(word(&connection->queue, 24) == 2, player, "another stream");
	require((word(&connection->queue, 32) & 0xff) == 0, player, "another status");
	require(slice + SLICE_HEADER + FIRST_BYTES <= connection->buffer.bytes, player,
		"no slice there");
	require(word(&connection->buffer, slice + 4) == FIRST_BYTES, player, "another length");
	for (uint32_t i = 0; i < FIRST_BYTES; i++)
		require(connection->buffer.at[slice + SLICE_HEADER + i] == golden_byte(i), player,
			"another payload");
	memcpy(connection->queue.at + (aligned ? 8 : 4), &one, sizeof(one)); /* the head */
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static void send_descriptors(const struct player *player, const struct connection *connection)
{
	const int fds[2] = { connection->buffer.fd, connection->queue.fd };
	char byte = 0, control[CMSG_SPACE(sizeof(fds))] = { 0 };
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(header), fds, sizeof(fds));
	require(sendmsg(connection->fd, &message, MSG_NOSIGNAL) == 1, player, "cannot send");
}

/* With a control buffer for just two, as the recorded server has it. */
static void receive_descriptors(const struct player *player, struct connection *connection)
{
	int fds[2];
	char byte = 1, control[CMSG_SPACE(sizeof(fds))];
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct pollfd wait = { .fd = connection->fd, .events = POLLIN };

	require(poll(&wait, 1, PATIENCE_MS) == 1, player, "no descriptors came");
	require(recvmsg(connection->fd, &message, 0) == 1 && byte == 0, player,
		"not one zero byte");
	require(message.msg_controllen == sizeof(control) && message.msg_flags == 0, player,
		"not two descriptors");
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fds));
	map(player, &connection->buffer, fds[0]);
	map(player, &connection->queue, fds[1]);
}

/* ---- the recorded client -------------------------------------------------------------------- */

/* The recorded number of the process becomes one of this test's, of the same length. */
static void rename_in(const struct player *player, unsigned char *message, size_t bytes)
{
	for (size_t i = 0; i + strlen(RECORDED) <= bytes; i++)
		if (memcmp(message + i, RECORDED, strlen(RECORDED)) == 0)
			memcpy(message + i, player->stem, strlen(RECORDED));
}

static void share(struct player *player, struct connection *connection, unsigned char *message,
		  size_t bytes)
{
	rename_in(player, message, bytes);
	take_names(player, message, bytes, connection->queue.name, connection->buffer.name);
	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		const struct connection *other = &player->connections[i];

		if (other->buffer.at && !strcmp(other->buffer.name, connection->buffer.name))
			connection->buffer = other->buffer;
	}
	if (!connection->buffer.at)
		make(player, &connection->buffer, "buffer");
	make(player, &connection->queue, "queue");
}

static void client_sends(struct player *player, const struct script_line *line)
{
	struct connection *connection = &player->connections[line->connection];
	unsigned char message[SCRIPT_MESSAGE_MAX];

	memcpy(message, line->message, line->bytes);
	if (line->type < 0) {
		send_descriptors(player, connection);
		return;
	}
	if (line->type == SHARE_FILE || line->type == SHARE_MEMFD)
		share(player, connection, message, line->bytes);
	if (line->type == POLLING) {
		load(player, &connection->buffer, "01_c2s_64_queued", "buffer");
		load(player, &connection->queue, "01_c2s_64_queued", "queue");
	}
	send_bytes(player, connection->fd, message, line->bytes);
}

static int connect_to(const struct player *player, const char *address)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bool tcp = strncmp(address, "tcp:", 4) == 0;
	int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", address + 5);
	in.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
	error = tcp ? connect(fd, (struct sockaddr *)&in, sizeof(in))
		    : connect(fd, (struct sockaddr *)&un, sizeof(un));
	require(error == 0, player, "cannot connect");
	return fd;
}

static void client_line(struct player *player, const struct script_line *line, const char *address)
{
	struct connection *connection = &player->connections[line->connection];
	uint8_t message[SCRIPT_MESSAGE_MAX];

	if (connection->fd < 0)
		connection->fd = connect_to(player, address);
	if (line->from_client) {
		client_sends(player, line);
		return;
	}
	require(receive_message(player, connection->fd, message) == line->bytes &&
			memcmp(message, line->message, line->bytes) == 0,
		player, "another message than recorded");
}

/* ---- the recorded server -------------------------------------------------------------------- */

static void map_files(const struct player *player, struct connection *connection)
{
	map(player, &connection->buffer, open(connection->buffer.name, O_RDWR | O_CLOEXEC));
	map(player, &connection->queue, open(connection->queue.name, O_RDWR | O_CLOEXEC));
}

static void server_takes(struct player *player, const struct script_line *line)
{
	struct connection *connection = &player->connections[line->connection];
	uint8_t message[SCRIPT_MESSAGE_MAX];
	size_t bytes;

	if (line->type < 0) {
		receive_descriptors(player, connection);
		/* a second session's buffer is in use, or could be */
		if (line->connection == 0 || player->script->restarts)
			compare(player, &connection->buffer, "buffer");
		compare(player, &connection->queue, "queue");
		return;
	}
	bytes = receive_message(player, connection->fd, message);
	if (line->type == SHARE_FILE || line->type == SHARE_MEMFD) {
		compare_share(player, line, message, bytes);
		take_names(player, message, bytes, connection->queue.name, connection->buffer.name);
		if (line->type == SHARE_FILE)
			map_files(player, connection);
		return;
	}
	require(bytes == line->bytes && memcmp(message, line->message, bytes) == 0, player,
		"another message than recorded");
	if (line->type == POLLING)
		take_first_message(player, connection);
}

static void server_line(struct player *player, const struct script_line *line)
{
	struct connection *connection = &player->connections[line->connection];
	struct pollfd wait = { .fd = player->script->listening, .events = POLLIN };

	if (connection->fd < 0) {
		require(poll(&wait, 1, PATIENCE_MS) == 1, player, "nobody connects");
		connection->fd = accept4(wait.fd, NULL, NULL, SOCK_CLOEXEC);
	}
	if (line->from_client)
		server_takes(player, line);
	else
		send_bytes(player, connection->fd, line->message, line->bytes);
}

/* ---- the child ------------------------------------------------------------------------------ */

static _Noreturn void play(const struct script *script, const char *address, int released,
			   pid_t parent)
{
	struct player *player = calloc(1, sizeof(*player));
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(PATIENCE_SECONDS);
	player->script = script;
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		player->connections[i].fd = -1;
	if (address)
		snprintf(player->stem, sizeof(player->stem), "/dev/shm/shmipc_vec_%04d",
			 (int)(parent % 10000));
	else
		snprintf(player->stem, sizeof(player->stem), "%s_%d", script->prefix, parent);
	for (; player->line < script->line_count; player->line++) {
		const struct script_line *line = &script->lines[player->line];

		if (address)
			client_line(player, line, address);
		else
			server_line(player, line);
	}
	require(read(released, &byte, 1) == 0, player, "the test ended first");
	_exit(0);
}

static pid_t fork_player(struct script *script, const char *address)
{
	pid_t parent = getpid(), pid;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		script_fail("pipe", script->scenario);
	pid = fork();
	if (pid < 0)
		script_fail("fork", script->scenario);
	if (pid == 0) {
		close(fds[1]);
		play(script, address, fds[0], parent);
	}
	close(fds[0]);
	script->release = fds[1];
	return pid;
}

pid_t script_play_client(struct script *script, const char *address)
{
	return fork_player(script, address);
}

pid_t script_play_server(struct script *script)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bool tcp = strncmp(script->address, "tcp:", 4) == 0;
	socklen_t bytes = sizeof(in);
	int error;

	script->listening = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", script->address + 5);
	error = tcp ? bind(script->listening, (struct sockaddr *)&in, sizeof(in))
		    : bind(script->listening, (struct sockaddr *)&un, sizeof(un));
	if (error || listen(script->listening, CONNECTIONS))
		script_fail("cannot listen", script->scenario);
	if (tcp && getsockname(script->listening, (struct sockaddr *)&in, &bytes) == 0)
		snprintf(script->address, sizeof(script->address), "tcp:127.0.0.1:%u",
			 ntohs(in.sin_port));
	return fork_player(script, NULL);
}
