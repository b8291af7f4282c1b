/* SPDX-License-Identifier: Apache-2.0 */
/* The connection as the standard input and output of a program that knows nothing. */
#include "tests/conformance/lib/conf.h"

#include <linux/capability.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { ANY = CONF_COLD | CONF_SWAP };

static char cat_path[] = "/bin/cat";
static char *const cat_argv[] = { cat_path, NULL };
static char *const no_env[] = { NULL };

static void reap(pid_t child)
{
	int status = 0;

	waitpid(child, &status, 0);
	obs_exit("child", status);
}

/* Everything comes back, then the end. */
static void echo_client(int fd)
{
	send_pat(fd, 30000, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	recv_to_eof(fd, 0);
}

static void cat_server(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		execve(cat_path, cat_argv, no_env);
		_exit(127);
	}
	close(fd);
	reap(child);
}
CASE("exec.cat", cat_server, echo_client, ANY | CONF_EITHER);

/* The parent has used the connection before; bytes wait unread when the child starts. */
static void cat_pending_server(int fd)
{
	both();
	ready(fd, POLLIN);
	recv_pat(fd, 100, 1000);
	cat_server(fd);
}

static void cat_pending_client(int fd)
{
	char bytes[100];

	pat_fill(bytes, sizeof(bytes), 1000);
	send_exact(fd, bytes, sizeof(bytes));
	send_pat(fd, 50, 0);
	both();
	send_pat(fd, 5000, 50);
	obs("shutdown", shutdown(fd, SHUT_WR));
	recv_to_eof(fd, 0);
}
CASE("exec.cat_pending", cat_pending_server, cat_pending_client, ANY | CONF_EITHER);

/* The process itself becomes the other program. */
static void become_cat_server(int fd)
{
	pid_t child = fork();

	if (child == 0) {
		recv_pat(fd, 100, 0);
		send_pat(fd, 100, 0);
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		execve(cat_path, cat_argv, no_env);
		_exit(127);
	}
	close(fd);
	reap(child);
}

static void become_cat_client(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	echo_client(fd);
}
CASE("exec.serve_then_cat", become_cat_server, become_cat_client, ANY | CONF_EITHER);

static void spawn_server(int fd)
{
	posix_spawn_file_actions_t actions;
	pid_t child = 0;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, 0);
	posix_spawn_file_actions_adddup2(&actions, fd, 1);
	posix_spawn_file_actions_addclose(&actions, fd);
	obs("posix_spawn", posix_spawn(&child, cat_path, &actions, NULL, cat_argv, no_env));
	posix_spawn_file_actions_destroy(&actions);
	close(fd);
	reap(child);
}
CASE("exec.posix_spawn", spawn_server, echo_client, ANY | CONF_EITHER);

static void vfork_server(int fd)
{
	int out = dup(1);
	pid_t child;

	dup2(fd, 0);
	dup2(fd, 1);
	fcntl(out, F_SETFD, FD_CLOEXEC);
	close(fd);
	child = vfork();
	if (child == 0) {
		execve(cat_path, cat_argv, no_env);
		_exit(127);
	}
	close(0);
	dup2(out, 1);
	reap(child);
}
CASE("exec.vfork_cat", vfork_server, echo_client, ANY | CONF_EITHER);

/* Close-on-exec: the program does not get it, the connection stays ours. */
static void cloexec_server(int fd)
{
	char script[128];
	char sh[] = "/bin/sh", dash_c[] = "-c";
	char *argv[] = { sh, dash_c, script, NULL };
	pid_t child;

	snprintf(script, sizeof(script), "test ! -e /proc/self/fd/%d", fd);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	child = fork();
	if (child == 0) {
		execve(sh, argv, no_env);
		_exit(127);
	}
	reap(child);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
}

static void cloexec_client(int fd)
{
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
}
CASE("exec.cloexec", cloexec_server, cloexec_client, ANY);

/* An unrelated child inherits the descriptor and sleeps: EOF waits for it, bytes do not. */
static void system_server(int fd)
{
	recv_pat(fd, 100, 0);
	obs("system", system("exit 3"));
	send_pat(fd, 100, 0);
	FILE *p = popen("echo hello", "r");
	char line[32] = "";
	if (p && fgets(line, sizeof(line), p))
		obs_text("popen %.5s", line);
	obs("pclose", p ? pclose(p) : -1);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
}

static void system_client(int fd)
{
	for (int i = 0; i < 2; i++) {
		send_pat(fd, 100, 0);
		recv_pat(fd, 100, 0);
	}
}
CASE("exec.system_popen", system_server, system_client, ANY);

/* exec that fails leaves everything as it was. */
static void failed_server(int fd)
{
	char path[] = "/nonexistent/program";
	char *argv[] = { path, NULL };

	recv_pat(fd, 100, 0);
	obs("execve", execve(path, argv, no_env));
	send_pat(fd, 100, 0);
	recv_pat(fd, 100, 0);
	send_pat(fd, 100, 0);
}
CASE("exec.failed", failed_server, system_client, ANY);

/* ---- bytes that wait when the program starts ---- */

enum { BACKLOG_BYTES = 7000000 };

/* A program without a shim reads them all, from its standard input. */
static void sum_input(int fd, char *script, char sum[64])
{
	char sh[] = "/bin/sh", dash_c[] = "-c";
	char *argv[] = { sh, dash_c, script, NULL };
	int out[2];
	pid_t child;

	if (pipe(out) < 0)
		return;
	child = fork();
	if (child == 0) {
		dup2(fd, 0);
		dup2(out[1], 1);
		close(fd);
		execve(sh, argv, no_env);
		_exit(127);
	}
	close(out[1]);
	for (ssize_t n, done = 0; done < 32; done += n) {
		n = read(out[0], sum + done, 32 - (size_t)done);
		if (n <= 0)
			break;
	}
	close(out[0]);
	reap(child);
}

/* A stream that is longer than ring and socket together and does not end cannot be handed over:
 * the program may get an error, and never a wrong byte. */
static void backlog_server(int fd)
{
	char script[] = "head -c 7000000 2>/dev/null | md5sum", sum[64] = "";

	both();
	nap_ms(200);
	sum_input(fd, script, sum);
	obs_val("right, or nothing", strcmp(sum, "2433f3d3699254472f40fc7226abc892") == 0 ||
					     strcmp(sum, "d41d8cd98f00b204e9800998ecf8427e") == 0);
	both();
}

/* This end sleeps in the middle of it. */
static void backlog_client(int fd)
{
	both();
	send_pat(fd, BACKLOG_BYTES, 0);
	both();
}
CASE("exec.backlog", backlog_server, backlog_client, ANY | CONF_EITHER);

static void backlog_ended_server(int fd)
{
	char script[] = "md5sum", sum[64] = "";

	both();
	nap_ms(200);
	sum_input(fd, script, sum);
	obs_text("sum %s", sum);
	both();
}

static void backlog_ended_client(int fd)
{
	both();
	send_pat(fd, BACKLOG_BYTES, 0);
	obs("shutdown", shutdown(fd, SHUT_WR));
	both();
}
CASE("exec.backlog_ended", backlog_ended_server, backlog_ended_client, ANY | CONF_EITHER);

/* So that nobody may copy the descriptors of the other end's process. */
static void give_up_capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

	syscall(SYS_capset, &header, none);
}

/* The one end becomes a program that does not read yet, the other one that writes: what it writes
 * comes behind all that was sent before. */
static void both_become_server(int fd)
{
	char script[] = "sleep 1; md5sum", sum[64] = "";

	give_up_capabilities();
	both();
	nap_ms(100);
	sum_input(fd, script, sum);
	obs_text("sum %s", sum);
	both();
}

static void both_become_client(int fd)
{
	static char echo_path[] = "/bin/echo", word[] = "word";
	static char *const argv[] = { echo_path, word, NULL };
	pid_t child;

	prctl(PR_SET_DUMPABLE, 0);
	both();
	send_pat(fd, 3000000, 0);
	nap_ms(600);
	child = fork();
	if (child == 0) {
		dup2(fd, 1);
		close(fd);
		execve(echo_path, argv, no_env);
		_exit(127);
	}
	reap(child);
	obs("shutdown", shutdown(fd, SHUT_WR));
	both();
}
CASE("exec.both_become", both_become_server, both_become_client, ANY);

static void hand_to(int fd, char *script)
{
	char sum[64] = "";

	await();
	sum_input(fd, script, sum);
	obs_text("sum %s", sum);
	tell(0);
	both();
}

/* The other end makes no call before the program has read what was sent. */
static void silent_server(int fd)
{
	char script[] = "head -c 20000 | md5sum";

	hand_to(fd, script);
}

static void silent_client(int fd)
{
	send_pat(fd, 20000, 0);
	tell(0);
	await();
	both();
}
CASE("exec.silent_peer", silent_server, silent_client, ANY | CONF_EITHER);

/* Much of it: whoever sends it in its place needs room, and leaves its buffer as it was. */
static void silent_much_server(int fd)
{
	char script[] = "head -c 150000 | md5sum";

	hand_to(fd, script);
}

static int send_buffer(int fd)
{
	int bytes = 0;
	socklen_t size = sizeof(bytes);

	obs("SO_SNDBUF", getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size));
	return bytes;
}

static void silent_much_client(int fd)
{
	int before = send_buffer(fd);

	send_pat(fd, 150000, 0);
	tell(0);
	await();
	both();
	if (!conf.is_tcp) /* TCP's grows by itself */
		obs_val("as it was", send_buffer(fd) == before);
}
CASE("exec.silent_much", silent_much_server, silent_much_client, ANY | CONF_EITHER);
