/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the shim thinks of code, without loading it.
 *
 *   find FILE...   each file as the loader would map it: how many system call instructions
 *   lengths        reads a disassembly (objdump -d --insn-width=16) and compares every length
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "preload/system_calls.h"
#include "preload/x86_length.h"

enum { PAGE = 4096, SEGMENTS_MAX = 64 };

static bool map_file(const char *path, struct shim_object *object)
{
	static ElfW(Phdr) headers[SEGMENTS_MAX];
	int fd = open(path, O_RDONLY);
	ElfW(Ehdr) file;
	size_t bytes = 0;
	char *base;

	if (fd < 0 || pread(fd, &file, sizeof(file), 0) != sizeof(file) ||
	    memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 || file.e_phnum > SEGMENTS_MAX ||
	    pread(fd, headers, file.e_phnum * sizeof(headers[0]), (off_t)file.e_phoff) < 0)
		return false;
	for (size_t i = 0; i < file.e_phnum; i++)
		if (headers[i].p_type == PT_LOAD)
			bytes = headers[i].p_vaddr + headers[i].p_memsz;
	base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (size_t i = 0; i < file.e_phnum && base != MAP_FAILED; i++) {
		size_t into = headers[i].p_vaddr % PAGE;

		if (headers[i].p_type == PT_LOAD && headers[i].p_filesz)
			mmap(base + headers[i].p_vaddr - into, headers[i].p_filesz + into,
			     PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
			     (off_t)(headers[i].p_offset - into));
	}
	close(fd);
	*object = (struct shim_object){ (uintptr_t)base, headers, file.e_phnum };
	return base != MAP_FAILED;
}

static size_t count_in(const struct shim_object *object, const ElfW(Phdr) * h)
{
	uintptr_t low = object->bias + h->p_vaddr, high = low + h->p_filesz;
	struct shim_frames frames;
	size_t count = 0;

	shim_frames_find(&frames, object);
	for (uintptr_t at = low; (at = shim_system_call_next(at, high, high)) < high; at++)
		if (shim_system_call_is_at(&frames, at, low, high)) {
			fprintf(stderr, "%#lx\n", (unsigned long)(at - object->bias));
			count++;
		}
	return count;
}

static int find(const char *path)
{
	struct shim_object object;
	size_t count = 0;

	if (!map_file(path, &object)) {
		printf("%s: cannot be read\n", path);
		return 1;
	}
	for (size_t i = 0; i < object.header_count; i++)
		if (object.headers[i].p_type == PT_LOAD && (object.headers[i].p_flags & PF_X))
			count += count_in(&object, &object.headers[i]);
	printf("%s: %zu\n", path, count);
	return 0;
}

/* "   1000:\t48 89 e5 \tmov %rsp,%rbp": the number of bytes, 0 for another line. */
static size_t bytes_of(char *line, uint8_t *bytes)
{
	char *text = strchr(line, '\t'), *end = text ? strchr(text + 1, '\t') : NULL;
	size_t n = 0;

	for (text = text ? text + 1 : NULL; end && text < end && *text != ' ' && n < 16; text += 3)
		bytes[n++] = (uint8_t)strtoul(text, NULL, 16);
	return n;
}

static int lengths(void)
{
	unsigned long seen = 0, wrong = 0;
	char line[512];

	while (fgets(line, sizeof(line), stdin)) {
		uint8_t bytes[16];
		size_t opcode_at, n = bytes_of(line, bytes);

		if (n == 0)
			continue;
		seen++;
		if (shim_x86_length(bytes, n, &opcode_at) == n)
			continue;
		wrong++;
		fputs(line, stdout);
	}
	printf("%lu instructions, %lu wrong\n", seen, wrong);
	return seen == 0 || wrong > 0;
}

int main(int argc, char **argv)
{
	int result = 0;

	if (argc == 2 && strcmp(argv[1], "lengths") == 0)
		return lengths();
	if (argc < 3 || strcmp(argv[1], "find") != 0)
		return 2;
	for (int i = 2; i < argc; i++)
		result |= find(argv[i]);
	return result;
}
