/* SPDX-License-Identifier: Apache-2.0 */
/* What is sent by the socket, with a kernel that takes as little as it likes: the file is looked
 * into, and its sendto() is this test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/ipc/session.h"
#include "core/sys.h"

static ssize_t fake_sendto(int fd, const void *from, size_t bytes, int flags, const void *address,
			   socklen_t address_bytes);

#define sys_sendto fake_sendto
#include "core/ipc/session_output.c"

static uint8_t sent[256];
static size_t sent_bytes;
static size_t takes; /* so many bytes of the next call; the calls after it fail */
static struct shmipc_session *meanwhile; /* another thread queues a block for it during that call */

static ssize_t fake_sendto(int fd, const void *from, size_t bytes, int flags, const void *address,
			   socklen_t address_bytes)
{
	size_t n = bytes < takes ? bytes : takes;

	(void)fd;
	(void)flags;
	(void)address;
	(void)address_bytes;
	if (n == 0)
		return -EAGAIN;
	memcpy(sent + sent_bytes, from, n);
	sent_bytes += n;
	takes = 0;
	if (meanwhile) {
		struct shmipc_block *block = shmipc_block_new(4);

		memcpy(block->data, "DATA", 4);
		shmipc_session_queue_block(meanwhile, block);
		meanwhile = NULL;
	}
	return (ssize_t)n;
}

/* A message of which the kernel took a part is sent to its end before anything else. */
static void nothing_comes_into_a_message(void **state)
{
	static const uint8_t polling[] = { 0, 0, 0, 8, 0x77, 0x58, 3, 1 };
	struct shmipc_session *s = calloc(1, sizeof(*s));
	uint64_t mark;

	(void)state;
	s->version = 3;
	s->fd = s->wake_fd = -1;
	for (size_t part = 1; part < sizeof(polling); part++) {
		sent_bytes = 0;
		takes = part;
		meanwhile = s;
		shmipc_session_lock(s);
		shmipc_session_wake_peer(s);
		mark = s->out_queued;
		assert_int_equal(sent_bytes, part);
		while (s->out_first) {
			assert_true(s->out_sent < mark);
			takes = 3;
			shmipc_session_pump(s);
		}
		assert_int_equal(s->out_sent, mark);
		shmipc_session_unlock(s);
		assert_int_equal(sent_bytes, sizeof(polling) + 4);
		assert_memory_equal(sent, polling, sizeof(polling));
		assert_memory_equal(sent + sizeof(polling), "DATA", 4);
	}
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(nothing_comes_into_a_message) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
