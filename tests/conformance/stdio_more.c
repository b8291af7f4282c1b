/* SPDX-License-Identifier: Apache-2.0 */
/* What else of libc writes to a descriptor or a FILE by itself: wide characters, warnings, the log,
 * pipes to programs; and how it mixes with calls. */
#include "tests/conformance/lib/conf.h"

#include <err.h>
#include <locale.h>
#include <syslog.h>
#include <wchar.h>

enum { ANY = CONF_COLD | CONF_SWAP, LINES = 12 };

static bool get_line(int fd, char *line, size_t room)
{
	size_t n = 0;

	while (n < room - 1 && recv(fd, line + n, 1, 0) == 1) {
		if (line[n] == '\n') {
			line[n] = '\0';
			return true;
		}
		n++;
	}
	line[n] = '\0';
	return false;
}

/* Prints what comes, to the end. */
static void listens(int fd)
{
	char line[300];

	send_pat(fd, 100, 0);
	while (get_line(fd, line, sizeof(line)))
		obs_text("%s", line);
	obs_text("rest <%s>", line);
}

static int take_place(int fd, int number, int *kept)
{
	recv_pat(fd, 100, 0);
	fflush(number == 1 ? stdout : stderr);
	*kept = fcntl(number, F_DUPFD_CLOEXEC, 100);
	dup2(fd, number);
	return close(fd);
}

static void give_back(int number, int kept)
{
	fflush(number == 1 ? stdout : stderr);
	dup2(kept, number);
	close(kept);
}

static void print_and_write(int fd, int mode)
{
	char line[100];
	int kept, n;

	take_place(fd, 1, &kept);
	setvbuf(stdout, NULL, mode, mode == _IOFBF ? 4096 : 0);
	for (int i = 0; i < LINES; i++) {
		printf("printf %d\n", i);
		if (mode == _IOFBF)
			fflush(stdout);
		n = snprintf(line, sizeof(line), "write %d\n", i);
		if (write(1, line, (size_t)n) != n)
			break;
		n = snprintf(line, sizeof(line), "send %d\n", i);
		send_exact(1, line, (size_t)n);
		puts("puts");
		if (mode == _IOFBF)
			fflush(stdout);
		dprintf(1, "dprintf %d\n", i);
	}
	give_back(1, kept);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static void unbuffered_server(int fd)
{
	print_and_write(fd, _IONBF);
}
CASE("stdio_more.calls_between_unbuffered", unbuffered_server, listens, ANY | CONF_EITHER);

static void lines_server(int fd)
{
	print_and_write(fd, _IOLBF);
}
CASE("stdio_more.calls_between_lines", lines_server, listens, ANY | CONF_EITHER);

static void flushed_server(int fd)
{
	print_and_write(fd, _IOFBF);
}
CASE("stdio_more.calls_between_flushes", flushed_server, listens, ANY | CONF_EITHER);

static void warnings_server(int fd)
{
	int kept;

	take_place(fd, 2, &kept);
	errno = ENOENT;
	perror("perror");
	psignal(SIGTERM, "psignal");
	errno = EACCES;
	warn("%s", "warn");
	warnx("%s", "warnx");
	openlog("log", LOG_PERROR, LOG_USER);
	syslog(LOG_INFO, "%s", "syslog");
	closelog();
	fputs("fputs\n", stderr);
	write(2, "write\n", 6);
	give_back(2, kept);
}
CASE("stdio_more.warnings", warnings_server, listens, ANY | CONF_EITHER);

/* A program that dies by err(): its last words arrive, then the end. */
static void err_server(int fd)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		int kept;

		take_place(fd, 2, &kept);
		errno = EIO;
		err(7, "%s", "last words");
	}
	close(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
}
CASE("stdio_more.err", err_server, listens, ANY | CONF_EITHER);

static void wide_server(int fd)
{
	wchar_t line[100];
	int n = 0;
	FILE *f;

	setlocale(LC_ALL, "C.UTF-8");
	f = fdopen(fd, "r+");
	obs_val("wide", fwide(f, 1) > 0);
	while (fgetws(line, 100, f)) {
		fwprintf(f, L"%d %ls", n++, line);
		fflush(f);
	}
	obs_val("lines", n);
	obs_val("at the end", feof(f) != 0);
	obs("fclose", fclose(f));
}

static void wide_client(int fd)
{
	static const char text[] = "gr\303\274n \342\202\254 %d\n";
	char line[100];

	for (int i = 0; i < LINES; i++) {
		send_exact(fd, line, (size_t)snprintf(line, sizeof(line), text, i));
		get_line(fd, line, sizeof(line));
		obs_text("%s", line);
	}
	shutdown(fd, SHUT_WR);
	obs("end", recv(fd, line, 1, 0));
}
CASE("stdio_more.wide", wide_server, wide_client, ANY | CONF_EITHER);

/* Closed while bytes wait in the FILE and in the socket: the peer is told as by the kernel. */
static void unread_server(int fd)
{
	FILE *f = fdopen(fd, "r");

	obs_val("first", getc(f));
	both();
	both();
	ready(fd, POLLIN);
	obs("fclose", fclose(f));
	both();
}

static void unread_client(int fd)
{
	char byte;

	send_pat(fd, 10000, 0);
	both();
	send_pat(fd, 1000, 10000);
	both();
	both();
	ready(fd, POLLIN);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("recv", recv(fd, &byte, 1, 0));
}
CASE("stdio_more.closed_unread", unread_server, unread_client, ANY | CONF_EITHER);

/* Programs that are started by popen() inherit the connection and do not use it. */
static void popen_server(int fd)
{
	char line[100] = "";
	FILE *f;

	for (uint64_t i = 0; i < 3; i++) {
		recv_pat(fd, 1000, i * 1000);
		f = popen("echo from a program", "r");
		obs_val("fgets", f && fgets(line, sizeof(line), f));
		obs_text("%.*s", (int)strcspn(line, "\n"), line);
		obs("pclose", f ? pclose(f) : -1);
		f = popen("cat >/dev/null", "w");
		obs_val("fputs", f && fputs(line, f) >= 0);
		obs("pclose", f ? pclose(f) : -1);
		send_pat(fd, 1000, i * 1000);
	}
	both();
}

static void popen_client(int fd)
{
	for (uint64_t i = 0; i < 3; i++) {
		send_pat(fd, 1000, i * 1000);
		recv_pat(fd, 1000, i * 1000);
	}
	both();
}
CASE("stdio_more.popen", popen_server, popen_client, ANY | CONF_EITHER);

/* Asks on stderr and reads stdin where there is no terminal. */
static void password_server(int fd)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		char *word;

		setsid(); /* no terminal */
		recv_pat(fd, 100, 0);
		dup2(fd, 0);
		dup2(fd, 2);
		close(fd);
		word = getpass("word? \n");
		_exit(word && strcmp(word, "secret") == 0 ? 0 : 1);
	}
	close(fd);
	waitpid(child, &status, 0);
	obs_exit("child", status);
}

static void password_client(int fd)
{
	char line[100];

	send_pat(fd, 100, 0);
	get_line(fd, line, sizeof(line));
	obs_text("%s", line);
	send_exact(fd, "secret\n", 7);
	while (get_line(fd, line, sizeof(line)))
		obs_text("%s", line);
}
CASE("stdio_more.getpass", password_server, password_client, ANY | CONF_EITHER);
