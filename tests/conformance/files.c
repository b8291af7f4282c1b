/* SPDX-License-Identifier: Apache-2.0 */
/* sendfile, splice, tee and stdio on a connection. */
#include "tests/conformance/lib/conf.h"

#include <sys/mman.h>
#include <sys/sendfile.h>

enum { ANY = CONF_COLD | CONF_SWAP, FILE_BYTES = 300000 };

static int pattern_file(void)
{
	char *bytes = big_buffer();
	int file = memfd_create("pattern", MFD_CLOEXEC);
	ssize_t n;

	pat_fill(bytes, FILE_BYTES, 0);
	n = write(file, bytes, FILE_BYTES);
	lseek(file, 0, SEEK_SET);
	return n == FILE_BYTES ? file : -1;
}

/* Takes what sendfile() sent, then a few bytes more that were sent the usual way. */
static void take_file_server(int fd)
{
	recv_pat(fd, FILE_BYTES, 0);
	recv_pat(fd, 100, 7);
	send_pat(fd, 100, 7);
}

static void finish_file(int fd, int file)
{
	send_pat(fd, 100, 7);
	recv_pat(fd, 100, 7);
	close(file);
}

static void sendfile_client(int fd)
{
	int file = pattern_file();
	size_t done = 0;

	while (done < FILE_BYTES) {
		ssize_t n = sendfile(fd, file, NULL, FILE_BYTES - done);

		if (n <= 0) {
			obs("sendfile", n);
			break;
		}
		done += (size_t)n;
	}
	obs_val("sent", (long)done);
	obs("offset", lseek(file, 0, SEEK_CUR));
	obs("at end", sendfile(fd, file, NULL, 10));
	finish_file(fd, file);
}
CASE("files.sendfile", take_file_server, sendfile_client, ANY);

static void sendfile_offset_client(int fd)
{
	int file = pattern_file();
	off_t offset = 0;

	while (offset < FILE_BYTES) {
		ssize_t n = sendfile(fd, file, &offset, 65536);

		if (n <= 0) {
			obs("sendfile", n);
			break;
		}
	}
	obs_val("offset", offset);
	obs("file position", lseek(file, 0, SEEK_CUR));
	obs("bad file", sendfile(fd, 4242, NULL, 10));
	finish_file(fd, file);
}
CASE("files.sendfile_offset", take_file_server, sendfile_offset_client, ANY);

/* sendfile() between ordinary sends keeps its place. */
static void sendfile_between_server(int fd)
{
	for (int i = 0; i < 5; i++) {
		recv_pat(fd, 1000, 1);
		recv_pat(fd, 500, 0);
	}
	send_pat(fd, 10, 0);
}

static void sendfile_between_client(int fd)
{
	int file = pattern_file();

	for (int i = 0; i < 5; i++) {
		off_t offset = 0;

		send_pat(fd, 1000, 1);
		obs("sendfile", sendfile(fd, file, &offset, 500));
	}
	recv_pat(fd, 10, 0);
	close(file);
}
CASE("files.sendfile_between", sendfile_between_server, sendfile_between_client, ANY | CONF_MID);

/* A file that is read past the page cache wants memory of its own alignment, which the kernel has.
 */
enum { DIRECT_BYTES = 4 * 4096, DIRECT_BEFORE = 2001 };

static int direct_file(void)
{
	char *bytes = big_buffer(), name[64];
	int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), direct;
	ssize_t n;

	pat_fill(bytes, DIRECT_BYTES, 0);
	n = write(file, bytes, DIRECT_BYTES);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", file);
	direct = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (direct < 0) /* not every file system has it */
		direct = open(name, O_RDONLY | O_CLOEXEC);
	close(file);
	return n == DIRECT_BYTES ? direct : -1;
}

static void sendfile_direct_server(int fd)
{
	await(); /* what is unread decides about the place of the next bytes */
	recv_pat(fd, DIRECT_BEFORE, 1);
	recv_pat(fd, DIRECT_BYTES, 0);
	recv_pat(fd, 100, 7);
	send_pat(fd, 100, 7);
}

static void sendfile_direct_client(int fd)
{
	int file = direct_file();

	send_pat(fd, DIRECT_BEFORE, 1);
	obs("sendfile", sendfile(fd, file, NULL, DIRECT_BYTES));
	obs("position", lseek(file, 0, SEEK_CUR));
	tell(1);
	finish_file(fd, file);
}
CASE("files.sendfile_direct", sendfile_direct_server, sendfile_direct_client, ANY | CONF_MID);

/* Of more than the file has left comes what is there. */
static void sendfile_tail_client(int fd)
{
	int file = pattern_file();
	off_t offset = 0;

	obs("all and more", sendfile(fd, file, &offset, 10L * FILE_BYTES));
	obs_val("offset", offset);
	obs("at the end", sendfile(fd, file, &offset, 10));
	offset = INT64_MAX - 5;
	obs("far behind it", sendfile(fd, file, &offset, 10));
	offset = -1;
	obs("before it", sendfile(fd, file, &offset, 10));
	finish_file(fd, file);
}
CASE("files.sendfile_tail", take_file_server, sendfile_tail_client, ANY);

/* More than any buffer takes, to a reader that begins late: by whatever way it goes, it goes on
 * where it has stopped. */
enum { LARGE_PIECES = 5, LARGE_BYTES = LARGE_PIECES * CONF_BIG };

static int large_file(void)
{
	char *bytes = big_buffer();
	int file = memfd_create("large", MFD_CLOEXEC);

	for (int i = 0; i < LARGE_PIECES; i++) {
		pat_fill(bytes, CONF_BIG, (uint64_t)i * CONF_BIG);
		if (write(file, bytes, CONF_BIG) != CONF_BIG)
			return -1;
	}
	lseek(file, 0, SEEK_SET);
	return file;
}

static void take_large_server(int fd)
{
	await();
	for (int i = 0; i < LARGE_PIECES; i++)
		recv_pat(fd, CONF_BIG, (uint64_t)i * CONF_BIG);
	recv_pat(fd, 100, 7);
	send_pat(fd, 100, 7);
}

static void sendfile_full_client(int fd)
{
	int file = large_file();
	off_t offset = 0;
	bool was_full = false;

	set_nonblock(fd, true);
	while (offset < LARGE_BYTES) {
		off_t before = offset;
		ssize_t n = sendfile(fd, file, &offset, (size_t)(LARGE_BYTES - offset));

		if (n > 0 && offset == before + n)
			continue;
		if (n >= 0 || errno != EAGAIN || offset != before) {
			obs("sendfile", n);
			obs_val("moved", offset - before);
			break;
		}
		if (!was_full)
			tell(1);
		was_full = true;
		ready(fd, POLLOUT);
	}
	obs_val("was full", was_full);
	obs_val("offset", offset);
	set_nonblock(fd, false);
	finish_file(fd, file);
}
CASE("files.sendfile_full", take_large_server, sendfile_full_client, ANY);

/* The same, asleep in the call; the file's own position moves with it. */
static void *start_late(void *unused)
{
	(void)unused;
	nap_ms(CONF_NAP_MS);
	tell(1);
	return NULL;
}

static void sendfile_asleep_client(int fd)
{
	int file = large_file();
	pthread_t thread = spawn(start_late, NULL);

	obs("sendfile", sendfile(fd, file, NULL, LARGE_BYTES));
	obs("position", lseek(file, 0, SEEK_CUR));
	pthread_join(thread, NULL);
	finish_file(fd, file);
}
CASE("files.sendfile_asleep", take_large_server, sendfile_asleep_client, ANY);

/* No cancellation point. */
static void *send_cancelled(void *arg)
{
	const int *fds = arg;
	off_t offset = 0;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cancel(pthread_self());
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	obs("sendfile", sendfile(fds[0], fds[1], &offset, FILE_BYTES));
	pthread_testcancel();
	return NULL;
}

static void sendfile_cancelled_client(int fd)
{
	int fds[2] = { fd, pattern_file() };
	pthread_t thread = spawn(send_cancelled, fds);
	void *result = NULL;

	pthread_join(thread, &result);
	obs_val("cancelled", result == PTHREAD_CANCELED);
	finish_file(fd, fds[1]);
}
CASE("files.sendfile_cancelled", take_file_server, sendfile_cancelled_client, ANY);

/* To a peer that has closed: one call is taken, the next one breaks the pipe. */
static void leave_server(int fd)
{
	both();
	close(fd);
	tell(1);
	both();
}

static void sendfile_to_nobody_client(int fd)
{
	int file = pattern_file();
	off_t offset = FILE_BYTES - 50;

	on_signal(SIGPIPE, 0);
	both();
	await();
	ready(fd, POLLRDHUP);
	obs("sendfile", sendfile(fd, file, &offset, 1000));
	obs_val("offset", offset);
	nap_ms(CONF_NAP_MS);
	offset = 0;
	obs("once more", sendfile(fd, file, &offset, 1000));
	obs_val("offset", offset);
	obs_val("signals", signal_count(SIGPIPE));
	close(file);
	both();
}
CASE("files.sendfile_to_nobody", leave_server, sendfile_to_nobody_client, ANY);

static void splice_out_client(int fd)
{
	int file = pattern_file();
	int ends[2];
	size_t done = 0;

	if (pipe(ends) < 0)
		return;
	while (done < FILE_BYTES) {
		ssize_t in = splice(file, NULL, ends[1], NULL, 32768, 0);

		if (in <= 0)
			break;
		while (in > 0) {
			ssize_t out = splice(ends[0], NULL, fd, NULL, (size_t)in, SPLICE_F_MORE);

			if (out <= 0) {
				obs("splice", out);
				return;
			}
			in -= out;
			done += (size_t)out;
		}
	}
	obs_val("spliced", (long)done);
	close(ends[0]);
	close(ends[1]);
	finish_file(fd, file);
}
CASE("files.splice_out", take_file_server, splice_out_client, ANY);

static void splice_in_server(int fd)
{
	int ends[2];
	size_t done = 0;
	bool good = true;

	if (pipe(ends) < 0)
		return;
	while (done < FILE_BYTES) {
		ssize_t n = splice(fd, NULL, ends[1], NULL, FILE_BYTES - done, 0);
		char bytes[65536];

		if (n <= 0) {
			obs("splice", n);
			break;
		}
		for (ssize_t left = n; left > 0;) {
			ssize_t r = read(ends[0], bytes, sizeof(bytes));

			if (r <= 0)
				return;
			good = good && pat_good(bytes, (size_t)r, done);
			done += (size_t)r;
			left -= r;
		}
	}
	obs_text("spliced %zu %s", done, good ? "right" : "WRONG");
	close(ends[0]);
	close(ends[1]);
	recv_pat(fd, 100, 7);
	send_pat(fd, 100, 7);
}

static void splice_in_told_server(int fd)
{
	both();
	splice_in_server(fd);
}

/* The bytes are on their way before splice() is called: all at once or while it runs. */
static void splice_in_pending_client(int fd)
{
	send_pat(fd, 10000, 0);
	both();
	send_pat(fd, FILE_BYTES - 10000, 10000);
	send_pat(fd, 100, 7);
	recv_pat(fd, 100, 7);
}
CASE("files.splice_in", splice_in_told_server, splice_in_pending_client, ANY);

static void splice_errors_server(int fd)
{
	int ends[2];
	off_t offset = 0;

	if (pipe(ends) < 0)
		return;
	if (!conf.is_tcp) /* TCP looks at O_NONBLOCK only, and would sleep */
		obs("dontwait", splice(fd, NULL, ends[1], NULL, 10, SPLICE_F_NONBLOCK));
	obs("offset", splice(fd, &offset, ends[1], NULL, 10, 0));
	obs("no pipe", splice(fd, NULL, fd, NULL, 10, 0));
	obs("tee", tee(fd, ends[1], 10, 0));
	set_nonblock(fd, true);
	obs("nonblocking", splice(fd, NULL, ends[1], NULL, 10, 0));
	set_nonblock(fd, false);
	both();
	recv_pat(fd, 10, 0);
	send_pat(fd, 10, 0);
	close(ends[0]);
	close(ends[1]);
}

static void splice_errors_client(int fd)
{
	both();
	send_pat(fd, 10, 0);
	recv_pat(fd, 10, 0);
}
CASE("files.splice_errors", splice_errors_server, splice_errors_client, CONF_SWAP | CONF_EITHER);

static void splice_eof_server(int fd)
{
	int ends[2];
	char bytes[100];

	if (pipe(ends) < 0)
		return;
	both();
	ready(fd, POLLRDHUP);
	obs("splice", splice(fd, NULL, ends[1], NULL, 1000, 0));
	obs("read", read(ends[0], bytes, sizeof(bytes)));
	obs_val("right", pat_good(bytes, 100, 0));
	obs("splice", splice(fd, NULL, ends[1], NULL, 1000, 0));
	close(ends[0]);
	close(ends[1]);
}

static void splice_eof_client(int fd)
{
	send_pat(fd, 100, 0);
	shutdown(fd, SHUT_WR);
	both();
}
CASE("files.splice_eof", splice_eof_server, splice_eof_client, ANY);

/* sendfile() from the connection, into a pipe. */
static void sendfile_in_server(int fd)
{
	char bytes[10000];
	int ends[2];

	if (pipe(ends) < 0)
		return;
	both();
	ready(fd, POLLIN);
	obs("sendfile", sendfile(ends[1], fd, NULL, 1000));
	obs("read", read(ends[0], bytes, sizeof(bytes)));
	obs_val("right", pat_good(bytes, 1000, 0));
	recv_pat(fd, 100, 1000);
	both();
	obs("at the end", sendfile(ends[1], fd, NULL, 1000));
	close(ends[0]);
	close(ends[1]);
}

static void sendfile_in_client(int fd)
{
	send_pat(fd, 1100, 0);
	both();
	both();
	shutdown(fd, SHUT_WR);
}
CASE("files.sendfile_in", sendfile_in_server, sendfile_in_client, ANY);

/* stdio on the socket, both ways: request lines and answers. */
static void stdio_server(int fd)
{
	FILE *in = fdopen(fd, "r");
	FILE *out = fdopen(dup(fd), "w");
	char line[200];
	int n = 0;

	obs_val("fileno", fileno(in) == fd);
	while (fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = '\0';
		fprintf(out, "answer %d to <%s>\n", n++, line);
		obs("fflush", fflush(out));
	}
	obs_text("lines %d feof %d ferror %d", n, !!feof(in), !!ferror(in));
	fclose(out);
	fclose(in);
}

static void stdio_client(int fd)
{
	FILE *in = fdopen(dup(fd), "r");
	FILE *out = fdopen(dup(fd), "w");
	char line[200];

	for (int i = 0; i < 20; i++) {
		obs_val("fprintf", fprintf(out, "question %d\n", i));
		obs("fflush", fflush(out));
		if (!fgets(line, sizeof(line), in))
			break;
		line[strcspn(line, "\n")] = '\0';
		obs_text("%s", line);
	}
	fclose(out);
	obs("shutdown", shutdown(fd, SHUT_WR));
	obs_val("EOF", !fgets(line, sizeof(line), in));
	fclose(in);
}
CASE("files.stdio", stdio_server, stdio_client, ANY | CONF_EITHER);

static void stdio_one_client(int fd)
{
	char line[200];

	for (int i = 0; i < 20; i++) {
		size_t n = 0;

		dprintf(fd, "question %d\n", i);
		while (n < sizeof(line) - 1 && recv(fd, line + n, 1, 0) == 1 && line[n] != '\n')
			n++;
		line[n] = '\0';
		obs_text("%s", line);
	}
	obs("shutdown", shutdown(fd, SHUT_WR));
	obs("recv", recv(fd, line, 1, 0));
}
CASE("files.stdio_server_only", stdio_server, stdio_one_client, ANY | CONF_EITHER);

/* fread and fwrite in bulk over one FILE opened for both. */
static void bulk_server(int fd)
{
	FILE *f = fdopen(fd, "r+");
	char *bytes = big_buffer();

	obs_val("fread", (long)fread(bytes, 1, 200000, f));
	obs_val("right", pat_good(bytes, 200000, 0));
	pat_fill(bytes, 200000, 9);
	obs_val("fwrite", (long)fwrite(bytes, 1, 200000, f));
	obs("fclose", fclose(f));
}

static void bulk_client(int fd)
{
	send_pat(fd, 200000, 0);
	recv_pat(fd, 200000, 9);
}
CASE("files.stdio_bulk", bulk_server, bulk_client, ANY | CONF_EITHER);

/* dprintf() writes to the descriptor without a FILE of ours. */
static void dprintf_server(int fd)
{
	char bytes[64];

	obs("dprintf", dprintf(fd, "%s %d\n", "number", 42));
	obs("recv", recv_exact(fd, bytes, 3));
}

static void dprintf_client(int fd)
{
	char bytes[64];

	obs("recv", recv_exact(fd, bytes, 10));
	obs_sum("bytes", bytes, 10);
	obs("send", send(fd, "abc", 3, 0));
}
CASE("files.dprintf", dprintf_server, dprintf_client, ANY | CONF_MID | CONF_EITHER);
