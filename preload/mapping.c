/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/sys.h"

enum { CHUNK_BYTES = 4096 };

/* Of a line "7f00-8f00 r-xp ...": what comes next. */
enum field { FROM, TO, RIGHTS, REST };

struct reader {
	uintptr_t wanted, from, to;
	enum field field;
	int rights;
};

static void read_digit(uintptr_t *number, char c)
{
	*number = *number << 4 | (uintptr_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* True: this is its mapping, and the rights are read. */
static bool read_character(struct reader *reader, char c)
{
	if (c == '\n')
		*reader = (struct reader){ .wanted = reader->wanted };
	else if (reader->field == FROM && c == '-')
		reader->field = TO;
	else if (reader->field == TO && c == ' ')
		reader->field = RIGHTS;
	else if (reader->field == FROM)
		read_digit(&reader->from, c);
	else if (reader->field == TO)
		read_digit(&reader->to, c);
	else if (reader->field == RIGHTS && c != ' ')
		reader->rights |= c == 'r'   ? SHIM_MAPPING_READ
				  : c == 'w' ? SHIM_MAPPING_WRITE
				  : c == 'x' ? SHIM_MAPPING_RUN
					     : 0;
	else if (reader->field == RIGHTS) {
		reader->field = REST;
		return reader->wanted >= reader->from && reader->wanted < reader->to;
	}
	return false;
}

int shim_mapping_rights(uintptr_t at)
{
	struct reader reader = { .wanted = at };
	char chunk[CHUNK_BYTES];
	int rights = 0;
	ssize_t n = 1;
	int fd = sys_openat(AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	while (n > 0 && rights == 0) {
		n = sys_read(fd, chunk, sizeof(chunk));
		for (ssize_t i = 0; i < n && rights == 0; i++)
			if (read_character(&reader, chunk[i]))
				rights = reader.rights;
	}
	sys_close(fd);
	return rights;
}
