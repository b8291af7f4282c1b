/* SPDX-License-Identifier: Apache-2.0 */
/* Payload that proves its own position, and transfers of an exact length. */
#include "tests/conformance/lib/conf.h"

static unsigned char pat_at(uint64_t position)
{
	return (unsigned char)((position * 0x9E3779B97F4A7C15ULL) >> 53);
}

void pat_fill(void *bytes, size_t len, uint64_t position)
{
	unsigned char *p = bytes;

	for (size_t i = 0; i < len; i++)
		p[i] = pat_at(position + i);
}

bool pat_good(const void *bytes, size_t len, uint64_t position)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < len; i++) {
		if (p[i] != pat_at(position + i))
			return false;
	}
	return true;
}

long send_exact(int fd, const void *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = send(fd, (const char *)bytes + done, len - done, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return (long)done;
}

long recv_exact(int fd, void *bytes, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = recv(fd, (char *)bytes + done, len - done, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (long)done;
}

void *big_buffer(void)
{
	static unsigned char buffer[CONF_BIG];

	return buffer;
}

void send_pat(int fd, size_t len, uint64_t position)
{
	char chunk[16384];
	size_t done = 0;

	while (done < len) {
		size_t n = len - done < sizeof(chunk) ? len - done : sizeof(chunk);

		pat_fill(chunk, n, position + done);
		if (send_exact(fd, chunk, n) < 0) {
			obs("send_pat", -1);
			return;
		}
		done += n;
	}
}

void recv_pat(int fd, size_t len, uint64_t position)
{
	char chunk[16384];
	size_t done = 0;
	bool good = true;

	while (done < len) {
		size_t want = len - done < sizeof(chunk) ? len - done : sizeof(chunk);
		long n = recv_exact(fd, chunk, want);

		if (n < 0) {
			obs("recv_pat", -1);
			return;
		}
		good = good && pat_good(chunk, (size_t)n, position + done);
		done += (size_t)n;
		if ((size_t)n < want)
			break;
	}
	obs_text("received %zu of %zu, %s", done, len, good ? "right" : "WRONG");
}

void recv_to_eof(int fd, uint64_t position)
{
	char chunk[16384];
	size_t done = 0;
	bool good = true;
	ssize_t n;

	while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0) {
		good = good && pat_good(chunk, (size_t)n, position + done);
		done += (size_t)n;
	}
	obs_text("received %zu, %s", done, good ? "right" : "WRONG");
	obs("last recv", n);
}

void *bad_pointer(void)
{
	return (void *)(uintptr_t)16;
}

int opaque(int value)
{
	return value;
}

void exchange(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
}
