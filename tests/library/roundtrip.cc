// SPDX-License-Identifier: Apache-2.0
// The public header as a C++ program uses it: both ends in one process, with callbacks that are
// captureless lambdas, RAII over the handles, and every part of the interface named once.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include <shmipc.h>

namespace
{

void need(bool ok, const char *what)
{
	if (ok)
		return;
	std::fprintf(stderr, "%s\n", what);
	std::exit(1);
}

struct ClientEnd {
	void operator()(shmipc_client *client) const { shmipc_client_destroy(client); }
};
struct ListenerEnd {
	void operator()(shmipc_listener *listener) const { shmipc_listener_destroy(listener); }
};
struct LoopEnd {
	void operator()(shmipc_loop *loop) const { shmipc_loop_destroy(loop); }
};

struct Echo {
	std::atomic<unsigned> streams{ 0 };
	std::atomic<std::size_t> bytes{ 0 };
};

void serve(shmipc_session *, shmipc_stream *stream, void *user)
{
	shmipc_stream_callbacks callbacks = {};

	callbacks.on_data = [](shmipc_stream *from, void *echo) {
		const void *view = nullptr;
		ssize_t n = shmipc_stream_read_some_view(from, SIZE_MAX, &view);

		need(n > 0, "on_data without data");
		static_cast<Echo *>(echo)->bytes += static_cast<std::size_t>(n);
		need(shmipc_stream_send(from, view, static_cast<std::size_t>(n)) == 0, "send");
		shmipc_stream_release(from);
	};
	callbacks.on_close = [](shmipc_stream *from, int, void *) { shmipc_stream_close(from); };
	static_cast<Echo *>(user)->streams++;
	need(shmipc_stream_set_callbacks(stream, &callbacks, user) == 0, "callbacks");
}

void talk(shmipc_client *client, const std::string &text)
{
	shmipc_stream *stream = nullptr;
	void *room = nullptr;
	const void *view = nullptr;

	need(shmipc_client_get_stream(client, SHMIPC_NEVER, &stream) == 0, "get a stream");
	shmipc_stream_set_read_deadline(stream, shmipc_deadline_after(UINT64_C(10000000000)));
	need(shmipc_stream_reserve(stream, text.size(), &room) == 0, "reserve");
	std::memcpy(room, text.data(), text.size());
	need(shmipc_stream_commit(stream, text.size()) == 0, "commit");
	need(shmipc_stream_flush(stream) == 0, "flush");
	need(shmipc_stream_read_view(stream, text.size(), &view) == 0, "read");
	need(std::memcmp(view, text.data(), text.size()) == 0, "another answer");
	shmipc_stream_reuse(stream);
	shmipc_client_put_stream(client, stream);
}

} // namespace

static_assert(SHMIPC_VERSION_NUMBER >= 100, "a version that can be compared");
static_assert(SHMIPC_NOWAIT < SHMIPC_NEVER, "deadlines are numbers");

int main(int argc, char **argv)
{
	shmipc_session_callbacks callbacks = {};
	shmipc_listener *listener = nullptr;
	shmipc_client *client = nullptr;
	shmipc_loop *loop = nullptr;
	shmipc_metrics metrics = {};
	shmipc_config config;
	Echo echo;

	need(argc == 2, "usage: roundtrip ADDRESS");
	need(std::string(shmipc_version()) == SHMIPC_VERSION, "another library than the header's");
	shmipc_config_init(&config, sizeof(config));
	config.memory = SHMIPC_MEMORY_MEMFD;
	need(shmipc_config_check(&config, nullptr) == 0, "the defaults");

	need(shmipc_loop_create(&loop) == 0, "loop");
	std::unique_ptr<shmipc_loop, LoopEnd> loop_end(loop);
	callbacks.on_stream = serve;
	need(shmipc_listener_create(argv[1], SHMIPC_LISTEN_REPLACE, &config, loop, &callbacks, &echo,
				    &listener) == 0,
	     "listen");
	std::unique_ptr<shmipc_listener, ListenerEnd> listener_end(listener);
	need(shmipc_loop_start(loop) == 0, "thread");
	need(shmipc_client_create(shmipc_listener_address(listener), &config, nullptr, &client) == 0,
	     "connect");
	{
		std::unique_ptr<shmipc_client, ClientEnd> client_end(client);
		std::thread other([client] { talk(client, std::string(100000, 'y')); });

		talk(client, "hello");
		other.join();
		shmipc_client_metrics(client, &metrics, sizeof(metrics));
	}
	need(shmipc_loop_stop(loop) == 0, "end the thread");
	need(metrics.bytes_sent == 100005 && metrics.bytes_received == 100005, "bytes counted");
	need(echo.bytes == 100005 && echo.streams >= 1, "bytes echoed");
	std::puts("100005 bytes went round");
	return 0;
}
