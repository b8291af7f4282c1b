/* SPDX-License-Identifier: Apache-2.0 */
// LINK: preload/x86_length.c
/* Bytes in, length out.  Against a disassembler, over whole programs:
 * tests/tools/test_system_calls.sh */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "preload/x86_length.h"

struct instruction {
	const char *bytes; /* two digits each */
	size_t opcode_at;
};

static size_t bytes_of(const char *text, uint8_t bytes[32])
{
	size_t n = strlen(text) / 2;

	for (size_t i = 0; i < n; i++) {
		unsigned int byte = 0;

		assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
		bytes[i] = (uint8_t)byte;
	}
	return n;
}

/* As long as it is written, whatever follows, and none if the last byte is missing. */
static void check(const struct instruction *one)
{
	uint8_t bytes[32];
	size_t opcode_at = 99, n;

	memset(bytes, 0x90, sizeof(bytes));
	n = bytes_of(one->bytes, bytes);
	if (shim_x86_length(bytes, sizeof(bytes), &opcode_at) != n)
		fail_msg("%s: %zu", one->bytes, shim_x86_length(bytes, sizeof(bytes), &opcode_at));
	assert_int_equal(opcode_at, one->opcode_at);
	assert_int_equal(shim_x86_length(bytes, n, &opcode_at), n);
	assert_int_equal(shim_x86_length(bytes, n - 1, &opcode_at), 0);
}

static const struct instruction integers[] = {
	{ "c3", 0 },		       /* ret */
	{ "c20800", 0 },	       /* ret 8 */
	{ "c8100001", 0 },	       /* enter */
	{ "b801000000", 0 },	       /* mov imm32, eax */
	{ "66b80100", 1 },	       /* mov imm16, ax */
	{ "48b80102030405060708", 1 }, /* movabs */
	{ "a10102030405060708", 0 },   /* mov moffs64, eax */
	{ "67a101020304", 1 },	       /* moffs32 */
	{ "6a05", 0 },		       /* push imm8 */
	{ "6801020304", 0 },	       /* push imm32 */
	{ "e801020304", 0 },	       /* call */
	{ "6648e801020304", 2 },       /* call, padded */
	{ "7405", 0 },		       /* je */
	{ "89c8", 0 },		       /* mov */
	{ "8b0501020304", 0 },	       /* rip-relative */
	{ "8b442408", 0 },	       /* [rsp+8] */
	{ "8b042501020304", 0 },       /* [disp32] */
	{ "8b848801020304", 0 },       /* [rax+rcx*4+disp32] */
	{ "83c001", 0 },	       /* add imm8 */
	{ "81c001020304", 0 },	       /* add imm32 */
	{ "6681c00102", 1 },	       /* add imm16 */
	{ "f6c001", 0 },	       /* test imm8 */
	{ "f6d0", 0 },		       /* not */
	{ "f7c001020304", 0 },	       /* test imm32 */
	{ "f7d8", 0 },		       /* neg */
	{ "c74424040f050000", 0 },     /* mov imm32 that holds the two bytes */
	{ "f3a4", 1 },		       /* rep movsb */
	{ "f0480fb10f", 2 },	       /* lock cmpxchg */
	{ "8fc0", 0 },		       /* pop */
};

static const struct instruction of_two_bytes[] = {
	{ "0f05", 0 },		   /* syscall */
	{ "480f05", 1 },	   /* with REX */
	{ "0f34", 0 },		   /* sysenter */
	{ "cd80", 0 },		   /* int 0x80 */
	{ "0fae05aabbccdd", 0 },   /* fxsave, rip-relative */
	{ "0f8401020304", 0 },	   /* je */
	{ "0fc8", 0 },		   /* bswap */
	{ "0fa4c105", 0 },	   /* shld imm8 */
	{ "0f1f840000000000", 0 }, /* nop */
	{ "f30f1efa", 1 },	   /* endbr64 */
	{ "0f20c0", 0 },	   /* mov cr0, rax */
	{ "0f2005", 0 },	   /* no memory there, whatever the mode says */
	{ "660f3800c1", 1 },	   /* pshufb */
	{ "660f3a0fc108", 1 },	   /* palignr */
	{ "660f70c105", 1 },	   /* pshufd */
	{ "660f78c00102", 1 },	   /* extrq */
};

static const struct instruction of_vectors[] = {
	{ "c5f877", 0 },		 /* vzeroupper */
	{ "c5f96fc1", 0 },		 /* vmovdqa */
	{ "c5f970c105", 0 },		 /* vpshufd */
	{ "c4e27918c1", 0 },		 /* vbroadcastss */
	{ "c4e3790fc108", 0 },		 /* vpalignr */
	{ "62f1fd486f442401", 0 },	 /* vmovdqa64, disp8 */
	{ "62f1fd486f8424aabbccdd", 0 }, /* vmovdqa64, disp32 */
	{ "62f3fd4825c1ff", 0 },	 /* vpternlogq */
	{ "8fe878c2c105", 0 },		 /* XOP */
};

static void integers_have_their_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++)
		check(&integers[i]);
}

static void of_two_bytes_have_their_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(of_two_bytes) / sizeof(of_two_bytes[0]); i++)
		check(&of_two_bytes[i]);
}

static void of_vectors_have_their_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(of_vectors) / sizeof(of_vectors[0]); i++)
		check(&of_vectors[i]);
}

static void what_is_no_instruction_has_none(void **state)
{
	static const char *const none[] = { "06",
					    "60",
					    "82c001",
					    "9a010203040506",
					    "d6",
					    "0f04",
					    "0f3b",
					    "ea010203040506",
					    "66666666666666666666666666666690" };
	uint8_t bytes[32];
	size_t opcode_at;

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		memset(bytes, 0x90, sizeof(bytes));
		bytes_of(none[i], bytes);
		if (shim_x86_length(bytes, sizeof(bytes), &opcode_at) != 0)
			fail_msg("%s", none[i]);
	}
}

/* Whatever it meets, it reads and says no more than there is. */
static void any_bytes_are_survived(void **state)
{
	uint64_t random = 1;
	uint8_t bytes[16];
	size_t opcode_at;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		size_t n = (size_t)i % 16 + 1, length;

		for (size_t k = 0; k < n; k++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			bytes[k] = (uint8_t)(random >> 56);
		}
		length = shim_x86_length(bytes, n, &opcode_at);
		assert_true(length <= n);
		if (length)
			assert_true(opcode_at < length);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_have_their_length),
		cmocka_unit_test(of_two_bytes_have_their_length),
		cmocka_unit_test(of_vectors_have_their_length),
		cmocka_unit_test(what_is_no_instruction_has_none),
		cmocka_unit_test(any_bytes_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
