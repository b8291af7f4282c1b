/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/system_calls.h"

#include <string.h>

#include "preload/x86_length.h"

#if defined(__x86_64__)

enum {
	PAIR_BYTES = 2,
	BEFORE_BYTES = 24, /* a wrapper names its call so near */
	NUMBERS = 1024,	   /* of system calls */
	BLOCK_BYTES = 16,
	INSTRUCTION_BYTES = 15,
};

typedef uint8_t block __attribute__((vector_size(BLOCK_BYTES)));

/* syscall, int 0x80; sysenter is of no use to a 64-bit program */
static bool is_pair(const uint8_t *at)
{
	return (at[0] == 0x0f && at[1] == 0x05) || (at[0] == 0xcd && at[1] == 0x80);
}

static bool block_has_pair(const uint8_t *at)
{
	block first, second, pairs;
	uint64_t words[2];

	memcpy(&first, at, sizeof(first));
	memcpy(&second, at + 1, sizeof(second));
	pairs = (block)(((first == 0x0f) & (second == 0x05)) |
			((first == 0xcd) & (second == 0x80)));
	memcpy(words, &pairs, sizeof(words));
	return (words[0] | words[1]) != 0;
}

uintptr_t shim_system_call_next(uintptr_t from, uintptr_t to, uintptr_t limit)
{
	while (from < to) {
		const uint8_t *at = (const uint8_t *)from;

		if (to - from >= BLOCK_BYTES && limit - from > BLOCK_BYTES && !block_has_pair(at)) {
			from += BLOCK_BYTES;
			continue;
		}
		if (limit - from < PAIR_BYTES)
			return to;
		if (is_pair(at))
			return from;
		from++;
	}
	return to;
}

enum walked { ARRIVED, PASSED, LOST };

/* Nothing goes on behind it: return, jump, trap. */
static bool is_end(uint8_t opcode)
{
	return opcode == 0xc3 || opcode == 0xc2 || opcode == 0xe9 || opcode == 0xeb ||
	       opcode == 0xcc || opcode == 0xf4;
}

/* From instruction to instruction: does one have its opcode at `at`?  straight: on the way that the
 * processor takes, if it never jumps. */
static enum walked walk(uintptr_t from, uintptr_t at, uintptr_t high, bool straight)
{
	while (from <= at) {
		size_t opcode_at,
			length = shim_x86_length((const uint8_t *)from, high - from, &opcode_at);

		if (length == 0)
			return LOST;
		if (from + opcode_at == at)
			return ARRIVED;
		if (straight && is_end(*((const uint8_t *)from + opcode_at)))
			return PASSED;
		from += length;
	}
	return PASSED;
}

/* Does the instruction put the number of a system call into eax or rax, or may it? */
static bool names_call(const uint8_t *code, size_t bytes)
{
	uint32_t number;

	if (bytes > 1 && (code[0] & 0xf0) == 0x40) { /* REX */
		code++;
		bytes--;
	}
	if (bytes < 7)
		return false;
	switch (code[0]) {
	case 0xb8: /* mov imm32, %eax */
		memcpy(&number, code + 1, sizeof(number));
		return number < NUMBERS;
	case 0xc7: /* mov imm32, %rax */
		memcpy(&number, code + 2, sizeof(number));
		return code[1] == 0xc0 && number < NUMBERS;
	case 0x31: /* xor %eax, %eax */
	case 0x33:
		return code[1] == 0xc0;
	case 0x89: /* mov register, %eax */
		return (code[1] & 0xc7) == 0xc0;
	case 0x8b: /* mov register, %eax; or from the stack */
		return (code[1] & 0xf8) == 0xc0 ||
		       ((code[1] == 0x44 || code[1] == 0x84) && code[2] == 0x24);
	case 0x6a: /* push imm8; pop %rax */
		return code[2] == 0x58;
	default:
		return false;
	}
}

static bool looks_like_call(uintptr_t at, uintptr_t low, uintptr_t high)
{
	uintptr_t from = at - low > BEFORE_BYTES ? at - BEFORE_BYTES : low;

	for (; from + PAIR_BYTES <= at; from++)
		if (names_call((const uint8_t *)from, high - from) &&
		    walk(from, at, high, true) == ARRIVED)
			return true;
	return false;
}

bool shim_system_call_is_at(const struct shim_frames *frames, uintptr_t at, uintptr_t low,
			    uintptr_t high)
{
	uintptr_t limit = high - at > INSTRUCTION_BYTES ? at + INSTRUCTION_BYTES : high;
	uintptr_t start, end;
	enum walked walked;

	if (!shim_object_has(frames->object, at, limit - at))
		limit = at + PAIR_BYTES;

	if (shim_frames_function(frames, at, &start, &end) && start >= low && end <= high) {
		if (!shim_object_has(frames->object, start, at + PAIR_BYTES - start))
			return true;
		walked = walk(start, at, end < limit ? end : limit, false);
		if (walked != LOST)
			return walked == ARRIVED;
	}
	return looks_like_call(at, low, limit);
}

#elif defined(__aarch64__)

enum { WORD_BYTES = 4 };

static bool is_call(uintptr_t at)
{
	uint32_t word;

	memcpy(&word, (const void *)at, sizeof(word));
	return (word & 0xffe0001fu) == 0xd4000001u; /* svc */
}

uintptr_t shim_system_call_next(uintptr_t from, uintptr_t to, uintptr_t limit)
{
	for (from = (from + WORD_BYTES - 1) & ~(uintptr_t)(WORD_BYTES - 1);
	     from < to && limit - from >= WORD_BYTES; from += WORD_BYTES)
		if (is_call(from))
			return from;
	return to;
}

bool shim_system_call_is_at(const struct shim_frames *frames, uintptr_t at, uintptr_t low,
			    uintptr_t high)
{
	(void)frames;
	return at >= low && at < high && is_call(at);
}

#endif
