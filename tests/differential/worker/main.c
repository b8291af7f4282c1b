/* SPDX-License-Identifier: Apache-2.0 */
/* Orders in, outcomes out. */
#include "tests/differential/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct call *const tables[] = { send_calls,    receive_calls, number_calls,
					     wait_calls,    process_calls, pump_calls,
					     connect_calls, stdio_calls };

void say(struct actor *actor, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(actor->outcome + actor->used, sizeof(actor->outcome) - actor->used, format,
		      arguments);
	va_end(arguments);
	if (n > 0)
		actor->used += (size_t)n;
	if (actor->used >= sizeof(actor->outcome))
		actor->used = sizeof(actor->outcome) - 1;
}

void say_result(struct actor *actor, const char *name, long result)
{
	int error = errno;

	if (result < 0)
		say(actor, "%s=%s", name, errno_name(error));
	else
		say(actor, "%s=%ld", name, result);
}

const char *word(const struct words *words, int index)
{
	return index < words->count ? words->at[index] : "0";
}

long number(const struct words *words, int index)
{
	return strtol(word(words, index), NULL, 0);
}

struct actor *actor_new(int channel)
{
	struct actor *actor = calloc(1, sizeof(*actor));

	if (!actor)
		abort();
	actor->channel = channel;
	actor->in = calloc(1, BUFFER_BYTES);
	actor->out = calloc(1, BUFFER_BYTES);
	if (!actor->in || !actor->out)
		abort();
	return actor;
}

void actor_free(struct actor *actor)
{
	free(actor->in);
	free(actor->out);
	free(actor);
}

void actor_tell(const struct actor *actor, const char *text)
{
	if (send(actor->channel, text, strlen(text), MSG_NOSIGNAL) < 0)
		_exit(3);
}

/* `@K:N:E`: before this order, connection K must have received N bytes, its end if E is 1, and a
 * reset if E is 2. */
static void settle(const char *text)
{
	int connection = 0, ended = 0;
	unsigned long long received = 0;

	if (sscanf(text, "@%d:%llu:%d", &connection, &received, &ended) == 3)
		kernel_settle(connection, received, ended);
}

/* Orders of the runner, which no plan holds. */
static bool is_for_runner(const char *name)
{
	if (strcmp(name, "hear") == 0)
		kernel_acknowledge();
	else if (strcmp(name, "heard") == 0)
		kernel_await_acknowledgement();
	else
		return strcmp(name, "probe") == 0;
	return true;
}

static void perform(struct actor *actor, const struct words *words)
{
	if (is_for_runner(words->at[0]))
		return;
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
		for (const struct call *call = tables[t]; call->name; call++) {
			if (strcmp(call->name, words->at[0]) == 0) {
				call->run(actor, words);
				return;
			}
		}
	}
	say(actor, "no such call: %s", words->at[0]);
}

/* `&`: tell before it starts, somebody else will wake it.  `~MS:R`: a signal interrupts it. */
static void obey(struct actor *actor, char *text)
{
	struct words words = { 0 };
	char *rest = text;
	bool alarmed = false, holds_back = strstr(text, "MORE") != NULL;

	for (char *w; (w = strtok_r(rest, " ", &rest)) && words.count < WORDS_MAX;) {
		long ms = 0;
		int restart = 0;

		if (w[0] == '@') {
			settle(w);
		} else if (w[0] == '&') {
			actor_tell(actor, "S");
		} else if (w[0] == '^') { /* for the runner */
			continue;
		} else if (w[0] == '~' && sscanf(w, "~%ld:%d", &ms, &restart) == 2) {
			alarmed = restart == 0;
			alarm_start(ms, restart != 0);
		} else {
			words.at[words.count++] = w;
		}
	}
	actor->used = 0;
	say(actor, "R");
	signals_seen();
	if (words.count > 0)
		perform(actor, &words);
	if (signals_seen())
		say(actor, " SIGPIPE");
	if (alarm_end() && alarmed)
		say(actor, " SIGALRM");
	kernel_probe(actor, holds_back);
}

void actor_serve(struct actor *actor)
{
	char text[512];

	for (;;) {
		ssize_t n = recv(actor->channel, text, sizeof(text) - 1, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(0);
		text[n] = 0;
		if (strcmp(text, "leave") == 0)
			return;
		obey(actor, text);
		actor_tell(actor, actor->outcome);
	}
}

/* worker: serves the main channel.  worker put N SEED, worker get N: a program that a plan executes
 * with the connection as its output or input. */
int main(int argc, char **argv)
{
	static unsigned char bytes[1 << 16];
	size_t count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0, done = 0;
	ssize_t n = 0;

	if (argc == 1) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signals_start();
		actor_serve(actor_new(CHANNEL_FIRST));
		exit(0);
	}
	if (argc > 3 && strcmp(argv[1], "put") == 0) {
		payload_fill(bytes, count, strtoul(argv[3], NULL, 10), 0);
		return write(1, bytes, count) == (ssize_t)count ? 0 : 1;
	}
	while (done < count && (n = read(0, bytes + done, count - done)) > 0)
		done += (size_t)n;
	return n < 0 || write(1, bytes, done) != (ssize_t)done;
}
