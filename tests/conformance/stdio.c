/* SPDX-License-Identifier: Apache-2.0 */
/* FILE streams on a connection, and the standard streams when the connection is descriptor 0 or 1.
 */
#include "tests/conformance/lib/conf.h"

#include <stdio_ext.h>
#include <wchar.h>

enum { ANY = CONF_COLD | CONF_SWAP, LINES = 20 };

/* The other end of everything here: asks in lines, prints the answers, by plain calls. */
static bool get_line(int fd, char *line, size_t room)
{
	size_t n = 0;

	while (n < room - 1) {
		if (recv(fd, line + n, 1, 0) != 1)
			break;
		if (line[n] == '\n') {
			line[n] = '\0';
			return true;
		}
		n++;
	}
	line[n] = '\0';
	return false;
}

static void asks(int fd)
{
	char line[300];

	for (int i = 0; i < LINES; i++) {
		int n = snprintf(line, sizeof(line), "question %d\n", i);

		send_exact(fd, line, (size_t)n);
		get_line(fd, line, sizeof(line));
		obs_text("%s", line);
	}
	obs("shutdown", shutdown(fd, SHUT_WR));
	obs_val("more", get_line(fd, line, sizeof(line)));
}

/* One FILE for both directions. */
static void both_ways_server(int fd)
{
	FILE *f = fdopen(fd, "r+");
	char line[300];
	int n = 0;

	obs_val("fileno", fileno(f) == fd);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		obs_val("fprintf", fprintf(f, "%d: <%s>\n", n++, line));
		obs("fflush", fflush(f));
	}
	obs_text("lines %d feof %d ferror %d", n, !!feof(f), !!ferror(f));
	obs("fclose", fclose(f));
	obs("closed", fcntl(fd, F_GETFD));
}
CASE("stdio.both_ways", both_ways_server, asks, ANY | CONF_EITHER);

static void getline_server(int fd)
{
	FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	setvbuf(out, NULL, _IOLBF, 0);
	while ((n = getline(&line, &room, in)) > 0) {
		obs_val("getline", n);
		fputs("got ", out);
		fwrite(line, 1, (size_t)n, out);
	}
	obs_val("at the end", n);
	free(line);
	obs("fclose", fclose(out));
	obs("fclose", fclose(in));
}
CASE("stdio.getline", getline_server, asks, ANY | CONF_EITHER);

/* Without buffers every character is a call. */
static void unbuffered_server(int fd)
{
	FILE *f = fdopen(fd, "r+");
	int c, n = 0;

	setvbuf(f, NULL, _IONBF, 0);
	while ((c = getc(f)) != EOF) {
		putc(c, f);
		n++;
	}
	obs_val("characters", n);
	obs("fclose", fclose(f));
}
CASE("stdio.unbuffered", unbuffered_server, asks, ANY | CONF_EITHER);

/* The writing half by stdio, the reading half by calls. */
static void mixed_server(int fd)
{
	FILE *out = fdopen(dup(fd), "w");
	char line[300];

	while (get_line(fd, line, sizeof(line))) {
		fprintf(out, "echo %s\n", line);
		fflush(out);
	}
	obs("fclose", fclose(out));
	close(fd);
}
CASE("stdio.writes_only", mixed_server, asks, ANY | CONF_EITHER);

/* The reading half by stdio, the writing half by calls: what a FILE has read ahead stays its own.
 */
static void reads_only_server(int fd)
{
	FILE *in = fdopen(dup(fd), "r");
	char line[300], answer[330];

	while (fgets(line, sizeof(line), in)) {
		int n = snprintf(answer, sizeof(answer), "to %s", line);

		send_exact(fd, answer, (size_t)n);
	}
	obs("fclose", fclose(in));
	close(fd);
}
CASE("stdio.reads_only", reads_only_server, asks, ANY | CONF_EITHER);

/* dprintf() on the number of a FILE, in its place between what the FILE writes. */
static void dprintf_between_server(int fd)
{
	FILE *out = fdopen(fd, "r+");
	char line[300];

	while (fgets(line, sizeof(line), out)) {
		line[strcspn(line, "\n")] = '\0';
		fprintf(out, "a ");
		fflush(out);
		obs("dprintf", dprintf(fd, "b %s ", line));
		fprintf(out, "c\n");
		fflush(out);
	}
	obs("fclose", fclose(out));
}
CASE("stdio.dprintf_between", dprintf_between_server, asks, ANY | CONF_EITHER);

/* A FILE that is made while bytes wait, some of which have been read by calls. */
static void late_server(int fd)
{
	FILE *in;
	char *bytes = big_buffer();

	both();
	ready(fd, POLLIN);
	recv_pat(fd, 1000, 0);
	in = fdopen(fd, "r");
	obs_val("fread", (long)fread(bytes, 1, 149000, in));
	obs_val("right", pat_good(bytes, 149000, 1000));
	obs_val("at the end", getc(in) == EOF);
	obs("fclose", fclose(in));
	both();
}

static void late_client(int fd)
{
	send_pat(fd, 50000, 0);
	both();
	send_pat(fd, 100000, 50000);
	shutdown(fd, SHUT_WR);
	both();
}
CASE("stdio.late", late_server, late_client, ANY | CONF_EITHER);

/* More waits than a socket holds, and the sender sleeps. */
static void backlog_server(int fd)
{
	FILE *in;
	char *bytes = big_buffer();
	bool good = true;
	size_t done = 0;

	both();
	nap_ms(200);
	in = fdopen(fd, "r");
	for (size_t n; (n = fread(bytes, 1, 1000000, in)) > 0; done += n)
		good = good && pat_good(bytes, n, done);
	obs_text("received %zu, %s", done, good ? "right" : "WRONG");
	obs("fclose", fclose(in));
	both();
}

static void backlog_client(int fd)
{
	both();
	send_pat(fd, 7000000, 0);
	shutdown(fd, SHUT_WR);
	both();
}
CASE("stdio.backlog", backlog_server, backlog_client, ANY | CONF_EITHER);

/* The same as standard input; the sender does not end. */
static void standard_backlog_server(int fd)
{
	char *bytes = big_buffer();
	size_t done = 0;
	bool good = true;

	both();
	nap_ms(200);
	if (dup2(fd, 0) != 0)
		return;
	close(fd);
	while (done < 7000000) {
		size_t n = fread(bytes, 1, 100000, stdin);

		if (n == 0)
			break;
		good = good && pat_good(bytes, n, done);
		done += n;
	}
	obs_text("received %zu, %s", done, good ? "right" : "WRONG");
	obs("write", write(0, "x", 1));
	close(0);
	both();
}

static void standard_backlog_client(int fd)
{
	char byte;

	both();
	send_pat(fd, 7000000, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	both();
}
CASE("stdio.standard_backlog", standard_backlog_server, standard_backlog_client, ANY | CONF_EITHER);

static void many_bytes_server(int fd)
{
	FILE *f = fdopen(fd, "r+");
	char *bytes = big_buffer();

	pat_fill(bytes, 2000000, 5);
	obs_val("fwrite", (long)fwrite(bytes, 1, 2000000, f));
	obs("fflush", fflush(f));
	obs_val("fread", (long)fread(bytes, 1, 2000000, f));
	obs_val("right", pat_good(bytes, 2000000, 9));
	obs("fclose", fclose(f));
}

static void many_bytes_client(int fd)
{
	recv_pat(fd, 2000000, 5);
	send_pat(fd, 2000000, 9);
	recv_to_eof(fd, 0);
}
CASE("stdio.many_bytes", many_bytes_server, many_bytes_client, ANY | CONF_EITHER);

/* What a FILE on a socket cannot, and how it says so. */
static void errors_server(int fd)
{
	FILE *f;
	wint_t c;

	obs_val("bad mode", fdopen(fd, "x") == NULL);
	obs_val("bad number", fdopen(4242, "r") == NULL);
	f = fdopen(fd, "r+");
	obs("fseek", fseek(f, 0, SEEK_SET));
	obs("ftell", ftell(f));
	obs_val("fwide", fwide(f, 0));
	fprintf(f, "x");
	obs("fflush", fflush(f));
	c = (wint_t)getc(f);
	obs_val("getc", (long)c);
	obs_val("ungetc", ungetc('u', f));
	obs_val("getc", getc(f));
	both();
	obs("fclose", fclose(f));
}

static void errors_client(int fd)
{
	char byte;

	obs("recv", recv(fd, &byte, 1, 0));
	send_exact(fd, "y", 1);
	both();
}
CASE("stdio.errors", errors_server, errors_client, ANY | CONF_EITHER);

/* A peer that is gone: the FILE learns it from its flush. */
static void epipe_server(int fd)
{
	FILE *f = fdopen(fd, "w");

	on_signal(SIGPIPE, 0);
	both();
	ready(fd, POLLRDHUP);
	fprintf(f, "one\n");
	fflush(f);
	ready(fd, POLLERR | POLLHUP);
	fprintf(f, "two\n");
	obs("fflush", fflush(f));
	obs_val("ferror", !!ferror(f));
	obs_val("SIGPIPE", signal_count(SIGPIPE) > 0);
	clearerr(f);
	__fpurge(f);
	obs("fclose", fclose(f));
}

static void closes_client(int fd)
{
	close(fd);
	both();
}
CASE("stdio.epipe", epipe_server, closes_client, ANY | CONF_EITHER);

/* A nonblocking socket under a FILE: short reads are errors with what came kept. */
static void nonblocking_server(int fd)
{
	FILE *f = fdopen(fd, "r");
	char bytes[100];

	set_nonblock(fd, true);
	obs_val("fread", (long)fread(bytes, 1, 10, f));
	obs_text("ferror %d %s", !!ferror(f), strerrorname_np(errno));
	clearerr(f);
	both();
	ready(fd, POLLIN);
	obs_val("fread", (long)fread(bytes, 1, 100, f));
	obs_text("ferror %d %s", !!ferror(f), strerrorname_np(errno));
	obs_val("right", pat_good(bytes, 30, 0));
	obs("fclose", fclose(f));
	both();
}

static void nonblocking_client(int fd)
{
	both();
	send_pat(fd, 30, 0);
	both();
}
CASE("stdio.nonblocking", nonblocking_server, nonblocking_client, ANY | CONF_EITHER);

/* fclose() is the end of the connection like close(). */
static void end_server(int fd)
{
	FILE *f = fdopen(fd, "w");

	fprintf(f, "%0200d\n", 7);
	obs("fclose", fclose(f));
	both();
}

static void end_client(int fd)
{
	char bytes[300];

	both();
	ready(fd, POLLRDHUP);
	obs("recv", recv_exact(fd, bytes, 300));
	obs_sum("bytes", bytes, 201);
}
CASE("stdio.fclose", end_server, end_client, ANY | CONF_EITHER);

/* ---- the standard streams ---- */

/* Becomes descriptor 0 and 1 of a child that talks by printf() and fgets(), as under inetd.  The
 * transcript's own descriptor stays out of its way. */
static int be_standard(int fd, int *kept)
{
	fflush(stdout);
	*kept = fcntl(1, F_DUPFD_CLOEXEC, 100);
	if (dup2(fd, 0) != 0 || dup2(fd, 1) != 1)
		return -1;
	return close(fd);
}

static void back_to_transcript(int kept)
{
	fflush(stdout);
	dup2(kept, 1);
	close(kept);
}

static void inetd_server(int fd)
{
	char line[300];
	int kept, n = 0;

	if (be_standard(fd, &kept) < 0)
		return;
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		printf("%d: <%s>\n", n++, line);
		fflush(stdout);
	}
	back_to_transcript(kept);
	obs_text("lines %d feof %d ferror %d", n, !!feof(stdin), !!ferror(stdin));
	close(0);
}
CASE("stdio.standard", inetd_server, asks, ANY | CONF_EITHER);

static void inetd_child_server(int fd)
{
	int status = 0, kept;
	pid_t child = fork();

	if (child == 0) {
		char line[300];

		if (be_standard(fd, &kept) < 0)
			_exit(1);
		while (fgets(line, sizeof(line), stdin)) {
			printf("child <%.*s>\n", (int)strcspn(line, "\n"), line);
			fflush(stdout);
		}
		_exit(0);
	}
	close(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
}
CASE("stdio.standard_child", inetd_child_server, asks, ANY | CONF_EITHER);

/* Accepted as 0, because 0 was free: as in a daemon that has closed its standard descriptors. */
static void born_standard_server(int listener)
{
	char line[300];
	int fd, n = 0, kept = fcntl(1, F_DUPFD_CLOEXEC, 100);

	close(0);
	fd = conf_accept(listener);
	obs_val("accepted as", fd);
	warm_up(fd, CONF_WARM_ROUNDS);
	dup2(fd, 1);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		printf("%d: <%s>\n", n++, line);
		fflush(stdout);
	}
	back_to_transcript(kept);
	obs_text("lines %d", n);
	close(0);
}

static void born_standard_client(int none)
{
	int fd = conf_connect();

	(void)none;
	warm_up(fd, CONF_WARM_ROUNDS);
	asks(fd);
	close(fd);
}
CASE("stdio.born_standard", born_standard_server, born_standard_client, CONF_RAW | CONF_EITHER);

/* Read by calls and by stdio in turn, on the same number. */
static void standard_mixed_server(int fd)
{
	char line[300], answer[330];
	int kept, n;

	if (be_standard(fd, &kept) < 0)
		return;
	while (get_line(0, line, sizeof(line))) {
		n = snprintf(answer, sizeof(answer), "by write %s\n", line);
		if (write(1, answer, (size_t)n) != n || !fgets(line, sizeof(line), stdin))
			break;
		printf("by printf %s", line);
		fflush(stdout);
	}
	back_to_transcript(kept);
	close(0);
}

/* The other end has sent all and ended before the connection becomes the standard input. */
static void standard_late_server(int fd)
{
	char line[300];
	int kept, n = 0;

	both();
	ready(fd, POLLRDHUP);
	if (be_standard(fd, &kept) < 0)
		return;
	while (fgets(line, sizeof(line), stdin))
		n++;
	printf("%d lines\n", n);
	back_to_transcript(kept);
	obs_text("lines %d feof %d ferror %d", n, !!feof(stdin), !!ferror(stdin));
	close(0);
}

static void standard_late_client(int fd)
{
	char line[300];

	for (int i = 0; i < 100; i++)
		send_exact(fd, line, (size_t)snprintf(line, sizeof(line), "line %d\n", i));
	obs("shutdown", shutdown(fd, SHUT_WR));
	both();
	obs_val("answer", get_line(fd, line, sizeof(line)));
	obs_text("%s", line);
}
CASE("stdio.standard_late", standard_late_server, standard_late_client, ANY | CONF_EITHER);

/* One line at a time is under way, so that no FILE reads ahead what is meant for a call. */
CASE("stdio.standard_mixed", standard_mixed_server, asks, ANY | CONF_EITHER);

static void stderr_server(int fd)
{
	fflush(stderr);
	if (dup2(fd, 2) != 2)
		return;
	close(fd);
	recv_pat(2, 10, 0);
	for (int i = 0; i < 20; i++)
		fprintf(stderr, "error %02d\n", i);
	errno = EPIPE;
	perror("last");
	close(2);
}

static void stderr_client(int fd)
{
	char line[100];

	send_pat(fd, 10, 0);
	while (get_line(fd, line, sizeof(line)))
		obs_text("%s", line);
}
CASE("stdio.stderr", stderr_server, stderr_client, ANY | CONF_EITHER);
