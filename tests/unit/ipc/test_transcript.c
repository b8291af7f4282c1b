/* SPDX-License-Identifier: Apache-2.0 */
// LINK: tests/unit/ipc/golden.c tests/unit/ipc/script.c tests/unit/ipc/script_play.c
/*
 * The recorded control connections, byte by byte: this process is the library, and a child plays
 * the other side from the transcript, in either role.  It knows nothing of the library: it sends
 * the recorded bytes, wants the recorded bytes, and fills the shared memory with the recorded
 * images.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shmipc.h"
#include "tests/unit/ipc/golden.h"
#include "tests/unit/ipc/script.h"

enum { MESSAGE_BYTES = 64 };

static const uint64_t epoch = 72623859790382856; /* of both recorded hot restarts */

static uint64_t soon(void)
{
	return shmipc_deadline_after(UINT64_C(20000000000));
}

static void check_child(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void fill(uint8_t bytes[MESSAGE_BYTES])
{
	for (size_t i = 0; i < MESSAGE_BYTES; i++)
		bytes[i] = golden_byte(i);
}

/* ---- the library serves --------------------------------------------------------------------- */

static struct shmipc_session *accept_one(struct shmipc_listener *listener)
{
	struct shmipc_session *session = NULL;

	assert_int_equal(shmipc_listener_accept(listener, soon(), &session), 0);
	return session;
}

/* The recorded first message of a session. */
static struct shmipc_stream *read_first(struct shmipc_session *session)
{
	uint8_t wanted[MESSAGE_BYTES];
	struct shmipc_stream *stream;
	const void *view;

	fill(wanted);
	assert_int_equal(shmipc_session_accept_stream(session, soon(), &stream), 0);
	assert_int_equal(shmipc_stream_id(stream), 2);
	shmipc_stream_set_read_deadline(stream, soon());
	assert_int_equal(shmipc_stream_read_view(stream, MESSAGE_BYTES, &view), 0);
	assert_memory_equal(view, wanted, MESSAGE_BYTES);
	shmipc_stream_release(stream);
	return stream;
}

static void serve(const char *scenario)
{
	struct shmipc_session *first, *second = NULL;
	struct shmipc_stream *streams[2] = { NULL, NULL };
	struct shmipc_listener *listener;
	struct shmipc_config config;
	struct script script;
	pid_t child;

	script_load(&script, scenario);
	golden_config(scenario, &config);
	config.handshake_timeout_ms = 20000;
	config.hot_restart_timeout_ms = 20000;
	assert_int_equal(
		shmipc_listener_create(script.address, 0, &config, NULL, NULL, NULL, &listener), 0);
	child = script_play_client(&script, shmipc_listener_address(listener));
	first = accept_one(listener);
	if (script.has_first_message)
		streams[0] = read_first(first);
	if (script.restarts)
		assert_int_equal(shmipc_listener_hot_restart(listener, epoch), 0);
	if (script.connections > 1)
		second = accept_one(listener);
	if (script.restarts) {
		assert_int_equal(shmipc_listener_hot_restart_wait(listener, soon()), 0);
		streams[1] = read_first(second);
	}
	script_release(&script);
	check_child(child);
	for (int i = 0; i < 2; i++)
		if (streams[i])
			shmipc_stream_close(streams[i]);
	shmipc_session_close(first);
	if (second)
		shmipc_session_close(second);
	shmipc_listener_destroy(listener);
	assert_int_equal(script_files(&script), 0);
	script_free(&script);
}

/* ---- the library calls ---------------------------------------------------------------------- */

static struct shmipc_stream *send_first(struct shmipc_client *client)
{
	struct shmipc_stream *stream;
	uint8_t bytes[MESSAGE_BYTES];

	fill(bytes);
	assert_int_equal(shmipc_client_get_stream(client, soon(), &stream), 0);
	assert_int_equal(shmipc_stream_id(stream), 2);
	assert_int_equal(shmipc_stream_send(stream, bytes, sizeof(bytes)), 0);
	return stream;
}

static void await_restart(struct shmipc_client *client)
{
	struct shmipc_metrics metrics;
	uint64_t until = soon();

	do { /* without a loop a client looks when it is asked */
		shmipc_client_healthy_sessions(client);
		shmipc_client_metrics(client, &metrics, sizeof(metrics));
		assert_true(shmipc_deadline_after(0) < until);
		usleep(1000);
	} while (metrics.hot_restarts == 0);
	assert_int_equal(metrics.hot_restart_errors, 0);
}

static void call(const char *scenario)
{
	struct shmipc_stream *streams[2] = { NULL, NULL };
	struct shmipc_client *client;
	struct shmipc_config config;
	struct script script;
	pid_t child;

	script_load(&script, scenario);
	golden_config(scenario, &config);
	config.path_prefix = script.prefix;
	config.sessions = script.restarts ? 1 : script.connections;
	config.handshake_timeout_ms = 20000;
	config.hot_restart_timeout_ms = 20000;
	child = script_play_server(&script);
	assert_int_equal(shmipc_client_create(script.address, &config, NULL, &client), 0);
	if (script.has_first_message)
		streams[0] = send_first(client);
	if (script.restarts) {
		await_restart(client);
		streams[1] = send_first(client);
	}
	script_release(&script);
	check_child(child);
	for (int i = 0; i < 2; i++)
		if (streams[i])
			shmipc_stream_close(streams[i]);
	shmipc_client_destroy(client);
	assert_int_equal(script_files(&script), 0);
	script_free(&script);
}

/* ---- all of them ---------------------------------------------------------------------------- */

static const char *const scenarios[] = {
	"v2_unix_file",
	"v2_unix_file_default1m",
	"v2_unix_file_default32m",
	"v2_unix_file_early",
	"v2_unix_file_fallback",
	"v2_unix_file_full",
	"v2_unix_file_hotrestart",
	"v2_unix_file_reuse",
	"v2_unix_file_two_sessions",
	"v2_tcp_file",
	"v3_unix_memfd",
	"v3_unix_memfd_fallback",
	"v3_unix_memfd_full",
	"v3_unix_memfd_hotrestart",
	"v3_unix_memfd_two_sessions",
	"arm64_v2_unix_file",
	"arm64_v3_unix_memfd",
};

enum { SCENARIOS = sizeof(scenarios) / sizeof(scenarios[0]) };

static void as_a_server(void **state)
{
	serve(*state);
}

static void as_a_client(void **state)
{
	call(*state);
}

int main(void)
{
	struct CMUnitTest tests[2 * SCENARIOS];
	char names[2 * SCENARIOS][80];

	for (int i = 0; i < 2 * SCENARIOS; i++) {
		const char *scenario = scenarios[i / 2];

		snprintf(names[i], sizeof(names[i]), "%s_as_a_%s", scenario,
			 i % 2 ? "client" : "server");
		tests[i] = (struct CMUnitTest){ .name = names[i],
						.test_func = i % 2 ? as_a_client : as_a_server,
						.initial_state = (void *)(uintptr_t)scenario };
	}
	return cmocka_run_group_tests_name("transcript", tests, NULL, NULL);
}
