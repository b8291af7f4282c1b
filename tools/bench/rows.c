/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/bench/rows.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT = BENCH_SPIN_US_DEFAULT, SPIN_FREELY_US = 2000 };

static const size_t ping_sizes[] = { 64,	512,	   1 << 10, 4 << 10, 16 << 10, 64 << 10,
				     256 << 10, 512 << 10, 1 << 20, 4 << 20, 0 };
static const size_t stream_sizes[] = { 64,	 512,	    1 << 10,   4 << 10, 16 << 10,
				       64 << 10, 128 << 10, 256 << 10, 1 << 20, 0 };
static const size_t small_sizes[] = { 64, 0 };
static const size_t batch_sizes[] = { 512, 0 };

#define PING(family_, name_)                                                                  \
	.workload = BENCH_PINGPONG, .family = family_, .unit = BENCH_US, .sizes = ping_sizes, \
	.name = name_
#define BLOCK_ABOUT "round trip, blocking send and recv"
#define EPOLL_ABOUT "round trip, both ends nonblocking in an epoll loop"
#define NOSPIN_ABOUT "round trip, blocking, SHMIPC_SPIN_US=0"
#define ONECORE_ABOUT "round trip, blocking, both ends on one core"
#define CALL(call_, name_)                                                                  \
	.name = name_, .workload = BENCH_PERCALL, .family = BENCH_NO_FAMILY, .call = call_, \
	.unit = BENCH_CALL_NS, .fixed_pin = true, .pin = BENCH_PIN_SAME, .spin_us = DEFAULT

const struct bench_row bench_rows[] = {
	{ PING(BENCH_TCP, "pingpong.tcp.block"), .about = BLOCK_ABOUT, .raw = true, .alt = true,
	  .spin_us = DEFAULT },
	{ PING(BENCH_UNIX, "pingpong.unix.block"), .about = BLOCK_ABOUT, .raw = true, .alt = true,
	  .spin_us = DEFAULT },
	{ PING(BENCH_TCP, "pingpong.tcp.epoll"), .about = EPOLL_ABOUT, .wait = BENCH_EPOLL,
	  .spin_us = DEFAULT },
	{ PING(BENCH_UNIX, "pingpong.unix.epoll"), .about = EPOLL_ABOUT, .wait = BENCH_EPOLL,
	  .spin_us = DEFAULT },
	{ PING(BENCH_TCP, "pingpong.tcp.nospin"), .about = NOSPIN_ABOUT, .spin_us = 0 },
	{ PING(BENCH_UNIX, "pingpong.unix.nospin"), .about = NOSPIN_ABOUT, .spin_us = 0 },
	{ PING(BENCH_TCP, "pingpong.tcp.onecore"), .about = ONECORE_ABOUT, .fixed_pin = true,
	  .pin = BENCH_PIN_SAME, .spin_us = DEFAULT },
	{ PING(BENCH_UNIX, "pingpong.unix.onecore"), .about = ONECORE_ABOUT, .fixed_pin = true,
	  .pin = BENCH_PIN_SAME, .spin_us = DEFAULT },
	{ .name = "stream.tcp",
	  .about = "one way, by message size; alt = cubic",
	  .workload = BENCH_STREAM,
	  .family = BENCH_TCP,
	  .unit = BENCH_GB_S,
	  .sizes = stream_sizes,
	  .spin_us = DEFAULT,
	  .raw = true,
	  .alt = true },
	{ .name = "stream.unix",
	  .about = "one way, by message size",
	  .workload = BENCH_STREAM,
	  .family = BENCH_UNIX,
	  .unit = BENCH_GB_S,
	  .sizes = stream_sizes,
	  .spin_us = DEFAULT,
	  .raw = true },
	{ .name = "rate.tcp",
	  .about = "one-way messages a second",
	  .workload = BENCH_RATE,
	  .family = BENCH_TCP,
	  .unit = BENCH_MSG_S,
	  .sizes = small_sizes,
	  .spin_us = DEFAULT,
	  .raw = true },
	{ .name = "rate.unix",
	  .about = "one-way messages a second",
	  .workload = BENCH_RATE,
	  .family = BENCH_UNIX,
	  .unit = BENCH_MSG_S,
	  .sizes = small_sizes,
	  .spin_us = DEFAULT,
	  .raw = true },
	{ .name = "connect.tcp",
	  .about = "connect, request, response, close: a second",
	  .workload = BENCH_CONNECT,
	  .family = BENCH_TCP,
	  .unit = BENCH_CONN_S,
	  .spin_us = DEFAULT },
	{ .name = "connect.unix",
	  .about = "connect, request, response, close: a second",
	  .workload = BENCH_CONNECT,
	  .family = BENCH_UNIX,
	  .unit = BENCH_CONN_S,
	  .spin_us = DEFAULT },
	{ CALL(BENCH_READ, "percall.read"), .about = "read of 1 byte from a pipe" },
	{ CALL(BENCH_WRITE, "percall.write"), .about = "write of 1 byte to a pipe" },
	{ CALL(BENCH_SEND, "percall.send"), .about = "send of 1 byte to a socket pair" },
	{ CALL(BENCH_RECV, "percall.recv"), .about = "recv of 1 byte from a socket pair" },
	{ .name = "idle.tcp",
	  .about = "CPU time of both ends of an idle connection",
	  .workload = BENCH_IDLE,
	  .family = BENCH_TCP,
	  .unit = BENCH_CPU_US_S,
	  .spin_us = DEFAULT },
	{ .name = "idle.unix",
	  .about = "CPU time of both ends of an idle connection",
	  .workload = BENCH_IDLE,
	  .family = BENCH_UNIX,
	  .unit = BENCH_CPU_US_S,
	  .spin_us = DEFAULT },
	{ PING(BENCH_UNIX, "library.pingpong.sleep"), .about = "round trip, no spin",
	  .library = true },
	{ PING(BENCH_UNIX, "library.pingpong.spin"), .about = "round trip, both ends free to spin",
	  .library = true, .alt = true, .spin_us = SPIN_FREELY_US },
	{ .name = "library.streams",
	  .about = "64 conversations at once, round trips a second",
	  .workload = BENCH_STREAMS,
	  .family = BENCH_UNIX,
	  .unit = BENCH_TRIPS_S,
	  .sizes = batch_sizes,
	  .spin_us = SPIN_FREELY_US,
	  .library = true },
};

const size_t bench_row_count = sizeof(bench_rows) / sizeof(bench_rows[0]);

const char *bench_alt_name(const struct bench_row *row)
{
	if (!row->alt)
		return "-";
	return row->workload == BENCH_STREAM ? "cubic" : "spin";
}

const char *bench_unit_name(enum bench_unit unit)
{
	static const char *const names[] = { "us",	"GB/s",	    "msg/s",  "conn/s",
					     "ns/call", "cpu us/s", "trips/s" };

	return names[unit];
}

bool bench_less_is_better(enum bench_unit unit)
{
	return unit == BENCH_US || unit == BENCH_CALL_NS || unit == BENCH_CPU_US_S;
}

void bench_size_name(size_t bytes, char out[16])
{
	static const char *const suffixes[] = { "", "K", "M" };
	unsigned int value = (unsigned int)bytes, step = 0;

	for (; step < 2 && value >= 1024 && value % 1024 == 0; step++)
		value /= 1024;
	snprintf(out, 16, "%u%s", value, suffixes[step]);
}

size_t bench_parse_size(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *text == '-' || value > BENCH_SIZE_MAX)
		return 0;
	if (*end == 'K' || *end == 'k')
		value <<= 10, end++;
	else if (*end == 'M' || *end == 'm')
		value <<= 20, end++;
	if (*end || value > BENCH_SIZE_MAX || value % 8)
		return 0;
	return value;
}

bool bench_row_matches(const char *name, const char *patterns)
{
	char one[BENCH_NAME_BYTES];

	while (*patterns) {
		size_t length = strcspn(patterns, ",");

		if (length < sizeof(one)) {
			memcpy(one, patterns, length);
			one[length] = '\0';
			if (!fnmatch(one, name, 0))
				return true;
		}
		patterns += length;
		patterns += *patterns == ',';
	}
	return false;
}
