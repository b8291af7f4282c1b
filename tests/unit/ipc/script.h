/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer that is a recorded transcript: it sends the bytes that were recorded of its side and wants
 * those of the other, in the recorded order, and fills or checks the shared memory as the images
 * are. Written after the protocol, with none of core's code.
 *
 * Two things cannot be as recorded.  The number of the client's process in the names of its files
 * has the same length, but is not that of every other run of this test.  And our client calls its
 * files otherwise behind that number: names are compared part by part, the rest byte by byte.
 */
#ifndef TESTS_UNIT_IPC_SCRIPT_H
#define TESTS_UNIT_IPC_SCRIPT_H

#include <stdbool.h>
#include <sys/types.h>

enum { SCRIPT_LINES_MAX = 64, SCRIPT_MESSAGE_MAX = 512 };

struct script_line {
	unsigned int connection;
	bool from_client;
	int type; /* -1: a byte that carries descriptors */
	size_t bytes;
	unsigned char message[SCRIPT_MESSAGE_MAX];
};

struct script {
	const char *scenario, *images; /* whose images the memory is filled with */
	struct script_line lines[SCRIPT_LINES_MAX];
	unsigned int line_count;
	unsigned int connections;
	bool has_first_message; /* 64 bytes on stream 2, on every connection that is made */
	bool restarts;
	char address[128];
	char prefix[64]; /* of the files, as a client's configuration has it */
	int listening;	 /* the server's */
	int release;	 /* closed: the child may end */
};

void script_load(struct script *script, const char *scenario);
void script_free(struct script *script);

/* A child that plays the recorded client, or the recorded server.  It ends with 0 if all went as
 * recorded, and not before script_release(). */
pid_t script_play_client(struct script *script, const char *address);
pid_t script_play_server(struct script *script);
void script_release(struct script *script);

/* Files in /dev/shm that are left. */
unsigned int script_files(const struct script *script);

/* The test itself is wrong. */
void script_fail(const char *what, const char *scenario);

#endif
