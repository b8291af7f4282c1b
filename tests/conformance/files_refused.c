/* SPDX-License-Identifier: Apache-2.0 */
/* sendfile() of what cannot be sent, from places that cannot be read, to sockets that it refuses.
 */
#include "tests/conformance/lib/conf.h"

#include <sys/mman.h>
#include <sys/sendfile.h>

enum { ANY = CONF_COLD | CONF_SWAP, FILE_BYTES = 3000 };

static int file_of(int flags)
{
	char bytes[FILE_BYTES], name[64];
	int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), again;
	ssize_t n;

	pat_fill(bytes, FILE_BYTES, 0);
	n = write(file, bytes, FILE_BYTES);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", file);
	again = open(name, flags | O_CLOEXEC);
	close(file);
	return n == FILE_BYTES ? again : -1;
}

static void try_all(int fd, int flags)
{
	int file = file_of(flags);
	off_t offset = 10;

	obs("from its position", sendfile(fd, file, NULL, 100));
	obs("from an offset", sendfile(fd, file, &offset, 100));
	obs_val("which is then", offset);
	obs("nothing", sendfile(fd, file, &offset, 0));
	obs("with too large a count", sendfile(fd, file, &offset, SIZE_MAX));
	close(file);
}

static void end_client(int fd)
{
	send_pat(fd, 100, 7);
	recv_pat(fd, 100, 7);
}

static void end_server(int fd)
{
	recv_pat(fd, 100, 7);
	send_pat(fd, 100, 7);
}

static void unreadable_client(int fd)
{
	int directory = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int pipes[2] = { -1, -1 };
	off_t offset = 0;

	try_all(fd, O_WRONLY);
	try_all(fd, O_PATH);
	obs("a directory", sendfile(fd, directory, NULL, 10));
	obs("no descriptor", sendfile(fd, -1, NULL, 10));
	obs("to itself", sendfile(fd, fd, &offset, 10));
	obs("pipe", pipe(pipes));
	obs("of a pipe, from an offset", sendfile(fd, pipes[0], &offset, 10));
	close(pipes[0]);
	close(pipes[1]);
	close(directory);
	end_client(fd);
}
CASE("files_refused.unreadable", end_server, unreadable_client, ANY);

/* A place beyond what any file may have. */
static void far_client(int fd)
{
	const off_t places[] = { INT64_MAX, INT64_MAX - 1, -1, INT64_MIN, FILE_BYTES, 1L << 62 };
	int file = file_of(O_RDONLY);

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		off_t offset = places[i];

		obs("sendfile", sendfile(fd, file, &offset, 1000));
		obs_val("offset", offset - places[i]);
		obs("nothing", sendfile(fd, file, &offset, 0));
	}
	lseek(file, 1L << 40, SEEK_SET);
	obs("behind the end", sendfile(fd, file, NULL, 1000));
	close(file);
	end_client(fd);
}
CASE("files_refused.far", end_server, far_client, ANY);

/* The offset is read before anything is sent, and written behind it. */
static void offset_server(int fd)
{
	recv_pat(fd, 100, 10);
	end_server(fd);
}

static void offset_client(int fd)
{
	int file = file_of(O_RDONLY);
	off_t *offset = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);

	*offset = 10;
	obs("mprotect", mprotect(offset, 4096, PROT_READ));
	obs("nothing, not written", sendfile(fd, file, offset, 0));
	obs("not written", sendfile(fd, file, offset, 100));
	obs_val("still", *offset);
	obs("munmap", munmap(offset, 4096));
	obs("not there", sendfile(fd, file, offset, 100));
	obs("of no file", sendfile(fd, -1, offset, 100));
	close(file);
	end_client(fd);
}
CASE("files_refused.offset", offset_server, offset_client, ANY | CONF_MID);

/* sendfile() writes to nothing that appends; other sends do not mind. */
static void appending_server(int fd)
{
	recv_pat(fd, 50, 1);
	recv_pat(fd, 100, 0);
	end_server(fd);
}

static void appending_client(int fd)
{
	int flags = fcntl(fd, F_GETFL), file = file_of(O_RDONLY);
	off_t offset = 0;

	obs("F_SETFL", fcntl(fd, F_SETFL, flags | O_APPEND));
	obs("refused", sendfile(fd, file, &offset, 100));
	send_pat(fd, 50, 1);
	obs("refused", sendfile(fd, file, NULL, 100));
	obs("F_SETFL", fcntl(fd, F_SETFL, flags));
	obs("taken", sendfile(fd, file, &offset, 100));
	obs_val("offset", offset);
	close(file);
	end_client(fd);
}
CASE("files_refused.appending", appending_server, appending_client, ANY);
