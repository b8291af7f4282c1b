/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/stream.h"

#include <errno.h>
#include <stdint.h>
#include <stdio_ext.h>
#include <sys/types.h>
#include <unistd.h>

static int number_of(void *cookie)
{
	return (int)(intptr_t)cookie - 1;
}

static ssize_t read_number(void *cookie, char *to, size_t bytes)
{
	return read(number_of(cookie), to, bytes);
}

/* For a FILE, 0 says that nothing could be written. */
static ssize_t write_number(void *cookie, const char *from, size_t bytes)
{
	ssize_t n = write(number_of(cookie), from, bytes);

	return n < 0 ? 0 : n;
}

static int seek_number(void *cookie, off64_t *offset, int whence)
{
	(void)cookie;
	(void)offset;
	(void)whence;
	errno = ESPIPE;
	return -1;
}

static int close_number(void *cookie)
{
	return close(number_of(cookie));
}

FILE *shim_stream_open(int fd, const char *mode)
{
	const cookie_io_functions_t calls = { read_number, write_number, seek_number,
					      close_number };
	FILE *file = fopencookie((void *)(intptr_t)(fd + 1), mode, calls);

	if (file)
		file->_fileno = fd; /* for fileno() and whoever looks at it */
	return file;
}

void shim_stream_stand_in(int fd)
{
	FILE **const standard[] = { &stdin, &stdout, &stderr };
	FILE **file = standard[fd], *ours;

	/* bytes of what the number was before are still to be read, or written */
	if (!*file || fileno(*file) != fd || __fpending(*file) > 0 ||
	    (*file)->_IO_read_ptr != (*file)->_IO_read_end)
		return;
	ours = shim_stream_open(fd, fd == STDIN_FILENO ? "r" : "w");
	if (!ours)
		return;
	if (fd == STDERR_FILENO)
		setvbuf(ours, NULL, _IONBF, 0);
	*file = ours;
}
