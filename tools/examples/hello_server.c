/* SPDX-License-Identifier: Apache-2.0 */
/* hello_server ADDRESS: waits for one client, prints its message, answers, ends. */
#include <stdio.h>

#include "shmipc.h"
#include "tools/examples/fail.h"

int main(int argc, char **argv)
{
	static const char answer[] = "Hello, client!";
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_stream *stream;
	char greeting[sizeof("Hello, server!")];

	need_usage(argc == 2, "hello_server ADDRESS (unix:/tmp/hello.sock, say)");
	need(shmipc_listener_create(argv[1], 0, NULL, NULL, NULL, NULL, &listener), "listen");
	need(shmipc_listener_accept(listener, SHMIPC_NEVER, &session), "accept a session");
	need(shmipc_session_accept_stream(session, SHMIPC_NEVER, &stream), "accept a stream");

	need(shmipc_stream_read_full(stream, greeting, sizeof(greeting)), "read");
	printf("the client says: %.*s\n", (int)sizeof(greeting), greeting);
	need(shmipc_stream_send(stream, answer, sizeof(answer)), "send");

	shmipc_stream_close(stream);
	shmipc_session_close(session); /* what was sent still reaches the client */
	shmipc_listener_destroy(listener);
	return 0;
}
