/* SPDX-License-Identifier: Apache-2.0 */
/* Where the functions of a loaded object begin and end: its table for unwinders (.eh_frame_hdr).
 * Nothing in it is believed: what does not add up counts as no table. */
#ifndef SHMIPC_PRELOAD_FRAMES_H
#define SHMIPC_PRELOAD_FRAMES_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As dl_iterate_phdr() shows it. */
struct shim_object {
	uintptr_t bias;
	const ElfW(Phdr) * headers;
	size_t header_count;
};

struct shim_frames {
	const struct shim_object *object;
	uintptr_t header, table;
	size_t count; /* 0: no table */
};

/* Does all of this lie in one readable segment, and can it be touched? */
bool shim_object_has(const struct shim_object *object, uintptr_t start, size_t bytes);

void shim_frames_find(struct shim_frames *frames, const struct shim_object *object);

/* The function in which pc lies.  False: in none that the table knows. */
bool shim_frames_function(const struct shim_frames *frames, uintptr_t pc, uintptr_t *start,
			  uintptr_t *end);

#endif
