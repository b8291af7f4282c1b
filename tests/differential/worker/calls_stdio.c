/* SPDX-License-Identifier: Apache-2.0 */
/* A FILE over a duplicate of the connection. */
#include "tests/differential/worker/worker.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static FILE *open_file(const struct words *words, const char *mode)
{
	int fd = dup(slot_fd(word(words, 1)));
	FILE *file = fd < 0 ? NULL : fdopen(fd, mode);

	if (!file && fd >= 0)
		close(fd);
	return file;
}

/* stdio_put SLOT BYTES SEED */
static void do_put(struct actor *actor, const struct words *words)
{
	FILE *file = open_file(words, "w");
	size_t count = (size_t)number(words, 2);

	payload_fill(actor->out, count, (uint64_t)number(words, 3), 0);
	if (!file) {
		say_result(actor, "fdopen", -1);
		return;
	}
	say(actor, "fwrite=%zu", fwrite(actor->out, 1, count, file));
	say_result(actor, " fflush", fflush(file));
	say_result(actor, " fclose", fclose(file));
}

/* stdio_get SLOT BYTES: unbuffered, so that it takes no more */
static void do_get(struct actor *actor, const struct words *words)
{
	FILE *file = open_file(words, "r");
	size_t count = (size_t)number(words, 2), n;
	struct hash hash;

	if (!file) {
		say_result(actor, "fdopen", -1);
		return;
	}
	setvbuf(file, NULL, _IONBF, 0);
	errno = 0;
	n = fread(actor->in, 1, count, file);
	say(actor, "fread=%zu eof=%d error=%s", n, feof(file) != 0,
	    ferror(file) ? errno_name(errno) : "0");
	hash_start(&hash);
	hash_add(&hash, actor->in, n);
	say(actor, " hash=%08x", hash_end(&hash));
	fclose(file);
}

const struct call stdio_calls[] = { { "stdio_put", do_put },
				    { "stdio_get", do_get },
				    { NULL, NULL } };
