/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/frames.h"

#include <string.h>

#include "core/reach.h"

/* The encodings (DW_EH_PE_*) that linkers write; what has others is left alone. */
enum {
	PC_RELATIVE_4 = 0x1b,
	TABLE_RELATIVE_4 = 0x3b,
	UNSIGNED_4 = 0x03,
	FRAME_HEADER_VERSION = 1,
};

enum {
	HEADER_BYTES = 12,
	ENTRY_BYTES = 8,
	FRAME_BYTES = 16,  /* length, back to the common part, begin, size */
	COMMON_BYTES = 32, /* what we look at */
};

bool shim_object_has(const struct shim_object *object, uintptr_t start, size_t bytes)
{
	for (size_t i = 0; i < object->header_count; i++) {
		const ElfW(Phdr) *h = &object->headers[i];
		uintptr_t low = object->bias + h->p_vaddr;

		if (h->p_type == PT_LOAD && (h->p_flags & PF_R) && start >= low &&
		    bytes <= h->p_memsz && start - low <= h->p_memsz - bytes)
			return shmipc_reach((const void *)start, bytes, SHMIPC_REACH_READ);
	}
	return false;
}

static int32_t word_at(uintptr_t at)
{
	int32_t word;

	memcpy(&word, (const void *)at, sizeof(word));
	return word;
}

static uintptr_t relative(uintptr_t base, int32_t offset)
{
	return base + (uintptr_t)(intptr_t)offset;
}

void shim_frames_find(struct shim_frames *frames, const struct shim_object *object)
{
	*frames = (struct shim_frames){ .object = object };
	for (size_t i = 0; i < object->header_count; i++) {
		const ElfW(Phdr) *h = &object->headers[i];
		uintptr_t at = object->bias + h->p_vaddr;
		const uint8_t *bytes = (const uint8_t *)at;
		uint32_t count;

		if (h->p_type != PT_GNU_EH_FRAME || h->p_memsz < HEADER_BYTES ||
		    !shim_object_has(object, at, HEADER_BYTES) ||
		    bytes[0] != FRAME_HEADER_VERSION || bytes[1] != PC_RELATIVE_4 ||
		    bytes[2] != UNSIGNED_4 || bytes[3] != TABLE_RELATIVE_4)
			continue;
		count = (uint32_t)word_at(at + 8);
		if (count > (h->p_memsz - HEADER_BYTES) / ENTRY_BYTES)
			continue;
		frames->header = at;
		frames->table = at + HEADER_BYTES;
		frames->count = count;
		return;
	}
}

/* Does the common part say that its frames' addresses are relative to themselves, as all compilers
 * have it?  "zR", or with a personality or a language part whose bytes come first. */
static bool is_common(const struct shim_object *object, uintptr_t at)
{
	const char *augmentation = (const char *)at + 9;

	return shim_object_has(object, at, COMMON_BYTES) && word_at(at + 4) == 0 &&
	       augmentation[0] == 'z' && memchr(augmentation, 0, 8);
}

static bool frame_of(const struct shim_frames *frames, uintptr_t frame, uintptr_t expected,
		     uintptr_t *end)
{
	uint32_t length;

	if (!shim_object_has(frames->object, frame, FRAME_BYTES))
		return false;
	length = (uint32_t)word_at(frame);
	if (length < FRAME_BYTES - 4 || length >= UINT32_MAX - 16 ||
	    !is_common(frames->object, frame + 4 - (uint32_t)word_at(frame + 4)) ||
	    relative(frame + 8, word_at(frame + 8)) != expected)
		return false;
	*end = expected + (uint32_t)word_at(frame + 12);
	return *end >= expected;
}

bool shim_frames_function(const struct shim_frames *frames, uintptr_t pc, uintptr_t *start,
			  uintptr_t *end)
{
	size_t low = 0, high = frames->count; /* the one we want lies in [low, high) */

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		uintptr_t entry = frames->table + middle * ENTRY_BYTES;

		if (!shim_object_has(frames->object, entry, ENTRY_BYTES))
			return false;
		if (relative(frames->header, word_at(entry)) <= pc)
			low = middle;
		else
			high = middle;
	}
	if (frames->count == 0 ||
	    !shim_object_has(frames->object, frames->table + low * ENTRY_BYTES, ENTRY_BYTES))
		return false;
	*start = relative(frames->header, word_at(frames->table + low * ENTRY_BYTES));
	return *start <= pc &&
	       frame_of(frames,
			relative(frames->header, word_at(frames->table + low * ENTRY_BYTES + 4)),
			*start, end) &&
	       pc < *end;
}
