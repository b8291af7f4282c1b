/* SPDX-License-Identifier: Apache-2.0 */
/* hello_client ADDRESS: sends one message, prints the answer. */
#include <stdio.h>

#include "shmipc.h"
#include "tools/examples/fail.h"

int main(int argc, char **argv)
{
	static const char greeting[] = "Hello, server!";
	struct shmipc_client *client;
	struct shmipc_stream *stream;
	char answer[64];

	need_usage(argc == 2, "hello_client ADDRESS (unix:/tmp/hello.sock, say)");
	need(shmipc_client_create(argv[1], NULL, NULL, &client), "connect");
	need(shmipc_client_get_stream(client, SHMIPC_NEVER, &stream), "get a stream");
	shmipc_stream_set_read_deadline(stream, shmipc_deadline_after(5000000000));

	need(shmipc_stream_send(stream, greeting, sizeof(greeting)), "send");
	need(shmipc_stream_read_full(stream, answer, sizeof("Hello, client!")), "read");
	printf("the server says: %.*s\n", (int)sizeof(answer), answer);

	shmipc_client_put_stream(client, stream);
	shmipc_client_destroy(client);
	return 0;
}
